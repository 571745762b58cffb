//! The record of one run: which stages ran, how long each took and how much of that was waiting. It also passes the
//! events of the run to the reporters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{Event, Reporter, StageReport};
use crate::outcome::{Outcome, Stage};
use crate::support::deadline::{Deadline, Waited};
use crate::support::interrupt::Interrupt;

/// Reports events and keeps the times of the stages.
pub(super) struct RunRecorder {
    reporter: Arc<dyn Reporter>,
    interrupt: Interrupt,
    waited: Waited,
    stages: Vec<StageReport>,
}

/// A stage that runs.
#[derive(Debug)]
pub(super) struct RunningStage {
    stage: Stage,
    started: Instant,
    waited_before: Duration,
}

impl RunRecorder {
    pub(super) fn new(reporter: Arc<dyn Reporter>, interrupt: Interrupt) -> Self {
        Self { reporter, interrupt, waited: Waited::default(), stages: Vec::new() }
    }

    pub(super) fn report(&self, event: &Event) {
        self.reporter.on_event(event);
    }

    /// Reports what is being done right now.
    pub(super) fn doing(&self, what: impl Into<String>) {
        self.report(&Event::Doing(what.into()));
    }

    /// Reports something that a person should know.
    pub(super) fn note(&self, what: impl Into<String>) {
        self.report(&Event::Note(what.into()));
    }

    /// A deadline that this run's interrupt ends, and whose waits count as this run's waiting.
    pub(super) fn deadline(&self, budget: Duration, what: impl Into<String>) -> Deadline {
        Deadline::after(budget, what, self.interrupt.clone(), self.waited.clone())
    }

    /// A stage begins.
    pub(super) fn begin(&self, stage: Stage) -> RunningStage {
        self.report(&Event::StageStarted(stage));
        RunningStage { stage, started: Instant::now(), waited_before: self.waited.total() }
    }

    /// A stage ended. Only the first line of `summary` is kept.
    pub(super) fn end(&mut self, running: RunningStage, outcome: Outcome, summary: &str) {
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
        self.report(&Event::StageFinished(report.clone()));
        self.stages.push(report);
    }

    /// Every stage that ended so far.
    pub(super) fn stages(&self) -> &[StageReport] {
        &self.stages
    }
}
