//! What the callback plugin (`callback/boma_it.py`) writes, line by line, and how it is read while it grows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::outcome::{TaskResult, TaskStatus};

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line.
    Ansible {
        version: String,
    },
    /// An assertion that lies ahead.
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
    Result(Box<Finished>),
    Stats {
        hosts: BTreeMap<String, Stats>,
    },
    /// The callback itself failed: something may be missing.
    Trouble {
        what: String,
    },
}

/// An assertion as written in the playbook, its name not templated yet.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Declared {
    pub(super) task: String,
    pub(super) path: String,
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
    assertion: bool,
    seconds: f64,
    delegate: Option<String>,
    #[serde(default)]
    no_log: bool,
    #[serde(default)]
    said: Said,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Said {
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
    said: Said,
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
            ignored: self.ignored,
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

impl Said {
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

/// Reads a file that another process appends to, whole lines at a time.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    read: u64,
    partial: Vec<u8>,
}

impl Tail {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, partial: Vec::new() }
    }

    /// The lines that were completed since the last look. A file that is not there yet has none.
    pub(super) fn lines(&mut self) -> std::io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        self.read += file.read_to_end(&mut self.partial)? as u64;
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        Ok(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect())
    }
}
