//! The one way to run another program: shown as a command one can paste, bounded by a deadline, ended as a whole
//! process group, with both streams kept.
//!
//! A child gets its own process group, so that Ctrl-C reaches it through us (and its children with it) and not
//! behind our back; and the kernel ends it when we die without a word.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::deadline::{Deadline, WaitError};

/// How long a child that was asked to end (SIGTERM) may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How long the streams of a child that ended are still listened to, if somebody else holds them open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How many of the last lines of each stream an error shows.
const SHOWN_LINES: usize = 20;

/// A program about to be run.
#[derive(Debug)]
pub struct Process {
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    removed: Vec<OsString>,
    cwd: Option<PathBuf>,
    input: Option<Vec<u8>>,
    log: Option<PathBuf>,
}

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A program that ended, whatever its exit status.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of standard output, lossily decoded.
    pub stdout: String,
    /// All of standard error, lossily decoded.
    pub stderr: String,
    command: String,
}

/// Why a program could not be run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such program, or it may not be executed.
    #[error(
        "cannot start `{program}`; is it installed and on PATH? (`make setup` installs what boma-it needs)"
    )]
    Start {
        /// The program's name.
        program: String,
        /// What the system said.
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
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Process {
    /// `program` as found on `PATH`, or a path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            removed: Vec::new(),
            cwd: None,
            input: None,
            log: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable on top of what we inherited.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Keeps an inherited environment variable from the child.
    #[must_use]
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.removed.push(key.as_ref().to_owned());
        self
    }

    /// Runs in `dir`.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Feeds `bytes` to its standard input, which is otherwise empty.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Appends both streams to the file at `path`, line by line as they come.
    #[must_use]
    pub fn log_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// The command line, quoted so that it can be pasted into a POSIX shell.
    pub fn command_line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// Runs to its end, whatever the exit status.
    ///
    /// # Errors
    /// [`ProcessError`], but never [`ProcessError::Failed`].
    pub fn run(self, deadline: &Deadline) -> Result<Finished, ProcessError> {
        self.run_with(deadline, |_, _| {})
    }

    /// Runs to its end and insists on exit status 0; gives standard output.
    ///
    /// # Errors
    /// [`ProcessError`]; [`ProcessError::Failed`] shows the last lines of both streams.
    pub fn run_ok(self, deadline: &Deadline) -> Result<String, ProcessError> {
        self.run(deadline)?.into_ok().map(|finished| finished.stdout)
    }

    /// Like [`Process::run`], with `on_line` called for each line (without its line feed) as it comes. When the
    /// deadline passes or an interrupt comes, the process group gets SIGTERM, then SIGKILL after five seconds.
    ///
    /// # Errors
    /// As [`Process::run`].
    pub fn run_with(
        self,
        deadline: &Deadline,
        mut on_line: impl FnMut(Stream, &str),
    ) -> Result<Finished, ProcessError> {
        let command = self.command_line();
        let io = |source| ProcessError::Io { command: command.clone(), source };
        let mut log = self.log.as_deref().map(open_log).transpose().map_err(io)?;
        deadline
            .check(&command)
            .map_err(|source| ProcessError::Ended { command: command.clone(), source })?;
        let (mut child, input) = self.spawn()?;
        let lines = read_streams(&mut child, input);
        let mut finished = Finished {
            status: ExitStatus::from_raw(0),
            stdout: String::new(),
            stderr: String::new(),
            command,
        };
        let mut ended: Option<(WaitError, Deadline)> = None;
        let mut gone: Option<Deadline> = None;
        loop {
            match lines.recv_timeout(Duration::from_millis(50)) {
                Ok((stream, bytes)) => {
                    let text = String::from_utf8_lossy(&bytes);
                    let line = text.strip_suffix('\n').unwrap_or(&text);
                    on_line(stream, line.strip_suffix('\r').unwrap_or(line));
                    if let Some(log) = &mut log {
                        log.write_all(&bytes).map_err(|source| {
                            signal_group(&child, Signal::KILL);
                            let _ = child.wait();
                            ProcessError::Io { command: finished.command.clone(), source }
                        })?;
                    }
                    match stream {
                        Stream::Stdout => finished.stdout.push_str(&text),
                        Stream::Stderr => finished.stderr.push_str(&text),
                    }
                }
                // The child ended, and what it said last may still be on its way here. Who inherited its streams (an
                // ssh master, a daemon) is not waited for.
                Err(mpsc::RecvTimeoutError::Timeout) if gone.is_none() && exited(&mut child) => {
                    gone = Some(Deadline::uninterrupted(LAST_WORDS, "the last words of a child"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) if exited(&mut child) => break,
                Err(mpsc::RecvTimeoutError::Disconnected) => deadline.pause(Duration::from_millis(5)),
            }
            if gone.as_ref().is_some_and(|left| left.remaining().is_zero()) {
                break;
            }
            match &ended {
                None if gone.is_some() => {}
                None => {
                    if let Err(reason) = deadline.check(&finished.command) {
                        signal_group(&child, Signal::TERM);
                        ended = Some((reason, Deadline::uninterrupted(GRACE, "ending a child")));
                    }
                }
                Some((_, grace)) if grace.remaining().is_zero() => signal_group(&child, Signal::KILL),
                Some(_) => {}
            }
        }
        finished.status =
            child.wait().map_err(|source| ProcessError::Io { command: finished.command.clone(), source })?;
        match ended {
            Some((source, _)) => {
                // Its children may have outlived it.
                signal_group(&child, Signal::KILL);
                Err(ProcessError::Ended { command: finished.command, source })
            }
            None => Ok(finished),
        }
    }

    /// Hands our terminal to the program and waits for it: for a shell in the guest. Gives its exit status.
    ///
    /// # Errors
    /// [`ProcessError::Start`] or [`ProcessError::Io`].
    pub fn interact(self) -> Result<ExitStatus, ProcessError> {
        let command = self.command_line();
        let program = self.program.to_string_lossy().into_owned();
        self.to_command()
            .spawn()
            .map_err(|source| ProcessError::Start { program, source })?
            .wait()
            .map_err(|source| ProcessError::Io { command, source })
    }

    fn to_command(&self) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the one process runner")]
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.envs.iter().map(|(key, value)| (key, value)));
        for key in &self.removed {
            command.env_remove(key);
        }
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        command
    }

    #[expect(unsafe_code, reason = "pre_exec: one async-signal-safe system call, prctl(PR_SET_PDEATHSIG)")]
    fn spawn(self) -> Result<(Child, Option<Input>), ProcessError> {
        let mut command = self.to_command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        // SAFETY: the closure allocates nothing, takes no lock, and makes a single system call.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into)
            });
        }
        let mut child = command.spawn().map_err(|source| ProcessError::Start {
            program: self.program.to_string_lossy().into_owned(),
            source,
        })?;
        let stdin = child.stdin.take().zip(self.input);
        Ok((child, stdin))
    }
}

impl Finished {
    /// Itself if the exit status is 0.
    ///
    /// # Errors
    /// [`ProcessError::Failed`] with the last lines of both streams.
    pub fn into_ok(self) -> Result<Self, ProcessError> {
        if self.status.success() {
            return Ok(self);
        }
        let shown = tail("stdout", &self.stdout) + &tail("stderr", &self.stderr);
        Err(ProcessError::Failed { command: self.command, status: self.status, shown })
    }
}

/// Whether a program of this name can be found on `PATH` (or, for a path, is there).
pub fn is_available(program: &str) -> bool {
    let is_file = |path: &Path| path.is_file();
    if program.contains('/') {
        return is_file(Path::new(program));
    }
    let path = super::env::path();
    std::env::split_paths(&path).any(|dir| is_file(&dir.join(program)))
}

fn exited(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

fn open_log(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}

type Line = (Stream, Vec<u8>);
type Input = (ChildStdin, Vec<u8>);

fn read_streams(child: &mut Child, input: Option<Input>) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        read_lines(stdout, Stream::Stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        read_lines(stderr, Stream::Stderr, sender);
    }
    if let Some((mut stdin, bytes)) = input {
        // A child that does not read its input is its own affair: its exit status tells.
        std::thread::spawn(move || stdin.write_all(&bytes));
    }
    receiver
}

fn read_lines(from: impl Read + Send + 'static, stream: Stream, to: mpsc::Sender<Line>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if to.send((stream, std::mem::take(&mut line))).is_err() {
                return;
            }
        }
    });
}

fn signal_group(child: &Child, signal: Signal) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn tail(name: &str, text: &str) -> String {
    let mut last = VecDeque::new();
    let mut total = 0;
    for line in text.lines() {
        total += 1;
        last.push_back(line);
        if last.len() > SHOWN_LINES {
            last.pop_front();
        }
    }
    if last.is_empty() {
        return String::new();
    }
    let cut =
        if total > last.len() { format!(", last {} of {total} lines", last.len()) } else { String::new() };
    let body = last.into_iter().map(|line| format!("\n    {line}")).collect::<String>();
    format!("\n  {name}{cut}:{body}")
}

/// `word` as a POSIX shell needs it quoted. A NUL byte, which no argument can hold, is left out.
pub fn quote(word: &str) -> String {
    shlex::try_quote(&word.replace('\0', "")).map(Cow::into_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests;
