//! Layer 3, the VM seen from inside: SSH sessions with a strict host key, the wait for a ready guest, the proof of a reboot,
//! what console and journal show of a boot, and diagnostics.
//!
//! This module knows how to log in (`SshAccess`) and nothing of hypervisors or Ansible. Its waits ask a closure whether the
//! VM still runs, and the caller reads the console.
//!
//! `SshAccess`: crate::support::ssh_access::SshAccess

mod boot_count;
mod boot_log;
pub mod diagnostics;
#[cfg(test)]
pub(crate) mod fixture;
mod guest_report;
mod identity;
mod prober;
mod readiness;
mod reboot;
mod settle;
mod ssh;
mod sshd_log;

pub use boot_count::{BootCount, Witness};
pub use boot_log::{BootFault, BootFaultKind};
pub(crate) use boot_log::{BootLog, end_of_boot, goes_down, kernels};
pub use identity::{RenewError, RunKeys, renew};
pub use readiness::{Baseline, BootFacts, BootId, CloudInit, Ready, ReadyError, RunningJobs, SystemState};
pub use reboot::{RebootError, RebootProof, prove_reboot};
pub use settle::{log_in, wait_ready};
pub use ssh::{CommandOutput, CommandStatus, Session, Silence, SshError};
pub(crate) use sshd_log::{Refusal, RefusalCause, SshdLog};
