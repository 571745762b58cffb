//! Errors of checking a site, which come before any VM exists, and of running a playbook.

use std::io;
use std::path::{Path, PathBuf};

use super::inventory::UnknownHost;
use super::{NEWEST_ANSIBLE, OLDEST_ANSIBLE};
use crate::outcome::{Outcome, TaskResult};
use crate::support::deadline::WaitError;
use crate::support::process::ProcessError;

/// Why a site cannot be run, or its workspace cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A program of Ansible did not start, or did not finish.
    #[error("cannot run Ansible")]
    Process(#[source] ProcessError),
    /// ansible-core is outside the supported range: its version, `unknown` if its output has none.
    #[error(
        "ansible-core {0} is not supported: expected a release from {old_major}.{old} to {new_major}.{new} (`make setup` installs one into .venv; `ansible` of harness.yml names its folder)",
        old_major = OLDEST_ANSIBLE.0, old = OLDEST_ANSIBLE.1, new_major = NEWEST_ANSIBLE.0, new = NEWEST_ANSIBLE.1
    )]
    UnsupportedAnsible(String),
    /// There is no SSH client of this name.
    #[error(
        "no `{0}` on PATH: Ansible reaches the VM by OpenSSH's client (Debian: apt install openssh-client)"
    )]
    NoSsh(&'static str),
    /// `ansible-inventory` failed.
    #[error("cannot read the inventory {}\n{shown}", path.display())]
    Inventory {
        /// The production inventory.
        path: PathBuf,
        /// Ansible's output.
        shown: String,
    },
    /// The host is not in the inventory.
    #[error("in the inventory {}", path.display())]
    UnknownHost {
        /// The production inventory.
        path: PathBuf,
        /// The host, and the hosts that there are.
        #[source]
        source: UnknownHost,
    },
    /// The site's `ansible.cfg`, an override file or a scenario is invalid.
    #[error("{what}: {why}")]
    InvalidFile {
        /// The file, or `vars of the scenario`.
        what: String,
        /// What is wrong, and what is expected.
        why: String,
    },
    /// `ansible-playbook` cannot load the site playbook or `verify.yml`: its output, with file and line.
    #[error("cannot load the playbook\n{0}")]
    BrokenPlaybook(String),
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
    /// `ansible-inventory` does not say which Python runs it.
    #[error(
        "ansible-inventory -vv does not say which Python runs it: expected a line `python version = … (path)`"
    )]
    NoInterpreter,
    /// Parts of `verify.yml` can never count.
    #[error("{} has what can never count:\n{}", playbook.display(), indented(problems))]
    NeverCounts {
        /// `verify.yml`.
        playbook: PathBuf,
        /// Each with its place and remedy.
        problems: Vec<String>,
    },
    /// A play of the site's playbook runs on no host, and `harness.yml` does not allow that.
    #[error("{0} (`ansible.plays_for_nobody: error` in harness.yml)")]
    PlayForNobody(String),
    /// A role of the profile is not a tag of the playbook.
    #[error(
        "role `{role}` of the profile is not a tag in {}, in a play for host `{host}`{}; the tags there are {known}",
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
        /// A tag with a similar name.
        near: Option<String>,
        /// All tags.
        known: String,
    },
    /// A file of the site or of the workspace cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

impl SiteError {
    /// For an operation on the file at `path`.
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path: path.clone(), source }
    }
}

/// Why a playbook did not do its work. Only [`PlaybookError::TaskFailed`] is the site's own failure; all others leave open
/// whether the site works.
#[derive(Debug, thiserror::Error)]
pub enum PlaybookError {
    /// A task of the site playbook failed on the host under test.
    #[error("task `{}` ({}) failed{}", .0.task, .0.path, after_colon(.0))]
    TaskFailed(Box<TaskResult>),
    /// The VM did not answer.
    #[error("the VM was unreachable at task `{}` ({}){}", .0.task, .0.path, after_colon(.0))]
    Unreachable(Box<TaskResult>),
    /// A task tried to reach a host other than the VM, and was refused.
    #[error(
        "task `{}` ({}) tried to reach `{wanted}`, but only the VM is in scope: stub it in the host's override, or skip it if `boma_it` is set",
        task.task, task.path
    )]
    OutOfScope {
        /// The task.
        task: Box<TaskResult>,
        /// The host, and why it was refused if it is not by SSH.
        wanted: String,
    },
    /// No play was for the host.
    #[error("no play matched host `{0}`: nothing ran, and that never passes")]
    NoHostMatched(String),
    /// There were plays, but no task ran on the host.
    #[error("no task ran on host `{0}`, and that never passes (do the tags select any task?)")]
    NothingRan(String),
    /// The site's playbook gathered no facts, ignored that, and did nothing else.
    #[error("no task ran on the host but `{}`, which failed{}", .0.task, after_colon(.0))]
    OnlyFacts(Box<TaskResult>),
    /// Every task of the site's playbook was skipped.
    #[error(
        "all {count} tasks were skipped on host `{host}`, and that never passes (first `{first}`: do its conditions hold in a run?)"
    )]
    AllSkipped {
        /// The host.
        host: String,
        /// How many there are.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// A play that should have had the host, or was unknown before, ran on nobody.
    #[error("{0}")]
    PlayForNobody(String),
    /// Ansible could not load the playbook.
    #[error("ansible-playbook could not start ({exit})\n{output}")]
    BadPlaybook {
        /// Its exit status in words.
        exit: String,
        /// What it printed about the error.
        output: String,
    },
    /// Ansible ended in a way that its record does not explain.
    #[error(
        "ansible-playbook ended with {exit}{}, and no failed task explains it\n{output}",
        task.as_deref().map(|task| format!(" in or after task `{task}`")).unwrap_or_default()
    )]
    Died {
        /// Its exit status in words.
        exit: String,
        /// The task that started last.
        task: Option<String>,
        /// What it printed about the error.
        output: String,
    },
    /// The record of tasks is missing or incomplete.
    #[error("cannot trust the record of tasks: {0}")]
    NoRecord(String),
    /// The deadline passed or the run was interrupted; Ansible was stopped.
    #[error(
        "ansible-playbook was stopped{}",
        task.as_deref().map(|task| format!(" in task `{task}`")).unwrap_or_default()
    )]
    Stopped {
        /// The task that started last.
        task: Option<String>,
        /// Why.
        #[source]
        source: WaitError,
    },
    /// `ansible-playbook` could not be run.
    #[error("cannot run ansible-playbook")]
    Process(#[source] ProcessError),
    /// The workspace could not be used.
    #[error(transparent)]
    Workspace(#[from] SiteError),
}

fn after_colon(task: &TaskResult) -> String {
    task.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default()
}

impl PlaybookError {
    /// The outcome of a run that ends with this error.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::TaskFailed { .. } => Outcome::Failed,
            Self::Stopped { source: WaitError::Interrupted(_), .. } => Outcome::Interrupted,
            _ => Outcome::Errored,
        }
    }
}
