//! From the report of `verify.yml` to named assertions.
//!
//! An assertion is a task of module `assert` or `fail`, or one tagged `assertion`. A failed one counts as failed even if the
//! playbook goes on after it: `ignore_errors` and `rescue` are how a playbook collects all failures. Any other task only
//! gathers facts. If it fails and the playbook does not ignore that, the verification is inconclusive. So it is, ignored or
//! not, if an assertion cannot be evaluated (an undefined variable), or if an include fails and hides what it would assert.
//!
//! Results of one task under one name are one assertion (a task file included in a loop): failed if one failed, passed if
//! one passed and none failed. Two tasks of one name are two assertions. A `fail` whose condition is false counts as
//! skipped, because the false part may be its guard: what should be seen to pass is an `assert`.

use super::record::{Declared, DeclaredKind};
use super::results::PlaybookReport;
use crate::outcome::{Assertion, AssertionStatus, TaskResult, TaskStatus};

/// Assertions of `verify.yml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// Every assertion, in the order of the results; those never reached come last, as skipped.
    pub assertions: Vec<Assertion>,
    /// The failed task that leaves something unknown, beside the assertions that failed.
    pub inconclusive: Option<Box<TaskResult>>,
    /// What was not reached because the playbook, or a block of it, ended at a failed assertion: `name` and place of each.
    pub unreached: Vec<String>,
}

/// Why a verification has no verdict.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VerificationError {
    /// There is no assertion for this host.
    #[error(
        "verify.yml asserts nothing about host `{host}`, and an empty verification never passes (assertions are tasks of module `ansible.builtin.assert` or `fail`, or with the tag `assertion`)"
    )]
    NoAssertions {
        /// The host.
        host: String,
    },
    /// All were skipped.
    #[error("verify.yml skipped all {count} assertions about host `{host}`")]
    AllSkipped {
        /// The host.
        host: String,
        /// How many there are.
        count: usize,
    },
    /// A failed task leaves something unknown.
    #[error(
        "verify.yml is inconclusive: task `{}` ({}) failed, and {reason}{}",
        task.task, task.path,
        task.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default()
    )]
    Inconclusive {
        /// The task.
        task: Box<TaskResult>,
        /// Why its failure is no verdict.
        reason: InconclusiveReason,
    },
}

/// Why the failure of a task is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InconclusiveReason {
    /// The task only gathers facts.
    #[error("it is not an assertion")]
    NotAnAssertion,
    /// It is an assertion with, say, an undefined variable.
    #[error("it could not be evaluated")]
    NotEvaluated,
    /// It is an include.
    #[error("what it includes may have assertions")]
    FailedInclude,
}

/// The assertions in a report of `verify.yml` about `host`.
///
/// # Errors
/// [`VerificationError::NoAssertions`] or [`VerificationError::AllSkipped`]; and [`VerificationError::Inconclusive`] if a
/// failed task leaves something unknown and no assertion failed. If both happened, [`Verification::inconclusive`] has the
/// task.
pub fn verification(report: &PlaybookReport, host: &str) -> Result<Verification, VerificationError> {
    let mut assertions: Vec<Assertion> = Vec::new();
    let is_unevaluated = |index: usize| report.unevaluated.contains(&index);
    for (index, task) in report.tasks.iter().enumerate().filter(|(_, task)| task.assertion) {
        let status = match task.status {
            TaskStatus::Failed if !is_unevaluated(index) => AssertionStatus::Failed,
            TaskStatus::Ok => AssertionStatus::Passed,
            _ => AssertionStatus::Skipped,
        };
        let message = task.message.clone().filter(|_| status != AssertionStatus::Passed);
        let (name, path) = (task.task.clone(), task.path.clone());
        add(&mut assertions, Assertion { name, status, path, message });
    }
    let is_fatal = |task: &TaskResult| task.status == TaskStatus::Failed && !task.ignored && !task.assertion;
    let mut tasks = report.tasks.iter().enumerate();
    let inconclusive = tasks.find(|(index, task)| is_unevaluated(*index) || is_fatal(task));
    let has_failed = assertions.iter().any(|a| a.status == AssertionStatus::Failed);
    if let Some((index, task)) = inconclusive.filter(|_| !has_failed) {
        let reason = match (is_unevaluated(index), task.assertion) {
            (_, true) => InconclusiveReason::NotEvaluated,
            (true, false) => InconclusiveReason::FailedInclude,
            (false, false) => InconclusiveReason::NotAnAssertion,
        };
        return Err(VerificationError::Inconclusive { task: Box::new(task.clone()), reason });
    }
    let inconclusive = inconclusive.map(|(_, task)| Box::new(task.clone()));
    let declared = report.declared.iter().filter(|it| it.kind == DeclaredKind::Assertion);
    for Declared { task, path, .. } in declared.filter(|it| !is_reached(report, it)) {
        let message = Some("not reached: the playbook or its block ended earlier".to_owned());
        let (name, path, status) = (task.clone(), path.clone(), AssertionStatus::Skipped);
        add(&mut assertions, Assertion { name, status, path, message });
    }
    let host = host.to_owned();
    if assertions.is_empty() {
        return Err(VerificationError::NoAssertions { host });
    }
    if assertions.iter().all(|a| a.status == AssertionStatus::Skipped) {
        return Err(VerificationError::AllSkipped { host, count: assertions.len() });
    }
    Ok(Verification { assertions, inconclusive, unreached: unreached(report) })
}

/// Whether a declared task has a result. Two tasks may be on one line, and a template in the name has been replaced by then.
fn is_reached(report: &PlaybookReport, declared: &Declared) -> bool {
    let is_it = |task: &TaskResult| task.task == declared.task || declared.task.contains('{');
    report.tasks.iter().any(|task| task.path == declared.path && is_it(task))
}

/// What was not reached because an assertion failed: the rest of the playbook or, if a `rescue` took over, of its block.
/// Nothing if no assertion ended anything: then the playbook skips it on purpose.
fn unreached(report: &PlaybookReport) -> Vec<String> {
    let is_end = |(index, task): &(usize, &TaskResult)| {
        let went_on = task.ignored && !report.rescued.contains(index);
        task.assertion && task.status == TaskStatus::Failed && !went_on
    };
    let ends: Vec<_> = report.tasks.iter().enumerate().filter(is_end).map(|(_, task)| task).collect();
    if ends.is_empty() {
        return Vec::new();
    }
    let is_declared = |task: &TaskResult| report.declared.iter().any(|it| it.path == task.path);
    let in_includes = ends.iter().filter(|task| !is_declared(task));
    let in_includes =
        in_includes.map(|task| format!("the rest of the file after `{}` ({})", task.task, task.path));
    let declared =
        report.declared.iter().filter(|it| it.kind != DeclaredKind::Rescue && !is_reached(report, it));
    declared.map(|it| format!("`{}` ({})", it.task, it.path)).chain(in_includes).collect()
}

/// Adds an assertion, or merges it into that of the same task and name.
fn add(assertions: &mut Vec<Assertion>, new: Assertion) {
    let mut same = assertions.iter_mut();
    let Some(known) = same.find(|known| (&known.name, &known.path) == (&new.name, &new.path)) else {
        assertions.push(new);
        return;
    };
    match (known.status, new.status) {
        (AssertionStatus::Failed, AssertionStatus::Failed) => {
            let messages: Vec<_> = [known.message.take(), new.message].into_iter().flatten().collect();
            known.message = (!messages.is_empty()).then(|| messages.join("\n"));
        }
        (AssertionStatus::Failed, _) | (_, AssertionStatus::Skipped) => {}
        _ => *known = new,
    }
}

#[cfg(test)]
mod tests;
