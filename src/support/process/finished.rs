//! How a child ended: its status and streams, or a typed error that shows them.

use std::borrow::Cow;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::support::deadline::WaitError;
use crate::support::secret::Redactor;

/// How many of the last lines of each stream an error shows.
const SHOWN_LINES: usize = 20;

/// A program that ended, whatever its exit status.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of standard output, lossily decoded.
    pub stdout: String,
    /// All of standard error, lossily decoded.
    pub stderr: String,
    pub(super) command: String,
}

/// Why a program could not be run, or how it failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such program, or it must not be executed.
    #[error(
        "cannot start `{program}`; is it installed and on PATH? (`make setup` installs what boma-it needs)"
    )]
    Start {
        /// The program's name.
        program: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// It ended with a status other than 0.
    #[error("`{command}` ended with {}{shown}", describe(*.status))]
    Failed {
        /// The command line, fit to paste into a shell.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// The tail of both streams, already formatted.
        shown: String,
    },
    /// The deadline passed or we were interrupted; the process group was ended.
    #[error("ended `{command}`")]
    Ended {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: WaitError,
    },
    /// Reading its output or writing its log failed.
    #[error("lost contact with `{command}`")]
    Io {
        /// The command line.
        command: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl Finished {
    /// Itself if the exit status is 0.
    ///
    /// # Errors
    /// [`ProcessError::Failed`] with the last lines of both streams.
    pub(crate) fn into_ok(self) -> Result<Self, ProcessError> {
        if self.status.success() {
            return Ok(self);
        }
        let shown = tail("stdout", &self.stdout) + &tail("stderr", &self.stderr);
        Err(ProcessError::Failed { command: self.command, status: self.status, shown })
    }
}

/// `exit status 3` or `signal 15`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn tail(name: &str, text: &str) -> String {
    let text = Redactor::of_process().redact(text);
    let lines: Vec<_> = text.lines().map(|line| format!("\n    {line}")).collect();
    let body = lines[lines.len().saturating_sub(SHOWN_LINES)..].concat();
    match lines.len() {
        0 => String::new(),
        1..=SHOWN_LINES => format!("\n  {name}:{body}"),
        total => format!("\n  {name}, last {SHOWN_LINES} of {total} lines:{body}"),
    }
}

/// Quotes `word` for a POSIX shell. A NUL byte, which no argument can contain, is dropped.
pub fn quote(word: &str) -> String {
    shlex::try_quote(&word.replace('\0', "")).map(Cow::into_owned).unwrap_or_default()
}
