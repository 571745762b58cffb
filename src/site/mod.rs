//! Floor 3, Ansible: the site's playbooks run for real, against one host that is the VM.
//!
//! The way through this room:
//!
//! 1. [`check`] before any VM exists: Ansible is there and new enough, the host is in the production inventory, both
//!    playbooks parse and have a play for it, every role of the profile is a tag there.
//!    Before that, [`secrets::read`]: what the roles need is there.
//! 2. [`Workspace::prepare`] in the run folder: a transient inventory of one host, and a configuration, an SSH
//!    configuration and a `known_hosts` that know the VM and refuse every other host.
//! 3. [`Workspace::run`] for each [`Phase`]: `ansible-playbook` as a child; what it does is heard live and ends in a
//!    [`PlaybookReport`] or a typed [`PlaybookError`].
//! 4. `verification` turns the report of `verify.yml` into named assertions.
//!
//! **What stays reachable.** No SSH of Ansible's gets anywhere but to the VM, whatever a play, a role or an override
//! says. A task that runs on this machine (`delegate_to: localhost`, which `verify.yml` needs to look from outside) is
//! an ordinary local process, though: a `uri` task may talk to any address this machine reaches. `ssh`, `scp` and
//! `sftp` started by name are confined as well, and no SSH agent is handed on.
//!
//! VMs, the guest's own state and diagnostics belong to the rooms `machine` and `guest`.

pub mod certs;
mod config;
mod control;
mod environment;
mod error;
mod inventory;
mod listing;
mod playbook;
mod preflight;
mod record;
mod results;
pub mod secrets;
mod ssh_config;
mod vars;
mod verification;
mod workspace;

pub use error::SiteError;
pub use inventory::{HostEntry, UnknownHost};
pub use playbook::PlaybookError;
pub use preflight::{Checked, check};
pub use results::{PlaybookReport, TaskEvent};
pub use vars::{HarnessVars, Phase, VARIABLES};
pub use verification::{Verification, VerificationError, verification};
pub use workspace::Workspace;
