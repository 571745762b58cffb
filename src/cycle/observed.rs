//! What was observed of a trial, as plain data for [`super::judge`] and [`super::comparison`]: how it ended, and which
//! assertions the declared names match.

use super::errors::StageError;
use crate::catalog::plan::{ExpectedFailure, ExpectedFault, ExpectedResult};
use crate::outcome::{Assertion, AssertionStatus, Stage};

/// What was observed of a trial.
#[derive(Debug)]
pub(super) struct Observed {
    /// The assertions before the restart, if they were made.
    pub before: Option<Vec<Assertion>>,
    /// How the trial ended; none if it stopped before the restart because of [`Observed::before`].
    pub end: Option<TrialEnd>,
}

/// How a trial ended.
#[derive(Debug)]
pub(super) enum TrialEnd {
    /// `verify.yml` ran after a proven reboot, with these assertions.
    Asserted(Vec<Assertion>),
    /// A stage stopped short.
    Stopped {
        /// Which.
        at: Stage,
        /// Why.
        why: StageError,
    },
}

impl Observed {
    /// Why a stage stopped short, if one did.
    pub(super) fn error(&self) -> Option<&StageError> {
        match &self.end {
            Some(TrialEnd::Stopped { why, .. }) => Some(why),
            _ => None,
        }
    }
}

/// Whether the assertions before the restart went as declared.
pub(super) fn is_as_declared(declared: ExpectedResult, assertions: &[Assertion]) -> bool {
    assertions.iter().any(Assertion::is_failed) == (declared == ExpectedResult::Fail)
}

/// `9 of 10 assertions passed, 1 skipped`.
pub(super) fn count(assertions: &[Assertion]) -> String {
    let of = |status| assertions.iter().filter(|it| it.status == status).count();
    let (passed, skipped) = (of(AssertionStatus::Passed), of(AssertionStatus::Skipped));
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    format!("{passed} of {} assertions passed{skipped}", assertions.len())
}

/// The state of a guest with this fault: `unreachable`.
pub(super) fn fault_words(fault: &ExpectedFault) -> &'static str {
    match fault {
        ExpectedFault::Tasks(_) => "failing tasks",
        ExpectedFault::Unreachable => "unreachable",
        ExpectedFault::Emergency => "in emergency mode",
        ExpectedFault::Initramfs => "stuck in its initramfs",
        ExpectedFault::Panic => "stopped by a kernel panic",
        ExpectedFault::Hung => "kept from finishing its boot",
    }
}

/// Whether a declared name means the task `task` of `role`. Ansible puts `role : ` before the names of a role's tasks; the
/// declaration may leave that out. A colon that the author wrote is part of the name.
pub(super) fn is_name_of(declared: &str, task: &str, role: Option<&str>) -> bool {
    let in_role = role.and_then(|role| task.strip_prefix(role)?.strip_prefix(" : "));
    declared == task || in_role == Some(declared)
}

/// Assertions that were evaluated before the restart, and not after it: what the reboot broke may have taken them away.
/// Their names may differ by the phase, so what counts is how many of one place were evaluated.
pub(super) fn lost<'a>(before: &'a [Assertion], after: &[Assertion]) -> Vec<&'a Assertion> {
    let evaluated = |all: &'a [Assertion]| all.iter().filter(|it| it.status != AssertionStatus::Skipped);
    let seen_after: Vec<&Assertion> =
        after.iter().filter(|it| it.status != AssertionStatus::Skipped).collect();
    let of_place = |path: &str| seen_after.iter().filter(|it| it.path == path).count();
    let is_fewer = |it: &&Assertion| {
        evaluated(before).filter(|other| other.path == it.path).count() > of_place(&it.path)
    };
    let is_seen =
        |it: &Assertion| seen_after.iter().any(|one| (&one.name, &one.path) == (&it.name, &it.path));
    evaluated(before).filter(is_fewer).filter(|it| !is_seen(it)).collect()
}

/// The assertions of a trial, matched with the declared names.
pub(super) struct MatchedAssertions<'a> {
    /// Each declared name with the assertions that it matches: one, unless there is none of that name or the name is
    /// ambiguous.
    pub matched: Vec<(&'a str, Vec<&'a Assertion>)>,
    /// The assertions that no declared name matches.
    pub others: Vec<&'a Assertion>,
}

impl<'a> MatchedAssertions<'a> {
    pub(super) fn new(declared: &'a [String], all: &'a [Assertion]) -> Self {
        let matched: Vec<_> = declared.iter().map(|name| (name.as_str(), matches(name, all))).collect();
        let is_matched =
            |it: &Assertion| matched.iter().flat_map(|(_, found)| found).any(|one| std::ptr::eq(*one, it));
        let others = all.iter().filter(|it| !is_matched(it)).collect();
        Self { matched, others }
    }
}

/// The assertions that a declared name matches. The exact name is preferred to a role's task, and an assertion that ran
/// to a skipped one (a condition may pick one of two tasks of the same name).
fn matches<'a>(declared: &str, all: &'a [Assertion]) -> Vec<&'a Assertion> {
    let named = all.iter().filter(|it| is_name_of(declared, &it.name, it.role.as_deref())).collect();
    let named = prefer(named, |it| it.name == declared);
    prefer(named, |it| it.status != AssertionStatus::Skipped)
}

/// The declared assertions that were not seen to pass before the restart, where every assertion should: the name, and what
/// was seen. Only what passed before can be broken by the reboot.
pub(super) fn unproven<'a>(
    expected: &'a Option<ExpectedFailure>,
    before: &'a [Assertion],
) -> Vec<(&'a str, &'static str)> {
    let Some(ExpectedFailure { at: Stage::Assert, what: ExpectedFault::Tasks(declared) }) = expected else {
        return Vec::new();
    };
    let how = |found: &[&Assertion]| match found {
        [] => Some("no such assertion"),
        found if found.iter().all(|it| it.status == AssertionStatus::Skipped) => Some("skipped"),
        _ => None,
    };
    let matched = MatchedAssertions::new(declared, before).matched;
    matched.into_iter().filter_map(|(name, found)| Some((name, how(&found)?))).collect()
}

/// Those of `all` for which `is_preferred` holds; all of them if it holds for none.
fn prefer(all: Vec<&Assertion>, is_preferred: impl Fn(&Assertion) -> bool) -> Vec<&Assertion> {
    let preferred: Vec<_> = all.iter().copied().filter(|it| is_preferred(it)).collect();
    if preferred.is_empty() { all } else { preferred }
}
