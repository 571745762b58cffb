//! The story of a run in rows: which event is told, in which words. Pure, given the time: who shows the rows, and
//! where, is the terminal's business.

use std::time::Duration;

use super::live::{Live, is_trouble};
use super::row::{Row, Tone};
use super::series;
use super::summary;
use super::terminal::Context;
use crate::event::{Event, RunReport};
use crate::outcome::{Outcome, TaskResult, TaskStatus};

/// Tells the rows, event by event.
#[derive(Debug)]
pub(super) struct Narrator {
    context: Context,
    live: Option<Live>,
    kept: Option<Row>,
}

impl Narrator {
    /// Nothing told yet.
    pub(super) fn new(context: Context) -> Self {
        Self { context, live: None, kept: None }
    }

    /// The running stage.
    pub(super) fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// The rows for an event that happens `now`, time since any fixed moment.
    pub(super) fn tell(&mut self, event: &Event, now: Duration) -> Vec<Row> {
        if let Some(live) = &mut self.live {
            live.hear(event);
        }
        match event {
            Event::RunStarted { trial, folder } => self.opening(trial, &folder.display().to_string()),
            Event::StageStarted(stage) => {
                self.live = Some(Live::begin(*stage, now));
                vec![Row::new(Tone::Plain, stage.as_str(), "started")]
            }
            Event::Note(note) => vec![Row::new(Tone::Faint, "note", note)],
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
            // libtest shows the whole of one that did not pass as the failure's message.
            Event::SeriesFinished(report)
                if self.context == Context::Trial && report.outcome != Outcome::Passed =>
            {
                Vec::new()
            }
            Event::SeriesFinished(report) => series::rows(report),
        }
    }

    /// A sign of life: `apply  … 45s: 12 tasks, 5 changed · docker_host : install Docker`.
    pub(super) fn heartbeat(&self, now: Duration) -> Option<Row> {
        let live = self.live.as_ref()?;
        let status = live.status();
        let colon = if status.is_empty() { "" } else { ": " };
        let text = format!("… {}{colon}{status}", whole_seconds(now.saturating_sub(live.since)));
        Some(Row::new(Tone::Faint, live.stage.as_str(), text))
    }

    /// libtest has written `test askari::cycle ... ` and left the cursor there: an empty row ends that line.
    fn opening(&self, trial: &str, folder: &str) -> Vec<Row> {
        let rows = [Row::new(Tone::Plain, "running", trial), Row::new(Tone::Faint, "folder", folder)];
        let before = matches!(self.context, Context::Trial).then(Row::gap);
        before.into_iter().chain(rows).collect()
    }

    fn ending(&mut self, report: &RunReport) -> Vec<Row> {
        let mut rows = match self.context {
            Context::Driver if report.outcome != Outcome::Passed => {
                std::iter::once(Row::gap()).chain(summary::rows(report)).collect()
            }
            Context::Driver => summary::rows(report),
            Context::Trial => vec![summary::headline(report)],
        };
        rows.extend(self.kept.take());
        rows
    }
}

/// A task that went wrong, as it happens.
fn trouble(result: &TaskResult) -> Row {
    let label = if result.status == TaskStatus::Unreachable { "unreachable" } else { "failed" };
    Row::new(Tone::Bad, label, summary::located(&result.task, &result.path, result.message.as_deref()))
}

/// `45s`, `3m07s`.
pub(super) fn whole_seconds(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds => crate::support::deadline::humane(Duration::from_secs(seconds)),
    }
}
