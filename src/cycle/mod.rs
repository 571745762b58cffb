//! Floor 4, the only orchestrator: admission, stages in order, the cleanup stack, judging expected against seen.
//!
//! [`run()`] does a [`Job`] of a plan in a [`RunContext`]: it checks and admits (before anything exists), runs the stages,
//! judges what was seen, explains what went wrong while the VM lives, and tears down or keeps.

mod admit;
mod certs;
pub mod cleanup;
mod compare;
mod down;
mod explain;
mod image_used;
pub mod judge;
mod ledger;
mod live;
mod play;
mod prune;
mod reboot;
mod run;
mod secrets;
mod stop;
mod up;
mod vigil;
mod watchman;
mod world;

pub use admit::LockHeld;
pub use down::{down, forget_keys_in};
pub use live::{NoRunningVm, RunningVm};
pub use prune::{Removed, prune};
pub use run::{Job, run};
pub use secrets::{learn_of_run, prune_secrets};
pub use vigil::{BootIncomplete, VmFailure};
pub use world::{GuestLogin, Keep, RunContext};
