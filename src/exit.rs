//! How a process ends. Every error has a class, and the class decides both the driver's exit code and whether `cargo test`
//! ignores a trial.
//!
//! [`class_of`] is the one place that classifies. Its matches are exhaustive, so that a new variant does not compile until
//! it is classified; a test finds error types that are neither there nor listed as left to their cause.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use crate::catalog::ProjectError;
use crate::cli::layer::LayerNotRemoved;
use crate::cycle::{LockHeld, NoRunningVm};
use crate::machine::guard::Refusal;
use crate::machine::hypervisor::HypervisorError;
use crate::machine::image::ImageError;
use crate::outcome::Outcome;
use crate::site::SiteError;
use crate::site::certs::UnmetRequirement;
use crate::site::secrets::SecretError;
use crate::support::env::{InvalidVariable, RepeatRemoved};
use crate::support::interrupt::{Interrupt, Interrupted};
use crate::support::process::{ProcessError, is_available};

/// How the driver ends. `--help` and docs/reference.md list the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Passed,
    /// An assertion failed, or an expectation was not met.
    Failed,
    /// There is no outcome.
    Error(ErrorClass),
    /// The exit code of the command that `boma-it ssh` ran.
    Command(u8),
}

/// What an error means for the caller of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// The command line, the environment or a file is wrong, or names something that does not exist.
    Usage,
    /// A guard refused the run before anything was created.
    Refused,
    /// This machine lacks something that VMs need. Without CI such a trial is ignored, with the reason.
    MachineLacks {
        /// Whether a guard found out, before anything was created.
        refused: bool,
    },
    /// Something is there and does not work.
    Infrastructure,
    /// A signal stopped the process.
    Interrupted(i32),
}

impl Exit {
    pub(crate) fn of_run(outcome: Outcome, interrupt: &Interrupt) -> Self {
        match outcome {
            Outcome::Passed => Self::Passed,
            Outcome::Failed => Self::Failed,
            Outcome::Errored => Self::Error(ErrorClass::Infrastructure),
            Outcome::Interrupted => {
                let signal = interrupt.check().err().map_or(2, |Interrupted(signal)| signal);
                Self::Error(ErrorClass::Interrupted(signal))
            }
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Error(ErrorClass::Usage) => 2,
            Self::Error(ErrorClass::Infrastructure | ErrorClass::MachineLacks { refused: false }) => 3,
            Self::Error(ErrorClass::Refused | ErrorClass::MachineLacks { refused: true }) => 4,
            Self::Error(ErrorClass::Interrupted(signal)) => u8::try_from(128 + signal).unwrap_or(130),
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl ErrorClass {
    /// The class of the outermost error in the chain that has one.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(class_of).unwrap_or(Self::Infrastructure)
    }
}

/// `None` leaves the class to the cause, and without one it is [`ErrorClass::Infrastructure`].
fn class_of(error: &(dyn Error + 'static)) -> Option<ErrorClass> {
    if let Some(Interrupted(signal)) = error.downcast_ref::<Interrupted>() {
        return Some(ErrorClass::Interrupted(*signal));
    }
    if error.is::<ProjectError>() || error.is::<NoRunningVm>() {
        return Some(ErrorClass::Usage);
    }
    if error.is::<InvalidVariable>() || error.is::<RepeatRemoved>() {
        return Some(ErrorClass::Usage);
    }
    if let Some(error) = error.downcast_ref::<LayerNotRemoved>() {
        return match error {
            LayerNotRemoved::Unknown { .. } => Some(ErrorClass::Usage),
            LayerNotRemoved::InUse { .. } => Some(ErrorClass::Refused),
        };
    }
    if error.is::<Refusal>() || error.is::<LockHeld>() {
        return Some(ErrorClass::Refused);
    }
    if let Some(error) = error.downcast_ref::<HypervisorError>() {
        use HypervisorError as E;
        return match error {
            E::BadUri { .. } => Some(ErrorClass::Usage),
            E::NoDaemon { .. } | E::Permission { .. } => Some(ErrorClass::MachineLacks { refused: false }),
            E::NotFound { .. } | E::Exists { .. } | E::DiskFull { .. } | E::NetworkConflict { .. } => None,
            E::Hung { .. } | E::GaveUp { .. } | E::File { .. } | E::Other { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<SiteError>() {
        use SiteError as E;
        return match error {
            E::Inventory { .. } | E::UnknownHost { .. } | E::InvalidFile { .. } => Some(ErrorClass::Usage),
            E::BrokenPlaybook { .. } | E::NoPlay { .. } | E::UnknownRole { .. } => Some(ErrorClass::Usage),
            E::NeverCounts { .. } | E::PlayForNobody { .. } => Some(ErrorClass::Usage),
            E::UnsupportedAnsible { .. } => Some(ErrorClass::MachineLacks { refused: false }),
            E::Process(ProcessError::Start { program, source }) if is_absent(program, source) => {
                Some(ErrorClass::MachineLacks { refused: false })
            }
            E::Process(_) | E::NoSsh { .. } | E::NoInterpreter | E::Io { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<SecretError>() {
        return match error {
            SecretError::Refused(_) => Some(ErrorClass::Refused),
            SecretError::Site(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<UnmetRequirement>() {
        return match error {
            UnmetRequirement::Program { .. } => Some(ErrorClass::MachineLacks { refused: true }),
            UnmetRequirement::Remote { .. } | UnmetRequirement::Missing { .. } => Some(ErrorClass::Refused),
        };
    }
    if let Some(error) = error.downcast_ref::<ImageError>() {
        use ImageError as E;
        return match error {
            E::Unknown { .. } => Some(ErrorClass::Usage),
            E::MissingTools(_) | E::NotEnoughSpace(_) | E::Official { .. } | E::Unusable { .. } => None,
            E::Step { .. } | E::Read { .. } | E::Io { .. } | E::Lock(_) => None,
        };
    }
    None
}

/// Whether a program that did not start is not on `PATH` at all. `NotFound` alone is not enough: the system also reports it
/// for a script whose interpreter is gone, and for a configured path that does not exist.
fn is_absent(program: &str, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && !program.contains('/') && !is_available(program)
}

#[cfg(test)]
mod tests;
