//! The events of a run, from [`Event::RunStarted`] to [`Event::RunFinished`], between [`crate::cycle`], which emits them, and
//! the reports, which receive them as [`Reporter`]s.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::outcome::{Assertion, Outcome, Stage, TaskResult};

/// One thing that happened in a run. In `events.jsonl`: `{"event": "doing", "data": …}`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", content = "data", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins.
    RunStarted {
        /// `askari::cycle`, or a step of the driver: `askari::cycle up`.
        trial: String,
        /// Its run folder.
        folder: PathBuf,
    },
    /// A stage begins.
    StageStarted(Stage),
    /// What the run is doing right now: `building the golden image: packages`. Replaces the previous one.
    Doing(String),
    /// Something that a person should know: the accelerator, a removed orphan, a degraded unit.
    Note(String),
    /// Ansible began a task.
    TaskStarted {
        /// Its name.
        task: String,
    },
    /// Ansible finished a task.
    TaskFinished(TaskResult),
    /// A stage ended.
    StageFinished(StageReport),
    /// The VM was kept.
    Kept {
        /// The domain's name.
        machine: String,
        /// The commands to look inside, each with what it is for: `("boma-it ssh --host askari", "a shell inside")`.
        commands: Vec<(String, String)>,
    },
    /// The run is over.
    RunFinished(Box<RunReport>),
}

/// The report of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// Its outcome.
    pub outcome: Outcome,
    /// Wall-clock seconds.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub took: Duration,
    /// The part spent waiting for the guest or for Ansible.
    #[serde(rename = "waiting_seconds", serialize_with = "as_seconds")]
    pub waited: Duration,
    /// The rest: our own work and that of the tools we run.
    #[serde(rename = "own_seconds", serialize_with = "as_seconds")]
    pub own: Duration,
    /// One line on what happened: `23 tasks, 11 changed`.
    pub summary: String,
}

/// The report of a run: `report.json`.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Version of this format.
    pub version: u32,
    /// `askari::cycle`.
    pub trial: String,
    /// Inventory name of the host.
    pub host: String,
    /// Name of the scenario, if the trial is one.
    pub scenario: Option<String>,
    /// The domain's name.
    pub machine: String,
    /// When it began, RFC 3339 with the time zone in brackets.
    pub started: String,
    /// The accelerator: `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// The golden image: its name and its origin.
    pub image: Option<String>,
    /// Whether the guest kept the byte-code of Ansible's modules: `on`, or `off:` and why; each playbook's own where they
    /// differ. None if no playbook ran.
    pub bytecode_cache: Option<String>,
    /// The layer that the VM was restored from, and when it was made; none if the VM booted from the image.
    pub layer: Option<String>,
    /// What was declared, in words.
    pub expected: String,
    /// What was observed, in words.
    pub seen: String,
    /// Both, line by line.
    pub compared: Vec<Compared>,
    /// The verdict.
    pub outcome: Outcome,
    /// The error's whole chain, outermost first, if there was an error.
    pub error: Option<String>,
    /// Every stage that ran.
    pub stages: Vec<StageReport>,
    /// Every assertion of `verify.yml` before the restart, if the scenario asks for it.
    pub before: Vec<Assertion>,
    /// Every assertion of `verify.yml` after the reboot.
    pub assertions: Vec<Assertion>,
    /// Peak memory of this process in bytes, if the system reports it (`VmHWM`, see proc_pid_status(5)).
    pub peak_memory: Option<u64>,
    /// Whether the VM was kept for inspection.
    pub kept: bool,
    /// The run folder.
    pub folder: PathBuf,
}

/// One declared thing, and what was observed of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// At which stage.
    pub at: Stage,
    /// What: an assertion's name, `every other assertion`, `the guest`.
    pub what: String,
    /// What was declared, in a word or two.
    pub expected: String,
    /// What was observed.
    pub seen: String,
    /// Whether the two agree.
    pub holds: bool,
}

/// Receives the events of a run. It never fails a run: it handles its own errors.
pub trait Reporter: Send + Sync {
    /// Receives one event.
    fn on_event(&self, event: &Event);
}

impl Reporter for Vec<Box<dyn Reporter>> {
    fn on_event(&self, event: &Event) {
        self.iter().for_each(|reporter| reporter.on_event(event));
    }
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}
