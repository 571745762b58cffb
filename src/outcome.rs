//! How things end: stages, assertions, and the four outcomes of a run.

use serde::{Deserialize, Serialize};

use crate::support::secret::Redactor;

/// A step of a cycle, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Golden image, overlay, seed, boot, ready.
    Up,
    /// The site playbook.
    Apply,
    /// `verify.yml` before the restart, where a scenario asks for it.
    Before,
    /// The restart, and the proof of it.
    Reboot,
    /// `verify.yml` after the reboot.
    Assert,
    /// Destroy everything.
    Down,
}

impl Stage {
    /// The word for it, as the driver's sub-command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Apply => "apply",
            Self::Before => "before",
            Self::Reboot => "reboot",
            Self::Assert => "assert",
            Self::Down => "down",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything held, or the declared failure was seen where it was declared.
    Passed,
    /// An assertion did not hold, a task of the site failed, or an expectation was not met.
    Failed,
    /// We could not find out.
    Errored,
    /// We were asked to stop, and cleaned up.
    Interrupted,
}

impl Outcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Errored => "errored",
            Self::Interrupted => "interrupted",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of one task of a playbook on the host under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskStatus {
    /// It ran, with or without a change.
    Ok,
    /// It failed, whether or not the playbook ignored that.
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
    /// Where it stands: `file:line`.
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
    pub assertion: bool,
    /// Seconds it took, as seen by Ansible.
    pub seconds: f64,
    /// Its message, above all that of a failure; nothing for a `no_log` task.
    pub message: Option<String>,
}

/// What became of one assertion of `verify.yml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssertionStatus {
    /// It held.
    Passed,
    /// It did not.
    Failed,
    /// It was not looked at. Never counted as passed.
    Skipped,
}

/// A named assertion: an asserting task of `verify.yml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assertion {
    /// The task's name.
    pub name: String,
    /// What became of it.
    pub status: AssertionStatus,
    /// Where it stands: `file:line`.
    pub path: String,
    /// What it said: the `fail_msg`, above all.
    pub message: Option<String>,
}

/// An error's whole chain, outermost first, one cause a line. Never a backtrace, which anyhow's `{:?}` adds wherever
/// `RUST_BACKTRACE` is set; nor this process's secrets.
pub fn error_chain(error: &anyhow::Error) -> String {
    let chain = error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\ncaused by: ");
    Redactor::of_process().redact(&chain).into_owned()
}
