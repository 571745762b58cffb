//! What runs a VM's virtual CPUs, and why. It is a file of its own because all others build on it: domains and their metadata
//! below the hypervisor, and [`super::kvm_probe`], which makes the choice, above it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What runs the virtual CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator: works everywhere, several times slower.
    Tcg,
}

impl Accelerator {
    /// The factor for deadlines that were chosen for KVM. On the same machine a Debian boot takes some 12 s under KVM and
    /// some 50 s under TCG.
    pub(crate) fn patience(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 4,
        }
    }
}

impl fmt::Display for Accelerator {
    /// The word that it is serialised as.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Which accelerator, and why. Displayed as one line for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AcceleratorChoice {
    /// Which.
    pub(crate) accelerator: Accelerator,
    /// Why: `a stock kernel boots`.
    pub(crate) why: String,
}

impl fmt::Display for AcceleratorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.accelerator {
            Accelerator::Kvm => write!(f, "accelerator KVM: {}", self.why),
            Accelerator::Tcg => {
                let factor = self.accelerator.patience();
                write!(f, "accelerator TCG, several times slower, timeouts x{factor}: {}", self.why)
            }
        }
    }
}
