//! Ready: when a guest may be given to Ansible, to assertions, or to the next restart.
//!
//! Ready is all of these, each alone being too little: SSH answers with the expected host key, systemd's boot is over
//! (`running` or `degraded`), `/run/nologin` is gone, and cloud-init wrote its result.
//!
//! The waiting is done *in the guest*: once SSH answers, one session runs one small shell script that blocks in
//! `systemctl is-system-running --wait` and prints facts line by line. Polling from outside would cost an emulated guest
//! of two CPUs dearly, just while it boots: a login is a key exchange, a PAM session and a user manager, 1 to 2 CPU seconds;
//! even an exec on an open session forks a shell and a systemctl, some 0.1 s, so five a second would take a
//! quarter of the machine. The script sleeps on the bus instead, wakes with the signal that the boot is over, and its last line
//! reaches us as it is written: ready is noticed within a few tens of milliseconds. For what a person sees meanwhile, it lists
//! the running jobs every 3 s.
//!
//! cloud-init is read from `/run/cloud-init/{status,result}.json`, which is what `cloud-init status` itself reads: the command is
//! a Python program of 1 to 2 s under emulation. Its units are part of systemd's boot, so when that is over, so is cloud-init.
//!
//! Before SSH answers, attempts are cheap SYNs every tenth of a second. Attempts that *fail to authenticate* are paced (see
//! `settle.rs`): sshd since 9.8 punishes an address for them (`PerSourcePenalties`) by not answering for 15 s and more.

mod facts;
mod settle;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::boot_id::BootId;
use super::ssh::{Session, SshError, WaitContext};
use crate::support::deadline::{Deadline, WaitError, format_duration};
use crate::support::interrupt::Interrupted;
use crate::support::ssh_access::SshAccess;

pub(super) use facts::BootFacts;
pub(super) use settle::{Guest, LastContact, Prober, WaitFailure, settle};

/// A guest that is ready.
#[derive(Debug)]
pub struct Ready {
    /// The session that saw it; it belongs to this boot.
    pub session: Session,
    /// The boot it is ready in.
    pub boot_id: BootId,
    /// What systemd says.
    pub system: SystemState,
    /// What cloud-init says.
    pub cloud_init: CloudInit,
    /// How long we waited.
    pub took: Duration,
}

/// How systemd's boot ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemState {
    /// All is well.
    Running,
    /// These units failed.
    Degraded(Vec<String>),
}

/// How cloud-init ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloudInit {
    /// Well, or with these recoverable errors ("degraded done").
    Done {
        /// Each as `stage: LEVEL: message`.
        recoverable: Vec<String>,
    },
    /// Switched off in this boot.
    Disabled,
    /// Not installed.
    Absent,
}

/// The boot id of a guest that was settled when it was read, and whose session is gone: what a reboot is proven
/// against. Only [`Ready`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Baseline {
    boot_id: BootId,
}

impl Baseline {
    /// The boot id.
    pub fn boot_id(&self) -> &BootId {
        &self.boot_id
    }

    #[cfg(test)]
    pub(super) fn of(boot_id: BootId) -> Self {
        Self { boot_id }
    }
}

impl Ready {
    /// Gives the session up for the boot id to prove a restart against. A session of the boot that is about to end is of no use
    /// to anybody.
    pub fn into_baseline(self) -> Baseline {
        Baseline { boot_id: self.boot_id }
    }

    /// Asks the guest to restart, from inside (`systemctl reboot`), and gives the session up.
    ///
    /// # Errors
    /// [`SshError`]; a connection that is cut by the restart is none.
    pub fn request_reboot(mut self, deadline: &Deadline) -> Result<Baseline, SshError> {
        match self.session.exec_ok("sudo -n systemctl reboot", deadline) {
            Ok(_) | Err(SshError::Closed { .. }) => Ok(Baseline { boot_id: self.boot_id }),
            Err(error) => Err(error),
        }
    }

    /// What a person should know of a guest that is ready all the same.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let SystemState::Degraded(units) = &self.system {
            notes.push(format!("the system is degraded; failed units: {}", units.join(", ")));
        }
        match &self.cloud_init {
            CloudInit::Done { recoverable } => {
                notes.extend(recoverable.iter().map(|text| format!("cloud-init went on after {text}")));
            }
            CloudInit::Disabled => notes.push("cloud-init is disabled in this boot".into()),
            CloudInit::Absent => notes.push("the guest has no cloud-init".into()),
        }
        notes
    }
}

/// Why a guest did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The deadline passed and SSH did not answer (any more).
    #[error(
        "gave up after {}: no SSH session with {peer} for the last {}; the console tells whether the guest booted",
        format_duration(*.budget), format_duration(*.silent)
    )]
    Unreachable {
        /// Whom we called.
        peer: SocketAddr,
        /// How long we waited in all.
        budget: Duration,
        /// How long nothing had answered.
        silent: Duration,
        /// How the last attempt ended.
        #[source]
        last: Option<Box<SshError>>,
    },
    /// The deadline passed while the guest answered, still busy.
    #[error("gave up after {}: the guest answers (boot id {boot_id}) and does not settle: {last}", format_duration(*.budget))]
    NotSettled {
        /// The boot that answers.
        boot_id: BootId,
        /// How long we waited in all.
        budget: Duration,
        /// What it was last seen to be busy with.
        last: String,
    },
    /// cloud-init failed: the guest is not what the seed describes.
    #[error("cloud-init failed in the guest (see /var/log/cloud-init.log there): {}", .messages.join("; "))]
    CloudInit {
        /// Each as `stage: message`.
        messages: Vec<String>,
    },
    /// systemd gave up booting, and SSH answers all the same.
    #[error("the guest is in rescue or emergency mode (`systemctl is-system-running` says maintenance)")]
    Maintenance,
    /// Whoever watches the VM said that waiting is pointless.
    #[error("the guest will not become ready")]
    Dead(#[source] anyhow::Error),
    /// SSH fails in a way that no waiting mends: another host key, above all.
    #[error(transparent)]
    Ssh(SshError),
    /// We were asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Waits until the guest is ready, and tells `progress` what it is waiting for whenever that changes.
///
/// `health_check` is asked twice a second; when it errs (the VM died, paused, panicked, sits in emergency mode), the wait ends
/// with that error.
///
/// # Errors
/// [`ReadyError`].
pub fn wait_ready(
    access: &SshAccess,
    deadline: &Deadline,
    health_check: &mut dyn FnMut() -> anyhow::Result<()>,
    progress: &mut dyn FnMut(&str),
) -> Result<Ready, ReadyError> {
    let started = Instant::now();
    let peer = access.peer();
    deadline.time_wait(|| {
        let mut watch = WaitContext::with_alive(deadline, health_check);
        let (session, facts) = settle(&mut Guest { access }, None, &mut watch, progress)
            .map_err(|unsettled| unsettled.into_error(peer, started.elapsed()))?;
        Ok(Ready::from_facts(session, facts, started.elapsed()))
    })
}

impl Ready {
    pub(super) fn from_facts(session: Session, facts: BootFacts, took: Duration) -> Self {
        let BootFacts { boot_id, system, cloud_init } = facts;
        Self { session, boot_id, system, cloud_init, took }
    }
}

impl WaitFailure {
    /// As an error of who waited `budget`; a boot that was not to answer is one that does not settle.
    pub(super) fn into_error(self, peer: SocketAddr, budget: Duration) -> ReadyError {
        match self {
            Self::Failed(error) => error,
            Self::TimedOut(LastContact::None { since, last }) => {
                ReadyError::Unreachable { peer, budget, silent: since.elapsed(), last: last.map(Box::new) }
            }
            Self::TimedOut(LastContact::Old(boot_id)) => {
                ReadyError::NotSettled { boot_id, budget, last: "still the old boot".into() }
            }
            Self::TimedOut(LastContact::Some { boot_id, busy }) => {
                ReadyError::NotSettled { boot_id, budget, last: busy }
            }
        }
    }
}

impl From<SshError> for ReadyError {
    fn from(error: SshError) -> Self {
        match error {
            SshError::Dead(reason) => Self::Dead(reason),
            SshError::Wait(WaitError::Interrupted(signal)) => Self::Interrupted(signal),
            other => Self::Ssh(other),
        }
    }
}
