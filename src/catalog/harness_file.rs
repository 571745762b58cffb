//! `harness/harness.yml`: where the site is, which image, the hypervisor, limits. Every key but `version` has a default.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::ansible_section::AnsibleFile;
use super::document::{Check, Document};
use super::plan::{CertsPlan, HarnessPlan, ImageSource, Layers, MAX_VMS, SitePlan, Subnet, Timeouts};
use super::problem::{Problem, ProjectError};
use super::quantity::{Bytes, TimeLimit};
use super::root::expand;
use super::secrets::SecretSource;
use super::secrets_section::{SecretsSection, Sources, VaultFile};
use super::sections::{ImageFile, Version};
use super::variables::is_variable_path;

/// `harness/harness.yml`: where the site is, which image, the hypervisor, limits. Every key but `version` has a default.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(title = "Harness of boma-it")]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct HarnessFile {
    #[expect(dead_code, reason = "reading it is the check")]
    /// Version of the file's format.
    version: Version,
    /// The Ansible side; boma-it never writes to it.
    #[serde(default)]
    site: SiteFile,
    /// How Ansible's modules run in the guest, and what a playbook may do.
    #[serde(default)]
    ansible: AnsibleFile,
    /// The golden image; `{source: official}` by default. A profile or a scenario can have its own.
    image: Option<ImageFile>,
    /// The hypervisor.
    #[serde(default)]
    libvirt: LibvirtFile,
    /// Settings of the certificate tiers that use ACME.
    #[serde(default)]
    certs: CertsPlan,
    /// The harness's own isolated network.
    #[serde(default)]
    network: NetworkFile,
    /// The run folders.
    #[serde(default)]
    runs: RunsFile,
    /// What a run may use.
    #[serde(default)]
    limits: LimitsFile,
    /// What a VM may start from; `BOMA_IT_LAYERS` overrides it.
    #[serde(default)]
    layers: Layers,
    /// Where the secrets that roles need come from, by the Ansible variable that holds them.
    #[serde(default)]
    secrets: SecretsSection,
    /// The password of Ansible Vault.
    vault: Option<VaultFile>,
    /// Where the schema of the file is: for editors.
    #[serde(rename = "$schema")]
    #[expect(dead_code, reason = "for editors, not for us")]
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
    /// Folder of `ansible-playbook`, relative to the root. Left out: `.venv/bin` if it exists, else `PATH`.
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
    /// How many VMs may run at a time.
    #[schemars(range(min = 1, max = MAX_VMS))]
    vms: u8,
    /// Memory that must stay free beside the VMs.
    memory_reserve: Bytes,
    /// Disk space of the hypervisor that layers may take; the least recently used ones go first.
    layers: Bytes,
    /// Deadlines of the stages.
    timeouts: TimeoutsFile,
}

impl Default for LimitsFile {
    fn default() -> Self {
        let (vms, memory_reserve, layers) = (1, Bytes::mib(512), Bytes::gib(8));
        Self { vms, memory_reserve, layers, timeouts: TimeoutsFile::default() }
    }
}

/// `limits.timeouts:`, for KVM; without KVM longer, except `image` and `down`, which wait for no guest.
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
        let minutes = |n: u64| TimeLimit(Duration::from_secs(n * 60));
        Self {
            image: minutes(15),
            up: minutes(3),
            apply: minutes(15),
            reboot: minutes(3),
            assert: minutes(5),
            // Within the minute that nextest gives a trial to clean up.
            down: TimeLimit(Duration::from_secs(45)),
        }
    }
}

impl From<TimeoutsFile> for Timeouts {
    fn from(file: TimeoutsFile) -> Self {
        let [image, up, apply, reboot, assert, down] =
            [file.image, file.up, file.apply, file.reboot, file.assert, file.down]
                .map(|TimeLimit(limit)| limit);
        Self { image, up, apply, reboot, assert, down }
    }
}

/// The harness, with every default filled in and every path absolute.
#[derive(Clone, Debug)]
pub(super) struct Harness {
    /// The file it comes from, relative to the root.
    pub(super) file: PathBuf,
    /// The site, without what the host and the scenario add.
    pub(super) site: SitePlan,
    /// The golden image.
    pub(super) image: ImageSource,
    /// Every secret it names.
    pub(super) secrets: Sources,
    /// What goes into a plan as it is.
    pub(super) plan: HarnessPlan,
}

/// Reads the harness's file.
pub(super) fn read(root: &Path, file: &Path) -> Result<Harness, ProjectError> {
    let (mut check, written): (_, HarnessFile) = Check::read(root, file)?;
    let mut path = |base: &Path, keys: [&str; 2], written: &str| {
        let expanded = expand(base, written)
            .map_err(|message| check.document.at_value(&keys, format!("`{}`: {message}", keys.join("."))));
        check.collect(expanded)
    };
    let dir = path(root, ["site", "dir"], &written.site.dir).unwrap_or_default();
    let playbook = path(&dir, ["site", "playbook"], &written.site.playbook);
    let inventory = path(&dir, ["site", "inventory"], &written.site.inventory);
    let verify = path(root, ["site", "verify"], &written.site.verify);
    let runs = path(root, ["runs", "dir"], &written.runs.dir);
    let ansible = match &written.site.ansible {
        Some(ansible) => path(root, ["site", "ansible"], ansible),
        None => Some(root.join(".venv/bin")).filter(|folder| folder.join("ansible-playbook").exists()),
    };
    let image =
        written.image.map_or(Ok(ImageSource::default()), |image| image.resolve(root, &check.document));
    let image = check.collect(image);
    if !written.libvirt.uri.contains(':') {
        let message = format!(
            "`{}` is not a libvirt connection URI: write one such as `qemu:///system` or `qemu+ssh://user@host/system`",
            written.libvirt.uri
        );
        check.value(&["libvirt", "uri"], message);
    }
    if written.runs.keep == 0 {
        check.value(
            &["runs", "keep"],
            "`runs.keep` is 0, which would delete the folder of the run itself: at least 1",
        );
    }
    if !(1..=MAX_VMS).contains(&written.limits.vms) {
        check.value(&["limits", "vms"], format!("`limits.vms` is out of range: from 1 to {MAX_VMS}"));
    }
    let secrets = written.secrets.resolve(written.vault, root, &mut check);
    let variables = secrets.values().filter_map(|source| match source {
        SecretSource::Env(variable) => Some(variable.clone()),
        _ => None,
    });
    let harness = Harness {
        file: file.to_owned(),
        site: SitePlan {
            dir,
            playbook: playbook.unwrap_or_default(),
            inventory: inventory.unwrap_or_default(),
            verify: verify.unwrap_or_default(),
            ansible,
            bytecode_cache: written.ansible.bytecode_cache,
            plays_for_nobody: written.ansible.plays_for_nobody,
            ..SitePlan::default()
        },
        image: image.unwrap_or_default(),
        plan: HarnessPlan {
            uri: written.libvirt.uri,
            certs: certs(written.certs, root, &mut check),
            subnet: written.network.subnet,
            runs: runs.unwrap_or_default(),
            keep_runs: written.runs.keep,
            vms: written.limits.vms.into(),
            memory_reserve: written.limits.memory_reserve,
            layers: written.layers,
            layer_space: written.limits.layers,
            secret_variables: variables.collect(),
            timeouts: written.limits.timeouts.into(),
        },
        secrets,
    };
    check.finish(harness)
}

/// `certs:`, checked, with an absolute path.
fn certs(mut certs: CertsPlan, root: &Path, check: &mut Check) -> CertsPlan {
    if let Some(directory) = certs.directory.as_deref().filter(|it| !it.starts_with("https://")) {
        let message =
            format!("`{directory}` is not an ACME directory: write its URL, which begins with `https://`");
        check.value(&["certs", "directory"], message);
    }
    if certs.root.is_some() && certs.directory.is_none() {
        let message = "`certs.root` needs `certs.directory`: Let's Encrypt's own roots are known";
        check.value(&["certs", "root"], message);
    }
    if let Some(domain) = certs.domain.as_deref().filter(|it| !is_domain(it)) {
        let message =
            format!("`{domain}` is not a domain name: write one such as `trial.example.org`, without `*.`");
        check.value(&["certs", "domain"], message);
    }
    let token = &certs.dns.token;
    if !is_variable_path(token) {
        let message = format!(
            "`{token}` is not the name of a secret: expected an Ansible variable and keys in it, such as `vault.gandi.pat`"
        );
        check.value(&["certs", "dns", "token"], message);
    }
    if let Some(file) = certs.root {
        let expanded = expand(root, &file.to_string_lossy());
        let problem = |message| check.document.at_value(&["certs", "root"], message);
        certs.root = check.collect(expanded.map_err(problem));
    }
    certs
}

/// Whether `text` is a domain name of at least two labels: letters, digits and inner hyphens (RFC 1123, 2.1).
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.contains('.') && text.split('.').all(is_label)
}

impl Harness {
    /// The files and folders that the harness names for the site and that do not exist.
    pub(super) fn missing_files(&self, root: &Path) -> Vec<Problem> {
        let site = &self.site;
        let named = [
            ("dir", &site.dir),
            ("playbook", &site.playbook),
            ("inventory", &site.inventory),
            ("verify", &site.verify),
        ];
        let ansible = site.ansible.as_ref().map(|folder| ("ansible", folder));
        let missing = named.into_iter().chain(ansible).filter(|(_, path)| !path.exists());
        let problem = |(key, path): (&str, &PathBuf)| {
            let message =
                format!("`site.{key}`: `{}` does not exist: create it, or correct the path", path.display());
            Document::problem_in(root, &self.file, &["site", key], message)
        };
        // Without the folder everything in it is missing too: one problem is enough.
        let site_is_missing = !site.dir.exists();
        let is_news = |path: &Path| !site_is_missing || path == site.dir || !path.starts_with(&site.dir);
        missing.filter(|(_, path)| is_news(path)).map(problem).collect()
    }
}
