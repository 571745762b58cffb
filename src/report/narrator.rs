//! The story of a run in rows: which event is told, in which words. Pure, given the time: who shows the rows, and
//! where, is the terminal's business.

use std::time::Duration;

use super::live::{StageProgress, is_trouble};
use super::row::{Line, LineStyle};
use super::summary;
use super::terminal::TerminalUse;
use crate::event::{Event, RunReport};
use crate::outcome::{Outcome, TaskResult, TaskStatus};

/// Tells the rows, event by event.
#[derive(Debug)]
pub(super) struct EventFormatter {
    context: TerminalUse,
    live: Option<StageProgress>,
    kept: Option<Line>,
}

impl EventFormatter {
    /// Nothing told yet.
    pub(super) fn new(context: TerminalUse) -> Self {
        Self { context, live: None, kept: None }
    }

    /// The running stage.
    pub(super) fn live(&self) -> Option<&StageProgress> {
        self.live.as_ref()
    }

    /// The rows for an event that happens `now`, time since any fixed moment.
    pub(super) fn tell(&mut self, event: &Event, now: Duration) -> Vec<Line> {
        if let Some(live) = &mut self.live {
            live.on_event(event);
        }
        match event {
            Event::RunStarted { trial, folder } => self.opening(trial, &folder.display().to_string()),
            Event::StageStarted(stage) => {
                self.live = Some(StageProgress::begin(*stage, now));
                vec![Line::new(LineStyle::Plain, stage.to_string(), "started")]
            }
            Event::Note(note) => vec![Line::new(LineStyle::Faint, "note", note)],
            Event::TaskFinished(result) if is_trouble(result) => vec![trouble(result)],
            Event::Doing(_) | Event::TaskStarted { .. } | Event::TaskFinished(_) => Vec::new(),
            Event::StageFinished(report) => {
                self.live = None;
                vec![summary::stage_row(report)]
            }
            Event::Kept { commands, .. } => {
                self.kept = Some(summary::kept_row(commands));
                Vec::new()
            }
            Event::RunFinished(report) => {
                self.live = None;
                self.ending(report)
            }
        }
    }

    /// A sign of life: `apply  … 45s: 12 tasks, 5 changed · docker_host : install Docker`.
    pub(super) fn heartbeat(&self, now: Duration) -> Option<Line> {
        let live = self.live.as_ref()?;
        let status = live.status();
        let colon = if status.is_empty() { "" } else { ": " };
        let text = format!("… {}{colon}{status}", whole_seconds(now.saturating_sub(live.since)));
        Some(Line::new(LineStyle::Faint, live.stage.to_string(), text))
    }

    /// libtest has written `test askari::cycle ... ` and left the cursor there: an empty row ends that line.
    fn opening(&self, trial: &str, folder: &str) -> Vec<Line> {
        let rows =
            [Line::new(LineStyle::Plain, "running", trial), Line::new(LineStyle::Faint, "folder", folder)];
        let before = matches!(self.context, TerminalUse::Trial).then(Line::gap);
        before.into_iter().chain(rows).collect()
    }

    fn ending(&mut self, report: &RunReport) -> Vec<Line> {
        let mut rows = match self.context {
            TerminalUse::Driver if report.outcome != Outcome::Passed => {
                std::iter::once(Line::gap()).chain(summary::rows(report)).collect()
            }
            TerminalUse::Driver => summary::rows(report),
            TerminalUse::Trial => vec![summary::headline(report)],
        };
        rows.extend(self.kept.take());
        rows
    }
}

/// A task that went wrong, as it happens.
fn trouble(result: &TaskResult) -> Line {
    let label = if result.status == TaskStatus::Unreachable { "unreachable" } else { "failed" };
    Line::new(LineStyle::Bad, label, summary::located(&result.task, &result.path, result.message.as_deref()))
}

/// `45s`, `3m07s`.
pub(super) fn whole_seconds(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds => crate::support::deadline::format_duration(Duration::from_secs(seconds)),
    }
}
