//! Expected beside observed, one line for each declared thing, so that a reader sees at once where they differ. Pure;
//! [`super::judge`] decides whether a trial passed, and this comparison never contradicts it.

use super::observed::{
    MatchedAssertions, Observed, TrialEnd, fault_words, is_as_declared, is_name_of, lost, unproven,
};
use crate::catalog::plan::{Expectation, ExpectedFault, ExpectedResult};
use crate::event::Compared;
use crate::outcome::{Assertion, AssertionStatus, Stage, tally};

use super::errors::StageError;

/// One line for each declared thing: the assertions before the restart, the declared fault or each declared task, and
/// all other assertions. A failed assertion that nobody declared has its own line.
pub(super) fn compare(expect: &Expectation, observed: &Observed) -> Vec<Compared> {
    let mut lines = Vec::new();
    // The step `assert` runs without the look before the reboot, and is not judged by it.
    let is_step = observed.before.is_none() && matches!(observed.end, Some(TrialEnd::Asserted(_)));
    if let Some(declared) = expect.before_reboot.filter(|_| !is_step) {
        lines.push(before(declared, observed.before.as_deref()));
        if declared == ExpectedResult::Pass {
            let unproven = unproven(&expect.fail, observed.before.as_deref().unwrap_or_default());
            let seen = unproven.into_iter().filter(|_| observed.before.is_some());
            lines.extend(seen.map(|(name, how)| line(Stage::Before, name, "passes", how, false)));
        }
    }
    let before = observed.before.as_deref().unwrap_or_default();
    let end = observed.end.as_ref();
    match expect.fail.as_ref().map(|fail| (fail.at, &fail.what)) {
        None => lines.extend(assertions(&[], before, end)),
        Some((Stage::Assert, ExpectedFault::Tasks(tasks))) => lines.extend(assertions(tasks, before, end)),
        Some((at, ExpectedFault::Tasks(tasks))) => {
            lines.extend(tasks.iter().map(|declared| task(at, declared, end)));
        }
        Some((at, fault)) => lines.push(guest(at, fault, end)),
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

fn before(declared: ExpectedResult, observed: Option<&[Assertion]>) -> Compared {
    let (what, expected) = match declared {
        ExpectedResult::Pass => ("every assertion", "passes"),
        ExpectedResult::Fail => ("an assertion", "fails"),
    };
    match observed {
        None => line(Stage::Before, what, expected, "not reached", false),
        Some(all) => line(Stage::Before, what, expected, tally(all), is_as_declared(declared, all)),
    }
}

fn assertions(declared: &[String], before: &[Assertion], end: Option<&TrialEnd>) -> Vec<Compared> {
    let at = Stage::Assert;
    let Some(TrialEnd::Asserted(all)) = end else {
        let how = not_asserted(end);
        let mut lines: Vec<_> =
            declared.iter().map(|name| line(at, name, "fails", how.clone(), false)).collect();
        lines.push(line(at, every(&lines), "passes", how, false));
        return lines;
    };
    let MatchedAssertions { matched, others } = MatchedAssertions::new(declared, all);
    let mut lines = Vec::new();
    for (name, found) in matched {
        let (seen, holds) = match found.as_slice() {
            [] => ("no such assertion".to_owned(), false),
            [one] => (one.status.to_string(), one.is_failed()),
            several => (format!("{} of that name: {}", several.len(), tally(several.iter().copied())), false),
        };
        lines.push(line(at, name, "fails", seen, holds));
    }
    // One line that differs is enough.
    let is_told = |it: &&Assertion| lines.iter().any(|line: &Compared| line.what == it.name && !line.holds);
    let lost: Vec<_> = lost(before, all).into_iter().filter(|it| !is_told(it)).collect();
    lines.extend(
        lost.into_iter().map(|it| line(at, &it.name, "passes", "skipped, but not before the reboot", false)),
    );
    let (failed, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|it| it.is_failed());
    lines.extend(failed.into_iter().map(|it| line(at, &it.name, "passes", "failed", false)));
    if !rest.is_empty() {
        // When every assertion was skipped, nothing was checked.
        let holds = all.iter().any(|it| it.status != AssertionStatus::Skipped);
        lines.push(line(at, every(&lines), "passes", tally(rest), holds));
    }
    lines
}

fn every(lines: &[Compared]) -> &'static str {
    if lines.is_empty() { "every assertion" } else { "every other assertion" }
}

fn task(at: Stage, declared: &str, end: Option<&TrialEnd>) -> Compared {
    let (seen, holds) = match end {
        Some(TrialEnd::Stopped { why: StageError::TaskFailed { task, role, .. }, .. }) => {
            let is_declared = is_name_of(declared, task, role.as_deref());
            (if is_declared { "failed".to_owned() } else { format!("`{task}` failed") }, is_declared)
        }
        Some(TrialEnd::Asserted(_)) => ("passed".to_owned(), false),
        other => (not_asserted(other), false),
    };
    line(at, declared, "fails", seen, holds)
}

fn guest(at: Stage, declared: &ExpectedFault, end: Option<&TrialEnd>) -> Compared {
    let (seen, holds) = match end {
        Some(TrialEnd::Stopped { at: place, why: StageError::Fault(fault, _) }) if *place == at => {
            (fault_words(fault).to_owned(), fault == declared)
        }
        Some(TrialEnd::Asserted(_)) => ("reachable".to_owned(), false),
        other => (not_asserted(other), false),
    };
    line(at, "the guest", fault_words(declared), seen, holds)
}

/// How a trial ended that did not reach its assertions.
fn not_asserted(end: Option<&TrialEnd>) -> String {
    match end {
        None | Some(TrialEnd::Asserted(_)) => "not reached".to_owned(),
        Some(TrialEnd::Stopped { at, why }) => match why {
            StageError::TaskFailed { .. } => format!("not reached: a task failed at {at}"),
            StageError::Fault(fault, _) => format!("not reached: {} at {at}", fault_words(fault)),
            StageError::Error(_) | StageError::Interrupted(_) => format!("unknown: an error at {at}"),
        },
    }
}
