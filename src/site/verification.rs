//! From the report of `verify.yml` to named assertions, and to the gaps: what is unknown, each by its name.
//!
//! What one task means is decided in [`super::verdict`]. Here everything that the playbook declares for the host is accounted
//! for, by the identity of its task: an assertion passed, failed, does not apply (its own `when` is false), or is a gap. With
//! a gap there is no verdict, unless an assertion failed and the scenario declares no failure.
//!
//! Results of one place in a file under one name are one assertion (a task file included in a loop): failed if one failed,
//! passed if one passed and none failed. Two tasks of one name are two assertions, on one line too. A `fail` whose condition is false counts as
//! skipped, because the false part may be its guard: what should be seen to pass is an `assert`.

use std::fmt;

use super::record::{Declared, DeclaredKind};
use super::results::PlaybookReport;
use super::verdict::{Evidence, Reason, Verdict, verdict};
use crate::outcome::{Assertion, AssertionStatus, TaskResult, TaskStatus};

/// Assertions of `verify.yml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// Every assertion, in the order of the results; those never reached come last, as skipped.
    pub assertions: Vec<Assertion>,
    /// What is unknown beside the assertions that failed; nothing if none failed.
    pub gaps: Vec<Gap>,
    /// What a reader should know: probes that failed, and may.
    pub notes: Vec<String>,
}

/// Something that `verify.yml` has for the host, and of which the outcome is unknown.
#[derive(Clone, Debug, PartialEq)]
pub enum Gap {
    /// A task ended, and its end is no verdict.
    Task {
        /// The task.
        task: Box<TaskResult>,
        /// Why it is none.
        reason: Reason,
    },
    /// The playbook, or a block of it, ended before these: `name` and place of each.
    NotReached(Vec<String>),
    /// The same, and no task had failed.
    LeftOut(Vec<String>),
    /// A play never started.
    UnknownPlay {
        /// Its name.
        play: String,
        /// Its pattern of hosts, as written.
        hosts: String,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task { task, reason } => {
                let said = task.message.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
                write!(f, "task `{}` ({}): {reason}{said}", task.task, task.path)
            }
            Self::NotReached(tasks) => {
                let remedy = "set `ignore_errors: true` on what fails before to go on";
                write!(f, "it ended before {}; {remedy}", first_of(tasks))
            }
            Self::LeftOut(tasks) => {
                let remedy = "`when` on these tasks, or on a block of them, says for which hosts they are";
                write!(
                    f,
                    "it ended before {} without a failure (`meta: end_host`, `end_play`); {remedy}",
                    first_of(tasks)
                )
            }
            Self::UnknownPlay { play, hosts } => write!(
                f,
                "it ended before play `{play}`, and whether that is for this host depends on `hosts: {hosts}`; set \
                 `ignore_errors: true` on what fails before to go on"
            ),
        }
    }
}

fn first_of(tasks: &[String]) -> String {
    let (first, more) = (tasks.first().map_or("", String::as_str), tasks.len().saturating_sub(1));
    if more > 0 { format!("{first} and {more} more") } else { first.to_owned() }
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
    #[error(
        "verify.yml skipped all {count} assertions about host `{host}` (a `fail` whose `when` is false counts as skipped: write what must hold as an `assert`)"
    )]
    AllSkipped {
        /// The host.
        host: String,
        /// How many there are.
        count: usize,
    },
    /// Something is unknown, and no assertion failed.
    #[error("verify.yml is inconclusive: {gap}{}", and_more(*.more))]
    Inconclusive {
        /// The first that is unknown.
        gap: Gap,
        /// How many more there are.
        more: usize,
    },
}

fn and_more(count: usize) -> String {
    if count > 0 { format!(" (and {count} more)") } else { String::new() }
}

/// The assertions in a report of `verify.yml` about `host`.
///
/// # Errors
/// [`VerificationError::NoAssertions`] or [`VerificationError::AllSkipped`]; and [`VerificationError::Inconclusive`] if there
/// is a gap and no assertion failed. If both happened, [`Verification::gaps`] has the gaps.
pub fn verification(report: &PlaybookReport, host: &str) -> Result<Verification, VerificationError> {
    let mut found = Verification::default();
    let mut columns = Vec::new();
    for (task, seen) in report.tasks.iter().zip(&report.evidence) {
        let verdict = verdict(task, seen);
        match verdict {
            Verdict::Unknown(reason) => found.gaps.push(Gap::Task { task: Box::new(task.clone()), reason }),
            Verdict::Told => found.notes.push(told(task)),
            _ => {}
        }
        let status = match verdict {
            Verdict::Passed => AssertionStatus::Passed,
            Verdict::Failed => AssertionStatus::Failed,
            _ => AssertionStatus::Skipped,
        };
        if seen.kind.is_assertion() {
            let message = task.message.clone().filter(|_| status != AssertionStatus::Passed);
            let (name, role, path) = (task.task.clone(), task.role.clone(), task.path.clone());
            let assertion = Assertion { name, role, status, path, message };
            add(&mut found.assertions, &mut columns, assertion, seen.column);
        }
    }
    let missing = Missing::of(report);
    for declared in missing.assertions {
        let message = Some("not reached: the playbook or its block ended earlier".to_owned());
        let (name, path, status) = (declared.task.clone(), declared.path.clone(), AssertionStatus::Skipped);
        let assertion = Assertion { name, role: None, status, path, message };
        add(&mut found.assertions, &mut columns, assertion, declared.column);
    }
    if !missing.names.is_empty() {
        let has_ended = report.tasks.iter().zip(&report.evidence).any(|(task, seen)| is_end(task, seen));
        let gap = if has_ended { Gap::NotReached } else { Gap::LeftOut };
        found.gaps.push(gap(missing.names));
    }
    found.gaps.extend(
        report
            .unknown_plays
            .iter()
            .map(|unknown| Gap::UnknownPlay { play: unknown.play.clone(), hosts: unknown.hosts.join(", ") }),
    );
    let (host, count) = (host.to_owned(), found.assertions.len());
    let has_failed = found.assertions.iter().any(Assertion::is_failed);
    match found.gaps.first() {
        Some(gap) if !has_failed => {
            Err(VerificationError::Inconclusive { gap: gap.clone(), more: found.gaps.len() - 1 })
        }
        _ if found.assertions.is_empty() => Err(VerificationError::NoAssertions { host }),
        _ if found.assertions.iter().all(|it| it.status == AssertionStatus::Skipped) => {
            Err(VerificationError::AllSkipped { host, count })
        }
        _ => Ok(found),
    }
}

fn told(task: &TaskResult) -> String {
    let said = task.message.as_deref().unwrap_or("no message");
    let what = match task.status {
        TaskStatus::Failed => "failed, and may, as it has `ignore_errors`",
        _ => "did not run to its end, and may, as it has `ignore_errors`, `creates` or `removes`",
    };
    format!("verify.yml: `{}` ({}) {what}: {said}", task.task, task.path)
}

/// What the playbook declares for the host, and has no result.
struct Missing<'a> {
    /// The assertions.
    assertions: Vec<&'a Declared>,
    /// All of it, by `name` and place.
    names: Vec<String>,
}

impl<'a> Missing<'a> {
    fn of(report: &'a PlaybookReport) -> Self {
        let has_result = |uuid: &str| report.evidence.iter().any(|it| it.uuid == uuid);
        let is_missing = |it: &&Declared| !has_result(&it.uuid) && !report.waived.contains(&it.uuid);
        let (handlers, tasks): (Vec<_>, Vec<_>) =
            report.declared.iter().filter(is_missing).partition(|it| it.kind == DeclaredKind::Handler);
        let (notifiers, tasks): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|it| it.kind == DeclaredKind::Notifier);
        let expected: Vec<_> = tasks.into_iter().filter(|it| it.kind != DeclaredKind::Rescue).collect();
        // A handler that nobody notified is not needed, but what was never reached could have notified it.
        let is_cut = !expected.is_empty() || !notifiers.is_empty();
        let is_due = |it: &&Declared| is_cut || report.notified.contains(&it.uuid);
        let due: Vec<_> = handlers.into_iter().filter(is_due).collect();
        let ends = report.tasks.iter().zip(&report.evidence).filter(|(task, seen)| is_end(task, seen));
        // What a handler includes is not declared.
        let is_declared = |seen: &Evidence| report.declared.iter().any(|it| it.uuid == seen.uuid);
        let rests = ends.filter(|(_, seen)| seen.kind.is_assertion() && !is_declared(seen));
        let rests =
            rests.map(|(task, _)| format!("the rest of the file after `{}` ({})", task.task, task.path));
        let missing: Vec<_> = expected.into_iter().chain(due).collect();
        let names = missing.iter().map(|it| format!("`{}` ({})", it.task, it.path)).chain(rests).collect();
        let assertions = missing.into_iter().filter(|it| it.kind == DeclaredKind::Assertion).collect();
        Self { assertions, names }
    }
}

/// Whether the playbook, or its block, ended at a task.
fn is_end(task: &TaskResult, seen: &Evidence) -> bool {
    task.status == TaskStatus::Failed && (!task.ignored || seen.rescued)
}

/// Adds an assertion, or merges it into that of the same name and place. `columns` are those of `assertions`.
fn add(assertions: &mut Vec<Assertion>, columns: &mut Vec<Option<u64>>, new: Assertion, column: Option<u64>) {
    let mut same = assertions.iter_mut().zip(&*columns);
    let is_same = |(known, its): &(&mut Assertion, &Option<u64>)| {
        (&known.name, &known.path, **its) == (&new.name, &new.path, column)
    };
    let Some((known, _)) = same.find(is_same) else {
        assertions.push(new);
        columns.push(column);
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
