//! Why a stage stopped short: what the judge, the exit code and the cleanup need to know of an error.

use crate::catalog::plan::ExpectedFault;
use crate::cycle::judge::End;
use crate::machine::guard::Refusal;
use crate::outcome::{Outcome, Stage, error_chain};
use crate::support::interrupt::Interrupted;

/// Why a stage stopped short.
#[derive(Debug)]
pub enum Stop {
    /// A guard said no; nothing was made.
    Refused(anyhow::Error),
    /// A file of the operator's is wrong; nothing was made.
    BadInput(anyhow::Error),
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

impl Stop {
    /// How it counts, if nothing of the kind was declared.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_) | Self::BadInput(_) => Outcome::Refused,
            Self::Interrupted(_) => Outcome::Interrupted,
            Self::TaskFailed { .. } => Outcome::Failed,
            Self::Fault(..) | Self::Error(_) => Outcome::Errored,
        }
    }

    /// The whole chain of causes, if there is an error behind it.
    pub fn chain(&self) -> Option<String> {
        match self {
            Self::Refused(error)
            | Self::BadInput(error)
            | Self::Interrupted(error)
            | Self::Fault(_, error)
            | Self::Error(error) => Some(error_chain(error)),
            Self::TaskFailed { .. } => None,
        }
    }

    /// As the judge sees it, if it is the judge's business: refusals and interrupts are not.
    pub fn end(&self, at: Stage) -> Option<End> {
        match self {
            Self::Refused(_) | Self::BadInput(_) | Self::Interrupted(_) => None,
            Self::TaskFailed { task, message } => {
                Some(End::TaskFailed { task: task.clone(), message: message.clone() })
            }
            Self::Fault(fault, error) => {
                Some(End::Fault { at, fault: fault.clone(), error: format!("{error:#}") })
            }
            Self::Error(error) => Some(End::Error { at, error: format!("{error:#}") }),
        }
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TaskFailed { task, message } => write!(f, "“{task}” failed: {message}"),
            Self::Refused(error)
            | Self::BadInput(error)
            | Self::Interrupted(error)
            | Self::Fault(_, error)
            | Self::Error(error) => write!(f, "{error:#}"),
        }
    }
}

/// Whatever the error, an interrupt or a guard's refusal somewhere in its chain decides how it counts.
impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        if error.chain().any(|cause| cause.is::<Interrupted>()) {
            return Self::Interrupted(error);
        }
        if error.chain().any(|cause| cause.is::<Refusal>()) {
            return Self::Refused(error);
        }
        Self::Error(error)
    }
}
