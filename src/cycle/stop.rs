//! Why a stage stopped short: what the judge and the report need to know of an error.

use super::vigil::VmFailure;
use crate::catalog::plan::ExpectedFault;
use crate::cycle::judge::TrialEnd;
use crate::outcome::{Outcome, Stage, error_chain};
use crate::support::interrupt::{Interrupt, Interrupted};

/// Why a stage stopped short.
#[derive(Debug)]
pub enum StageError {
    /// We were asked to stop.
    Interrupted(anyhow::Error),
    /// A task of the site playbook failed.
    TaskFailed {
        /// Its name.
        task: String,
        /// What it said.
        message: String,
    },
    /// The guest broke in a way that a scenario can declare.
    Fault(ExpectedFault, anyhow::Error),
    /// We could not find out.
    Error(anyhow::Error),
}

impl StageError {
    /// How it counts, if nothing of the kind was declared.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Interrupted(_) => Outcome::Interrupted,
            Self::TaskFailed { .. } => Outcome::Failed,
            Self::Fault(..) | Self::Error(_) => Outcome::Errored,
        }
    }

    /// Whether the VM is lost, so that nothing more is to be had from it.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Fault(_, error) | Self::Error(error) => VmFailure::in_chain(error).is_some(),
            Self::Interrupted(_) | Self::TaskFailed { .. } => false,
        }
    }

    /// Itself; or, once we were asked to stop, an interrupt: whatever error it ended in.
    pub(super) fn unless_interrupted(self, interrupt: &Interrupt) -> Self {
        match (interrupt.check(), self) {
            (Ok(()), stop) => stop,
            (Err(_), Self::Error(error)) if error.chain().any(|cause| cause.is::<Interrupted>()) => {
                Self::Interrupted(error)
            }
            (Err(signal), stop) => Self::Interrupted(anyhow::Error::new(signal).context(stop.to_string())),
        }
    }

    /// The whole chain of causes, if there is an error behind it.
    pub fn chain(&self) -> Option<String> {
        match self {
            Self::Interrupted(error) | Self::Fault(_, error) | Self::Error(error) => Some(error_chain(error)),
            Self::TaskFailed { .. } => None,
        }
    }

    /// As the judge sees it; an interrupt is not the judge's business.
    pub fn end(&self, at: Stage) -> Option<TrialEnd> {
        match self {
            Self::Interrupted(_) => None,
            Self::TaskFailed { task, message } => {
                Some(TrialEnd::TaskFailed { task: task.clone(), message: message.clone() })
            }
            Self::Fault(fault, error) => {
                Some(TrialEnd::Fault { at, fault: fault.clone(), error: format!("{error:#}") })
            }
            Self::Error(error) => Some(TrialEnd::Error { at, error: format!("{error:#}") }),
        }
    }
}

impl std::fmt::Display for StageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TaskFailed { task, message } => write!(f, "“{task}” failed: {message}"),
            Self::Interrupted(error) | Self::Fault(_, error) | Self::Error(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for StageError {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(error)
    }
}

/// A stage that came to its end.
#[derive(Debug)]
pub(super) struct StageOutput<T> {
    /// What it gives to the next.
    pub value: T,
    /// Passed; or failed, where assertions did not hold.
    pub outcome: Outcome,
    /// What was seen, in a line.
    pub summary: String,
}

impl<T> StageOutput<T> {
    /// Passed.
    pub(super) fn passed(value: T, summary: impl Into<String>) -> Self {
        Self { value, outcome: Outcome::Passed, summary: summary.into() }
    }
}
