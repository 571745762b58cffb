//! Expected beside seen, thing by thing: what a person reads to see at once where the two part. Pure; whether a trial passed
//! is [`super::judge`]'s to say, and this never contradicts it.

use super::judge::{MatchedAssertions, Observed, TrialEnd, names};
use crate::catalog::plan::{Expectation, ExpectedFault, ExpectedResult};
use crate::event::Compared;
use crate::outcome::{Assertion, AssertionStatus, Stage};

/// One line for each thing that was declared: the assertions before the restart, the declared fault or each declared task, and
/// all assertions beside those; a failed one that nobody declared has a line of its own.
pub(super) fn compare(expect: &Expectation, seen: &Observed) -> Vec<Compared> {
    let mut lines = Vec::new();
    // A step that asserts after the reboot comes without the look before it, and is not judged by that.
    let is_step = seen.before.is_none() && matches!(seen.end, Some(TrialEnd::Asserted(_)));
    if let Some(verdict) = expect.before_reboot.filter(|_| !is_step) {
        lines.push(before(verdict, seen.before.as_deref()));
    }
    match expect.fail.as_ref().map(|fail| (fail.at, &fail.what)) {
        None => lines.extend(assertions(&[], seen)),
        Some((Stage::Assert, ExpectedFault::Tasks(tasks))) => lines.extend(assertions(tasks, seen)),
        Some((at, ExpectedFault::Tasks(tasks))) => {
            lines.extend(tasks.iter().map(|declared| task(at, declared, seen.end.as_ref())));
        }
        Some((at, fault)) => lines.push(guest(at, fault, seen.end.as_ref())),
    }
    lines
}

fn line(
    at: Stage,
    what: impl Into<String>,
    expected: &str,
    seen: impl Into<String>,
    holds: bool,
) -> Compared {
    Compared { at, what: what.into(), expected: expected.to_owned(), seen: seen.into(), holds }
}

fn before(verdict: ExpectedResult, seen: Option<&[Assertion]>) -> Compared {
    let (what, expected) = match verdict {
        ExpectedResult::Pass => ("every assertion", "passes"),
        ExpectedResult::Fail => ("an assertion", "fails"),
    };
    let Some(seen) = seen else { return line(Stage::Before, what, expected, "not reached", false) };
    let holds = super::judge::before(verdict, seen).is_ok();
    line(Stage::Before, what, expected, tally(seen.iter()), holds)
}

fn assertions(declared: &[String], seen: &Observed) -> Vec<Compared> {
    let at = Stage::Assert;
    let Some(TrialEnd::Asserted(all)) = &seen.end else {
        let how = ending(seen.end.as_ref());
        let mut lines: Vec<_> =
            declared.iter().map(|name| line(at, name, "fails", how.clone(), false)).collect();
        let what = if declared.is_empty() { "every assertion" } else { "every other assertion" };
        lines.push(line(at, what, "passes", how, false));
        return lines;
    };
    let is_failed = |assertion: &&Assertion| assertion.status == AssertionStatus::Failed;
    let MatchedAssertions { meant, others } = MatchedAssertions::new(declared, all);
    let mut lines = Vec::new();
    for (name, them) in meant {
        let (seen, holds) = match them.as_slice() {
            [] => ("no such assertion".to_owned(), false),
            [one] => (word(one.status).to_owned(), is_failed(one)),
            several => (format!("{} of that name: {}", several.len(), tally(several.iter().copied())), false),
        };
        lines.push(line(at, name, "fails", seen, holds));
    }
    let failed = others.iter().copied().filter(is_failed);
    lines.extend(failed.map(|assertion| line(at, &assertion.name, "passes", "failed", false)));
    let rest: Vec<_> = others.iter().copied().filter(|it| !is_failed(it)).collect();
    if !rest.is_empty() {
        let what = if lines.is_empty() { "every assertion" } else { "every other assertion" };
        // That nothing was looked at is no pass.
        let looked = all.iter().any(|it| it.status != AssertionStatus::Skipped);
        lines.push(line(at, what, "passes", tally(rest.into_iter()), looked));
    }
    lines
}

fn task(at: Stage, declared: &str, end: Option<&TrialEnd>) -> Compared {
    let (seen, holds) = match end {
        Some(TrialEnd::TaskFailed { task, .. }) if names(declared, task) => ("failed".to_owned(), true),
        Some(TrialEnd::TaskFailed { task, .. }) => (format!("“{task}” failed"), false),
        Some(TrialEnd::Asserted(_)) => ("passed".to_owned(), false),
        other => (ending(other), false),
    };
    line(at, declared, "fails", seen, holds)
}

fn guest(at: Stage, fault: &ExpectedFault, end: Option<&TrialEnd>) -> Compared {
    let words = super::judge::fault_words;
    let (seen, holds) = match end {
        Some(TrialEnd::Fault { at: place, fault: seen, .. }) if *place == at => {
            (words(seen).to_owned(), seen == fault)
        }
        Some(TrialEnd::Asserted(_)) => ("came through".to_owned(), false),
        other => (ending(other), false),
    };
    line(at, "the guest", words(fault), seen, holds)
}

/// How a trial ended that did not come to be asserted.
fn ending(end: Option<&TrialEnd>) -> String {
    match end {
        None => "not reached".to_owned(),
        Some(TrialEnd::Asserted(assertions)) => tally(assertions.iter()),
        Some(TrialEnd::TaskFailed { .. }) => "not reached: a task failed at apply".to_owned(),
        Some(TrialEnd::Fault { at, fault, .. }) => {
            format!("not reached: {} at {at}", super::judge::fault_words(fault))
        }
        Some(TrialEnd::Error { at, .. }) => format!("not known: an error at {at}"),
    }
}

fn tally<'a>(assertions: impl Iterator<Item = &'a Assertion> + Clone) -> String {
    let of = |status| assertions.clone().filter(|assertion| assertion.status == status).count();
    let all = [AssertionStatus::Passed, AssertionStatus::Failed, AssertionStatus::Skipped];
    let counts = all.map(|status| (of(status), word(status)));
    let told = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    told.collect::<Vec<_>>().join(", ")
}

fn word(status: AssertionStatus) -> &'static str {
    match status {
        AssertionStatus::Passed => "passed",
        AssertionStatus::Failed => "failed",
        AssertionStatus::Skipped => "skipped",
    }
}
