//! Expected against seen, by stage and assertion. Pure: the whole meaning of "passed" stands in this file.
//!
//! An expected failure counts only at the declared stage and assertion. A boot that never finishes, an SSH that
//! never answers, an Ansible that breaks are errors, unless that very fault was declared.

use super::compare::compare;
use super::stop::StageError;
use crate::catalog::plan::{Expectation, ExpectedFailure, ExpectedFault, ExpectedResult};
use crate::event::{Compared, StageReport};
use crate::outcome::{Assertion, AssertionStatus, Outcome, Stage};
use crate::site::Phase;

mod meant;

pub(super) use meant::{MatchedAssertions, names};

/// What was seen of a trial.
#[derive(Debug)]
pub struct Observed {
    /// The assertions before the restart, where they were made.
    pub before: Option<Vec<Assertion>>,
    /// How it ended; none if it was stopped before the restart, for what was seen there.
    pub end: Option<TrialEnd>,
}

/// How a trial ended.
#[derive(Debug)]
pub enum TrialEnd {
    /// `verify.yml` ran after a proven reboot, with these assertions.
    Asserted(Vec<Assertion>),
    /// A task of the site playbook failed.
    TaskFailed {
        /// Its name.
        task: String,
        /// What it said.
        message: String,
    },
    /// The guest broke in a way that can be declared.
    Fault {
        /// At which stage.
        at: Stage,
        /// In which way: never [`ExpectedFault::Tasks`].
        fault: ExpectedFault,
        /// The error's whole chain.
        error: String,
    },
    /// We could not find out.
    Error {
        /// At which stage.
        at: Stage,
        /// The error's whole chain.
        error: String,
    },
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Passed, failed or errored.
    pub outcome: Outcome,
    /// What was declared, in words.
    pub expected: String,
    /// What was seen, in words; where it is not what was declared, with what that means.
    pub seen: String,
    /// Both, thing by thing.
    pub compared: Vec<Compared>,
}

impl Judgement {
    /// Of a run that was interrupted: there is nothing to judge.
    pub fn interrupted(expect: &Expectation, at: Stage, why: &StageError) -> Self {
        let seen = format!("interrupted at {at}: {why}");
        Self { outcome: Outcome::Interrupted, expected: expect.to_string(), seen, compared: Vec::new() }
    }

    /// Of a step that came to its end and has no verdict of its own.
    pub fn step(stages: &[StageReport]) -> Self {
        let seen = stages.last().map(|stage| stage.summary.clone()).unwrap_or_default();
        let expected = "the step does what it is for".to_owned();
        Self { outcome: Outcome::Passed, expected, seen, compared: Vec::new() }
    }
}

/// Judges what was seen by what was declared.
pub fn judge(expect: &Expectation, seen: &Observed) -> Judgement {
    let before = match (&seen.before, expect.before_reboot) {
        (Some(before), Some(verdict)) => self::before(verdict, before),
        _ => Ok(()),
    };
    let (outcome, words) = match (before, &seen.end) {
        (Err(words), _) => (Outcome::Failed, words),
        (Ok(()), Some(end)) => judge_end(expect.fail.as_ref(), end),
        (Ok(()), None) => (Outcome::Errored, "the trial stopped before the restart".to_owned()),
    };
    Judgement { outcome, expected: expect.to_string(), seen: words, compared: compare(expect, seen) }
}

/// Judges the assertions made before the restart. There is no point in going on after an `Err`, which says why.
///
/// # Errors
/// What was seen, in words, when it is not what was declared.
pub fn before(verdict: ExpectedResult, assertions: &[Assertion]) -> Result<(), String> {
    let failed = failed(assertions);
    match (verdict, failed.is_empty()) {
        (ExpectedResult::Pass, true) | (ExpectedResult::Fail, false) => Ok(()),
        (ExpectedResult::Pass, false) => Err(format!(
            "before the reboot, {} failed: the fault is there without a reboot, so this scenario shows nothing",
            list(&failed)
        )),
        (ExpectedResult::Fail, true) => {
            Err("before the reboot every assertion passed, although a failure was declared there".to_owned())
        }
    }
}

/// Whether assertions are declared to fail where `verify.yml` is run as `phase`. Then it must come to its end: what it could not
/// find out may be another failure, and a declared one counts alone.
pub fn is_failure_declared(expect: &Expectation, phase: Phase) -> bool {
    match phase {
        Phase::Before => expect.before_reboot == Some(ExpectedResult::Fail),
        Phase::Assert => expect.fail.as_ref().is_some_and(|fail| fail.at == Stage::Assert),
        Phase::Apply => false,
    }
}

fn judge_end(expected: Option<&ExpectedFailure>, end: &TrialEnd) -> (Outcome, String) {
    match end {
        TrialEnd::Asserted(assertions) => judge_assertions(expected, assertions),
        TrialEnd::TaskFailed { task, message } => {
            let declared = expected.filter(|e| e.at == Stage::Apply).map(|e| &e.what);
            match declared {
                Some(ExpectedFault::Tasks(tasks)) if tasks.iter().any(|t| names(t, task)) => {
                    (Outcome::Passed, format!("at apply, {} failed, as declared", quoted(task)))
                }
                _ => (Outcome::Failed, format!("at apply, {} failed: {message}", quoted(task))),
            }
        }
        TrialEnd::Fault { at, fault, error } => match expected {
            Some(declared) if declared.at == *at && declared.what == *fault => {
                (Outcome::Passed, format!("at {at}, the guest was {}, as declared", fault_words(fault)))
            }
            _ => (Outcome::Errored, format!("at {at}, the guest was {}: {error}", fault_words(fault))),
        },
        TrialEnd::Error { at, error } => (Outcome::Errored, format!("at {at}: {error}")),
    }
}

fn judge_assertions(expected: Option<&ExpectedFailure>, assertions: &[Assertion]) -> (Outcome, String) {
    let failed = failed(assertions);
    let counts = count(assertions);
    if assertions.iter().all(|a| a.status == AssertionStatus::Skipped) {
        return (Outcome::Errored, format!("every assertion was skipped, so nothing was checked ({counts})"));
    }
    let Some(expected) = expected else {
        return match failed.as_slice() {
            [] => (Outcome::Passed, counts),
            some => (Outcome::Failed, format!("{} failed after the reboot ({counts})", list(some))),
        };
    };
    let ExpectedFault::Tasks(declared) = &expected.what else {
        return unexpected_pass(&format!("the guest came through the reboot ({counts})"));
    };
    if expected.at != Stage::Assert {
        return unexpected_pass(&format!(
            "every task at {} passed, and the trial went on ({counts})",
            expected.at
        ));
    }
    let MatchedAssertions { meant, others } = MatchedAssertions::new(declared, assertions);
    if let Some((name, several)) = meant.iter().find(|(_, them)| them.len() > 1) {
        return (Outcome::Failed, says_too_little(name, several));
    }
    let missing = meant.iter().filter(|(_, them)| !them.iter().any(|it| is_failed(it)));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    let extra: Vec<&str> = others.iter().filter(|it| is_failed(it)).map(|it| it.name.as_str()).collect();
    match (missing.as_slice(), extra.as_slice()) {
        ([], []) => {
            (Outcome::Passed, format!("{} failed after the reboot, as declared ({counts})", list(&failed)))
        }
        (_, []) if failed.is_empty() => none_failed(&meant, &counts),
        (missing, []) => (
            Outcome::Failed,
            format!("{} failed as declared, but {} did not ({counts})", list(&failed), list(missing)),
        ),
        ([], extra) => {
            (Outcome::Failed, format!("beside what was declared, {} failed too ({counts})", list(extra)))
        }
        (missing, extra) => {
            (Outcome::Failed, format!("{} failed instead of {} ({counts})", list(extra), list(missing)))
        }
    }
}

/// Of declared assertions none failed, and no other.
fn none_failed(meant: &[(&str, Vec<&Assertion>)], counts: &str) -> (Outcome, String) {
    if let Some((name, _)) = meant.iter().find(|(_, them)| them.is_empty()) {
        let words = "`expect.fail.task` must be a task name of verify.yml";
        return (Outcome::Failed, format!("no assertion is named {}; {words}", quoted(name)));
    }
    let is_skipped = |them: &[&Assertion]| them.iter().all(|it| it.status == AssertionStatus::Skipped);
    if let Some((name, _)) = meant.iter().find(|(_, them)| is_skipped(them)) {
        let words = "so nobody knows whether it would have failed, as declared";
        return (Outcome::Failed, format!("{} was skipped, {words} ({counts})", quoted(name)));
    }
    unexpected_pass(counts)
}

fn unexpected_pass(what: &str) -> (Outcome, String) {
    (
        Outcome::Failed,
        format!(
            "an unexpected pass: {what}. The harness is not faithful, or the fault is fixed: \
             if it is fixed, drop `expect.fail` from the scenario"
        ),
    )
}

fn says_too_little(name: &str, several: &[&Assertion]) -> String {
    let each: Vec<_> = several.iter().map(|it| format!("{} ({})", quoted(&it.name), it.path)).collect();
    format!(
        "{} in `expect.fail.task` names {} assertions, and only one can be meant: {}. Name it in full, with its role, or \
         give the tasks names of their own",
        quoted(name),
        several.len(),
        each.join(", ")
    )
}

fn is_failed(assertion: &Assertion) -> bool {
    assertion.status == AssertionStatus::Failed
}

fn failed(assertions: &[Assertion]) -> Vec<&str> {
    assertions.iter().filter(|it| is_failed(it)).map(|it| it.name.as_str()).collect()
}

/// `9 of 10 assertions passed, 1 skipped`.
pub fn count(assertions: &[Assertion]) -> String {
    let of = |status| assertions.iter().filter(|a| a.status == status).count();
    let (passed, skipped) = (of(AssertionStatus::Passed), of(AssertionStatus::Skipped));
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    format!("{passed} of {} assertions passed{skipped}", assertions.len())
}

fn quoted(name: &str) -> String {
    format!("“{name}”")
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

pub(super) fn fault_words(fault: &ExpectedFault) -> &'static str {
    match fault {
        ExpectedFault::Tasks(_) => "failing tasks",
        ExpectedFault::Unreachable => "unreachable",
        ExpectedFault::Emergency => "in emergency mode",
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.before_reboot {
            Some(ExpectedResult::Pass) => f.write_str("before the reboot every assertion passes; then ")?,
            Some(ExpectedResult::Fail) => f.write_str("before the reboot an assertion fails; then ")?,
            None => {}
        }
        match &self.fail {
            None => f.write_str("every assertion passes after the reboot"),
            Some(ExpectedFailure { at, what: ExpectedFault::Tasks(tasks) }) => {
                let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
                write!(f, "at {at}, {} fails and nothing else", list(&tasks))
            }
            Some(ExpectedFailure { at, what }) => write!(f, "at {at}, the guest is {}", fault_words(what)),
        }
    }
}

#[cfg(test)]
mod tests;
