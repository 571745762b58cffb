//! Layer 3, Ansible: runs the site's real playbooks against one host, the VM.
//!
//! In the order of a run:
//!
//! 1. [`secrets::read`] and [`check`], before any VM exists. The secrets that the roles need are there. Ansible is installed
//!    and of a supported version, the host is in the production inventory, both playbooks load and have a play for it, every role of
//!    the profile is a tag there, and all of `verify.yml` can count.
//! 2. [`Workspace::prepare`] in the run folder: a transient inventory of one host; and configurations of Ansible and SSH, and
//!    a `known_hosts`, that know the VM and refuse every other host.
//! 3. [`Workspace::run`] for each [`Phase`]: `ansible-playbook` as a child process. Its tasks are reported while it runs, and
//!    it ends in a [`PlaybookReport`] or a [`PlaybookError`].
//!    [`GuestPython`] may be Python in the guest: it caches the byte-code of Ansible's modules.
//! 4. `verification` turns the report of `verify.yml` into named assertions.
//!
//! **What stays reachable.** Ansible's SSH reaches only the VM, whatever a play, a role or an override sets. The same holds for
//! `ssh`, `scp` and `sftp` that a task starts by these names, and no SSH agent is passed on. A task that runs on this machine
//! (`delegate_to: localhost`, which `verify.yml` needs to look from outside) is an ordinary local process, though: its `uri`
//! module can talk to any address that this machine reaches.
//!
//! VMs, the guest's own state and diagnostics belong to the modules `machine` and `guest`.

mod ansible;
mod ansible_cfg;
mod bytecode;
pub mod certs;
mod error;
mod inventory;
mod never_counts;
mod playbook;
mod playbooks;
mod preflight;
mod record;
mod results;
mod search;
pub mod secrets;
pub mod settings;
mod ssh;
mod vars;
mod verdict;
mod verification;
mod workspace;

pub use bytecode::GuestPython;
pub use error::{PlaybookError, SiteError};
pub use inventory::{HostEntry, UnknownHost};
pub use preflight::check;
pub use results::{PlaybookReport, TaskEvent};
pub use search::digest;
pub use vars::{HarnessVars, Phase, VARIABLES};
pub use verdict::Reason;
pub use verification::{Gap, Verification, VerificationError, verification};
pub use workspace::{CheckedSite, Workspace};

/// The oldest supported series of ansible-core: the first that drives Debian 13's Python 3.13
/// (<https://docs.ansible.com/ansible-core/devel/reference_appendices/release_and_maintenance.html>, support matrix).
const OLDEST_ANSIBLE: (u32, u32) = (2, 18);
/// The newest: the callback plugin and the table of settings were not held against a later one.
const NEWEST_ANSIBLE: (u32, u32) = (2, 21);
