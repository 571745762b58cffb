//! The lowest layer: what every other layer uses, without knowledge of VMs, guests or Ansible.

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
