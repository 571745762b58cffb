//! The run as a program reads it, in the run folder: `events.jsonl`, one line an event as it happens, and
//! `report.json`, the whole of it at the end. Later steps of the same
//! run append to the first and replace the second. Trouble is a warning in the log, never a failed run. All are without
//! this process's secrets.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::{Timestamp, Unit};
use serde::Serialize;

use crate::event::{Event, Reporter, RunReport};
use crate::support::file;
use crate::support::secret::Redactor;

/// The report, pretty-printed JSON of a [`RunReport`] and of the commands for a kept VM.
pub const REPORT: &str = "report.json";
/// The events: `{"time": RFC 3339 in UTC, "at": seconds since the step began, "event": name, "data": …}` a line.
pub const EVENTS: &str = "events.jsonl";

/// The sink. One for each run: it remembers the run's folder.
#[derive(Debug, Default)]
pub struct JsonReporter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    events: Option<(File, Instant)>,
    commands: Vec<Command>,
}

/// One line of `events.jsonl`.
#[derive(Serialize)]
struct EventRecord<'a> {
    time: String,
    at: f64,
    #[serde(flatten)]
    event: &'a Event,
}

/// `report.json`.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    run: &'a RunReport,
    /// What to type to look inside a kept VM.
    commands: &'a [Command],
}

#[derive(Clone, Debug, Serialize)]
struct Command {
    command: String,
    purpose: String,
}

impl JsonReporter {
    /// Writes nothing before it hears [`Event::RunStarted`], which names the folder.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Reporter for JsonReporter {
    fn on_event(&self, event: &Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted { folder, .. } => state.open(folder),
            Event::Kept { commands, .. } => {
                let named = |(command, purpose): &(String, String)| Command {
                    command: command.clone(),
                    purpose: purpose.clone(),
                };
                state.commands = commands.iter().map(named).collect();
            }
            _ => {}
        }
        state.append(event);
        if let Event::RunFinished(run) = event {
            state.events = None;
            let commands = std::mem::take(&mut state.commands);
            if let Err(error) = write_whole(&run.folder.join(REPORT), &Report { run, commands: &commands }) {
                let path = run.folder.join(REPORT);
                tracing::warn!(path = %path.display(), %error, "cannot write the report");
            }
        }
    }
}

impl State {
    fn open(&mut self, folder: &Path) {
        let path = folder.join(EVENTS);
        self.commands.clear();
        self.events = match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Some((file, Instant::now())),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot record the events of this run");
                None
            }
        };
    }

    /// One write a line, so that a reader never sees half of one. Given up for this run at the first trouble.
    fn append(&mut self, event: &Event) {
        let Some((file, began)) = &mut self.events else { return };
        let at = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let line = EventRecord { time: now(), at, event };
        let written = serde_json::to_string(&line)
            .map_err(io::Error::from)
            .map(|json| Redactor::of_process().redact_json(&json, None).into_owned() + "\n")
            .and_then(|json| file.write_all(json.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, "no longer recording the events of this run");
            self.events = None;
        }
    }
}

/// The time to the millisecond.
fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Millisecond).unwrap_or(now).to_string()
}

/// Whole or not at all: a reader never sees half a report, nor does a full disk leave one.
fn write_whole(path: &Path, report: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    let json = Redactor::of_process().redact_json(&json, None).into_owned() + "\n";
    file::replace(path, 0o600, |file| file.write_all(json.as_bytes()))
}
