//! What was observed of a trial, as plain data for [`super::judge`] and [`super::comparison`]: how it ended, and which
//! assertions the declared names match.

use super::errors::StageError;
use crate::catalog::plan::{ExpectedFault, ExpectedResult};
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
    }
}

/// Whether a declared task name means this task. Ansible puts `role : ` before the names of a role's tasks; the
/// declaration may leave that out.
pub(super) fn is_name_of(declared: &str, task: &str) -> bool {
    declared == task || task.rsplit_once(" : ").is_some_and(|(_, name)| name == declared)
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
    let named = all.iter().filter(|it| is_name_of(declared, &it.name)).collect();
    let named = prefer(named, |it| it.name == declared);
    prefer(named, |it| it.status != AssertionStatus::Skipped)
}

/// Those of `all` for which `is_preferred` holds; all of them if it holds for none.
fn prefer(all: Vec<&Assertion>, is_preferred: impl Fn(&Assertion) -> bool) -> Vec<&Assertion> {
    let preferred: Vec<_> = all.iter().copied().filter(|it| is_preferred(it)).collect();
    if preferred.is_empty() { all } else { preferred }
}
