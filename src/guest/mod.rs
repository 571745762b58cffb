//! Floor 3, the VM seen from inside: SSH with a strict host key, readiness, the proof of a reboot, what the console
//! and the journal give away, and diagnostics.
//!
//! It knows an address and keys ([`SshAccess`]), nothing of hypervisors or Ansible: whether the VM still lives is
//! asked through a closure, and the console arrives as text.

mod boot_id;
mod boot_log;
pub mod diagnostics;
mod host_key;
pub mod readiness;
pub mod reboot;
#[cfg(test)]
mod scripted;
pub mod ssh;

pub use boot_id::BootId;
pub use boot_log::{BootFault, BootFaultKind, BootLog, end_of_boot};
pub use readiness::{Baseline, CloudInit, Ready, ReadyError, SystemState, wait_ready};
pub use reboot::{RebootError, RebootProof, prove_reboot};
pub use ssh::{Session, SshError};
