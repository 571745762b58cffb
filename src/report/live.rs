//! What is going on right now: the running stage, since when, what it is doing and what Ansible has done in it.
//! Pure; the narrator turns it into a heartbeat, the terminal into the text beside a spinner.

use std::time::Duration;

use crate::event::Event;
use crate::outcome::{Stage, TaskResult, TaskStatus};

/// A running stage.
#[derive(Clone, Debug)]
pub(super) struct StageProgress {
    /// Which.
    pub(super) stage: Stage,
    /// When it began, on the narrator's clock.
    pub(super) since: Duration,
    current: Option<String>,
    tasks: usize,
    changed: usize,
    failed: usize,
}

impl StageProgress {
    /// A stage that begins now.
    pub(super) fn begin(stage: Stage, now: Duration) -> Self {
        Self { stage, since: now, current: None, tasks: 0, changed: 0, failed: 0 }
    }

    /// Takes in what happens inside the stage.
    pub(super) fn on_event(&mut self, event: &Event) {
        match event {
            Event::Doing(what) => self.current = Some(what.clone()),
            Event::TaskStarted { task } => self.current = Some(task.clone()),
            Event::TaskFinished(result) => self.count(result),
            _ => {}
        }
    }

    /// `12 tasks, 5 changed · docker_host : install Docker`; empty while there is nothing to say.
    pub(super) fn status(&self) -> String {
        let mut counts = Vec::new();
        if self.tasks > 0 {
            counts.push(format!("{} task{}", self.tasks, if self.tasks == 1 { "" } else { "s" }));
        }
        if self.changed > 0 {
            counts.push(format!("{} changed", self.changed));
        }
        if self.failed > 0 {
            counts.push(format!("{} failed", self.failed));
        }
        let parts = [counts.join(", "), self.current.clone().unwrap_or_default()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
    }

    fn count(&mut self, result: &TaskResult) {
        self.tasks += usize::from(result.status != TaskStatus::Skipped);
        self.changed += usize::from(result.changed);
        self.failed += usize::from(is_trouble(result));
    }
}

/// Whether a task's end is worth a line of its own: it failed, and the playbook did not mean to go on regardless.
/// An assertion counts even then, as collecting all failures is what `ignore_errors` is for there.
pub(super) fn is_trouble(result: &TaskResult) -> bool {
    let went_wrong = matches!(result.status, TaskStatus::Failed | TaskStatus::Unreachable);
    went_wrong && (result.assertion || !result.ignored)
}
