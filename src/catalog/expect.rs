//! `expect:` of a scenario: what is declared to happen. A declaration that could never come true is refused here,
//! as it would make a trial that is red for ever or, worse, one that proves nothing.

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::Document;
use super::plan::{Expectation, ExpectedFailure, ExpectedFault, ExpectedResult};
use super::problem::Problem;
use super::scenario::repeated;
use super::schema::fault_schemas;
use crate::outcome::Stage;

/// The part of the file as it is written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ExpectFile {
    /// `verify.yml` once more before the restart, and how it must go.
    before_reboot: Option<ExpectedResult>,
    /// The failure that must be seen, located; left out: every assertion passes after the reboot.
    fail: Option<FailFile>,
}

/// `expect.fail`: where, and one of the other three.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = fault_schemas()))]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{at: assert, task: <its name>}`")]
struct FailFile {
    /// The stage.
    at: At,
    /// The one task that fails: its name in the playbook.
    task: Option<String>,
    /// The tasks that fail, all of them and no others.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    tasks: Option<Vec<String>>,
    /// What becomes of the machine.
    reason: Option<Reason>,
}

/// A stage at which a failure can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum At {
    /// The site playbook.
    Apply,
    /// The restart, and the proof of it.
    Reboot,
    /// `verify.yml` after the reboot.
    Assert,
}

/// What can become of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Reason {
    /// The guest is up, and SSH never answers: a lockout.
    Unreachable,
    /// The boot ends in emergency mode.
    Emergency,
}

impl ExpectFile {
    /// The expectation. Where something is wrong it is added to `problems`, and the value does not matter.
    pub(super) fn resolve(self, document: &Document, problems: &mut Vec<Problem>) -> Expectation {
        if let Some(FailFile { at: At::Apply, .. }) = self.fail
            && self.before_reboot.is_some()
        {
            problems.push(document.at_key(
                &["expect", "before_reboot"],
                "`before_reboot` is never reached where `fail` is declared at `apply`: remove one of the two",
            ));
        }
        let fail = self.fail.and_then(|fail| {
            fail.resolve()
                .map_err(|(key, message)| problems.push(document.at_key(&["expect", "fail", key], message)))
                .ok()
        });
        if let Some(ExpectedFailure { what: ExpectedFault::Tasks(tasks), .. }) = &fail {
            check_tasks(tasks, document, problems);
        }
        Expectation { before_reboot: self.before_reboot, fail }
    }
}

impl FailFile {
    /// The declared failure, or the key that is wrong and what is wrong with it.
    fn resolve(self) -> Result<ExpectedFailure, (&'static str, &'static str)> {
        let (at, what) = match (self.at, self.task, self.tasks, self.reason) {
            (_, None, None, None) => {
                return Err(("at", "`fail` does not say what fails: add `task`, `tasks` or `reason`"));
            }
            (_, Some(_), Some(_), _) => {
                return Err(("tasks", "`task` and `tasks` exclude each other: keep one"));
            }
            (_, Some(_), _, Some(_)) | (_, _, Some(_), Some(_)) => {
                return Err(("reason", "`reason` and tasks exclude each other: keep one"));
            }
            (At::Reboot, Some(_), None, None) => return Err(("task", NO_TASK_AT_REBOOT)),
            (At::Reboot, None, Some(_), None) => return Err(("tasks", NO_TASK_AT_REBOOT)),
            (At::Apply, None, Some(tasks), None) if tasks.len() > 1 => {
                return Err((
                    "tasks",
                    "a playbook stops at its first failure, so at `apply` only one `task` can fail",
                ));
            }
            (At::Apply, None, None, Some(Reason::Emergency)) => {
                return Err(("reason", "emergency mode is how a boot ends: declare it `at: reboot`"));
            }
            (At::Assert, None, None, Some(_)) => {
                return Err((
                    "reason",
                    "at `assert` it is assertions that fail: name them with `task` or `tasks`, or declare the reason `at: reboot`",
                ));
            }
            (At::Apply, Some(task), None, None) => (Stage::Apply, ExpectedFault::Tasks(vec![task])),
            (At::Apply, None, Some(tasks), None) => (Stage::Apply, ExpectedFault::Tasks(tasks)),
            (At::Assert, Some(task), None, None) => (Stage::Assert, ExpectedFault::Tasks(vec![task])),
            (At::Assert, None, Some(tasks), None) => (Stage::Assert, ExpectedFault::Tasks(tasks)),
            (At::Apply, None, None, Some(Reason::Unreachable)) => (Stage::Apply, ExpectedFault::Unreachable),
            (At::Reboot, None, None, Some(Reason::Unreachable)) => {
                (Stage::Reboot, ExpectedFault::Unreachable)
            }
            (At::Reboot, None, None, Some(Reason::Emergency)) => (Stage::Reboot, ExpectedFault::Emergency),
        };
        Ok(ExpectedFailure { at, what })
    }
}

const NO_TASK_AT_REBOOT: &str =
    "no task runs at `reboot`: declare `at: assert`, or a `reason` (unreachable, emergency)";

fn check_tasks(tasks: &[String], document: &Document, problems: &mut Vec<Problem>) {
    let at = |index: usize, message: String| {
        let path = ["expect", "fail", "tasks", &index.to_string()];
        match document.value_position(&path) {
            Some(_) => document.at_value(&path, message),
            None => document.at_value(&["expect", "fail", "task"], message),
        }
    };
    if tasks.is_empty() {
        problems.push(
            document.at_key(&["expect", "fail", "tasks"], "`tasks` is empty: name the tasks that fail"),
        );
    }
    if let Some(index) = tasks.iter().position(|task| task.trim().is_empty()) {
        problems.push(at(index, "the task's name is empty: give it as the playbook has it".to_owned()));
    }
    for (index, task) in repeated(tasks) {
        problems.push(at(index, format!("task `{task}` stands twice: keep one")));
    }
}
