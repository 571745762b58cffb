//! Stages, tasks, assertions, and the outcome of each.

use serde::{Deserialize, Serialize};

use crate::support::secret::Redactor;

/// A stage of a cycle, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Golden image, overlay, seed, boot, ready.
    Up,
    /// The site playbook.
    Apply,
    /// `verify.yml` before the restart, if the scenario asks for it.
    Before,
    /// The restart, and the proof of it.
    Reboot,
    /// `verify.yml` after the reboot.
    Assert,
    /// Destroy everything.
    Down,
}

impl std::fmt::Display for Stage {
    /// The word that it is serialised as.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// The outcome of a run, or of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every assertion held, or the declared failure occurred where it was declared.
    Passed,
    /// An assertion or a task of the site failed, or an expectation was not met.
    Failed,
    /// We could not find out.
    Errored,
    /// We were asked to stop, and cleaned up.
    Interrupted,
}

impl std::fmt::Display for Outcome {
    /// The word that it is serialised as.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// The status of a task on the host under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskStatus {
    /// It ran, with or without a change.
    Ok,
    /// It failed, whether or not the playbook ignored the failure.
    Failed,
    /// Its condition was false.
    Skipped,
    /// The host did not answer.
    Unreachable,
}

/// One task of a playbook as our Ansible callback reported it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Name of the play.
    pub play: String,
    /// Name of the task, with its role as `role : name` where it has one.
    pub task: String,
    /// The role that it is a task of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its place: `file:line`.
    pub path: String,
    /// The module, as the playbook writes it: `ansible.builtin.assert`.
    pub action: String,
    /// The inventory name of the host.
    pub host: String,
    /// How it ended.
    pub status: TaskStatus,
    /// Whether it changed the host.
    pub changed: bool,
    /// Whether the playbook went on after its failure (`ignore_errors`, or a `rescue`).
    pub ignored: bool,
    /// Whether it is an assertion: module `assert` or `fail`, or tagged `assertion`.
    #[serde(default)]
    pub assertion: bool,
    /// Seconds it took, as seen by Ansible.
    pub seconds: f64,
    /// Its message, mostly that of a failure; none for a `no_log` task.
    pub message: Option<String>,
}

/// The status of an assertion of `verify.yml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssertionStatus {
    /// It held.
    Passed,
    /// It did not.
    Failed,
    /// It does not apply, or was not evaluated. Never counts as passed.
    Skipped,
}

impl std::fmt::Display for AssertionStatus {
    /// The word that it is serialised as.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// A named assertion: an asserting task of `verify.yml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assertion {
    /// The task's name, with its role as `role : name` where it has one.
    pub name: String,
    /// The role that it is a task of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its status.
    pub status: AssertionStatus,
    /// Its place: `file:line`.
    pub path: String,
    /// Its message, mostly the `fail_msg`.
    pub message: Option<String>,
}

impl Assertion {
    pub(crate) fn is_failed(&self) -> bool {
        self.status == AssertionStatus::Failed
    }
}

/// `8 passed, 1 failed, 1 skipped`, without the counts that are zero.
pub(crate) fn tally<'a>(assertions: impl IntoIterator<Item = &'a Assertion>) -> String {
    let all: Vec<_> = assertions.into_iter().collect();
    let count = |status| match all.iter().filter(|it| it.status == status).count() {
        0 => None,
        count => Some(format!("{count} {status}")),
    };
    let statuses = [AssertionStatus::Passed, AssertionStatus::Failed, AssertionStatus::Skipped];
    statuses.into_iter().filter_map(count).collect::<Vec<_>>().join(", ")
}

/// An error's whole chain, outermost first, one cause a line, with this process's secrets redacted. It never has the
/// backtrace that anyhow's `{:?}` adds where `RUST_BACKTRACE` is set.
pub fn error_chain(error: &anyhow::Error) -> String {
    let chain = error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\ncaused by: ");
    Redactor::of_process().redact(&chain).into_owned()
}
