//! From the record of a playbook run to its report or error. It is pure, so that each failure is tested by a table of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::PlaybookError;
use super::record::{Declared, Record, StatsByHost, UnknownPlay};
use super::ssh::REFUSAL;
use super::vars::Phase;
use super::verdict::{Evidence, Round};
use crate::outcome::{TaskResult, TaskStatus};

/// An event of a running playbook.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskEvent {
    /// Ansible started a task.
    Started {
        /// Its name.
        task: String,
    },
    /// Ansible finished a task on the host under test.
    Finished(TaskResult),
}

/// The tasks of a playbook run on the host under test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaybookReport {
    /// Every result, in order, without those on other hosts (`add_host`).
    pub tasks: Vec<TaskResult>,
    /// Successful tasks, including those that changed something.
    pub ok: usize,
    /// Tasks that changed something.
    pub changed: usize,
    /// Tasks that failed and were neither ignored nor rescued.
    pub failed: usize,
    /// Tasks whose condition was false.
    pub skipped: usize,
    /// Seconds from start to end of `ansible-playbook`.
    pub seconds: f64,
    /// What a person should know: the plays that ran on nobody.
    pub notes: Vec<String>,
    /// The plays that started, in order. A play with `serial` is one for each batch.
    pub(super) plays: Vec<PlayRecord>,
    /// What the record has of each task beside its result, in the same order.
    pub(super) evidence: Vec<Evidence>,
    /// The assertions and includes of `verify.yml` for the host, reached or not.
    pub(super) declared: Vec<Declared>,
    /// Handlers that were notified, and declared tasks that do not run as their role has run before.
    pub(super) notified: BTreeSet<String>,
    pub(super) waived: BTreeSet<String>,
    /// Plays that never started, and may be for the host.
    pub(super) unknown_plays: Vec<UnknownPlay>,
}

/// A play that started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlayRecord {
    /// Its name.
    pub(super) play: String,
    /// Its `hosts` as written: templates are not replaced.
    pub(super) hosts: Vec<String>,
    /// Whether the host under test, or one that the playbook added, is among them.
    pub(super) is_matched: bool,
}

/// Collects the record of one run.
#[derive(Debug, Default)]
pub(super) struct Collector {
    host: String,
    roots: Vec<String>,
    report: PlaybookReport,
    /// What was seen of tasks that have no result yet, by task and host.
    rounds: BTreeMap<(String, String), Vec<Round>>,
    last_task: Option<String>,
    has_started: bool,
    stats: Option<StatsByHost>,
    /// The first connection that was refused; and its task, once that has a result.
    refused: Option<(String, Option<Box<TaskResult>>)>,
    problem: Option<String>,
}

impl Collector {
    /// For `host`. Paths in one of `roots` become relative to it.
    pub(super) fn new(host: &str, roots: &[&Path]) -> Self {
        let roots = roots.iter().map(|root| format!("{}/", root.display())).collect();
        Self { host: host.to_owned(), roots, ..Self::default() }
    }

    /// Adds a line of the record. Returns the event to report, if it is one.
    pub(super) fn add(&mut self, line: &str) -> Option<TaskEvent> {
        let record = match serde_json::from_str(line) {
            Ok(record) => record,
            Err(error) => {
                let shown: String = line.chars().take(120).collect();
                self.problem.get_or_insert_with(|| format!("unreadable line `{shown}`: {error}"));
                return None;
            }
        };
        match record {
            Record::Ansible { version } => {
                tracing::debug!(version, "ansible-playbook records its tasks");
                self.has_started = true;
            }
            Record::Declared(declared) => {
                let path = self.relative(&declared.path);
                self.report.declared.push(Declared { path, ..declared });
            }
            Record::Play { play, hosts } => {
                tracing::debug!(play, ?hosts, "play");
                self.report.plays.push(PlayRecord { play, hosts, is_matched: true });
            }
            Record::NoHostsMatched { play } => {
                tracing::debug!(play, "matches no host");
                // It is about the play that started last.
                self.report.plays.last_mut().into_iter().for_each(|play| play.is_matched = false);
            }
            Record::Start { task } => {
                self.last_task = Some(task.clone());
                return Some(TaskEvent::Started { task });
            }
            Record::Notified { uuid } => drop(self.report.notified.insert(uuid)),
            Record::Waived { uuid } => drop(self.report.waived.insert(uuid)),
            Record::UnknownPlay(play) => self.report.unknown_plays.push(play),
            Record::Round(record) => {
                self.rounds.entry((record.uuid, record.host)).or_default().push(record.round);
            }
            Record::Result(record) => {
                let rounds = self.rounds.remove(&(record.uuid.clone(), record.host().to_owned()));
                let evidence = record.evidence(rounds.unwrap_or_default());
                let result = record.into_result(|path| self.relative(path));
                // The first result after a refusal is that of the refused task.
                if let Some((_, task @ None)) = &mut self.refused {
                    *task = Some(Box::new(result.clone()));
                }
                if result.host != self.host {
                    return None;
                }
                self.report.evidence.push(evidence);
                self.report.tasks.push(result.clone());
                return Some(TaskEvent::Finished(result));
            }
            Record::Refused { wanted } => {
                self.refused.get_or_insert((wanted, None));
            }
            Record::Stats { hosts } => self.stats = Some(hosts),
            Record::Problem { what } => {
                self.problem.get_or_insert(what);
            }
        }
        None
    }

    fn relative(&self, path: &str) -> String {
        let inside = self.roots.iter().find_map(|root| path.strip_prefix(root.as_str()));
        inside.unwrap_or(path).to_owned()
    }

    /// The task that started last.
    pub(super) fn last_task(self) -> Option<String> {
        self.last_task
    }

    /// The report or error of the run. `exit` is Ansible's exit status in words if it is not 0, `output` what it printed about
    /// an error.
    pub(super) fn conclude(
        mut self,
        phase: Phase,
        exit: Option<&str>,
        output: &str,
        seconds: f64,
    ) -> Result<PlaybookReport, PlaybookError> {
        let counted = self.stats.as_ref().and_then(|hosts| hosts.get(&self.host)).copied();
        self.report.seconds = seconds;
        self.count();
        match self.refused.take() {
            Some((wanted, Some(task))) => return Err(PlaybookError::OutOfScope { task, wanted }),
            Some((wanted, None)) => {
                return Err(PlaybookError::NoRecord(format!(
                    "a task tried to reach {wanted}, was refused, and has no result"
                )));
            }
            None => {}
        }
        if let Some(error) = self.unreachable() {
            return Err(error);
        }
        // Without all of them the error could name a task that was rescued.
        let known = self.report.evidence.iter().filter(|it| it.rescued).count();
        let rescued = counted.map_or(known, |stats| stats.rescued);
        if known != rescued {
            let what = format!("Ansible counts {rescued} rescued failures, the record has {known}");
            return Err(PlaybookError::NoRecord(what));
        }
        if let (Phase::Apply, Some(task)) = (phase, self.report.fatal().next()) {
            return Err(PlaybookError::TaskFailed(Box::new(task.clone())));
        }
        if self.report.plays.is_empty() {
            let output = output.to_owned();
            return Err(match exit {
                Some(exit) => PlaybookError::BadPlaybook { exit: exit.to_owned(), output },
                None if self.has_started => PlaybookError::NothingRan(self.host),
                None => PlaybookError::NoRecord("Ansible never called the callback plugin".to_owned()),
            });
        }
        if let Some(what) = self.problem {
            return Err(PlaybookError::NoRecord(what));
        }
        let Some(stats) = self.stats else {
            let exit = exit.unwrap_or("exit status 0").to_owned();
            return Err(PlaybookError::Died { exit, task: self.last_task, output: output.to_owned() });
        };
        if self.report.plays.iter().all(|play| !play.is_matched) {
            return Err(PlaybookError::NoHostMatched(self.host));
        }
        let facts = |task: &TaskResult| matches!(short(&task.action), "setup" | "gather_facts");
        if let (Phase::Apply, Some(why)) = (phase, self.report.did_nothing(&self.host, facts)) {
            return Err(why);
        }
        // Facts that could not be gathered are told by the verification.
        let has_failed = self.report.tasks.iter().any(|task| task.status == TaskStatus::Failed);
        if counted.is_none() || self.report.tasks.iter().all(facts) && !has_failed {
            return Err(PlaybookError::NothingRan(self.host));
        }
        // The record must explain the exit status.
        let is_explained = phase.is_verify() && self.report.fatal().next().is_some();
        match exit {
            Some(exit) if !is_explained => {
                let others = stats.iter().filter(|(_, s)| s.failures + s.unreachable > 0);
                let others: Vec<_> = others.map(|(host, _)| host.as_str()).collect();
                let output = match others.is_empty() {
                    true => output.to_owned(),
                    false => format!("  hosts that failed: {}\n{output}", others.join(", ")),
                };
                Err(PlaybookError::Died { exit: exit.to_owned(), task: self.last_task, output })
            }
            _ => Ok(self.report),
        }
    }

    fn count(&mut self) {
        let report = &mut self.report;
        let with = |status| report.tasks.iter().filter(|task| task.status == status).count();
        (report.ok, report.skipped) = (with(TaskStatus::Ok), with(TaskStatus::Skipped));
        report.changed = report.tasks.iter().filter(|t| t.changed && t.status == TaskStatus::Ok).count();
        report.failed = report.fatal().count();
    }

    /// The error if a host was not reached, even if the playbook ignores that (`ignore_unreachable`).
    fn unreachable(&self) -> Option<PlaybookError> {
        let task = self.report.tasks.iter().find(|task| task.status == TaskStatus::Unreachable)?;
        let message = task.message.clone().unwrap_or_default();
        let task = Box::new(task.clone());
        Some(match message.split_once(REFUSAL) {
            Some((_, host)) => {
                let wanted = host.split_whitespace().next().unwrap_or_default().to_owned();
                PlaybookError::OutOfScope { task, wanted }
            }
            None => PlaybookError::Unreachable(task),
        })
    }
}

impl PlaybookReport {
    /// The error if the site's playbook had tasks for the host, and none of them did anything.
    fn did_nothing(&self, host: &str, is_facts: impl Fn(&TaskResult) -> bool) -> Option<PlaybookError> {
        let (facts, work): (Vec<_>, Vec<_>) = self.tasks.iter().partition(|task| is_facts(task));
        if work.iter().any(|task| task.status != TaskStatus::Skipped) {
            return None;
        }
        let failed = facts.into_iter().find(|task| task.status == TaskStatus::Failed);
        match (failed, work.first()) {
            (Some(facts), _) => Some(PlaybookError::OnlyFacts(Box::new(facts.clone()))),
            (None, Some(first)) => {
                let (host, first) = (host.to_owned(), first.task.clone());
                Some(PlaybookError::AllSkipped { host, count: work.len(), first })
            }
            (None, None) => None,
        }
    }

    /// The tasks that failed and were neither ignored nor rescued.
    pub fn fatal(&self) -> impl Iterator<Item = &TaskResult> {
        self.tasks.iter().filter(|task| task.status == TaskStatus::Failed && !task.ignored)
    }
}

/// A module's name without its collection.
pub(super) fn short(action: &str) -> &str {
    action.rsplit('.').next().unwrap_or(action)
}

#[cfg(test)]
mod tests;
