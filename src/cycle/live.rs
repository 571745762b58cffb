//! A VM of ours that is up, found by the hypervisor's record of it, and the way in. Steps of the driver are separate
//! processes: what one leaves for the next is the domain's metadata and the run folder it names.

use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::world::{GuestLogin, RunContext};
use crate::catalog::plan::TrialName;
use crate::machine::{Hypervisor, Lifetime, Ownership};
use crate::support::process::Process;
use crate::support::run_folder::RunFolder;
use crate::support::ssh_access::SshAccess;

/// Folder of the run's keys, in the run folder; gone with the VM.
const KEYS: &str = "keys";
/// The private key that lets us in.
pub(super) const CLIENT_KEY: &str = "client";
/// The guest's private host key.
pub(super) const HOST_KEY: &str = "host";

/// A VM that is up, and the way in.
#[derive(Clone, Debug)]
pub struct RunningVm {
    /// The domain's name.
    pub machine: String,
    /// Whose it is.
    pub ownership: Ownership,
    /// Its run's folder.
    pub folder: RunFolder,
    /// How to get in.
    pub access: SshAccess,
}

/// There is no such VM, or nobody can get into it.
#[derive(Debug, thiserror::Error)]
pub enum NoRunningVm {
    /// There is none.
    #[error("there is no VM {machine}; bring it up with `boma-it up {options}`")]
    Absent {
        /// The domain's name.
        machine: String,
        /// The driver's options that name it.
        options: String,
    },
    /// It is there but does not run.
    #[error(
        "the VM {machine} is {state}; look at `boma-it console {options}`, end it with `boma-it down {options}`"
    )]
    NotRunning {
        /// The domain's name.
        machine: String,
        /// What state it is in.
        state: String,
        /// The driver's options that name it.
        options: String,
    },
    /// Its metadata says nothing we understand.
    #[error("the VM {machine} has no metadata of boma-it's; end it with `boma-it prune --all`")]
    Unowned {
        /// The domain's name.
        machine: String,
    },
}

impl RunningVm {
    /// The trial's VM.
    ///
    /// # Errors
    /// [`NoRunningVm`], or that the hypervisor could not be asked, or that its run folder or keys are gone.
    pub fn find(world: &RunContext, trial: &TrialName) -> anyhow::Result<Self> {
        let (machine, options) = (trial.machine(), trial.driver_options());
        let machines = world.hypervisor.machines().context("cannot see which VMs there are")?;
        let Some(found) = machines.into_iter().find(|it| it.name == machine) else {
            return Err(NoRunningVm::Absent { machine, options }.into());
        };
        let Some(ownership) = found.ownership else {
            return Err(NoRunningVm::Unowned { machine }.into());
        };
        if !found.state.is_alive() {
            return Err(NoRunningVm::NotRunning { machine, state: found.state.to_string(), options }.into());
        }
        let folder = RunFolder::open(&ownership.run_folder)
            .with_context(|| format!("cannot get into the VM {machine}: its keys were in its run folder"))?;
        Self::with(machine, ownership, folder, &world.door)
    }

    /// The VM that was just made, with the keys in its run folder.
    ///
    /// # Errors
    /// When its keys cannot be read.
    pub fn with(
        machine: String,
        ownership: Ownership,
        folder: RunFolder,
        door: &GuestLogin,
    ) -> anyhow::Result<Self> {
        let host_key = keys(&folder).join(format!("{HOST_KEY}.pub"));
        let host_key = std::fs::read_to_string(&host_key)
            .with_context(|| format!("cannot read the guest's host key {}", host_key.display()))?;
        let access = SshAccess {
            address: IpAddr::V4(ownership.address),
            port: door.port,
            user: door.user.clone(),
            private_key: keys(&folder).join(CLIENT_KEY),
            host_key: host_key.trim().to_owned(),
        };
        Ok(Self { machine, ownership, folder, access })
    }

    /// A deadline that is meant for KVM, as long as this VM's accelerator needs it.
    pub fn patience(&self, budget: Duration) -> Duration {
        budget * self.ownership.accelerator.patience()
    }

    /// From now on the VM lives that long.
    ///
    /// # Errors
    /// When the hypervisor does not note it.
    pub fn change_lifetime(&self, hypervisor: &dyn Hypervisor, lifetime: Lifetime) -> anyhow::Result<()> {
        let ownership = Ownership { lifetime, ..self.ownership.clone() };
        Ok(hypervisor.set_ownership(&self.machine, &ownership)?)
    }

    /// OpenSSH into the guest, with the run's key and the known host key, and nothing of the user's own.
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

/// Where a run's keys lie.
pub(super) fn keys(folder: &RunFolder) -> PathBuf {
    folder.join(KEYS)
}

/// The folder of a run's keys, mode 0700.
///
/// # Errors
/// When it cannot be made.
pub(super) fn make_keys(folder: &RunFolder) -> anyhow::Result<PathBuf> {
    let path = keys(folder);
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    made.with_context(|| format!("cannot make the folder of keys {}", path.display()))?;
    Ok(path)
}
