//! What the cycle says and the reports hear. A run is told as a sequence of events, from
//! [`Event::RunStarted`] to [`Event::RunFinished`]; every report
//! is a [`Reporter`] of them and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::outcome::{Assertion, Outcome, Stage, TaskResult};

/// One thing that happened in a run. Serialised, as `events.jsonl` has it: `{"event": "doing", "data": …}`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", content = "data", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins.
    RunStarted {
        /// `askari::cycle`, or what the driver does: `askari::cycle up`.
        trial: String,
        /// Its run folder.
        folder: PathBuf,
    },
    /// A stage begins.
    StageStarted(Stage),
    /// What is being done right now, inside a stage: `building the golden image: packages`. Replaces the one before.
    Doing(String),
    /// Something a person should know, once: the accelerator, an orphan that was reaped, a degraded unit.
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
    /// The VM was kept: commands to look inside.
    Kept {
        /// Name of the domain.
        machine: String,
        /// Each command, fit to paste, with what it is for: `("boma-it ssh --host askari", "a shell inside")`.
        commands: Vec<(String, String)>,
    },
    /// The run is over.
    RunFinished(Box<RunReport>),
}

/// How a stage went.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// How it ended.
    pub outcome: Outcome,
    /// Wall-clock seconds.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub took: Duration,
    /// The part of it spent waiting for the guest or for Ansible.
    #[serde(rename = "waiting_seconds", serialize_with = "as_seconds")]
    pub waited: Duration,
    /// The rest: our own work (and that of the tools we run to build and define things).
    #[serde(rename = "own_seconds", serialize_with = "as_seconds")]
    pub own: Duration,
    /// One line on what was seen: `23 tasks, 11 changed`, `boot id 3fe1… → 92ab…`.
    pub summary: String,
}

/// The whole of a run, as `report.json` has it.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Version of this format.
    pub version: u32,
    /// `askari::cycle`.
    pub trial: String,
    /// Inventory name of the host.
    pub host: String,
    /// Name of the scenario, if it is one.
    pub scenario: Option<String>,
    /// The domain's name.
    pub machine: String,
    /// When it began, RFC 3339 with the time zone in brackets.
    pub started: String,
    /// The accelerator: `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// The golden image: its name, a comma, where it came from, and why it was this one where that needs saying.
    pub image: Option<String>,
    /// What was declared, in words.
    pub expected: String,
    /// What was seen, in words.
    pub seen: String,
    /// Both, side by side.
    pub compared: Vec<Compared>,
    /// The verdict.
    pub outcome: Outcome,
    /// The error's whole chain, outermost first, where there is one.
    pub error: Option<String>,
    /// Every stage that ran.
    pub stages: Vec<StageReport>,
    /// Every assertion of `verify.yml` before the restart, where a scenario asked for it.
    pub before: Vec<Assertion>,
    /// Every assertion of `verify.yml` after the reboot.
    pub assertions: Vec<Assertion>,
    /// Bytes of memory this process had at its peak, if the system tells (`VmHWM`, see proc_pid_status(5)).
    pub peak_memory: Option<u64>,
    /// Whether the VM was left for inspection.
    pub kept: bool,
    /// The run folder.
    pub folder: PathBuf,
}

/// One thing that was declared, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// At which stage.
    pub at: Stage,
    /// What: an assertion's name, `every other assertion`, `the guest`.
    pub what: String,
    /// What was declared of it, in a word or two.
    pub expected: String,
    /// What was seen of it.
    pub seen: String,
    /// Whether the two agree.
    pub holds: bool,
}

/// Something that hears events. Hearing never fails a run: a sink keeps its own trouble to itself.
pub trait Reporter: Send + Sync {
    /// Hears one event.
    fn on_event(&self, event: &Event);
}

/// Tells each of several sinks.
#[derive(Default)]
pub struct Reporters(Vec<Box<dyn Reporter>>);

impl Reporters {
    /// Of these sinks, told in this order.
    pub fn new(sinks: Vec<Box<dyn Reporter>>) -> Self {
        Self(sinks)
    }
}

impl Reporter for Reporters {
    fn on_event(&self, event: &Event) {
        for sink in &self.0 {
            sink.on_event(event);
        }
    }
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}
