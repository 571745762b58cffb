//! Accepted risks, by the numbers of `docs/security/accepted-risks.md`: a run that takes one says so.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// A risk that a person takes for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
pub enum Risk {
    /// The production token reaches a throw-away VM, and records are written to the real zone.
    #[value(name = "R6")]
    R6,
}

impl Risk {
    /// Its number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::R6 => "R6",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
