//! The playbooks before a VM exists, as Ansible's own loader reads them (`playbooks/read.py`, run by Ansible's Python): which
//! hosts each play selects, in the inventory of the run and in production, and what is written on its tasks.
//!
//! A run is limited to the host under test. So a play for other hosts of production runs on nobody, and that is no error. A
//! play that selects nobody in production either is one in `verify.yml`: what it asserts is never looked at.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::ansible::error_text;
use super::error::{PlaybookError, SiteError};
use super::inventory::{ProductionInventory, enumerate};
use super::results::PlayRecord;
use super::ssh::ControlDir;
use super::vars::{HarnessVars, Phase};
use super::workspace::Workspace;
use crate::support::deadline::Deadline;
use crate::support::name::near_miss;

/// The phases whose variables the playbooks are read with.
const PHASES: [Phase; 2] = [Phase::Apply, Phase::Assert];

/// A play.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Play {
    pub(super) name: String,
    /// `file:line`.
    pub(super) path: String,
    /// Its `hosts`, with templates replaced unless they are unknown.
    pub(super) pattern: Vec<String>,
    /// Why its `hosts` cannot be resolved before it runs.
    pub(super) unknown: Option<String>,
    /// The hosts that it selects in the run.
    pub(super) here: BTreeSet<String>,
    /// The hosts that it selects in production, without this machine.
    pub(super) production: BTreeSet<String>,
    /// Whether it selects this machine.
    pub(super) local: bool,
    /// The parts of the pattern that select nothing in production.
    pub(super) unmatched: Vec<String>,
    /// All tags of the play and its tasks.
    pub(super) tags: BTreeSet<String>,
    pub(super) tasks: Vec<Task>,
}

/// What is written on a task of a play. A flag about something that is a template is false.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Task {
    /// With its role; templates are not replaced.
    pub(super) name: String,
    pub(super) path: String,
    /// Its own tags and those of what it is in.
    pub(super) tags: BTreeSet<String>,
    pub(super) kind: TaskKind,
    /// An `assert` without a condition.
    pub(super) asserts_nothing: bool,
    /// Its loop is an empty list.
    pub(super) loops_over_nothing: bool,
    /// `async` with `poll: 0`.
    pub(super) not_waited_for: bool,
    /// A command without `changed_when`, `creates` and `removes`.
    pub(super) always_changes: bool,
    /// Its own `ignore_errors: true` or `failed_when: false`.
    pub(super) ignored: bool,
}

/// The role of a task in a verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TaskKind {
    Assertion,
    Include,
    #[default]
    Probe,
}

/// Both playbooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Playbooks {
    pub(super) site: Vec<Play>,
    pub(super) verify: Vec<Play>,
}

/// Whom a play is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// The host under test.
    Host,
    /// Other hosts of production.
    Others,
    /// Nobody: why, and what to do.
    Nobody(String),
    /// Unknown until it runs: why.
    Unknown(String),
}

/// A play as a run must find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExpectedPlay {
    /// Name, place and pattern.
    label: String,
    selection: Selection,
}

/// Both playbooks, read with Ansible's Python at `python`.
pub(super) fn read(
    workspace: &Workspace,
    vars: &HarnessVars,
    python: &Path,
    production: &ProductionInventory,
    deadline: &Deadline,
) -> Result<Playbooks, SiteError> {
    let phases = PHASES.map(|phase| vars.render(phase));
    let question = json!({"production": production.groups(), "phases": phases}).to_string();
    let question = workspace.write("question.json", &question)?;
    let answer = workspace.file("answer.json");
    let control = ControlDir::create(&workspace.file("bin/ssh"))?;
    let finished = workspace
        .program(python)
        .arg(workspace.file("read.py"))
        .args([&question, &answer])
        .args(workspace.arguments(vars, Phase::Apply, control.path(), None)?)
        .arg(&workspace.site.playbook)
        .arg(&workspace.site.verify)
        .run(deadline)
        .map_err(SiteError::Process)?;
    if !finished.status.success() {
        return Err(SiteError::BrokenPlaybook(error_text(&finished)));
    }
    let text = std::fs::read_to_string(&answer).map_err(SiteError::io(&answer))?;
    let (mut site, mut verify): (Vec<Play>, Vec<Play>) = serde_json::from_str(&text).map_err(|error| {
        SiteError::BrokenPlaybook(format!("  what Ansible's loader says is unreadable: {error}"))
    })?;
    for play in site.iter_mut().chain(&mut verify) {
        play.path = workspace.relative(&play.path);
        play.tasks.iter_mut().for_each(|task| task.path = workspace.relative(&task.path));
    }
    Ok(Playbooks { site, verify })
}

impl Play {
    /// Name, place and pattern.
    pub(super) fn label(&self) -> String {
        format!("play `{}` ({}, hosts: `{}`)", self.name, self.path, self.pattern.join(","))
    }

    /// Whom it is for where the run is about `host`.
    pub(super) fn selection(&self, host: &str, production: &ProductionInventory) -> Selection {
        if let Some(why) = &self.unknown {
            return Selection::Unknown(why.clone());
        }
        match (self.here.contains(host), self.production.contains(host)) {
            (true, true) => return Selection::Host,
            (false, false) => {}
            _ => {
                let why =
                    "it selects hosts by their position, and a run has one host: name the host or its group";
                return Selection::Nobody(why.to_owned());
            }
        }
        if !self.production.is_empty() {
            return Selection::Others;
        }
        Selection::Nobody(if self.local {
            "a run is limited to the host under test: for a look from this machine, write `delegate_to: localhost` on a task of a play for the host".to_owned()
        } else if self.unmatched.is_empty() {
            "its pattern leaves no host of the production inventory".to_owned()
        } else {
            let known = production.names();
            let each = self.unmatched.iter().map(|part| match near_miss(part, known.iter().copied()) {
                _ if known.contains(part.as_str()) => {
                    format!("`{part}` has no host in the production inventory")
                }
                Some(near) => format!("`{part}` is not in the production inventory (did you mean `{near}`?)"),
                None => format!("`{part}` is not in the production inventory"),
            });
            let each = each.collect::<Vec<_>>().join(", ");
            format!("{each}; a group that a task makes does not count: name a host or group of the inventory")
        })
    }
}

impl Playbooks {
    /// The plays of the site's playbook that run on nobody, and why.
    pub(super) fn for_nobody(&self, host: &str, production: &ProductionInventory) -> Vec<String> {
        let nobody = self.site.iter().filter_map(|play| match play.selection(host, production) {
            Selection::Nobody(why) => Some(format!("{} runs on no host: {why}", play.label())),
            _ => None,
        });
        nobody.collect()
    }

    /// What a person should know: for whom is unknown until a play runs, and how many plays are for other hosts.
    pub(super) fn notes(&self, host: &str, production: &ProductionInventory) -> Vec<String> {
        let unknown = self.site.iter().filter_map(|play| match play.selection(host, production) {
            Selection::Unknown(why) => {
                Some(format!("whom {} is for is unknown until it runs: {why}", play.label()))
            }
            _ => None,
        });
        let is_for_others = |play: &&Play| play.selection(host, production) == Selection::Others;
        let others: Vec<_> = self.site.iter().chain(&self.verify).filter(is_for_others).collect();
        let names = enumerate(others.iter().map(|play| play.name.as_str()), "none");
        let others = match others.len() {
            0 => None,
            1 => Some(format!("a play is for other hosts of the production inventory: {names}")),
            n => Some(format!("{n} plays are for other hosts of the production inventory: {names}")),
        };
        unknown.chain(others).collect()
    }

    /// The plays of a phase, as a run must find them.
    pub(super) fn expected(&self, host: &str, production: &ProductionInventory) -> [Vec<ExpectedPlay>; 2] {
        [&self.site, &self.verify].map(|plays| {
            let one = |play: &Play| ExpectedPlay {
                label: play.label(),
                selection: play.selection(host, production),
            };
            plays.iter().map(one).collect()
        })
    }
}

/// Holds the plays that ran against what is known of them. A run has one host, so each play started once or not at all.
/// Returns the plays that ran on nobody and should have had the host, or were unknown before.
///
/// # Errors
/// [`PlaybookError::NoRecord`] if more plays ran than there are.
pub(super) fn missed(expected: &[ExpectedPlay], ran: &[PlayRecord]) -> Result<Vec<String>, PlaybookError> {
    if ran.len() > expected.len() {
        let why = format!("{} plays ran, the playbook has {}", ran.len(), expected.len());
        return Err(PlaybookError::NoRecord(why));
    }
    let missed = expected.iter().zip(ran).filter(|(_, ran)| !ran.is_matched);
    Ok(missed
        .filter_map(|(play, _)| match &play.selection {
            Selection::Host => Some(format!("{} ran on no host, and is for this one", play.label)),
            Selection::Unknown(_) => {
                let remedy =
                    "use a pattern that is known before the run, or name a host or group of the inventory";
                Some(format!("{} ran on no host: {remedy}", play.label))
            }
            Selection::Others | Selection::Nobody(_) => None,
        })
        .collect())
}

#[cfg(test)]
mod tests;
