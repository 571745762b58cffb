//! `harness/harness.yml`: where the site is, which image, the hypervisor, limits. Every key but `version` has a default.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::certs::CertsFile;
use super::document::Document;
use super::parts::{ImageFile, Version};
use super::plan::{HarnessPlan, ImageSource, Subnet, Timeouts};
use super::problem::{Problem, ProjectError, collect};
use super::quantity::{Bytes, TimeLimit};
use super::root::expand;
use super::secrets::{SecretSource, SecretsSection, Sources, VaultFile};

/// The file as it is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct HarnessFile {
    #[expect(dead_code, reason = "reading it is the check")]
    /// Version of the file's format.
    version: Version,
    /// The Ansible side. Nothing of it is ever written to.
    #[serde(default)]
    site: SiteFile,
    /// The golden image; `{source: auto}` if it is left out. A profile or a scenario may have its own.
    image: Option<ImageFile>,
    /// The hypervisor.
    #[serde(default)]
    libvirt: LibvirtFile,
    /// What the certificate tiers that speak ACME go by.
    #[serde(default)]
    certs: CertsFile,
    /// The harness's own isolated network.
    #[serde(default)]
    network: NetworkFile,
    /// The run folders.
    #[serde(default)]
    runs: RunsFile,
    /// What a run may take.
    #[serde(default)]
    limits: LimitsFile,
    /// Where the secrets that roles need come from, by the Ansible variable that holds them.
    #[serde(default)]
    secrets: SecretsSection,
    /// What opens files of Ansible Vault's.
    vault: Option<VaultFile>,
    /// Where the schema of the file is: for editors.
    #[serde(rename = "$schema")]
    #[expect(dead_code, reason = "an editor's, not ours")]
    schema: Option<String>,
}

/// `site:`, where the Ansible side is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
struct SiteFile {
    /// The site's folder, relative to the root.
    dir: String,
    /// The playbook that is applied, relative to `dir`.
    playbook: String,
    /// The production inventory, relative to `dir`.
    inventory: String,
    /// The playbook that asserts, relative to the root.
    verify: String,
    /// Folder of `ansible-playbook`, relative to the root. Left out: `.venv/bin` if there is one, else wherever `PATH` has it.
    ansible: Option<String>,
}

impl Default for SiteFile {
    fn default() -> Self {
        Self {
            dir: "site".to_owned(),
            playbook: "site.yml".to_owned(),
            inventory: "inventory/production".to_owned(),
            verify: "harness/verify.yml".to_owned(),
            ansible: None,
        }
    }
}

/// `libvirt:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
struct LibvirtFile {
    /// Connection URI, such as `qemu:///system`; `BOMA_IT_URI` overrides it.
    #[schemars(regex(pattern = ":"))]
    uri: String,
}

impl Default for LibvirtFile {
    fn default() -> Self {
        Self { uri: "qemu:///system".to_owned() }
    }
}

/// `network:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
struct NetworkFile {
    /// A private IPv4 network that nothing else on this machine uses.
    subnet: Subnet,
}

impl Default for NetworkFile {
    fn default() -> Self {
        Self { subnet: Subnet { network: [10, 213, 47, 0].into(), prefix: 24 } }
    }
}

/// `runs:`, the run folders.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
struct RunsFile {
    /// Where they go, relative to the root; `BOMA_IT_RUNS` overrides it.
    dir: String,
    /// How many of the newest are kept.
    #[schemars(range(min = 1))]
    keep: usize,
}

impl Default for RunsFile {
    fn default() -> Self {
        Self { dir: "~/integration-runs".to_owned(), keep: 20 }
    }
}

/// `limits:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
struct LimitsFile {
    /// Memory that must stay free beside the VM.
    memory_reserve: Bytes,
    /// Deadlines of the stages.
    timeouts: TimeoutsFile,
}

impl Default for LimitsFile {
    fn default() -> Self {
        Self { memory_reserve: Bytes::mib(512), timeouts: TimeoutsFile::default() }
    }
}

/// `limits.timeouts:`, for KVM; scaled up where there is none, but for `image` and `down`, which wait for no guest.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
struct TimeoutsFile {
    /// Getting the golden image; never scaled.
    image: TimeLimit,
    /// From power-on to ready.
    up: TimeLimit,
    /// The site playbook.
    apply: TimeLimit,
    /// From the restart to settled again.
    reboot: TimeLimit,
    /// `verify.yml`.
    assert: TimeLimit,
    /// Destroying everything; never scaled.
    down: TimeLimit,
}

impl Default for TimeoutsFile {
    fn default() -> Self {
        Self {
            image: TimeLimit::minutes(15),
            up: TimeLimit::minutes(3),
            apply: TimeLimit::minutes(15),
            reboot: TimeLimit::minutes(3),
            assert: TimeLimit::minutes(5),
            // Within the minute that nextest gives a trial to clean up.
            down: TimeLimit(Duration::from_secs(45)),
        }
    }
}

/// The harness, with every default filled in and every path absolute.
#[derive(Clone, Debug)]
pub(super) struct Harness {
    /// The file it comes from, relative to the root.
    pub(super) file: PathBuf,
    /// The site's folder.
    pub(super) site: PathBuf,
    /// The playbook that is applied.
    pub(super) playbook: PathBuf,
    /// The production inventory.
    pub(super) inventory: PathBuf,
    /// The playbook that asserts.
    pub(super) verify: PathBuf,
    /// Folder of `ansible-playbook`, if it is not to be found on `PATH`.
    pub(super) ansible: Option<PathBuf>,
    /// The golden image.
    pub(super) image: ImageSource,
    /// Every secret it names.
    pub(super) secrets: Sources,
    /// Everything that goes into a plan as it is.
    pub(super) plan: HarnessPlan,
}

/// Reads the harness's file.
pub(super) fn read(root: &Path, file: &Path) -> Result<Harness, ProjectError> {
    let document = Document::read(root, file)?;
    let written: HarnessFile = document.parse()?;
    let mut problems = Vec::new();
    let path = |base: &Path, keys: [&str; 2], written: &str| {
        let error = |message| document.at_value(&keys, format!("`{}`: {message}", keys.join(".")));
        expand(base, written).map_err(|message| ProjectError::from(error(message)))
    };
    let dir = collect(path(root, ["site", "dir"], &written.site.dir), &mut problems).unwrap_or_default();
    let playbook = collect(path(&dir, ["site", "playbook"], &written.site.playbook), &mut problems);
    let inventory = collect(path(&dir, ["site", "inventory"], &written.site.inventory), &mut problems);
    let verify = collect(path(root, ["site", "verify"], &written.site.verify), &mut problems);
    let runs = collect(path(root, ["runs", "dir"], &written.runs.dir), &mut problems);
    let ansible = match &written.site.ansible {
        Some(ansible) => collect(path(root, ["site", "ansible"], ansible), &mut problems),
        None => Some(root.join(".venv/bin")).filter(|folder| folder.join("ansible-playbook").exists()),
    };
    let image = written.image.map_or(Ok(ImageSource::default()), |image| image.resolve(root, &document));
    let image = collect(image.map_err(ProjectError::from), &mut problems);
    if !written.libvirt.uri.contains(':') {
        let message = format!(
            "`{}` is no connection URI of libvirt: write one such as `qemu:///system` or `qemu+ssh://user@host/system`",
            written.libvirt.uri
        );
        problems.push(document.at_value(&["libvirt", "uri"], message));
    }
    if written.runs.keep == 0 {
        problems.push(document.at_value(
            &["runs", "keep"],
            "`runs.keep` is 0, which would delete the folder of the run itself: at least 1",
        ));
    }
    let secrets = written.secrets.resolve(written.vault, root, &document, &mut problems);
    let variables = secrets.values().filter_map(|source| match source {
        SecretSource::Env(variable) => Some(variable.clone()),
        _ => None,
    });
    let timeouts = written.limits.timeouts;
    let plan = HarnessPlan {
        uri: written.libvirt.uri,
        certs: written.certs.resolve(root, &document, &mut problems),
        subnet: written.network.subnet,
        runs: runs.unwrap_or_default(),
        keep_runs: written.runs.keep,
        memory_reserve: written.limits.memory_reserve,
        secret_variables: variables.collect(),
        timeouts: Timeouts {
            image: timeouts.image.0,
            up: timeouts.up.0,
            apply: timeouts.apply.0,
            reboot: timeouts.reboot.0,
            assert: timeouts.assert.0,
            down: timeouts.down.0,
        },
    };
    let harness = Harness {
        file: file.to_owned(),
        site: dir,
        playbook: playbook.unwrap_or_default(),
        inventory: inventory.unwrap_or_default(),
        verify: verify.unwrap_or_default(),
        ansible,
        image: image.unwrap_or_default(),
        secrets,
        plan,
    };
    ProjectError::unless(problems, harness)
}

impl Harness {
    /// The files and folders that the harness names for the site and that are not there.
    pub(super) fn missing_files(&self, root: &Path) -> Vec<Problem> {
        let named = [
            ("dir", &self.site),
            ("playbook", &self.playbook),
            ("inventory", &self.inventory),
            ("verify", &self.verify),
        ];
        let ansible = self.ansible.as_ref().map(|folder| ("ansible", folder));
        let missing = named.into_iter().chain(ansible).filter(|(_, path)| !path.exists());
        let problem = |(key, path): (&str, &PathBuf)| {
            let message =
                format!("`site.{key}`: there is no `{}`: create it, or correct the path", path.display());
            Document::problem_in(root, &self.file, &["site", key], message)
        };
        // Without the folder everything in it is missing too, which says nothing new.
        let site_is_missing = !self.site.exists();
        let new = |path: &Path| !site_is_missing || path == self.site || !path.starts_with(&self.site);
        missing.filter(|(_, path)| new(path)).map(problem).collect()
    }
}
