//! The run for programs, in the run folder: `events.jsonl`, one line an event as it happens, and `report.json`, the whole
//! report at the end. Later steps of the same run append to the first and replace the second. An error here is a warning in
//! the log and never fails a run. Secrets are redacted from both files.

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

/// The reporter of one run.
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
    /// The commands to look inside a kept VM.
    commands: &'a [Command],
}

#[derive(Debug, Serialize)]
struct Command {
    command: String,
    purpose: String,
}

impl Reporter for JsonReporter {
    fn on_event(&self, event: &Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted { folder, .. } => state.open(folder),
            Event::Kept { commands, .. } => {
                let commands = commands.iter().cloned();
                state.commands = commands.map(|(command, purpose)| Command { command, purpose }).collect();
            }
            _ => {}
        }
        state.append(event);
        if let Event::RunFinished(run) = event {
            state.events = None;
            let path = run.folder.join(REPORT);
            let written = serde_json::to_string_pretty(&Report { run, commands: &state.commands })
                .map_err(io::Error::from)
                .and_then(|json| file::replace(&path, 0o600, |file| write_redacted(file, &json)));
            if let Err(error) = written {
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

    /// Writes each line at once, so that a reader never sees a part of one. Stops at the first error.
    fn append(&mut self, event: &Event) {
        let Some((file, began)) = &mut self.events else { return };
        let at = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let now = Timestamp::now();
        let time = now.round(Unit::Millisecond).unwrap_or(now).to_string();
        let written = serde_json::to_string(&EventRecord { time, at, event })
            .map_err(io::Error::from)
            .and_then(|json| write_redacted(file, &json));
        if let Err(error) = written {
            tracing::warn!(%error, "no longer recording the events of this run");
            self.events = None;
        }
    }
}

/// Writes JSON text and a line end, in one piece.
fn write_redacted(file: &mut File, json: &str) -> io::Result<()> {
    file.write_all((Redactor::of_process().redact_json(json, None).into_owned() + "\n").as_bytes())
}
