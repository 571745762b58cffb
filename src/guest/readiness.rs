//! What a ready guest is: one that may be given to Ansible, to assertions, or to the next restart.
//!
//! Ready means all of these, as each alone is not enough: SSH answers with the expected host key, systemd has finished booting
//! (`running` or `degraded`), `/run/nologin` is gone, and cloud-init has written its result. [`super::settle`] waits for it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use uuid::Uuid;

use super::prober::count_wtmp;
use super::ssh::{Session, SshError, WaitContext};
use crate::support::deadline::{Deadline, WaitError, format_duration};
use crate::support::interrupt::Interrupted;

/// The kernel's boot id, a random UUID for every boot: `/proc/sys/kernel/random/boot_id`, see random(4).
///
/// It is the only proof of a reboot that we accept: not `btime` (moves with NTP), not uptime, not a port that went down and
/// came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(Uuid);

impl BootId {
    /// Accepts the kernel's form and the one without dashes that `journalctl --list-boots` prints.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text.trim()).ok().map(Self)
    }

    /// The first eight digits: enough for a person to tell two boots apart.
    pub fn short(&self) -> String {
        format!("{:08x}", self.0.as_fields().0)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How systemd finished booting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemState {
    /// No unit failed.
    Running,
    /// These units failed.
    Degraded(Vec<String>),
}

/// How cloud-init finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudInit {
    /// It finished, possibly with recoverable errors ("degraded done").
    Done {
        /// Each as `stage: LEVEL: message`.
        recoverable: Vec<String>,
    },
    /// It reported no error and did not finish, as these of its units do not start by themselves.
    Off {
        /// Each as `unit is masked`.
        units: Vec<String>,
    },
    /// It is disabled in this boot.
    Disabled,
    /// It is not installed.
    Absent,
}

/// What a settled guest reported about its boot.
#[derive(Debug, PartialEq, Eq)]
pub struct BootFacts {
    /// Which boot it is.
    pub boot_id: BootId,
    /// How systemd finished booting.
    pub system: SystemState,
    /// How cloud-init finished.
    pub cloud_init: CloudInit,
}

impl BootFacts {
    /// What a person should know about a guest that is ready all the same.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let SystemState::Degraded(units) = &self.system {
            notes.push(format!("the system is degraded; failed units: {}", units.join(", ")));
        }
        match &self.cloud_init {
            CloudInit::Done { recoverable } => {
                notes.extend(recoverable.iter().map(|text| format!("cloud-init recovered from {text}")));
            }
            CloudInit::Off { units } => {
                notes.push(format!("cloud-init did not run in this boot: {}", units.join(", ")));
            }
            CloudInit::Disabled => notes.push("cloud-init is disabled in this boot".into()),
            CloudInit::Absent => notes.push("the guest has no cloud-init".into()),
        }
        notes
    }
}

/// A guest that is ready.
#[derive(Debug)]
pub struct Ready {
    /// The session that saw it; it belongs to this boot.
    pub session: Session,
    /// What the guest reported.
    pub facts: BootFacts,
}

impl Ready {
    /// Gives the session up for what a restart is proven against: the boot id, and how many boots wtmp counts. A session is
    /// useless once its boot ends.
    pub fn into_baseline(mut self, deadline: &Deadline) -> Baseline {
        let wtmp = deadline.time_wait(|| count_wtmp(&mut self.session, &mut WaitContext::new(deadline)));
        Baseline { boot_id: self.facts.boot_id, wtmp }
    }

    /// Asks the guest to restart, from inside (`systemctl reboot`), and gives the session up.
    ///
    /// # Errors
    /// [`SshError`], except that the restart may cut the connection.
    pub fn request_reboot(mut self, deadline: &Deadline) -> Result<Baseline, SshError> {
        let boot_id = self.facts.boot_id;
        let wtmp = count_wtmp(&mut self.session, &mut WaitContext::new(deadline));
        match self.session.exec_ok("sudo -n systemctl reboot", deadline) {
            Ok(_) | Err(SshError::Closed { .. }) => Ok(Baseline { boot_id, wtmp }),
            Err(error) => Err(error),
        }
    }
}

/// The boot id of a guest that was ready when it was read and whose session is gone: what a reboot is proven against. Only
/// [`Ready`] makes one.
#[derive(Clone, Debug)]
pub struct Baseline {
    pub(super) boot_id: BootId,
    /// How many boots its wtmp counted, or why it could not.
    pub(super) wtmp: Result<usize, String>,
}

/// The jobs that systemd works on while it boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningJobs {
    /// The units of the running ones.
    pub units: Vec<String>,
    /// For how long exactly these have run.
    pub unchanged_for: Duration,
}

/// Why a guest did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The deadline passed and SSH did not answer, or no longer did.
    #[error(
        "timed out after {}: no SSH session with {peer} for the last {}; see console.log for whether the guest booted",
        format_duration(*.budget), format_duration(*.silent)
    )]
    Unreachable {
        /// Address and port of the guest's sshd.
        peer: SocketAddr,
        /// How long we waited in all.
        budget: Duration,
        /// How long nothing had answered.
        silent: Duration,
        /// Why the last attempt failed.
        #[source]
        last: Option<Box<SshError>>,
    },
    /// The deadline passed while the guest answered, still busy.
    #[error("timed out after {}: the guest answers (boot id {boot_id}) but has not settled: {last}", format_duration(*.budget))]
    NotSettled {
        /// The boot that answers.
        boot_id: BootId,
        /// How long we waited in all.
        budget: Duration,
        /// What it was last busy with.
        last: String,
        /// The jobs that ran at the end, if it listed them.
        jobs: Option<RunningJobs>,
    },
    /// cloud-init failed, so the guest is not what the seed describes.
    #[error("cloud-init failed in the guest (see /var/log/cloud-init.log there): {}", .messages.join("; "))]
    CloudInit {
        /// Each as `stage: message`.
        messages: Vec<String>,
    },
    /// systemd gave up booting, although SSH answers.
    #[error("the guest is in rescue or emergency mode (`systemctl is-system-running` says maintenance)")]
    Maintenance,
    /// The health check failed.
    #[error("the guest will not become ready")]
    VmFailed(#[source] anyhow::Error),
    /// SSH failed in a way that waiting does not change, such as another host key.
    #[error(transparent)]
    Ssh(SshError),
    /// We were asked to stop.
    #[error("stopped waiting for the guest")]
    Interrupted(#[from] Interrupted),
}

impl From<SshError> for ReadyError {
    fn from(error: SshError) -> Self {
        match error {
            SshError::VmFailed(reason) => Self::VmFailed(reason),
            SshError::Wait(WaitError::Interrupted(signal)) => Self::Interrupted(signal),
            other => Self::Ssh(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("3fe1ac58-53e2-4f7b-8b4c-0123456789ab\n")]
    #[case("3fe1ac5853e24f7b8b4c0123456789ab")]
    #[case("3FE1AC58-53E2-4F7B-8B4C-0123456789AB")]
    fn a_boot_id_parses_with_and_without_dashes(#[case] text: &str) {
        let id = BootId::parse(text).unwrap();
        assert_eq!(id.to_string(), "3fe1ac58-53e2-4f7b-8b4c-0123456789ab");
        assert_eq!(id.short(), "3fe1ac58");
    }

    #[rstest::rstest]
    #[case("")]
    #[case("3fe1ac58")]
    #[case("3fe1ac58-53e2-4f7b-8b4c-0123456789a")]
    #[case("3fe1ac5853e2-4f7b-8b4c-0123456789ab")]
    #[case("3fe1ac58-53e2-4f7b-8b4c-0123456789ag")]
    #[case("ééé1ac5853e24f7b8b4c0123456789ab")]
    fn text_that_is_no_uuid_is_no_boot_id(#[case] text: &str) {
        assert_eq!(BootId::parse(text), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,64}") {
            let _ = BootId::parse(&text);
        }
    }
}
