//! What the record of one task of `verify.yml` means: the only place that decides it.
//!
//! Ansible's status is not enough. An empty `assert` is ok, and a module without an interpreter is failed. So an assertion
//! passed or failed only where its rounds show that it was evaluated, and how; everything else is a [`Reason`]. A task that
//! asserts nothing (a probe) may fail only where its own `ignore_errors` says so. `docs/verdicts.md` has the table.

use serde::Deserialize;

use super::results::short;
use crate::outcome::{TaskResult, TaskStatus};

/// What a task of `verify.yml` is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TaskKind {
    /// Module `assert`.
    Assert,
    /// Module `fail`.
    Fail,
    /// Another module, tagged `assertion`.
    Tagged,
    /// It includes tasks that are unknown until it runs.
    Include,
    /// It collects facts.
    #[default]
    Probe,
}

impl TaskKind {
    pub(super) fn is_assertion(self) -> bool {
        matches!(self, Self::Assert | Self::Fail | Self::Tagged)
    }
}

/// How far the action of a round came, in its last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// It was not started.
    None,
    /// It ended with an exception.
    Raised,
    /// It returned a result.
    Returned,
}

/// What the process that ran a task saw of it, or of one item of its loop: see `callback/boma_it_evidence.py`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Round {
    pub(super) action: Action,
    /// Whether Ansible came to the end of the round, without an exception.
    pub(super) is_complete: bool,
    /// Conditions of the action itself that were true, false, and neither.
    pub(super) held: u32,
    pub(super) broke: u32,
    pub(super) odd: u32,
    /// Conditions of keywords that were false.
    #[serde(rename = "false")]
    pub(super) refused: u32,
    /// Conditions that could not be evaluated.
    pub(super) errors: u32,
    /// Results of modules that could be read, and that could not.
    pub(super) parsed: u32,
    pub(super) garbled: u32,
    /// Commands of a shell on a host, for a module or by themselves.
    pub(super) commands: u32,
    /// Whether the action becomes another user.
    #[serde(rename = "become")]
    pub(super) becomes: bool,
    #[serde(default)]
    pub(super) returned: Returned,
    /// The result in the end, with keywords such as `failed_when` applied.
    pub(super) failed: bool,
    pub(super) changed: bool,
    pub(super) skipped: bool,
}

/// What the action returned, before any keyword changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Returned {
    pub(super) failed: bool,
    pub(super) rc: Option<String>,
    /// Whether the program of a command ended; none if it is no command.
    pub(super) ended: Option<bool>,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// Whether it has a value beside its message.
    pub(super) own: bool,
    /// Whether it is a job in the background that has not ended.
    pub(super) pending: bool,
}

/// What the record has of a task beside its result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Identity of the task in the parsed playbook.
    pub(super) uuid: String,
    /// Column of the task in its line: two tasks may be on one.
    pub(super) column: Option<u64>,
    pub(super) kind: TaskKind,
    /// Whether the task itself has `ignore_errors`, and not only its block or play.
    pub(super) ignores_itself: bool,
    /// Whether its `failed_when` depends on nothing, as `false`.
    pub(super) never_fails: bool,
    /// Whether a `rescue` took over from its failure.
    pub(super) rescued: bool,
    pub(super) rounds: Vec<Round>,
}

/// What a task means for the verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The assertion held.
    Passed,
    /// The assertion did not hold.
    Failed,
    /// The assertion does not apply: its own `when` is false.
    Skipped,
    /// Nothing: it is no assertion, and it did not fail.
    Nothing,
    /// A probe that did not do its work, and may: its own `ignore_errors` or `creates` says so. It is told.
    Told,
    /// It leaves something unknown.
    Unknown(Reason),
}

/// Why a task leaves something unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A probe failed.
    #[error(
        "it is not an assertion, and it failed (`ignore_errors: true` on this very task makes that a note)"
    )]
    FailedProbe,
    /// A probe failed, and a `rescue` took over.
    #[error(
        "it is not an assertion, and it failed, so that a `rescue` took over (if it may fail, set `failed_when: false`, `register` its result, and `assert` what that must be)"
    )]
    RescuedProbe,
    /// A probe was skipped by its module.
    #[error(
        "it was skipped, and not by its own `when`, so it collected nothing (`check_mode: false` makes it run in a play with `check_mode`; `ignore_errors: true` on this very task makes that a note)"
    )]
    SkippedProbe,
    /// A probe did not run, and `failed_when` says that this is no failure.
    #[error(
        "it did not run, and its `failed_when` hides that (`ignore_errors: true` on this very task makes that a note)"
    )]
    HiddenProbe,
    /// An include failed.
    #[error("it failed, and what it includes may have assertions")]
    FailedInclude,
    /// An undefined variable, for example.
    #[error("it could not be evaluated: its condition, its arguments, its loop or another keyword")]
    NotEvaluated,
    /// No interpreter, no sudo, no program, a timeout.
    #[error(
        "it could not run, or nothing shows that it did: its result has a message and nothing else (collect the fact in a task of its own, and `assert` it)"
    )]
    NotRun,
    /// Exit status 126 or 127, with words.
    #[error(
        "a shell says with this exit status and words that it cannot find or start the program (if it is the program's own, `register` it in a probe, and `assert` that)"
    )]
    NoProgram,
    /// It runs no module.
    #[error(
        "it runs no module on a host, so it asserts nothing: use `assert`, or remove the tag `assertion`"
    )]
    NoModule,
    /// `that: []`.
    #[error("it has no condition, so it asserts nothing")]
    NoCondition,
    /// `that: "'dead'"`.
    #[error("a condition of it is empty or no boolean, so Ansible takes it for true whatever the host does")]
    NotBoolean,
    /// `failed_when: false`.
    #[error("its `failed_when` depends on nothing and keeps it from failing, so it asserts nothing")]
    NeverFails,
    /// It changed the host.
    #[error("it reports a change, and an assertion changes nothing (`changed_when: false` if it does not)")]
    Changed,
    /// `async` without `poll`.
    #[error("it had not ended: a job of `async` must be waited for (`poll`), in the time that it has")]
    Pending,
    /// A loop over nothing.
    #[error("its loop has no items, so nothing was evaluated (`when` says for which hosts it is)")]
    EmptyLoop,
    /// Skipped by the module.
    #[error("it was skipped, and not by its own `when`")]
    SkippedItself,
    /// `failed_when` says the opposite of the conditions.
    #[error("its conditions and a keyword of it (`failed_when`, `until`) contradict each other")]
    Overruled,
    /// The rounds and Ansible's status differ.
    #[error("the record does not show how it ended as it did")]
    Unexplained,
}

/// What a task means that ended as `task` says.
pub(super) fn verdict(task: &TaskResult, seen: &Evidence) -> Verdict {
    match seen.kind {
        TaskKind::Assert | TaskKind::Fail | TaskKind::Tagged => of_assertion(task.status, seen),
        TaskKind::Include if task.status == TaskStatus::Failed => Verdict::Unknown(Reason::FailedInclude),
        TaskKind::Include if seen.rounds.iter().any(Round::is_empty_loop) => {
            Verdict::Unknown(Reason::EmptyLoop)
        }
        TaskKind::Include => Verdict::Nothing,
        TaskKind::Probe => of_probe(task, seen),
    }
}

fn of_probe(task: &TaskResult, seen: &Evidence) -> Verdict {
    let has_failed = task.status == TaskStatus::Failed;
    let has = |is_it: fn(&Round) -> bool| seen.rounds.iter().any(is_it);
    // `debug` skips itself by its `verbosity`, and collects nothing in any case.
    let has_skipped_itself = has(Round::has_skipped_itself) && short(&task.action) != "debug";
    let reason = match has_failed {
        true if seen.rescued => Reason::RescuedProbe,
        true => Reason::FailedProbe,
        false if has(Round::is_hidden) => Reason::HiddenProbe,
        false if has_skipped_itself => Reason::SkippedProbe,
        // Its own `creates` or `removes` says when its program is not needed.
        false if has(|round| round.returned.ended == Some(false)) => return Verdict::Told,
        false => return Verdict::Nothing,
    };
    let is_allowed = seen.ignores_itself && !seen.rescued && (task.ignored || !has_failed);
    if is_allowed { Verdict::Told } else { Verdict::Unknown(reason) }
}

fn of_assertion(status: TaskStatus, seen: &Evidence) -> Verdict {
    if seen.never_fails && status == TaskStatus::Ok {
        return Verdict::Unknown(Reason::NeverFails);
    }
    let each: Vec<Verdict> = seen.rounds.iter().map(|round| of_round(seen.kind, round)).collect();
    // A change is unknown only of what did not fail.
    let is_weak = |it: &Verdict| *it == Verdict::Unknown(Reason::Changed) && each.contains(&Verdict::Failed);
    if let Some(unknown) = each.iter().find(|it| matches!(it, Verdict::Unknown(_)) && !is_weak(it)) {
        return *unknown;
    }
    let all = [Verdict::Failed, Verdict::Passed, Verdict::Skipped].into_iter().find(|it| each.contains(it));
    match (all, status) {
        (Some(Verdict::Failed), TaskStatus::Failed)
        | (Some(Verdict::Passed), TaskStatus::Ok)
        | (Some(Verdict::Skipped), TaskStatus::Skipped) => all.unwrap_or(Verdict::Nothing),
        // A loop that is no list has no rounds.
        (None, TaskStatus::Failed) => Verdict::Unknown(Reason::NotEvaluated),
        _ => Verdict::Unknown(Reason::Unexplained),
    }
}

fn of_round(kind: TaskKind, round: &Round) -> Verdict {
    let unknown = |reason| Verdict::Unknown(reason);
    if round.errors > 0 {
        return unknown(Reason::NotEvaluated);
    }
    match round.action {
        Action::None if round.is_empty_loop() => unknown(Reason::EmptyLoop),
        Action::None if round.skipped && round.is_complete => Verdict::Skipped,
        Action::None => unknown(Reason::NotEvaluated),
        Action::Raised if kind == TaskKind::Tagged => unknown(Reason::NotRun),
        Action::Raised => unknown(Reason::NotEvaluated),
        Action::Returned if !round.is_complete => unknown(Reason::NotEvaluated),
        Action::Returned if round.skipped => unknown(Reason::SkippedItself),
        Action::Returned => match kind {
            TaskKind::Assert => of_conditions(round),
            TaskKind::Fail if round.returned.failed && round.failed => Verdict::Failed,
            TaskKind::Fail => unknown(Reason::Overruled),
            _ => of_module(round),
        },
    }
}

fn of_conditions(round: &Round) -> Verdict {
    match (round.odd, round.broke, round.held) {
        (1.., ..) => Verdict::Unknown(Reason::NotBoolean),
        (0, 0, 0) => Verdict::Unknown(Reason::NoCondition),
        (0, broke, _) if round.failed != (broke > 0) => Verdict::Unknown(Reason::Overruled),
        (0, 0, _) => Verdict::Passed,
        _ => Verdict::Failed,
    }
}

fn of_module(round: &Round) -> Verdict {
    let returned = &round.returned;
    if returned.pending {
        Verdict::Unknown(Reason::Pending)
    } else if round.is_missing_its_program() {
        Verdict::Unknown(Reason::NoProgram)
    } else if !round.has_run() {
        Verdict::Unknown(Reason::NotRun)
    } else if round.parsed == 0 && (round.commands == 0 || returned.rc.is_none()) {
        Verdict::Unknown(Reason::NoModule)
    } else if round.failed {
        Verdict::Failed
    } else if round.changed {
        Verdict::Unknown(Reason::Changed)
    } else {
        Verdict::Passed
    }
}

impl Round {
    fn is_empty_loop(&self) -> bool {
        self.action == Action::None && self.skipped && self.refused == 0
    }

    /// Whether its module skipped it, and not its own `when`.
    fn has_skipped_itself(&self) -> bool {
        self.action == Action::Returned && self.skipped
    }

    /// Whether its action failed without a run on a host. Of a task that is no failure, a keyword hides that.
    fn is_hidden(&self) -> bool {
        let is_elsewhere = self.parsed == 0 && self.commands == 0;
        self.returned.failed && (is_elsewhere || !self.has_run())
    }

    /// Whether a shell could not find or start a program: it has an exit status for that, and says so. `raw` and `script` have
    /// one terminal for both streams.
    fn is_missing_its_program(&self) -> bool {
        let Returned { rc, stdout, stderr, .. } = &self.returned;
        matches!(rc.as_deref(), Some("126" | "127")) && (*stderr || *stdout && self.parsed == 0)
    }

    /// Whether what the action returned shows that a module or a program did its work, well or badly. A module that refuses
    /// its arguments, or misses a library, has a message and nothing else.
    fn has_run(&self) -> bool {
        let Returned { failed, rc, ended, stdout, stderr, own, .. } = &self.returned;
        let rc = rc.as_deref();
        if self.action != Action::Returned || *ended == Some(false) || self.is_missing_its_program() {
            return false;
        }
        if !failed {
            return true;
        }
        match (rc, ended) {
            _ if !own || self.garbled > 0 => false,
            (None, _) | (Some(_), Some(true)) => true,
            // `raw` and `script`: of what sudo refused they say the same as of a program that failed.
            (Some(rc), _) if self.parsed == 0 => !self.becomes && rc != "255",
            // A program that a module could not start has said nothing.
            (Some(_), _) => *stdout || *stderr,
        }
    }
}

#[cfg(test)]
mod tests;
