//! The verdict: expected against observed, by stage and assertion. Pure; the whole meaning of "passed" is in this file.
//!
//! A declared failure counts only at its stage and for its assertion. A fault that the site is proven to have caused (a
//! lockout, emergency mode, a boot that never ends) is a failure, unless the scenario declares that very fault. A hypervisor,
//! an SSH or an Ansible that breaks is an error.

use super::comparison::compare;
use super::errors::StageError;
use super::observed::{
    MatchedAssertions, Observed, TrialEnd, count, fault_words, is_as_declared, is_name_of, lost, unproven,
};
use crate::catalog::plan::{Expectation, ExpectedFailure, ExpectedFault, ExpectedResult};
use crate::event::{Compared, StageReport};
use crate::outcome::{Assertion, AssertionStatus, Outcome, Stage};

/// The judgement of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The verdict.
    pub outcome: Outcome,
    /// What was declared, in words.
    pub expected: String,
    /// What was observed, in words, and what it means where it differs from what was declared.
    pub seen: String,
    /// Both, line by line.
    pub compared: Vec<Compared>,
}

impl Judgement {
    /// Of a step that came to its end and has no verdict of its own.
    pub(super) fn of_step(stages: &[StageReport]) -> Self {
        let seen = stages.last().map(|stage| stage.summary.clone()).unwrap_or_default();
        let expected = "the step succeeds".to_owned();
        Self { outcome: Outcome::Passed, expected, seen, compared: Vec::new() }
    }
}

/// Judges what was observed by what was declared.
pub(super) fn judge(expect: &Expectation, observed: &Observed) -> Judgement {
    let before = observed.before.as_deref().zip(expect.before_reboot);
    let (outcome, seen) = match (&observed.end, before) {
        (Some(TrialEnd::Stopped { at, why: StageError::Interrupted(error) }), _) => {
            (Outcome::Interrupted, format!("interrupted at {at}: {error:#}"))
        }
        (_, Some((before, declared))) if !is_as_declared(declared, before) => {
            (Outcome::Failed, wrong_before(declared, before))
        }
        (_, Some((before, ExpectedResult::Pass))) if !unproven(&expect.fail, before).is_empty() => {
            (Outcome::Errored, unknown_before(&unproven(&expect.fail, before)))
        }
        (Some(TrialEnd::Asserted(assertions)), _) => {
            let before = observed.before.as_deref().unwrap_or_default();
            judge_assertions(expect.fail.as_ref(), before, assertions)
        }
        (Some(TrialEnd::Stopped { at, why }), _) => judge_stop(expect.fail.as_ref(), *at, why),
        (None, _) => (Outcome::Errored, "the trial stopped before the restart".to_owned()),
    };
    let is_judged = outcome != Outcome::Interrupted;
    let compared = if is_judged { compare(expect, observed) } else { Vec::new() };
    Judgement { outcome, expected: describe(expect), seen, compared }
}

fn wrong_before(declared: ExpectedResult, assertions: &[Assertion]) -> String {
    match declared {
        ExpectedResult::Pass => format!(
            "before the reboot, {} failed: the fault exists without a reboot, so this scenario proves nothing",
            list(&failed(assertions))
        ),
        ExpectedResult::Fail => {
            "before the reboot every assertion passed, but the scenario declares a failure there".to_owned()
        }
    }
}

fn judge_stop(expected: Option<&ExpectedFailure>, at: Stage, why: &StageError) -> (Outcome, String) {
    let declared = expected.filter(|it| it.at == at).map(|it| &it.what);
    match (why, declared) {
        (StageError::TaskFailed { task, role, .. }, Some(ExpectedFault::Tasks(names)))
            if at == Stage::Apply && names.iter().any(|name| is_name_of(name, task, role.as_deref())) =>
        {
            (Outcome::Passed, format!("at {at}, `{task}` failed, as declared"))
        }
        (StageError::TaskFailed { .. }, _) => (Outcome::Failed, format!("at {at}, {why}")),
        (StageError::Fault(fault, _), Some(declared)) if declared == fault => {
            (Outcome::Passed, format!("at {at}, the guest was {}, as declared", fault_words(fault)))
        }
        (StageError::Fault(fault, _), _) => {
            (Outcome::Failed, format!("at {at}, the guest was {}: {why}", fault_words(fault)))
        }
        (StageError::Error(_) | StageError::Interrupted(_), _) => {
            (Outcome::Errored, format!("at {at}: {why}"))
        }
    }
}

fn judge_assertions(
    expected: Option<&ExpectedFailure>,
    before: &[Assertion],
    assertions: &[Assertion],
) -> (Outcome, String) {
    let failed = failed(assertions);
    let counts = count(assertions);
    if assertions.iter().all(|it| it.status == AssertionStatus::Skipped) {
        return (Outcome::Errored, format!("every assertion was skipped, so nothing was checked ({counts})"));
    }
    let lost = lost(before, assertions);
    // A failure is one, whatever is unknown beside it, unless it is to be the only one.
    if !lost.is_empty() && (failed.is_empty() || expected.is_some()) {
        let names: Vec<&str> = lost.iter().map(|it| it.name.as_str()).collect();
        let why = "so it is unknown whether the reboot broke it";
        let what =
            format!("{} was evaluated before the reboot and not after it, {why} ({counts})", list(&names));
        return (Outcome::Errored, what);
    }
    let declared = match expected {
        None if failed.is_empty() => return (Outcome::Passed, counts),
        None => {
            return (Outcome::Failed, format!("{} failed after the reboot ({counts})", list(&failed)));
        }
        Some(ExpectedFailure { at: Stage::Assert, what: ExpectedFault::Tasks(declared) }) => declared,
        Some(ExpectedFailure { at, what: ExpectedFault::Tasks(_) }) => {
            return unexpected_pass(&format!("every task at {at} passed, and the trial went on ({counts})"));
        }
        Some(_) => return unexpected_pass(&format!("the guest survived the reboot ({counts})")),
    };
    let MatchedAssertions { matched, others } = MatchedAssertions::new(declared, assertions);
    if let Some((name, several)) = matched.iter().find(|(_, found)| found.len() > 1) {
        return (Outcome::Failed, ambiguous(name, several));
    }
    if let Some((name, _)) = matched.iter().find(|(_, found)| is_skipped(found)) {
        let why = "so it is unknown whether it would have failed as declared";
        return (Outcome::Errored, format!("`{name}` was skipped, {why} ({counts})"));
    }
    let missing = matched.iter().filter(|(_, found)| !found.iter().any(|it| it.is_failed()));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    let extra: Vec<&str> = others.iter().filter(|it| it.is_failed()).map(|it| it.name.as_str()).collect();
    let (outcome, seen) = match (missing.as_slice(), extra.as_slice()) {
        ([], []) => (Outcome::Passed, format!("{} failed after the reboot, as declared", list(&failed))),
        (_, []) if failed.is_empty() => return none_failed(&matched, &counts),
        (missing, []) => {
            (Outcome::Failed, format!("{} failed as declared, but {} did not", list(&failed), list(missing)))
        }
        ([], extra) => (Outcome::Failed, format!("{} failed in addition to what was declared", list(extra))),
        (missing, extra) => (Outcome::Failed, format!("{} failed instead of {}", list(extra), list(missing))),
    };
    (outcome, format!("{seen} ({counts})"))
}

/// Neither a declared assertion nor another one failed.
fn none_failed(matched: &[(&str, Vec<&Assertion>)], counts: &str) -> (Outcome, String) {
    match matched.iter().find(|(_, found)| found.is_empty()) {
        Some((name, _)) => {
            let remedy = "`expect.fail.task` must be the name of a task in verify.yml";
            (Outcome::Failed, format!("no assertion is named `{name}`; {remedy}"))
        }
        None => unexpected_pass(counts),
    }
}

/// Whether a declared name matches only assertions that were not evaluated.
fn is_skipped(found: &[&Assertion]) -> bool {
    !found.is_empty() && found.iter().all(|it| it.status == AssertionStatus::Skipped)
}

/// What is wrong with declared assertions that were not seen to pass before the reboot.
fn unknown_before(unproven: &[(&str, &str)]) -> String {
    let each: Vec<_> = unproven.iter().map(|(name, how)| format!("`{name}`: {how}")).collect();
    format!("before the reboot {}, so it is unknown whether the reboot makes it fail", each.join(", "))
}

fn unexpected_pass(what: &str) -> (Outcome, String) {
    let meaning = "the harness does not reproduce the fault, or the fault is fixed";
    let remedy = "if it is fixed, remove `expect.fail` from the scenario";
    (Outcome::Failed, format!("an unexpected pass: {what}; {meaning}: {remedy}"))
}

fn ambiguous(name: &str, several: &[&Assertion]) -> String {
    let each: Vec<_> = several.iter().map(|it| format!("`{}` ({})", it.name, it.path)).collect();
    format!(
        "`{name}` in `expect.fail.task` matches {} assertions and must match one: {}; write the full name with its role, or \
         rename the tasks",
        several.len(),
        each.join(", ")
    )
}

fn failed(assertions: &[Assertion]) -> Vec<&str> {
    assertions.iter().filter(|it| it.is_failed()).map(|it| it.name.as_str()).collect()
}

/// The names, or the first of many: the comparison has them all.
fn list(names: &[impl AsRef<str>]) -> String {
    let shown = if names.len() > 4 { 3 } else { names.len() };
    let mut text =
        names[..shown].iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ");
    if shown < names.len() {
        text += &format!(" and {} more", names.len() - shown);
    }
    text
}

/// The expectation in words.
fn describe(expect: &Expectation) -> String {
    let before = match expect.before_reboot {
        Some(ExpectedResult::Pass) => "before the reboot every assertion passes; then ",
        Some(ExpectedResult::Fail) => "before the reboot an assertion fails; then ",
        None => "",
    };
    let then = match &expect.fail {
        None => "every assertion passes after the reboot".to_owned(),
        Some(ExpectedFailure { at, what: ExpectedFault::Tasks(tasks) }) => {
            let verb = if tasks.len() == 1 { "fails" } else { "fail" };
            format!("at {at}, {} {verb} and nothing else", list(tasks))
        }
        Some(ExpectedFailure { at, what }) => format!("at {at}, the guest is {}", fault_words(what)),
    };
    before.to_owned() + &then
}

#[cfg(test)]
mod tests;
