//! The record that the callback plugin (`callback/boma_it.py`) writes, line by line, and its way from the pipe into a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde::Deserialize;

use super::verdict::{Evidence, Round, TaskKind};
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
    /// A task that the playbook has for the host.
    Declared(Declared),
    /// A task notified a handler on the host.
    Notified {
        uuid: String,
    },
    /// A declared task does not run, because its role has run before and may not run twice.
    Waived {
        uuid: String,
    },
    /// A play never started, and without that nobody knows its hosts.
    UnknownPlay(UnknownPlay),
    /// A play started, on whatever hosts. `hosts` is its pattern as written.
    Play {
        play: String,
        #[serde(default)]
        hosts: Vec<String>,
    },
    NoHostsMatched {
        play: String,
    },
    Start {
        task: String,
    },
    /// A connection was refused in the task whose result comes next.
    Refused {
        wanted: String,
    },
    /// What was seen of a task, or of an item of its loop, before its result.
    Round(Box<RoundRecord>),
    Result(Box<TaskRecord>),
    Stats {
        hosts: StatsByHost,
    },
    /// The callback plugin failed, so the record may be incomplete.
    Problem {
        what: String,
    },
}

/// A task as written in the playbook: templates in its name are not replaced.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Declared {
    /// Identity of the task in the parsed playbook.
    pub(super) uuid: String,
    pub(super) kind: DeclaredKind,
    pub(super) task: String,
    pub(super) path: String,
    /// Its column in that line: two tasks may be on one.
    #[serde(default)]
    pub(super) column: Option<u64>,
}

/// The role of a task in a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DeclaredKind {
    Assertion,
    /// Its tasks are unknown until it runs.
    Include,
    /// An assertion or include in a `rescue`, which runs only after a failure. Once that starts, it is declared again as what
    /// it is.
    Rescue,
    /// An assertion or include in a handler, which runs only if a task notifies it.
    Handler,
    /// It asserts nothing, and notifies a handler.
    Notifier,
}

/// A play that never started.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct UnknownPlay {
    pub(super) play: String,
    pub(super) hosts: Vec<String>,
}

/// What was seen of a task on a host.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct RoundRecord {
    pub(super) uuid: String,
    pub(super) host: String,
    #[serde(flatten)]
    pub(super) round: Round,
}

/// Ansible's own counts, by host.
pub(super) type StatsByHost = BTreeMap<String, HostStats>;

/// Ansible's own counts for a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct HostStats {
    #[serde(default)]
    pub(super) failures: usize,
    #[serde(default)]
    pub(super) unreachable: usize,
    #[serde(default)]
    pub(super) rescued: usize,
}

/// The result of one task on one host.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct TaskRecord {
    #[serde(flatten)]
    result: TaskResult,
    #[serde(default)]
    pub(super) uuid: String,
    #[serde(default)]
    column: Option<u64>,
    #[serde(default)]
    kind: TaskKind,
    #[serde(default)]
    ignores_itself: bool,
    #[serde(default)]
    never_fails: bool,
    /// Whether a `rescue` took over from its failure.
    #[serde(default)]
    pub(super) rescued: bool,
    delegate: Option<String>,
    #[serde(default)]
    no_log: bool,
    #[serde(default)]
    output: TaskOutput,
    #[serde(default)]
    items: Vec<Item>,
}

/// What a task returned.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct TaskOutput {
    msg: Option<String>,
    reason: Option<String>,
    condition: Option<String>,
    stderr: Option<String>,
    stdout: Option<String>,
    rc: Option<String>,
}

/// The result of one round of a loop.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Item {
    item: String,
    failed: bool,
    #[serde(default)]
    output: TaskOutput,
}

impl TaskRecord {
    /// As reports have it, with the path made `relative`.
    pub(super) fn into_result(self, relative: impl Fn(&str) -> String) -> TaskResult {
        TaskResult {
            path: relative(&self.result.path),
            ignored: self.result.ignored || self.rescued,
            assertion: self.kind.is_assertion(),
            message: self.message(),
            ..self.result
        }
    }

    /// What the record has of it beside its result.
    pub(super) fn evidence(&self, rounds: Vec<Round>) -> Evidence {
        let Self { column, kind, ignores_itself, never_fails, rescued, .. } = *self;
        Evidence { uuid: self.uuid.clone(), column, kind, ignores_itself, never_fails, rescued, rounds }
    }

    pub(super) fn host(&self) -> &str {
        &self.result.host
    }

    fn message(&self) -> Option<String> {
        if self.no_log {
            return None;
        }
        let failed = matches!(self.result.status, TaskStatus::Failed | TaskStatus::Unreachable);
        let broken: Vec<_> = self.items.iter().filter(|item| item.failed).collect();
        let message = if failed && !broken.is_empty() {
            let each = broken.iter().map(|item| {
                let said =
                    item.output.failure(self.kind.is_assertion()).unwrap_or_else(|| "failed".to_owned());
                format!("{}: {said}", item.item)
            });
            Some(each.collect::<Vec<_>>().join("\n"))
        } else if failed {
            self.output.failure(self.kind.is_assertion())
        } else {
            self.output.reason.clone().or_else(|| self.output.msg.clone())
        };
        match (&self.delegate, message) {
            (Some(delegate), Some(message)) if failed => Some(format!("on {delegate}: {message}")),
            (_, message) => message,
        }
    }
}

impl TaskOutput {
    /// The cause of a failure: the message, an assertion's condition, a command's exit status and output.
    fn failure(&self, assertion: bool) -> Option<String> {
        let mut parts: Vec<String> = self.msg.iter().map(|msg| msg.trim().to_owned()).collect();
        if let Some(condition) = self.condition.as_ref().filter(|_| assertion) {
            parts.push(format!("did not hold: {condition}"));
        }
        if let Some(rc) = self.rc.as_deref().filter(|rc| *rc != "0") {
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

/// Longest text kept of a result: enough for an error, too little to fill a disk. The plugin sends much more, because secrets
/// must be removed before a text is cut: half a secret is not recognised.
const LONGEST: usize = 4000;

/// Reads the record from a pipe, whole lines at a time, and writes it to a file without this process's secrets.
#[derive(Debug)]
pub(super) struct RecordReader {
    pipe: File,
    partial: Vec<u8>,
    kept: File,
}

impl RecordReader {
    /// Makes the pipe (fifo(7)) at `pipe`, and replaces the file at `kept`.
    pub(super) fn open(pipe: &Path, kept: &Path) -> std::io::Result<Self> {
        mknodat(CWD, pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        // Not blocking: writers come and go, and until the first one there is nothing to read.
        let flags = OFlags::NONBLOCK.union(OFlags::CLOEXEC);
        let pipe = File::from(rustix::fs::open(pipe, flags, Mode::empty())?);
        let kept = File::options().write(true).create(true).truncate(true).mode(0o600).open(kept)?;
        Ok(Self { pipe, partial: Vec::new(), kept })
    }

    /// The lines completed since the last call.
    pub(super) fn lines(&mut self) -> std::io::Result<Vec<String>> {
        match self.pipe.read_to_end(&mut self.partial) {
            // Everything before that was read.
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

#[cfg(test)]
mod tests;
