//! What the callback plugin (`callback/boma_it.py`) says, line by line, and how it is heard and written down.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde::Deserialize;

use crate::outcome::{TaskResult, TaskStatus};
use crate::support::secret::Redactor;

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line.
    Ansible {
        version: String,
    },
    /// Something of the playbook that lies ahead.
    Declared(Declared),
    Play {
        play: String,
    },
    NoHostsMatched {
        play: String,
    },
    Start {
        task: String,
    },
    /// A connection plugin was refused in the task whose result comes next: what it was to reach, and by which.
    Refused {
        wanted: String,
    },
    Result(Box<Finished>),
    Stats {
        hosts: BTreeMap<String, Stats>,
    },
    /// The callback itself failed: something may be missing.
    ServerFailure {
        what: String,
    },
}

/// A task as written in the playbook, its name not templated yet.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Declared {
    pub(super) kind: Kind,
    pub(super) task: String,
    pub(super) path: String,
}

/// What a task is to a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Assertion,
    /// Whatever it includes is known once it runs.
    Include,
    /// An assertion or include that is for a failure only.
    Rescue,
}

/// Ansible's own count for a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Stats {
    #[serde(default)]
    pub(super) failures: usize,
    #[serde(default)]
    pub(super) unreachable: usize,
    #[serde(default)]
    pub(super) rescued: usize,
}

/// One task's end on one host.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Finished {
    play: String,
    task: String,
    path: String,
    action: String,
    pub(super) host: String,
    status: TaskStatus,
    changed: bool,
    ignored: bool,
    /// A `rescue` took over from its failure.
    #[serde(default)]
    pub(super) rescued: bool,
    assertion: bool,
    /// An assertion that failed for another reason than that it does not hold, or an include that failed: nobody knows.
    #[serde(default)]
    pub(super) unevaluated: bool,
    seconds: f64,
    delegate: Option<String>,
    #[serde(default)]
    no_log: bool,
    #[serde(default)]
    said: TaskOutput,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct TaskOutput {
    msg: Option<String>,
    reason: Option<String>,
    condition: Option<String>,
    stderr: Option<String>,
    stdout: Option<String>,
    rc: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Item {
    item: String,
    failed: bool,
    #[serde(default)]
    said: TaskOutput,
}

impl Finished {
    /// As the contract has it, with paths made `relative`.
    pub(super) fn into_result(self, relative: impl Fn(&str) -> String) -> TaskResult {
        let message = self.message();
        TaskResult {
            play: self.play,
            task: self.task,
            path: relative(&self.path),
            action: self.action,
            host: self.host,
            status: self.status,
            changed: self.changed,
            ignored: self.ignored || self.rescued,
            assertion: self.assertion,
            seconds: self.seconds,
            message,
        }
    }

    fn message(&self) -> Option<String> {
        if self.no_log {
            return None;
        }
        let failed = matches!(self.status, TaskStatus::Failed | TaskStatus::Unreachable);
        let broken: Vec<_> = self.items.iter().filter(|item| item.failed).collect();
        let message = if failed && !broken.is_empty() {
            let each = broken.iter().map(|item| {
                let said = item.said.failure(self.assertion).unwrap_or_else(|| "failed".to_owned());
                format!("{}: {said}", item.item)
            });
            Some(each.collect::<Vec<_>>().join("\n"))
        } else if failed {
            self.said.failure(self.assertion)
        } else {
            self.said.reason.clone().or_else(|| self.said.msg.clone())
        };
        match (&self.delegate, message) {
            (Some(delegate), Some(message)) if failed => Some(format!("on {delegate}: {message}")),
            (_, message) => message,
        }
    }
}

impl TaskOutput {
    /// What a person needs to know of a failure: the message, an assertion's condition, a command's own words.
    fn failure(&self, assertion: bool) -> Option<String> {
        let mut parts: Vec<String> = self.msg.iter().map(|msg| msg.trim().to_owned()).collect();
        if let Some(condition) = self.condition.as_ref().filter(|_| assertion) {
            parts.push(format!("did not hold: {condition}"));
        }
        if let Some(rc) = self.rc.filter(|rc| *rc != 0) {
            parts.push(format!("exit status {rc}"));
        }
        let mut shown = parts.join(" · ");
        for stream in [&self.stderr, &self.stdout].into_iter().flatten() {
            let stream = stream.trim();
            if !stream.is_empty() && !shown.contains(stream) {
                shown.push('\n');
                shown.push_str(stream);
            }
        }
        (!shown.is_empty()).then_some(shown)
    }
}

/// The longest text that is kept of a result, its end: enough for an error, too little to fill a disk. The plugin sends
/// much more of it: half a secret is a secret, so that what is cut must be without them.
const LONGEST: usize = 4000;

/// Takes the record out of a pipe, whole lines at a time, and writes it down without this process's secrets: what the
/// plugin says rests nowhere as it said it.
#[derive(Debug)]
pub(super) struct RecordReader {
    pipe: File,
    partial: Vec<u8>,
    kept: File,
}

impl RecordReader {
    /// Makes the pipe (fifo(7)) at `pipe`, and writes to `kept`, replaced if it is there.
    pub(super) fn open(pipe: &Path, kept: &Path) -> std::io::Result<Self> {
        mknodat(CWD, pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Not blocking: writers come and go, and until one comes there is nothing to read.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = File::from(rustix::fs::open(pipe, flags, Mode::empty())?);
        let kept = File::options().write(true).create(true).truncate(true).mode(0o600).open(kept)?;
        Ok(Self { pipe, partial: Vec::new(), kept })
    }

    /// The lines that were completed since the last look.
    pub(super) fn lines(&mut self) -> std::io::Result<Vec<String>> {
        match self.pipe.read_to_end(&mut self.partial) {
            // What came before that was read.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            read => drop(read?),
        }
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        let secrets = Redactor::of_process();
        let clean = |line: &str| secrets.redact_json(line, Some(LONGEST)).into_owned();
        let lines: Vec<String> = String::from_utf8_lossy(&whole).lines().map(clean).collect();
        for line in &lines {
            self.kept.write_all(format!("{line}\n").as_bytes())?;
        }
        Ok(lines)
    }
}
