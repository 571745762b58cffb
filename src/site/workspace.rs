//! The folder that Ansible runs from: everything that it reads beside the site itself.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::ansible::Ansible;
use super::ansible_cfg::SiteConfig;
use super::bytecode::{GuestPython, another};
use super::error::SiteError;
use super::inventory::{HostEntry, INTERPRETER};
use super::playbooks::ExpectedPlay;
use super::secrets::{Secrets, SecretsFile, lay_over};
use super::ssh::{ssh_config, wrapper};
use super::vars::{HarnessVars, Overrides, Phase};
use crate::catalog::plan::SitePlan;
use crate::support::env;
use crate::support::process::{Process, find_program, quote};
use crate::support::ssh_access::SshAccess;

/// The callback plugin, and its modules, which Ansible must not take for plugins; and what reads playbooks.
const PYTHON: [(&str, &str); 6] = [
    ("read.py", include_str!("playbooks/read.py")),
    ("callback/boma_it.py", include_str!("callback/boma_it.py")),
    ("boma_it_evidence.py", include_str!("callback/boma_it_evidence.py")),
    ("boma_it_guard.py", include_str!("callback/boma_it_guard.py")),
    ("boma_it_private.py", include_str!("callback/boma_it_private.py")),
    ("boma_it_tasks.py", include_str!("callback/boma_it_tasks.py")),
];
const SSH_PROGRAMS: [&str; 3] = ["ssh", "scp", "sftp"];

/// A site that passed [`super::check`] for a host.
#[derive(Clone, Debug)]
pub struct CheckedSite {
    /// Version of ansible-core: `2.19.14`.
    pub ansible: String,
    /// The host as production has it.
    pub entry: HostEntry,
    /// Why the guest cannot keep the byte-code of Ansible's modules for this site: a fragment that names the place.
    pub bytecode_obstacle: Option<String>,
    /// Python in the guest, unless the site has its own; none: `/usr/bin/python3`.
    pub python: Option<GuestPython>,
    /// Folders that may have an `ansible_collections`; none if Ansible did not say.
    pub(super) collections: Option<Vec<PathBuf>>,
    /// How many times slower than with KVM the host is; 1 until that is known.
    pub patience: u32,
    /// What a person should know about the playbooks.
    pub notes: Vec<String>,
    /// What of `verify.yml` can never count.
    pub(super) problems: Vec<String>,
    /// The plays of the site's playbook and those of `verify.yml`.
    pub(super) plays: [Vec<ExpectedPlay>; 2],
    pub(super) overrides: Overrides,
    pub(super) secrets: Secrets,
}

impl CheckedSite {
    /// Everything that the site playbook gets from outside the site's files, each as text: variables, tags, and which playbook
    /// it is.
    pub fn inputs(&self, site: &SitePlan, vars: &HarnessVars) -> Vec<String> {
        let overrides = fs::read_to_string(&site.overrides).unwrap_or_default();
        vec![
            json!(self.entry.vars).to_string(),
            overrides,
            json!(site.vars).to_string(),
            json!(vars.render(Phase::Apply)).to_string(),
            json!(site.roles).to_string(),
            site.playbook.display().to_string(),
            // The program and the byte-code are part of the state.
            json!([site.bytecode_cache, self.bytecode_obstacle]).to_string(),
        ]
    }

    /// Refuses a `verify.yml` with parts that can never count.
    ///
    /// # Errors
    /// [`SiteError::NeverCounts`].
    pub fn that_can_count(self, site: &SitePlan) -> Result<Self, SiteError> {
        match self.problems.is_empty() {
            true => Ok(self),
            false => Err(SiteError::NeverCounts { playbook: site.verify.clone(), problems: self.problems }),
        }
    }

    /// Adds the secrets that its roles need.
    #[must_use]
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

/// A folder prepared for runs of Ansible against one VM.
#[derive(Debug)]
pub struct Workspace {
    folder: PathBuf,
    pub(super) site: SitePlan,
    pub(super) host: String,
    /// Whether the override file sets anything: Ansible refuses an empty one.
    has_overrides: bool,
    /// Extra variables with the secrets, in a file only while a playbook runs.
    secrets: Map<String, Value>,
    /// The plays of the site's playbook and those of `verify.yml`.
    pub(super) plays: [Vec<ExpectedPlay>; 2],
}

impl Workspace {
    /// Fills `folder` (the run folder's `ansible/`, made if missing) for a site that [`super::check`] passed. Files of an
    /// earlier process of the same run are replaced.
    ///
    /// # Errors
    /// [`SiteError::Io`]; [`SiteError::NoSsh`] without an SSH client; [`SiteError::InvalidFile`] if a secret belongs into a
    /// variable with a tagged value.
    pub fn prepare(
        folder: &Path,
        site: &SitePlan,
        checked: &CheckedSite,
        access: &SshAccess,
    ) -> Result<Self, SiteError> {
        let CheckedSite { entry, overrides, secrets, python, patience, plays, .. } = checked;
        let scenario: Map<String, Value> = site.vars.clone().into_iter().collect();
        let overridden = overrides.values_for(secrets, &site.overrides)?;
        let secrets = lay_over(secrets, &[&entry.vars, &overridden, &scenario]);
        Ok(Self {
            secrets,
            plays: plays.clone(),
            ..Self::fill(folder, site, entry, (python.as_ref(), *patience), access, !overrides.is_empty())?
        })
    }

    pub(super) fn fill(
        folder: &Path,
        site: &SitePlan,
        entry: &HostEntry,
        (python, patience): (Option<&GuestPython>, u32),
        access: &SshAccess,
        has_overrides: bool,
    ) -> Result<Self, SiteError> {
        let (folder, site, host) = (folder.to_owned(), site.clone(), entry.host.clone());
        let workspace =
            Self { folder, site, host, has_overrides, secrets: Map::new(), plays: <_>::default() };
        let config = read_site_config(&workspace.site.dir)?;
        workspace.write("ansible.cfg", &config.render(&workspace.file("callback"), patience))?;
        let own = another(entry.interpreter.as_deref()).or(another(config.interpreter.as_deref()));
        let ours = python.map_or(INTERPRETER.into(), |python| python.program().to_string_lossy());
        let inventory = entry.render(access, own.unwrap_or(&ours));
        workspace.write("known_hosts", &access.known_hosts())?;
        workspace.write("ssh_config", &ssh_config(access, &entry.host, &workspace.file("known_hosts")))?;
        workspace.write("inventory.json", &format!("{inventory:#}\n"))?;
        for (name, text) in PYTHON {
            workspace.write(name, text)?;
        }
        for program in SSH_PROGRAMS {
            let real = find_program(program, &env::path()).ok_or(SiteError::NoSsh(program))?;
            let path =
                workspace.write(&format!("bin/{program}"), &wrapper(&real, &workspace.file("ssh_config")))?;
            fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(SiteError::io(&path))?;
        }
        Ok(workspace)
    }

    /// The folders that paths of tasks are shown relative to: those that contain the site and `harness/`.
    pub(super) fn roots(&self) -> Vec<&Path> {
        let verify = self.site.verify.parent().and_then(Path::parent);
        [self.site.dir.parent(), verify]
            .into_iter()
            .flatten()
            .filter(|path| path.parent().is_some())
            .collect()
    }

    /// `path`, a file and a line, relative to one of the roots.
    pub(super) fn relative(&self, path: &str) -> String {
        let inside = self.roots().into_iter().find_map(|root| Path::new(path).strip_prefix(root).ok());
        inside.unwrap_or(Path::new(path)).display().to_string()
    }

    /// A file of the workspace.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the file with the secrets, which is removed when dropped; nothing if there are no secrets.
    pub(super) fn write_secrets(&self) -> Result<Option<SecretsFile>, SiteError> {
        let needed = !self.secrets.is_empty();
        needed.then(|| SecretsFile::write(&self.folder, self.secrets.clone())).transpose()
    }

    /// A program of Ansible's, or another with its environment.
    pub(super) fn program(&self, program: impl AsRef<Path>) -> Process {
        let ansible = Ansible { programs: self.site.ansible.clone(), site: self.site.dir.clone() };
        ansible.program(program, &self.file("ansible.cfg"), Some(&self.file("bin")))
    }

    /// Writes the variables of a phase. Returns the arguments that `ansible-playbook` has in every run. `control` is the
    /// folder of SSH's sockets, `secrets` the file with the secrets.
    pub(super) fn arguments(
        &self,
        vars: &HarnessVars,
        phase: Phase,
        control: &Path,
        secrets: Option<&Path>,
    ) -> Result<Vec<OsString>, SiteError> {
        // Later files win: the scenario over the override, the secrets over both, the harness's variables over all.
        let scenario: Map<String, Value> = self.site.vars.clone().into_iter().collect();
        let scenario = self.write("scenario.vars.json", &format!("{:#}\n", Value::Object(scenario)))?;
        let mut harness = vars.render(phase);
        harness.extend(self.forced_vars(control));
        let name = format!("{}.vars.json", phase.as_str());
        let harness = self.write(&name, &format!("{:#}\n", Value::Object(harness)))?;
        let overrides = self.has_overrides.then(|| self.site.overrides.clone());
        let files = [overrides, Some(scenario), secrets.map(Path::to_owned), Some(harness)];
        let inventory = self.file("inventory.json").into_os_string();
        let fixed = ["--inventory".into(), inventory, "--limit".into(), OsString::from(&self.host)];
        let each = files.into_iter().flatten();
        let each = each.flat_map(|file| ["--extra-vars".into(), format!("@{}", file.display()).into()]);
        Ok(fixed.into_iter().chain(each).collect())
    }

    /// Variables that no play, role or override can change, for every host that a task is delegated to: extra variables
    /// win over all others.
    fn forced_vars(&self, control: &Path) -> Map<String, Value> {
        let program = |name: &str| Value::from(self.file("bin").join(name).to_string_lossy());
        let config = quote(&self.file("ssh_config").to_string_lossy());
        let forced = [
            ("ansible_ssh_args", format!("-F {config} -o ControlMaster=auto -o ControlPersist=60s").into()),
            ("ansible_ssh_common_args", "".into()),
            ("ansible_ssh_extra_args", "".into()),
            ("ansible_sftp_extra_args", "".into()),
            ("ansible_scp_extra_args", "".into()),
            ("ansible_ssh_executable", program("ssh")),
            ("ansible_scp_executable", program("scp")),
            ("ansible_sftp_executable", program("sftp")),
            ("ansible_control_path_dir", json!(control)),
            // Empty: made by Ansible, in that folder.
            ("ansible_control_path", "".into()),
            ("ansible_host_key_checking", true.into()),
            ("ansible_ssh_host_key_checking", true.into()),
        ];
        forced.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Writes a file, mode 0600, and its folder, mode 0700.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, SiteError> {
        let path = self.file(name);
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(&self.folder))?;
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&path)?.write_all(text.as_bytes())
        };
        write().map_err(SiteError::io(&path))?;
        Ok(path)
    }
}

/// The settings of the site's own `ansible.cfg`, if it has one.
pub(super) fn read_site_config(dir: &Path) -> Result<SiteConfig, SiteError> {
    let path = dir.join("ansible.cfg");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(SiteError::io(&path))?,
    };
    let invalid = |why| SiteError::InvalidFile { what: path.display().to_string(), why };
    SiteConfig::parse(&text, dir).map_err(invalid)
}
