//! From the record of a playbook run to what became of it: pure, so that every failure path is a table of lines.

use std::collections::BTreeMap;
use std::path::Path;

use super::playbook::PlaybookError;
use super::record::{Declared, Record, Stats};
use super::ssh_config::REFUSAL;
use super::vars::Phase;
use crate::outcome::{TaskResult, TaskStatus};

/// Something heard while a playbook runs.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskEvent {
    /// Ansible began a task.
    Started {
        /// Its name.
        task: String,
    },
    /// Ansible finished a task on the host under test.
    Finished(TaskResult),
}

/// What a playbook did to the host under test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaybookReport {
    /// Every result, in order. Results on other hosts (`add_host`) are left out.
    pub tasks: Vec<TaskResult>,
    /// Tasks that ended well; those that changed something are among them.
    pub ok: usize,
    /// Tasks that changed something.
    pub changed: usize,
    /// Tasks that failed and were neither ignored nor rescued.
    pub failed: usize,
    /// Tasks whose condition was false.
    pub skipped: usize,
    /// Seconds from start to end of `ansible-playbook`.
    pub seconds: f64,
    /// What lay ahead when `verify.yml` began, reached or not.
    pub(super) declared: Vec<Declared>,
    /// Of `tasks`, by index, the assertions that could not be evaluated, and the includes that failed.
    pub(super) unevaluated: Vec<usize>,
    /// Of `tasks`, by index, the failures that a `rescue` took over from.
    pub(super) rescued: Vec<usize>,
}

/// Collects the record of one run.
#[derive(Debug)]
pub(super) struct Collector {
    host: String,
    phase: Phase,
    roots: Vec<String>,
    report: PlaybookReport,
    last_task: Option<String>,
    is_recording: bool,
    plays: usize,
    plays_without_host: usize,
    stats: Option<BTreeMap<String, Stats>>,
    /// What a connection plugin was to reach and was refused, and the task, once its result is there.
    refused: Option<(String, Option<Box<TaskResult>>)>,
    trouble: Option<String>,
}

impl Collector {
    /// For `host`; paths under one of `roots` are told relative to it.
    pub(super) fn new(host: &str, phase: Phase, roots: &[&Path]) -> Self {
        Self {
            host: host.to_owned(),
            phase,
            roots: roots.iter().map(|root| format!("{}/", root.display())).collect(),
            report: PlaybookReport::default(),
            last_task: None,
            is_recording: false,
            plays: 0,
            plays_without_host: 0,
            stats: None,
            refused: None,
            trouble: None,
        }
    }

    /// Takes one line, and gives what is to be heard of it.
    pub(super) fn take(&mut self, line: &str) -> Option<TaskEvent> {
        let record = match serde_json::from_str(line) {
            Ok(record) => record,
            Err(error) => {
                let shown: String = line.chars().take(120).collect();
                self.trouble.get_or_insert_with(|| format!("unreadable line `{shown}`: {error}"));
                return None;
            }
        };
        match record {
            Record::Ansible { version } => {
                tracing::debug!(version, "ansible-playbook records its tasks");
                self.is_recording = true;
            }
            Record::Declared(declared) => {
                let path = self.relative(&declared.path);
                self.report.declared.push(Declared { path, ..declared });
            }
            Record::Play { play } => {
                tracing::debug!(play, "play");
                self.plays += 1;
            }
            Record::NoHostsMatched { play } => {
                tracing::debug!(play, "matches no host");
                self.plays_without_host += 1;
            }
            Record::Start { task } => {
                self.last_task = Some(task.clone());
                return Some(TaskEvent::Started { task });
            }
            Record::Result(finished) if finished.host == self.host => {
                let index = self.report.tasks.len();
                self.report.rescued.extend(finished.rescued.then_some(index));
                self.report.unevaluated.extend(finished.unevaluated.then_some(index));
                let result = finished.into_result(|path| self.relative(path));
                self.blame(&result);
                self.report.tasks.push(result.clone());
                return Some(TaskEvent::Finished(result));
            }
            Record::Result(finished) => {
                let result = finished.into_result(|path| self.relative(path));
                self.blame(&result);
            }
            Record::Refused { wanted } => {
                self.refused.get_or_insert((wanted, None));
            }
            Record::Stats { hosts } => self.stats = Some(hosts),
            Record::ServerFailure { what } => {
                self.trouble.get_or_insert(what);
            }
        }
        None
    }

    /// The first result after a refusal is that of the task.
    fn blame(&mut self, result: &TaskResult) {
        if let Some((_, task @ None)) = &mut self.refused {
            *task = Some(Box::new(result.clone()));
        }
    }

    fn relative(&self, path: &str) -> String {
        let inside = self.roots.iter().find_map(|root| path.strip_prefix(root.as_str()));
        inside.unwrap_or(path).to_owned()
    }

    /// The task that was begun last: what a run that was ended was at.
    pub(super) fn last_task(&self) -> Option<&str> {
        self.last_task.as_deref()
    }

    /// What became of the run. `exit` is Ansible's exit status in words if it is not 0, `said` what it complained of.
    pub(super) fn conclude(
        mut self,
        exit: Option<&str>,
        said: &str,
        seconds: f64,
    ) -> Result<PlaybookReport, PlaybookError> {
        let counted = self.stats.as_ref().and_then(|hosts| hosts.get(&self.host)).copied();
        self.report.seconds = seconds;
        self.count();
        match self.refused.take() {
            Some((wanted, Some(task))) => return Err(PlaybookError::OutOfScope { task, wanted }),
            Some((wanted, None)) => {
                let what = format!("a task wanted to reach {wanted}, was refused, and has no result");
                return Err(PlaybookError::NoRecord { what });
            }
            None => {}
        }
        if let Some(task) = self.unreachable() {
            return Err(task);
        }
        // Else the wrong task would be named.
        let known = self.report.rescued.len();
        let rescued = counted.map_or(known, |stats| stats.rescued);
        if known != rescued {
            let what = format!("Ansible counted {rescued} rescued failures, and {known} are known");
            return Err(PlaybookError::NoRecord { what });
        }
        if let (Phase::Apply, Some(task)) = (self.phase, self.report.fatal().next()) {
            return Err(PlaybookError::TaskFailed { task: Box::new(task.clone()) });
        }
        if self.plays == 0 {
            let said = said.to_owned();
            return Err(match exit {
                Some(exit) => PlaybookError::BadPlaybook { exit: exit.to_owned(), said },
                None if self.is_recording => PlaybookError::NothingRan { host: self.host },
                None => PlaybookError::NoRecord { what: "Ansible never called the plugin".to_owned() },
            });
        }
        if let Some(what) = self.trouble {
            return Err(PlaybookError::NoRecord { what });
        }
        let Some(stats) = self.stats else {
            let exit = exit.unwrap_or("exit status 0").to_owned();
            return Err(PlaybookError::Died { exit, task: self.last_task, said: said.to_owned() });
        };
        if self.plays == self.plays_without_host {
            return Err(PlaybookError::NoHostMatched { host: self.host });
        }
        let facts = |task: &TaskResult| matches!(short(&task.action), "setup" | "gather_facts");
        if counted.is_none() || self.report.tasks.iter().all(facts) {
            return Err(PlaybookError::NothingRan { host: self.host });
        }
        // The exit status must be explained by what was recorded.
        let is_explained = self.phase.is_verify() && self.report.fatal().next().is_some();
        match exit {
            Some(exit) if !is_explained => {
                let others = stats.iter().filter(|(_, s)| s.failures + s.unreachable > 0);
                let others: Vec<_> = others.map(|(host, _)| host.as_str()).collect();
                let said = match others.is_empty() {
                    true => said.to_owned(),
                    false => format!("  hosts that failed: {}\n{said}", others.join(", ")),
                };
                Err(PlaybookError::Died { exit: exit.to_owned(), task: self.last_task, said })
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

    /// Whether or not the playbook meant to go on (`ignore_unreachable`): what was not reached is never a pass.
    fn unreachable(&self) -> Option<PlaybookError> {
        let task = self.report.tasks.iter().find(|task| task.status == TaskStatus::Unreachable)?;
        let message = task.message.clone().unwrap_or_default();
        let task = Box::new(task.clone());
        Some(match message.split_once(REFUSAL) {
            Some((_, host)) => {
                let wanted = host.split_whitespace().next().unwrap_or_default().to_owned();
                PlaybookError::OutOfScope { task, wanted }
            }
            None => PlaybookError::Unreachable { task },
        })
    }
}

impl PlaybookReport {
    /// The tasks that failed and were neither ignored nor rescued.
    pub fn fatal(&self) -> impl Iterator<Item = &TaskResult> {
        self.tasks.iter().filter(|task| task.status == TaskStatus::Failed && !task.ignored)
    }
}

/// A module's name without its collection.
fn short(action: &str) -> &str {
    action.rsplit('.').next().unwrap_or(action)
}

#[cfg(test)]
mod tests;
