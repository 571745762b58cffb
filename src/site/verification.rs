//! From the report of `verify.yml` to named assertions.
//!
//! An assertion is a task of module `assert` or `fail`, or one tagged `assertion`. It failed when it failed, whether
//! or not the playbook went on after it (`ignore_errors` and `rescue` are how a playbook collects all failures). Any
//! other task only finds things out: its failure, unless the playbook meant to survive it, is trouble and no verdict.
//! So is that of an assertion which could not be evaluated (an undefined variable), survived or not: it was not looked
//! at. And that of an `include_tasks` or `include_role`: nobody knows what it would have asserted.
//!
//! Results of one task under one name are one assertion (a task file included in a loop): failed if one failed, passed if
//! one passed and none failed. Two tasks of one name are two assertions. A `fail` whose condition was false counts as
//! skipped, as its guard may have been what was false: an assertion that is to be seen to pass is an `assert`.

use super::record::{Declared, Kind};
use super::results::PlaybookReport;
use crate::outcome::{Assertion, AssertionStatus, TaskResult, TaskStatus};

/// What `verify.yml` found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// Every assertion, in the order in which they were met; those never reached come last, as skipped.
    pub assertions: Vec<Assertion>,
    /// The task that failed and said nothing of an assertion, so that something could not be found out.
    pub trouble: Option<Box<TaskResult>>,
    /// In words, what was not reached as the playbook, or a block of it, ended at an assertion that failed.
    pub unreached: Vec<String>,
}

/// Why a verification says nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VerificationError {
    /// There is no assertion for this host.
    #[error(
        "verify.yml asserts nothing about host `{host}`: an empty verification is never a pass (a task of module `ansible.builtin.assert` or `fail`, or one tagged `assertion`, is an assertion)"
    )]
    NoAssertions {
        /// The host.
        host: String,
    },
    /// All there are were skipped.
    #[error("verify.yml looked at none of its {count} assertions about host `{host}`: each was skipped")]
    AllSkipped {
        /// The host.
        host: String,
        /// How many there are.
        count: usize,
    },
    /// A task failed and it is no assertion, or one that could not be evaluated.
    #[error(
        "could not find out: task `{}` of verify.yml ({}) failed, and it {}{}",
        task.task, task.path, why,
        task.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default()
    )]
    CouldNotFindOut {
        /// The task.
        task: Box<TaskResult>,
        /// Why its failure is no verdict.
        why: &'static str,
    },
}

/// The assertions of a report of `verify.yml` on `host`.
///
/// # Errors
/// [`VerificationError::NoAssertions`] or [`VerificationError::AllSkipped`]; and
/// [`VerificationError::CouldNotFindOut`] when a task failed that is no assertion, or could not be evaluated, and no
/// assertion did. Where both happened, [`Verification::trouble`] has the task.
pub fn verification(report: &PlaybookReport, host: &str) -> Result<Verification, VerificationError> {
    let mut assertions: Vec<Assertion> = Vec::new();
    let is_unevaluated = |index: usize| report.unevaluated.contains(&index);
    for (index, task) in report.tasks.iter().enumerate().filter(|(_, task)| task.assertion) {
        let assertion = of(task);
        let status = if is_unevaluated(index) { AssertionStatus::Skipped } else { assertion.status };
        add(&mut assertions, Assertion { status, ..assertion });
    }
    let is_fatal = |task: &TaskResult| task.status == TaskStatus::Failed && !task.ignored && !task.assertion;
    let mut tasks = report.tasks.iter().enumerate();
    let trouble = tasks.find(|(index, task)| is_unevaluated(*index) || is_fatal(task));
    let has_failed = assertions.iter().any(|a| a.status == AssertionStatus::Failed);
    if let Some((index, task)) = trouble.filter(|_| !has_failed) {
        let why = match (is_unevaluated(index), task.assertion) {
            (_, true) => "could not be evaluated",
            (true, false) => "may have assertions that nobody saw",
            (false, false) => "is no assertion",
        };
        return Err(VerificationError::CouldNotFindOut { task: Box::new(task.clone()), why });
    }
    let trouble = trouble.map(|(_, task)| Box::new(task.clone()));
    let unreached = unreached(report);
    for assertion in report.declared.iter().filter(|it| it.kind == Kind::Assertion && !is_reached(report, it))
    {
        add(&mut assertions, not_reached(assertion));
    }
    let host = host.to_owned();
    if assertions.is_empty() {
        return Err(VerificationError::NoAssertions { host });
    }
    if assertions.iter().all(|a| a.status == AssertionStatus::Skipped) {
        return Err(VerificationError::AllSkipped { host, count: assertions.len() });
    }
    Ok(Verification { assertions, trouble, unreached })
}

/// Whether a declared task has a result. Two may stand on one line, and a name with a template in it has become another.
fn is_reached(report: &PlaybookReport, declared: &Declared) -> bool {
    let is_it = |task: &TaskResult| task.task == declared.task || declared.task.contains('{');
    report.tasks.iter().any(|task| task.path == declared.path && is_it(task))
}

fn not_reached(declared: &Declared) -> Assertion {
    Assertion {
        name: declared.task.clone(),
        status: AssertionStatus::Skipped,
        path: declared.path.clone(),
        message: Some("not reached: the playbook, or a block of it, ended before it".to_owned()),
    }
}

/// What was not reached because an assertion failed: the rest of the playbook; or, where a `rescue` took over, of its block.
/// Nothing if none did: then it was left on purpose.
fn unreached(report: &PlaybookReport) -> Vec<String> {
    let is_end = |(index, task): &(usize, &TaskResult)| {
        let went_on = task.ignored && !report.rescued.contains(index);
        task.assertion && task.status == TaskStatus::Failed && !went_on
    };
    let ends: Vec<_> = report.tasks.iter().enumerate().filter(is_end).map(|(_, task)| task).collect();
    if ends.is_empty() {
        return Vec::new();
    }
    let is_known = |task: &TaskResult| report.declared.iter().any(|it| it.path == task.path);
    let unknown = ends.iter().filter(|task| !is_known(task));
    let unknown = unknown.map(|task| format!("what comes after “{}” ({}) in its file", task.task, task.path));
    let ahead = report.declared.iter().filter(|it| it.kind != Kind::Rescue && !is_reached(report, it));
    ahead.map(|it| format!("“{}” ({})", it.task, it.path)).chain(unknown).collect()
}

fn of(task: &TaskResult) -> Assertion {
    let status = match task.status {
        TaskStatus::Ok => AssertionStatus::Passed,
        TaskStatus::Failed => AssertionStatus::Failed,
        TaskStatus::Skipped | TaskStatus::Unreachable => AssertionStatus::Skipped,
    };
    let message = match status {
        AssertionStatus::Passed => None,
        AssertionStatus::Failed | AssertionStatus::Skipped => task.message.clone(),
    };
    Assertion { name: task.task.clone(), status, path: task.path.clone(), message }
}

fn add(assertions: &mut Vec<Assertion>, new: Assertion) {
    let Some(known) =
        assertions.iter_mut().find(|known| (&known.name, &known.path) == (&new.name, &new.path))
    else {
        assertions.push(new);
        return;
    };
    let weight = |status| match status {
        AssertionStatus::Failed => 2,
        AssertionStatus::Passed => 1,
        AssertionStatus::Skipped => 0,
    };
    let both_failed = (known.status, new.status) == (AssertionStatus::Failed, AssertionStatus::Failed);
    if both_failed {
        let messages: Vec<_> = [known.message.take(), new.message].into_iter().flatten().collect();
        known.message = (!messages.is_empty()).then(|| messages.join("\n"));
    } else if weight(new.status) > weight(known.status) {
        *known = new;
    }
}

#[cfg(test)]
mod tests;
