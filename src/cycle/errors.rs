//! How a stage can fail: the VM failed, its boot did not end, or anything else. Plain data; [`super::judge`] decides
//! what a failure means for the trial.

use crate::catalog::plan::ExpectedFault;
use crate::guest::{BootFault, BootFaultKind};
use crate::outcome::{Outcome, error_chain};
use crate::support::interrupt::{Interrupt, Interrupted};

/// The VM `machine`, a domain, failed: there is nothing left to wait for. `why` is in words; `fault` is what the console shows.
#[derive(Debug, thiserror::Error)]
pub enum VmFailure {
    /// The hypervisor reports it.
    #[error("{machine}: {why}")]
    State { machine: String, why: &'static str },
    /// The console shows it.
    #[error("{machine} reports on its console: {fault} (full text: console.log in the run folder)")]
    Console { machine: String, fault: BootFault },
}

impl VmFailure {
    /// The one behind an error, if there is one.
    pub(super) fn in_chain(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| cause.downcast_ref())
    }

    /// The fault of the guest's own doing, if it is proven to be one. What the hypervisor reports never is.
    pub(super) fn fault(&self) -> Option<ExpectedFault> {
        let Self::Console { fault, .. } = self else { return None };
        match fault.kind {
            _ if !fault.is_own_doing => None,
            BootFaultKind::Emergency => Some(ExpectedFault::Emergency),
            BootFaultKind::Initramfs => Some(ExpectedFault::Initramfs),
            BootFaultKind::Panic => Some(ExpectedFault::Panic),
            BootFaultKind::Firmware | BootFaultKind::Stalled => None,
        }
    }
}

/// SSH does not answer, and nothing shows that the guest finished its boot. So this is a failed boot, not a lockout.
/// `machine` is the domain, `last` the last line of the console or journal, `prompt` a line of the console, `boots` how
/// many boots began.
#[derive(Debug, thiserror::Error)]
pub enum BootIncomplete {
    /// No new boot began.
    #[error("{machine} did not boot: its console shows no firmware or kernel message after the restart{}", last_line(.last.as_deref()))]
    NotBegun { machine: String, last: Option<String> },
    /// A boot began and did not end.
    #[error(
        "{machine} did not finish its boot: no login prompt on the console and no end of the boot in the journal, so this \
         does not count as a lockout{}", last_line(.last.as_deref())
    )]
    NotEnded { machine: String, last: Option<String> },
    /// The boot reached a login prompt, but its journal, which was received, does not show its end.
    #[error(
        "{machine} did not finish its boot: the console shows `{prompt}`, but the journal ends at `{last}`, so this does \
         not count as a lockout"
    )]
    Unfinished { machine: String, prompt: String, last: String },
    /// It boots in a loop.
    #[error("{machine} restarts by itself: {boots} boots began on its console, expected one")]
    Loop { machine: String, boots: usize },
}

fn last_line(last: Option<&str>) -> String {
    last.map_or_else(String::new, |line| format!("; the console's last line is `{line}`"))
}

/// Why a stage stopped short.
#[derive(Debug)]
pub(super) enum StageError {
    /// We were asked to stop.
    Interrupted(anyhow::Error),
    /// A task of the site playbook failed, with its role, if it is of one, and its message.
    TaskFailed { task: String, role: Option<String>, message: String },
    /// The site broke the guest, proven by what the guest itself shows; a scenario can declare it. Never
    /// [`ExpectedFault::Tasks`].
    Fault(ExpectedFault, anyhow::Error),
    /// We could not find out.
    Error(anyhow::Error),
}

impl StageError {
    /// The outcome of the stage, whatever the scenario declares.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Interrupted(_) => Outcome::Interrupted,
            Self::TaskFailed { .. } | Self::Fault(..) => Outcome::Failed,
            Self::Error(_) => Outcome::Errored,
        }
    }

    /// Whether the VM failed, so that nothing inside it can be asked.
    pub(super) fn is_vm_failure(&self) -> bool {
        match self {
            Self::Fault(_, error) | Self::Error(error) => VmFailure::in_chain(error).is_some(),
            Self::Interrupted(_) | Self::TaskFailed { .. } => false,
        }
    }

    /// An interrupt once we were asked to stop, whatever error the stage ended with; otherwise the error itself.
    pub(super) fn unless_interrupted(self, interrupt: &Interrupt) -> Self {
        match (interrupt.check(), self) {
            (Ok(()), error) => error,
            (Err(_), Self::Error(error)) if error.chain().any(|cause| cause.is::<Interrupted>()) => {
                Self::Interrupted(error)
            }
            (Err(signal), other) => Self::Interrupted(anyhow::Error::new(signal).context(other.to_string())),
        }
    }

    /// The whole chain of causes, if an error is behind it.
    pub(super) fn chain(&self) -> Option<String> {
        match self {
            Self::Interrupted(error) | Self::Fault(_, error) | Self::Error(error) => Some(error_chain(error)),
            Self::TaskFailed { .. } => None,
        }
    }
}

impl std::fmt::Display for StageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TaskFailed { task, message, .. } => write!(f, "`{task}` failed: {message}"),
            Self::Interrupted(error) | Self::Fault(_, error) | Self::Error(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for StageError {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(error)
    }
}

/// What a stage gives when it came to its end.
#[derive(Debug)]
pub(super) struct StageOutput<T> {
    /// For the next stage.
    pub value: T,
    /// Passed; or failed, where an assertion failed.
    pub outcome: Outcome,
    /// One line on what happened.
    pub summary: String,
}

impl StageOutput<()> {
    pub(super) fn passed(summary: impl Into<String>) -> Self {
        Self { value: (), outcome: Outcome::Passed, summary: summary.into() }
    }
}
