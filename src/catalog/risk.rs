//! Accepted risks, by the numbers of `docs/security/accepted-risks.md`: a run that takes one says so.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::problem::suggestion;

/// A risk that a person takes for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Risk {
    /// The production token reaches a throw-away VM, and records are written to the real zone.
    R6,
}

impl Risk {
    /// Every risk that can be taken.
    pub const ALL: [Self; 1] = [Self::R6];

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

/// The text is no risk that can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{wanted}` is no accepted risk{}; docs/security/accepted-risks.md lists them",
    suggestion(wanted, Risk::ALL.map(Risk::as_str))
)]
pub struct UnknownRisk {
    wanted: String,
}

impl FromStr for Risk {
    type Err = UnknownRisk;

    fn from_str(text: &str) -> Result<Self, UnknownRisk> {
        let risk = Self::ALL.into_iter().find(|risk| risk.as_str() == text);
        risk.ok_or_else(|| UnknownRisk { wanted: text.to_owned() })
    }
}
