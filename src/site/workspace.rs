//! The folder from which Ansible is run: everything that it reads beside the site itself.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::config::SiteConfig;
use super::environment::Ansible;
use super::error::SiteError;
use super::inventory::HostEntry;
use super::preflight::Checked;
use super::secrets::SecretsFile;
use super::ssh_config::{shim, ssh_config};
use super::vars::{HarnessVars, Phase};
use crate::catalog::plan::SitePlan;
use crate::support::env;
use crate::support::process::{Process, find_program, quote};
use crate::support::ssh_access::SshAccess;

const CALLBACK: &str = include_str!("callback/boma_it.py");
const SSH_PROGRAMS: [&str; 3] = ["ssh", "scp", "sftp"];

/// A folder prepared for runs of Ansible against one VM.
#[derive(Debug)]
pub struct Workspace {
    pub(super) folder: PathBuf,
    pub(super) site: SitePlan,
    pub(super) host: String,
    ansible: Ansible,
    /// Whether the override file says anything: Ansible refuses an empty one.
    has_overrides: bool,
    /// What playbooks are handed, and removed again, for each run.
    secrets: Map<String, Value>,
}

impl Workspace {
    /// Fills `folder` (made if need be; the run folder's `ansible/`) for a host that [`super::check`] found in order.
    /// What an earlier process of the same run left there is replaced.
    ///
    /// # Errors
    /// [`SiteError::Io`], or [`SiteError::NoSsh`] where there is no SSH client.
    pub fn prepare(
        folder: &Path,
        site: &SitePlan,
        checked: &Checked,
        target: &SshAccess,
    ) -> Result<Self, SiteError> {
        let mut workspace = Self::fill(folder, site, &checked.entry, target, checked.has_overrides)?;
        workspace.secrets = checked.secret_variables(site)?;
        Ok(workspace)
    }

    pub(super) fn fill(
        folder: &Path,
        site: &SitePlan,
        entry: &HostEntry,
        target: &SshAccess,
        has_overrides: bool,
    ) -> Result<Self, SiteError> {
        let workspace = Self {
            folder: folder.to_owned(),
            site: site.clone(),
            host: entry.host.clone(),
            ansible: Ansible { programs: site.ansible.clone(), site: site.dir.clone() },
            has_overrides,
            secrets: Map::new(),
        };
        let config = read_site_config(&site.dir)?.render(&workspace.file("callback"));
        workspace.write("ansible.cfg", &config)?;
        workspace.write("known_hosts", &target.known_hosts())?;
        workspace.write("ssh_config", &ssh_config(target, &entry.host, &workspace.file("known_hosts")))?;
        workspace.write("inventory.json", &format!("{:#}\n", entry.render(target)))?;
        workspace.write("callback/boma_it.py", CALLBACK)?;
        for program in SSH_PROGRAMS {
            let real = find_program(program, &env::path()).ok_or(SiteError::NoSsh { program })?;
            workspace.write_executable(program, &shim(&real, &workspace.file("ssh_config")))?;
        }
        Ok(workspace)
    }

    /// A file of the workspace.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the secrets where a playbook may read them, until this is dropped; nothing if there are none.
    pub(super) fn hand_over(&self) -> Result<Option<SecretsFile>, SiteError> {
        let needed = !self.secrets.is_empty();
        needed.then(|| SecretsFile::write(&self.folder, self.secrets.clone())).transpose()
    }

    /// Writes the variables of a phase, and gives the arguments and environment common to every start of
    /// `ansible-playbook`. `control` is the folder of SSH's sockets, `secrets` the file that holds them.
    pub(super) fn playbook(
        &self,
        vars: &HarnessVars,
        phase: Phase,
        control: &Path,
        secrets: Option<&Path>,
    ) -> Result<Process, SiteError> {
        // Each its own file: the scenario's values are laid over the override, the secrets over them, ours over all.
        let scenario: Map<String, Value> = self.site.vars.clone().into_iter().collect();
        let mut ours = vars.render(phase);
        ours.extend(self.forced_vars(control));
        let name = format!("{}.vars.json", phase.as_str());
        self.write("scenario.vars.json", &format!("{:#}\n", Value::Object(scenario)))?;
        self.write(&name, &format!("{:#}\n", Value::Object(ours)))?;
        let overrides = self.has_overrides.then(|| self.site.overrides.clone());
        let files = overrides.into_iter().chain([self.file("scenario.vars.json")]);
        let files = files.chain(secrets.map(Path::to_owned)).chain([self.file(&name)]);
        let mut process = self
            .ansible
            .program("ansible-playbook", &self.file("ansible.cfg"), Some(&self.file("bin")))
            .arg("--inventory")
            .arg(self.file("inventory.json"))
            .args(["--limit", &self.host]);
        for file in files {
            process = process.arg("--extra-vars").arg(format!("@{}", file.display()));
        }
        Ok(process)
    }

    /// What no play, role or override may replace, for every host that a task is delegated to: as extra variables,
    /// which win over all others.
    fn forced_vars(&self, control: &Path) -> Map<String, Value> {
        let program = |name: &str| self.file("bin").join(name);
        let config = quote(&self.file("ssh_config").to_string_lossy());
        let forced_vars = json!({
            "ansible_ssh_args": format!("-F {config} -o ControlMaster=auto -o ControlPersist=60s"),
            "ansible_ssh_common_args": "",
            "ansible_ssh_extra_args": "",
            "ansible_sftp_extra_args": "",
            "ansible_scp_extra_args": "",
            "ansible_ssh_executable": program("ssh"),
            "ansible_scp_executable": program("scp"),
            "ansible_sftp_executable": program("sftp"),
            "ansible_control_path_dir": control,
            "ansible_host_key_checking": true,
            "ansible_ssh_host_key_checking": true,
        });
        match forced_vars {
            Value::Object(forced_vars) => forced_vars,
            _ => Map::new(),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), SiteError> {
        let path = self.file(name);
        let io = |source| SiteError::Io { path: path.clone(), source };
        let folder = path.parent().unwrap_or(&self.folder);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(io)
    }

    fn write_executable(&self, program: &str, text: &str) -> Result<(), SiteError> {
        let name = format!("bin/{program}");
        self.write(&name, text)?;
        let path = self.file(&name);
        fs::set_permissions(&path, Permissions::from_mode(0o700))
            .map_err(|source| SiteError::Io { path, source })
    }
}

/// What the site's own `ansible.cfg` says, if it has one.
pub(super) fn read_site_config(dir: &Path) -> Result<SiteConfig, SiteError> {
    let path = dir.join("ansible.cfg");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(SiteConfig::parse(&text, dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(SiteConfig::parse("", dir)),
        Err(source) => Err(SiteError::Io { path, source }),
    }
}
