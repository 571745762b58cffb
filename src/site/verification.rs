//! From the report of `verify.yml` to named assertions.
//!
//! An assertion is a task of module `assert` or `fail`, or one tagged `assertion`. It failed when it failed, whether
//! or not the playbook went on after it (`ignore_errors` and `rescue` are how a playbook collects all failures). Any
//! other task only finds things out: its failure, unless the playbook meant to survive it, is trouble and no verdict.
//!
//! Results of one name are one assertion (a task file included in a loop): failed if one failed, passed if one passed
//! and none failed. A `fail` whose condition was false counts as skipped, as its guard may have been what was false:
//! an assertion that is to be seen to pass is an `assert`.

use super::results::PlaybookReport;
use crate::outcome::{Assertion, AssertionStatus, TaskResult, TaskStatus};

/// What `verify.yml` found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// Every assertion, in the order in which they were met; those never reached come last, as skipped.
    pub assertions: Vec<Assertion>,
    /// The task that was not an assertion and failed, so that something could not be found out.
    pub trouble: Option<Box<TaskResult>>,
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
    /// A task that is no assertion failed.
    #[error(
        "could not find out: task `{}` of verify.yml ({}) failed, and it is no assertion{}",
        task.task, task.path, task.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default()
    )]
    CouldNotFindOut {
        /// The task.
        task: Box<TaskResult>,
    },
}

/// The assertions of a report of `verify.yml` on `host`.
///
/// # Errors
/// [`VerificationError::NoAssertions`] or [`VerificationError::AllSkipped`]; and
/// [`VerificationError::CouldNotFindOut`] when a task that is no assertion failed and no assertion did. Where both
/// happened, [`Verification::trouble`] has the task.
pub fn verification(report: &PlaybookReport, host: &str) -> Result<Verification, VerificationError> {
    let mut assertions: Vec<Assertion> = Vec::new();
    for task in report.tasks.iter().filter(|task| task.assertion) {
        add(&mut assertions, of(task));
    }
    let trouble = report.fatal().find(|task| !task.assertion).cloned().map(Box::new);
    let has_failed = assertions.iter().any(|a| a.status == AssertionStatus::Failed);
    if let Some(task) = trouble.clone().filter(|_| !has_failed) {
        return Err(VerificationError::CouldNotFindOut { task });
    }
    let reached: Vec<&str> = report.tasks.iter().map(|task| task.path.as_str()).collect();
    let unreached: Vec<_> = report
        .declared
        .iter()
        .filter(|declared| !reached.iter().any(|path| declared.path == *path))
        .map(|declared| Assertion {
            name: declared.task.clone(),
            status: AssertionStatus::Skipped,
            path: declared.path.clone(),
            message: Some("not reached: the playbook ended before it".to_owned()),
        })
        .collect();
    for assertion in unreached {
        add(&mut assertions, assertion);
    }
    let host = host.to_owned();
    if assertions.is_empty() {
        return Err(VerificationError::NoAssertions { host });
    }
    if assertions.iter().all(|a| a.status == AssertionStatus::Skipped) {
        return Err(VerificationError::AllSkipped { host, count: assertions.len() });
    }
    Ok(Verification { assertions, trouble })
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
    let Some(known) = assertions.iter_mut().find(|known| known.name == new.name) else {
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
