//! Turns events into lines: which event is shown, in which words, and what the running stage is doing. Pure, given the
//! time; [`super::terminal`] decides where the lines go.

use std::time::Duration;

use super::line::{Line, LineStyle};
use super::summary;
use super::terminal::TerminalUse;
use crate::event::{Event, RunReport};
use crate::outcome::{Outcome, Stage, TaskResult, TaskStatus};
use crate::support::deadline::format_duration;

/// Formats the events of one run.
pub(super) struct EventFormatter {
    terminal_use: TerminalUse,
    running: Option<StageProgress>,
    kept: Option<Line>,
}

impl EventFormatter {
    pub(super) fn new(terminal_use: TerminalUse) -> Self {
        Self { terminal_use, running: None, kept: None }
    }

    /// The running stage.
    pub(super) fn running(&self) -> Option<&StageProgress> {
        self.running.as_ref()
    }

    /// The lines for an event that happens `now`, the time since any fixed moment.
    pub(super) fn format(&mut self, event: &Event, now: Duration) -> Vec<Line> {
        match event {
            Event::RunStarted { trial, folder } => {
                // libtest left the cursor behind `test askari::cycle ... `: an empty line ends that one.
                let gap = (self.terminal_use == TerminalUse::Trial).then(Line::gap);
                let trial = Line::new(LineStyle::Plain, "running", trial);
                let folder = Line::new(LineStyle::Faint, "folder", folder.display().to_string());
                gap.into_iter().chain([trial, folder]).collect()
            }
            Event::StageStarted(stage) => {
                self.running = Some(StageProgress::new(*stage, now));
                vec![Line::new(LineStyle::Plain, stage, "started")]
            }
            Event::Note(note) => vec![Line::new(LineStyle::Faint, "note", note)],
            Event::Doing(what) | Event::TaskStarted { task: what } => {
                if let Some(running) = &mut self.running {
                    running.activity.clone_from(what);
                }
                Vec::new()
            }
            Event::TaskFinished(result) => {
                if let Some(running) = &mut self.running {
                    running.count(result);
                }
                is_unexpected_failure(result).then(|| failed_task(result)).into_iter().collect()
            }
            Event::StageFinished(report) => {
                self.running = None;
                vec![summary::stage_line(report)]
            }
            Event::Kept { commands, .. } => {
                self.kept = Some(summary::commands_line(commands));
                Vec::new()
            }
            Event::RunFinished(report) => {
                self.running = None;
                self.ending(report)
            }
        }
    }

    /// A sign of life: `apply  … 45s: 12 tasks, 5 changed · docker_host : install Docker`.
    pub(super) fn heartbeat(&self, now: Duration) -> Option<Line> {
        let running = self.running.as_ref()?;
        let status = running.status();
        let colon = if status.is_empty() { "" } else { ": " };
        let text = format!("… {}{colon}{status}", whole_seconds(now.saturating_sub(running.since)));
        Some(Line::new(LineStyle::Faint, running.stage, text))
    }

    fn ending(&mut self, report: &RunReport) -> Vec<Line> {
        let mut lines = match self.terminal_use {
            TerminalUse::Driver => summary::lines(report),
            TerminalUse::Trial | TerminalUse::SideBySide { .. } => vec![summary::headline(report)],
        };
        if self.terminal_use == TerminalUse::Driver && report.outcome != Outcome::Passed {
            lines.insert(0, Line::gap());
        }
        lines.extend(self.kept.take());
        lines
    }
}

/// A running stage, and what happened in it so far.
pub(super) struct StageProgress {
    pub(super) stage: Stage,
    since: Duration,
    activity: String,
    tasks: usize,
    changed: usize,
    failed: usize,
}

impl StageProgress {
    fn new(stage: Stage, since: Duration) -> Self {
        Self { stage, since, activity: String::new(), tasks: 0, changed: 0, failed: 0 }
    }

    fn count(&mut self, result: &TaskResult) {
        self.tasks += usize::from(result.status != TaskStatus::Skipped);
        self.changed += usize::from(result.changed);
        self.failed += usize::from(is_unexpected_failure(result));
    }

    /// `12 tasks, 5 changed · docker_host : install Docker`; empty if nothing happened yet.
    pub(super) fn status(&self) -> String {
        let tasks = if self.tasks == 1 { "task" } else { "tasks" };
        let counts = [(self.tasks, tasks), (self.changed, "changed"), (self.failed, "failed")];
        let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let parts = [counts.as_str(), self.activity.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
    }
}

/// Whether a task failed although the playbook did not ignore failures. A failed assertion always counts: `ignore_errors`
/// is there to collect all of them.
fn is_unexpected_failure(result: &TaskResult) -> bool {
    let is_failed = matches!(result.status, TaskStatus::Failed | TaskStatus::Unreachable);
    is_failed && (result.assertion || !result.ignored)
}

fn failed_task(result: &TaskResult) -> Line {
    let label = if result.status == TaskStatus::Unreachable { "unreachable" } else { "failed" };
    Line::new(LineStyle::Bad, label, summary::located(&result.task, &result.path, result.message.as_deref()))
}

/// `45s`, `3m07s`.
pub(super) fn whole_seconds(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds => format_duration(Duration::from_secs(seconds)),
    }
}
