//! How a process ends. Every error has a class, and the class decides both the driver's exit code and whether `cargo test`
//! ignores a trial.
//!
//! An error type with a class of its own implements [`Classify`] by an exhaustive match: a new variant does not compile
//! until it is classified. Any other type leaves the decision to its cause; a test lists those, and fails for a type that
//! is in neither place.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use crate::catalog::ProjectError;
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

/// The exit codes of the driver, as `--help` and docs/reference.md list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0
    Passed,
    /// 1: an assertion failed, or an expectation was not met.
    Failed,
    /// 2: the command line, the environment or a file is wrong.
    Usage,
    /// 3: could not find out.
    Infrastructure,
    /// 4: refused by a guard.
    Refused,
    /// 128 plus the number of the signal.
    Interrupted(i32),
    /// The exit code of the command that `boma-it ssh` ran.
    Command(u8),
}

impl Exit {
    pub(crate) fn of_run(outcome: Outcome, interrupt: &Interrupt) -> Self {
        match outcome {
            Outcome::Passed => Self::Passed,
            Outcome::Failed => Self::Failed,
            Outcome::Errored => Self::Infrastructure,
            Outcome::Interrupted => {
                Self::Interrupted(interrupt.check().err().map_or(2, |Interrupted(signal)| signal))
            }
        }
    }

    /// For an error that no run has reported.
    pub(crate) fn of_error(error: &anyhow::Error) -> Self {
        match ErrorClass::of(error) {
            ErrorClass::Usage => Self::Usage,
            ErrorClass::Refused | ErrorClass::MachineLacks { refused: true } => Self::Refused,
            ErrorClass::Infrastructure | ErrorClass::MachineLacks { refused: false } => Self::Infrastructure,
            ErrorClass::Interrupted(signal) => Self::Interrupted(signal),
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Infrastructure => 3,
            Self::Refused => 4,
            Self::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(130),
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What an error means for whoever started the process.
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

impl ErrorClass {
    /// The class of the outermost error in the chain that has one.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let class = |cause: &(dyn Error + 'static)| CLASSES.iter().find_map(|class_of| class_of(cause));
        error.chain().find_map(class).unwrap_or(Self::Infrastructure)
    }
}

/// An error type with a class of its own.
trait Classify: Error + Sized + 'static {
    /// The class; `None` leaves it to the cause.
    fn class(&self) -> Option<ErrorClass>;

    fn class_of(cause: &(dyn Error + 'static)) -> Option<ErrorClass> {
        cause.downcast_ref().and_then(Self::class)
    }
}

type ClassOf = fn(&(dyn Error + 'static)) -> Option<ErrorClass>;

/// Every type that implements [`Classify`].
const CLASSES: [ClassOf; 12] = [
    HypervisorError::class_of,
    ImageError::class_of,
    Interrupted::class_of,
    InvalidVariable::class_of,
    LockHeld::class_of,
    NoRunningVm::class_of,
    ProjectError::class_of,
    Refusal::class_of,
    RepeatRemoved::class_of,
    SecretError::class_of,
    SiteError::class_of,
    UnmetRequirement::class_of,
];

impl Classify for HypervisorError {
    fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::BadUri { .. } => Some(ErrorClass::Usage),
            Self::NoDaemon { .. } | Self::Permission { .. } => {
                Some(ErrorClass::MachineLacks { refused: false })
            }
            Self::NotFound { .. }
            | Self::Exists { .. }
            | Self::DiskFull { .. }
            | Self::Hung { .. }
            | Self::NetworkConflict { .. }
            | Self::GaveUp { .. }
            | Self::File { .. }
            | Self::Other { .. } => None,
        }
    }
}

impl Classify for ImageError {
    fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Unknown { .. } => Some(ErrorClass::Usage),
            Self::Missing(_)
            | Self::NoRoom(_)
            | Self::Official(_)
            | Self::Unfit { .. }
            | Self::Step { .. }
            | Self::Read { .. }
            | Self::Io { .. }
            | Self::Lock(_) => None,
        }
    }
}

impl Classify for SiteError {
    fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::TooOld { .. } => Some(ErrorClass::MachineLacks { refused: false }),
            Self::Process(ProcessError::Start { program, source }) if is_absent(program, source) => {
                Some(ErrorClass::MachineLacks { refused: false })
            }
            Self::Inventory { .. }
            | Self::UnknownHost { .. }
            | Self::BadVariables { .. }
            | Self::BrokenPlaybook { .. }
            | Self::NoPlay { .. }
            | Self::UnknownRole { .. } => Some(ErrorClass::Usage),
            Self::Process(_) | Self::NoSsh { .. } | Self::Io { .. } => None,
        }
    }
}

/// Whether a program that did not start is not on `PATH` at all. `NotFound` alone is not enough: the system also reports it
/// for a script whose interpreter is gone, and for a configured path that does not exist.
fn is_absent(program: &str, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && !program.contains('/') && !is_available(program)
}

impl Classify for SecretError {
    fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Refused(_) => Some(ErrorClass::Refused),
            Self::Site(_) => None,
        }
    }
}

impl Classify for UnmetRequirement {
    fn class(&self) -> Option<ErrorClass> {
        Some(match self {
            Self::Program { .. } => ErrorClass::MachineLacks { refused: true },
            Self::Remote { .. } | Self::Missing { .. } => ErrorClass::Refused,
        })
    }
}

impl Classify for Refusal {
    fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Busy { .. } | Self::Taken { .. } | Self::Memory { .. } => Some(ErrorClass::Refused),
        }
    }
}

impl Classify for NoRunningVm {
    fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Absent { .. } | Self::NotRunning { .. } | Self::Unowned { .. } => Some(ErrorClass::Usage),
        }
    }
}

impl Classify for Interrupted {
    fn class(&self) -> Option<ErrorClass> {
        Some(ErrorClass::Interrupted(self.0))
    }
}

/// Types that are not enums: the type says it all.
macro_rules! classify {
    ($($type:ty => $class:ident),+ $(,)?) => {$(
        impl Classify for $type {
            fn class(&self) -> Option<ErrorClass> {
                Some(ErrorClass::$class)
            }
        }
    )+};
}

classify! {
    InvalidVariable => Usage,
    LockHeld => Refused,
    ProjectError => Usage,
    RepeatRemoved => Usage,
}

#[cfg(test)]
mod tests;
