//! The book of one run: which stages ran, how long each took and how much of that was waiting, and what is told to
//! the reports meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{Event, Sink, StageReport};
use crate::outcome::{Outcome, Stage};
use crate::support::deadline::{Deadline, Waited};
use crate::support::interrupt::Interrupt;

/// Tells events and keeps the stages' times.
pub struct Ledger {
    sink: Arc<dyn Sink>,
    interrupt: Interrupt,
    waited: Waited,
    stages: Vec<StageReport>,
}

impl Ledger {
    /// An empty book.
    pub fn new(sink: Arc<dyn Sink>, interrupt: Interrupt) -> Self {
        Self { sink, interrupt, waited: Waited::default(), stages: Vec::new() }
    }

    /// Tells an event.
    pub fn tell(&self, event: &Event) {
        self.sink.hear(event);
    }

    /// Tells what is being done right now.
    pub fn doing(&self, what: impl Into<String>) {
        self.tell(&Event::Doing(what.into()));
    }

    /// Tells something a person should know.
    pub fn note(&self, what: impl Into<String>) {
        self.tell(&Event::Note(what.into()));
    }

    /// Tells that a run begins.
    pub fn run_started(&self, trial: String, folder: PathBuf) {
        self.tell(&Event::RunStarted { trial, folder });
    }

    /// A deadline that heeds this run's interrupt and books waiting into this run.
    pub fn deadline(&self, budget: Duration, what: impl Into<String>) -> Deadline {
        Deadline::after(budget, what, self.interrupt.clone(), self.waited.clone())
    }

    /// Runs one stage: tells its start and its end, and books its time. `work` gives its value and the one-line
    /// summary; `outcome` says how an error of it counts.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn stage<T, E: std::fmt::Display>(
        &mut self,
        stage: Stage,
        outcome: impl FnOnce(&E) -> Outcome,
        work: impl FnOnce(&mut Self) -> Result<(T, String), E>,
    ) -> Result<T, E> {
        self.tell(&Event::StageStarted(stage));
        let (started, waited_before) = (Instant::now(), self.waited.total());
        let result = work(self);
        let took = started.elapsed();
        let waited = self.waited.total().saturating_sub(waited_before).min(took);
        let (outcome, summary) = match &result {
            Ok((_, summary)) => (Outcome::Passed, summary.clone()),
            Err(error) => (outcome(error), first_line(&error.to_string())),
        };
        let report = StageReport { stage, outcome, took, waited, own: took.saturating_sub(waited), summary };
        self.tell(&Event::StageFinished(report.clone()));
        self.stages.push(report);
        result.map(|(value, _)| value)
    }

    /// Whether every stage so far passed.
    pub fn stages(&self) -> &[StageReport] {
        &self.stages
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
