//! What declared task names mean among the assertions that were met.

use crate::outcome::{Assertion, AssertionStatus};

/// Whether a declared task name means this one. Ansible puts `role : ` before the names of a role's tasks; a
/// declaration may leave that out.
pub(in crate::cycle) fn names(declared: &str, task: &str) -> bool {
    declared == task || task.rsplit_once(" : ").is_some_and(|(_, name)| name == declared)
}

/// The assertions that were met, sorted by what was declared of them.
pub(in crate::cycle) struct MatchedAssertions<'a> {
    /// Each declared name with the assertions that it means: one, unless there is none of that name, or the name says too
    /// little.
    pub meant: Vec<(&'a str, Vec<&'a Assertion>)>,
    /// Those that no declared name means.
    pub others: Vec<&'a Assertion>,
}

impl<'a> MatchedAssertions<'a> {
    /// Sorts `all` by the names in `declared`.
    pub(in crate::cycle) fn new(declared: &'a [String], all: &'a [Assertion]) -> Self {
        let meant: Vec<_> = declared.iter().map(|name| (name.as_str(), meant(name, all))).collect();
        let is_meant =
            |it: &Assertion| meant.iter().flat_map(|(_, them)| them).any(|one| std::ptr::eq(*one, it));
        let others = all.iter().filter(|it| !is_meant(it)).collect();
        Self { meant, others }
    }
}

/// The assertions that a declared name means: that of the very name rather than a role's, and one that was looked at rather
/// than skipped (two tasks of one name, of which a condition picks one).
fn meant<'a>(declared: &str, all: &'a [Assertion]) -> Vec<&'a Assertion> {
    let named = all.iter().filter(|it| names(declared, &it.name)).collect();
    let named = rather(named, |it| it.name == declared);
    rather(named, |it| it.status != AssertionStatus::Skipped)
}

/// Those of `all` for which `preferred` holds, if there are any.
fn rather(all: Vec<&Assertion>, preferred: impl Fn(&Assertion) -> bool) -> Vec<&Assertion> {
    let chosen: Vec<_> = all.iter().copied().filter(|it| preferred(it)).collect();
    if chosen.is_empty() { all } else { chosen }
}
