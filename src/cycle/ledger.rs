//! The book of one run: which stages ran, how long each took and how much of that was waiting, and what is told to
//! the reports meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{Event, Reporter, StageReport};
use crate::outcome::{Outcome, Stage};
use crate::support::deadline::{Deadline, Waited};
use crate::support::interrupt::Interrupt;

/// Tells events and keeps the stages' times.
pub(super) struct RunRecorder {
    sink: Arc<dyn Reporter>,
    interrupt: Interrupt,
    waited: Waited,
    stages: Vec<StageReport>,
}

/// A stage that runs.
#[derive(Debug)]
pub(super) struct Running {
    stage: Stage,
    started: Instant,
    waited_before: Duration,
}

impl RunRecorder {
    /// An empty book.
    pub(super) fn new(sink: Arc<dyn Reporter>, interrupt: Interrupt) -> Self {
        Self { sink, interrupt, waited: Waited::default(), stages: Vec::new() }
    }

    /// Tells an event.
    pub(super) fn tell(&self, event: &Event) {
        self.sink.on_event(event);
    }

    /// Tells what is being done right now.
    pub(super) fn doing(&self, what: impl Into<String>) {
        self.tell(&Event::Doing(what.into()));
    }

    /// Tells something a person should know.
    pub(super) fn note(&self, what: impl Into<String>) {
        self.tell(&Event::Note(what.into()));
    }

    /// A deadline that heeds this run's interrupt and books waiting into this run.
    pub(super) fn deadline(&self, budget: Duration, what: impl Into<String>) -> Deadline {
        Deadline::after(budget, what, self.interrupt.clone(), self.waited.clone())
    }

    /// A stage begins.
    pub(super) fn begin(&self, stage: Stage) -> Running {
        self.tell(&Event::StageStarted(stage));
        Running { stage, started: Instant::now(), waited_before: self.waited.total() }
    }

    /// A stage ended, with a summary of which the first line is kept.
    pub(super) fn end(&mut self, running: Running, outcome: Outcome, summary: &str) {
        let took = running.started.elapsed();
        let waited = self.waited.total().saturating_sub(running.waited_before).min(took);
        let report = StageReport {
            stage: running.stage,
            outcome,
            took,
            waited,
            own: took.saturating_sub(waited),
            summary: summary.lines().next().unwrap_or_default().to_owned(),
        };
        self.tell(&Event::StageFinished(report.clone()));
        self.stages.push(report);
    }

    /// Every stage that ended so far.
    pub(super) fn stages(&self) -> &[StageReport] {
        &self.stages
    }
}
