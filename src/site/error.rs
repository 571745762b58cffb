//! Why a site is not in order, or a workspace cannot be made: all of it known before any VM exists.

use std::io;
use std::path::PathBuf;

use super::inventory::UnknownHost;
use super::preflight::OLDEST;
use crate::support::process::ProcessError;

/// Why a site cannot be run, or a workspace not be made.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A program of Ansible's could not be run, or not to its end.
    #[error("cannot run Ansible")]
    Process(#[source] ProcessError),
    /// ansible-core is too old.
    #[error(
        "ansible-core {found} is too old: {}.{} or newer is needed to drive Debian 13 (`make setup` installs one into .venv; `ansible` of harness.yml names its folder)",
        OLDEST.0, OLDEST.1
    )]
    TooOld {
        /// What was found, `unknown` if it did not say.
        found: String,
    },
    /// There is no SSH client.
    #[error(
        "no `{program}` on PATH: Ansible reaches the VM by OpenSSH's client (Debian: apt install openssh-client)"
    )]
    NoSsh {
        /// The program that is missing.
        program: &'static str,
    },
    /// `ansible-inventory` refused.
    #[error("cannot read the inventory {}\n{shown}", path.display())]
    Inventory {
        /// The production inventory.
        path: PathBuf,
        /// What Ansible said.
        shown: String,
    },
    /// The host is not in it.
    #[error("in the inventory {}", path.display())]
    UnknownHost {
        /// The production inventory.
        path: PathBuf,
        /// Which, and which there are.
        #[source]
        source: UnknownHost,
    },
    /// An override file, or a scenario, cannot be used.
    #[error("{what}: {why}")]
    BadVariables {
        /// The file, or `vars of the scenario`.
        what: String,
        /// What is wrong, and what is expected.
        why: String,
    },
    /// `ansible-playbook` cannot load the site playbook or `verify.yml`.
    #[error("the playbook cannot be loaded\n{shown}")]
    BrokenPlaybook {
        /// What Ansible said, with file and line.
        shown: String,
    },
    /// No play is for the host.
    #[error("no play of {} is for host `{host}`; its plays are {plays}", playbook.display())]
    NoPlay {
        /// The playbook.
        playbook: PathBuf,
        /// The host.
        host: String,
        /// Names of its plays.
        plays: String,
    },
    /// A role of the profile is no tag of the playbook.
    #[error(
        "role `{role}` of the profile is no tag in {}, in a play for host `{host}`{}; the tags there are {known}",
        playbook.display(),
        .near.as_deref().map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
    )]
    UnknownRole {
        /// The role.
        role: String,
        /// The site playbook.
        playbook: PathBuf,
        /// The host.
        host: String,
        /// A tag of nearly that name.
        near: Option<String>,
        /// The tags there are.
        known: String,
    },
    /// A file of the site or of the workspace cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
