//! How the driver ends: every expected error has its exit code, in one match.

use std::process::ExitCode;

use crate::catalog::ProjectError;
use crate::cycle::{LockHeld, NoRunningVm};
use crate::machine::acceleration::UnknownAccelerator;
use crate::machine::guard::Refusal;
use crate::machine::hypervisor::HypervisorError;
use crate::outcome::Outcome;
use crate::site::SiteError;
use crate::site::certs::UnmetRequirement;
use crate::site::secrets::SecretError;
use crate::support::interrupt::{Interrupt, Interrupted};

/// The driver's exit codes, as `--help` and the runbook list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Passed,
    /// 1: an assertion failed, or an expectation was not met.
    Failed,
    /// 2: usage, or a bad file.
    Usage,
    /// 3: could not find out.
    Infrastructure,
    /// 4: refused by a guard.
    Refused,
    /// 128 + the signal's number: interrupted, cleaned up.
    Interrupted(i32),
    /// That of the command run in the guest.
    Command(u8),
}

/// The command line asks for something that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub String);

impl Exit {
    /// Of a run.
    pub fn of_run(outcome: Outcome, interrupt: &Interrupt) -> Self {
        match outcome {
            Outcome::Passed => Self::Passed,
            Outcome::Failed => Self::Failed,
            Outcome::Errored => Self::Infrastructure,
            Outcome::Interrupted => {
                Self::Interrupted(interrupt.check().err().map_or(2, |Interrupted(signal)| signal))
            }
        }
    }

    /// Of an error that no run reported.
    pub fn of_error(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(Interrupted(signal)) = cause.downcast_ref() {
                return Self::Interrupted(*signal);
            }
            if cause.is::<Refusal>() || cause.is::<LockHeld>() || cause.is::<UnmetRequirement>() {
                return Self::Refused;
            }
            if matches!(cause.downcast_ref(), Some(SecretError::Refused(_))) {
                return Self::Refused;
            }
            if cause.is::<ProjectError>() || cause.is::<Usage>() || cause.is::<NoRunningVm>() {
                return Self::Usage;
            }
            if cause.is::<UnknownAccelerator>() {
                return Self::Usage;
            }
            if matches!(cause.downcast_ref(), Some(HypervisorError::BadUri { .. })) {
                return Self::Usage;
            }
            if cause.downcast_ref().is_some_and(SiteError::is_bad_input) {
                return Self::Usage;
            }
        }
        Self::Infrastructure
    }

    /// The number.
    pub fn code(self) -> u8 {
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
