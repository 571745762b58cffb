//! What a run finds around it: the hypervisor, the images, who is told, and what the caller wants of failures. Made
//! once a process by the driver or the harness; a test makes one of fakes.

use std::path::PathBuf;
use std::sync::Arc;

use crate::event::Sink;
use crate::machine::image::ImageStore;
use crate::machine::ownership::{Lifetime, ProcFs};
use crate::machine::{Accelerator, Hypervisor, Realm};
use crate::support::interrupt::Interrupt;

/// Everything outside the plan that a run needs.
pub struct World {
    /// Where machines live.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The names of our things there.
    pub realm: Realm,
    /// Golden images, on this machine.
    pub images: ImageStore,
    /// Folder of what is remembered between runs: the lock, the verdict on KVM.
    pub state: PathBuf,
    /// The processes of this machine, to judge who is still alive.
    pub processes: ProcFs,
    /// Names the test run: its trials queue up for the one VM, all others are refused.
    pub session: String,
    /// Uses this accelerator instead of probing.
    pub accelerator: Option<Accelerator>,
    /// What becomes of a VM whose run did not pass.
    pub keep: Keep,
    /// Ctrl-C and SIGTERM.
    pub interrupt: Interrupt,
    /// Who is told.
    pub sink: Arc<dyn Sink>,
}

/// What becomes of a VM whose run did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is destroyed: trials of one test run must not be in each other's way.
    Never,
    /// It stays until the next trial of this test run needs the room, or somebody says `down`.
    ForSession,
    /// It stays until somebody says `down`: the driver's way.
    UntilDown,
}

impl World {
    /// The lifetime of a kept machine, if one is kept.
    pub fn kept(&self) -> Option<Lifetime> {
        match self.keep {
            Keep::Never => None,
            Keep::ForSession => Some(Lifetime::Kept { session: self.session.clone() }),
            Keep::UntilDown => Some(Lifetime::Manual),
        }
    }
}
