//! gives away, and diagnostics.
//!
//! It knows an address and keys ([`SshAccess`]), nothing of hypervisors or Ansible: whether the VM still lives is
//! asked through a closure, and the console arrives as text.

pub mod boot_id;
mod host_key;
pub mod ssh;

pub use boot_id::BootId;
pub use ssh::{Session, SshAccess, SshError};
