//! What runs the virtual CPUs.

use std::fmt;
use std::str::FromStr;

/// What runs the virtual CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator: works everywhere, several times slower.
    Tcg,
}

impl Accelerator {
    /// `kvm` or `tcg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// By how much a deadline that is meant for KVM is multiplied. Under TCG a Debian boot takes about four times as long
    /// as under KVM on the same machine (some 50 s against some 12 s).
    pub fn patience(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 4,
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No accelerator is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no accelerator `{0}` (expected `kvm` or `tcg`)")]
pub struct UnknownAccelerator(String);

impl FromStr for Accelerator {
    type Err = UnknownAccelerator;

    fn from_str(word: &str) -> Result<Self, UnknownAccelerator> {
        match word {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(UnknownAccelerator(word.to_owned())),
        }
    }
}
