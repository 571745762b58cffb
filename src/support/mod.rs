//! Floor 0: what every other floor stands on and what knows nothing of VMs, guests or Ansible.

pub mod deadline;
pub mod env;
pub(crate) mod file;
pub mod interrupt;
pub mod lock;
pub mod log;
pub mod memory;
pub mod name;
pub mod process;
pub mod run_folder;
pub mod secret;
pub mod ssh_access;
