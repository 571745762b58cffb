//! A VM that is up, and how to log in to it. The steps of the driver are separate processes, so a later step finds the VM
//! by the metadata of its domain, and its keys in the run folder that the metadata names.

use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::context::{GuestLogin, RunContext};
use crate::catalog::plan::TrialName;
use crate::machine::{Hypervisor, Lifetime, Ownership};
use crate::support::process::Process;
use crate::support::run_folder::RunFolder;
use crate::support::ssh_access::SshAccess;

/// Folder of the run's keys in the run folder. It is removed with the VM.
const KEYS: &str = "keys";
/// The private key of our SSH client.
pub(super) const CLIENT_KEY: &str = "client";
/// The guest's private host key.
pub(super) const HOST_KEY: &str = "host";

/// A VM that is up, and how to log in to it.
#[derive(Clone, Debug)]
pub struct RunningVm {
    /// The domain's name.
    pub machine: String,
    /// Who owns it.
    pub ownership: Ownership,
    /// The folder of its run.
    pub folder: RunFolder,
    /// How to log in.
    pub access: SshAccess,
}

/// There is no such VM, or it does not run.
#[derive(Debug, thiserror::Error)]
pub enum NoRunningVm {
    /// There is no such VM.
    #[error("{trial} has no VM; bring it up with `boma-it up {options}`")]
    Absent {
        /// The trial.
        trial: TrialName,
        /// The driver's options that name it.
        options: String,
    },
    /// It exists but does not run.
    #[error(
        "the VM {machine} is {state}; `boma-it console {options}` shows why, `boma-it down {options}` ends it"
    )]
    NotRunning {
        /// The domain's name.
        machine: String,
        /// Its state.
        state: String,
        /// The driver's options that name it.
        options: String,
    },
    /// Its metadata is not ours, or cannot be read.
    #[error("the VM {machine} has no metadata of boma-it; end it with `boma-it prune --all`")]
    Unowned {
        /// The domain's name.
        machine: String,
    },
}

impl RunningVm {
    /// The trial's VM.
    ///
    /// # Errors
    /// [`NoRunningVm`], or that the hypervisor does not answer, or that the run folder or the keys are gone.
    pub fn find(context: &RunContext, trial: &TrialName) -> anyhow::Result<Self> {
        let options = trial.driver_options();
        let Some((found, ownership)) = context.machine_of(trial)? else {
            return Err(NoRunningVm::Absent { trial: trial.clone(), options }.into());
        };
        let machine = found.name;
        if !found.state.is_alive() {
            return Err(NoRunningVm::NotRunning { machine, state: found.state.to_string(), options }.into());
        }
        let folder = RunFolder::open(&ownership.run_folder)
            .with_context(|| format!("cannot log in to the VM {machine}: its keys were in its run folder"))?;
        Self::new(machine, ownership, folder, &context.login)
    }

    /// The VM that was just defined, with the keys in its run folder.
    ///
    /// # Errors
    /// When its keys cannot be read.
    pub(super) fn new(
        machine: String,
        ownership: Ownership,
        folder: RunFolder,
        login: &GuestLogin,
    ) -> anyhow::Result<Self> {
        let host_key = keys(&folder).join(format!("{HOST_KEY}.pub"));
        let host_key = std::fs::read_to_string(&host_key)
            .with_context(|| format!("cannot read the guest's host key {}", host_key.display()))?;
        let access = SshAccess {
            address: IpAddr::V4(ownership.address),
            port: login.port,
            user: login.user.clone(),
            private_key: keys(&folder).join(CLIENT_KEY),
            host_key: host_key.trim().to_owned(),
        };
        Ok(Self { machine, ownership, folder, access })
    }

    /// Records a new lifetime of the VM.
    ///
    /// # Errors
    /// When the hypervisor fails.
    pub(super) fn change_lifetime(
        &self,
        hypervisor: &dyn Hypervisor,
        lifetime: Lifetime,
    ) -> anyhow::Result<()> {
        let ownership = Ownership { lifetime, ..self.ownership.clone() };
        Ok(hypervisor.set_ownership(&self.machine, &ownership)?)
    }

    /// OpenSSH into the guest, with the run's key and the known host key, and without the user's own configuration.
    ///
    /// # Errors
    /// When the known_hosts file cannot be written.
    pub fn ssh_command(&self) -> anyhow::Result<Process> {
        let known_hosts = keys(&self.folder).join("known_hosts");
        let SshAccess { address, port, user, .. } = &self.access;
        std::fs::write(&known_hosts, self.access.known_hosts())
            .with_context(|| format!("cannot write {}", known_hosts.display()))?;
        let option = |name: &str, value: &str| ["-o".to_owned(), format!("{name}={value}")];
        Ok(Process::new("ssh")
            .args(["-F", "none"])
            .args(option("IdentityFile", &self.access.private_key.to_string_lossy()))
            .args(option("IdentitiesOnly", "yes"))
            .args(option("IdentityAgent", "none"))
            .args(option("UserKnownHostsFile", &known_hosts.to_string_lossy()))
            .args(option("GlobalKnownHostsFile", "none"))
            .args(option("StrictHostKeyChecking", "yes"))
            .args(["-p", &port.to_string()])
            .arg(format!("{user}@{address}")))
    }
}

/// The folder of a run's keys.
pub(super) fn keys(folder: &RunFolder) -> PathBuf {
    folder.join(KEYS)
}

/// Creates the folder of a run's keys, mode 0700.
///
/// # Errors
/// When it cannot be created.
pub(super) fn create_keys_folder(folder: &RunFolder) -> anyhow::Result<PathBuf> {
    let path = keys(folder);
    let created = std::fs::DirBuilder::new().mode(0o700).create(&path);
    created.with_context(|| format!("cannot create the folder of keys {}", path.display()))?;
    Ok(path)
}

/// Removes the keys of a VM that is gone: they open nothing any more, and a run folder must not hold secrets.
pub(super) fn remove_keys(folder: &RunFolder) {
    let _ = std::fs::remove_dir_all(keys(folder));
}

/// The same for the run folders at `paths` that still exist.
pub(super) fn remove_keys_in<'a>(paths: impl IntoIterator<Item = &'a Path>) {
    paths.into_iter().filter_map(|path| RunFolder::open(path).ok()).for_each(|folder| remove_keys(&folder));
}
