//! The only way to run another program: it has a command line that can be pasted, a deadline, and both streams captured,
//! and it ends as a whole process group. Logs and errors have this process's secrets redacted; the captured streams do not.
//!
//! A child gets its own process group, so that Ctrl-C reaches it and its children through us. The kernel kills it if this
//! process dies first.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::deadline::{Deadline, WaitError};
use super::secret::{Redacting, Redactor, withheld};
use streams::{Line, Outputs};

pub(crate) use finished::describe;
pub use finished::{Finished, ProcessError, quote};
pub use service::Service;
pub use streams::Stream;

mod finished;
mod service;
mod streams;

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How long to read the streams of a child that has exited, if another process holds them open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a silent child is polled.
const TICK: Duration = Duration::from_millis(50);
/// How often a child that has closed its streams is polled: it usually exits at once.
const MOMENT: Duration = Duration::from_millis(5);

/// A program about to be run.
#[derive(Debug)]
pub struct Process {
    command: Command,
    input: Option<Vec<u8>>,
    log: Option<PathBuf>,
}

impl Process {
    /// `program` as found on `PATH`, or a path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one process runner")]
        Self { command: Command::new(program), input: None, log: None }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable, in addition to the inherited ones.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Removes an inherited environment variable for the child.
    #[must_use]
    pub(crate) fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Runs in `dir`.
    #[must_use]
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Feeds `bytes` to its standard input, which is otherwise empty.
    #[must_use]
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Appends both streams to the file at `path`, line by line as they come.
    #[must_use]
    pub(crate) fn log_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// The command line, quoted so that it can be pasted into a POSIX shell.
    pub(crate) fn command_line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let line = words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ");
        Redactor::of_process().redact(&line).into_owned()
    }

    /// Runs it to its end and accepts any exit status.
    ///
    /// # Errors
    /// [`ProcessError`], but never [`ProcessError::Failed`].
    pub fn run(self, deadline: &Deadline) -> Result<Finished, ProcessError> {
        self.run_with(deadline, |_, _| {})
    }

    /// Runs it to its end, requires exit status 0 and returns standard output.
    ///
    /// # Errors
    /// [`ProcessError`]; [`ProcessError::Failed`] shows the last lines of both streams.
    pub fn run_ok(self, deadline: &Deadline) -> Result<String, ProcessError> {
        self.run(deadline)?.into_ok().map(|finished| finished.stdout)
    }

    /// Like [`Process::run`], and calls `on_line` for each line (without its line feed) as it arrives. When the
    /// deadline passes or an interrupt arrives, the process group gets SIGTERM, then SIGKILL after five seconds.
    ///
    /// # Errors
    /// As [`Process::run`].
    pub(crate) fn run_with(
        self,
        deadline: &Deadline,
        mut on_line: impl FnMut(Stream, &str),
    ) -> Result<Finished, ProcessError> {
        let command = self.command_line();
        let io = |source| ProcessError::Io { command: command.clone(), source };
        let mut log = self.log.as_deref().map(append).transpose().map_err(io)?.map(Redacting::of_process);
        deadline
            .check(&command)
            .map_err(|source| ProcessError::Ended { command: command.clone(), source })?;
        let mut child = self.spawn()?;
        let mut outputs = Outputs::of(&mut child);
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut hear = |(stream, bytes): Line| {
            let text = String::from_utf8_lossy(&bytes);
            let line = text.strip_suffix('\n').unwrap_or(&text);
            on_line(stream, line.strip_suffix('\r').unwrap_or(line));
            match stream {
                Stream::Stdout => stdout.push_str(&text),
                Stream::Stderr => stderr.push_str(&text),
            }
            log.as_mut().map_or(Ok(()), |log| log.write_all(&bytes))
        };
        let mut ended: Option<(WaitError, Deadline)> = None;
        let mut gone: Option<Deadline> = None;
        let heard: std::io::Result<()> = loop {
            let heard = if outputs.are_at_their_end() { outputs.wait(MOMENT) } else { outputs.wait(TICK) };
            // Everything that an exited child wrote is in the pipes. A process that inherited them (an ssh master, a daemon)
            // is read for a short time, never until it exits.
            let heard = heard.and_then(|mut lines| {
                if gone.is_none() && !matches!(child.try_wait(), Ok(None)) {
                    lines.extend(outputs.held()?);
                    gone =
                        Some(Deadline::uninterrupted(DRAIN_TIMEOUT, "processes that inherited the streams"));
                }
                let over = gone
                    .as_ref()
                    .is_some_and(|left| outputs.are_at_their_end() || left.remaining().is_zero());
                if over {
                    lines.extend(outputs.break_off());
                }
                lines.into_iter().try_for_each(&mut hear).map(|()| over)
            });
            match heard {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
            if let Some((_, grace)) = &ended {
                if grace.remaining().is_zero() {
                    signal_group(&child, Signal::KILL);
                }
            } else if gone.is_none()
                && let Err(reason) = deadline.check(&command)
            {
                signal_group(&child, Signal::TERM);
                ended = Some((reason, Deadline::uninterrupted(GRACE, "ending a child")));
            }
        };
        if heard.is_err() {
            signal_group(&child, Signal::KILL);
        }
        let status = child.wait();
        let status = heard.and(status).map_err(io)?;
        match ended {
            Some((source, _)) => {
                // Its children may still be running.
                signal_group(&child, Signal::KILL);
                Err(ProcessError::Ended { command, source })
            }
            None => {
                log.map(Redacting::finish).transpose().map_err(io)?;
                Ok(Finished { status, stdout, stderr, command })
            }
        }
    }

    /// Gives the program our terminal and waits for it, for a shell in the guest. Returns its exit status.
    ///
    /// # Errors
    /// [`ProcessError::Start`] or [`ProcessError::Io`].
    pub(crate) fn interact(mut self) -> Result<ExitStatus, ProcessError> {
        let command = self.command_line();
        self.spawn_withholding()?.wait().map_err(|source| ProcessError::Io { command, source })
    }

    /// Starts it with pipes for its outputs. A separate thread writes its input; a child that does not read it reports that
    /// by its exit status.
    fn spawn(mut self) -> Result<Child, ProcessError> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = self.spawn_contained()?;
        if let Some((mut stdin, bytes)) = child.stdin.take().zip(self.input) {
            thread::spawn(move || stdin.write_all(&bytes));
        }
        Ok(child)
    }

    /// Starts it in its own process group. The kernel kills it when the thread that starts it ends: prctl(2),
    /// `PR_SET_PDEATHSIG`.
    #[expect(unsafe_code, reason = "pre_exec: one async-signal-safe system call, prctl(PR_SET_PDEATHSIG)")]
    fn spawn_contained(&mut self) -> Result<Child, ProcessError> {
        self.command.process_group(0);
        // SAFETY: the closure allocates nothing, takes no lock, and makes a single system call.
        unsafe {
            self.command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into)
            });
        }
        self.spawn_withholding()
    }

    /// Starts it without the variables that hold secrets, unless they were set for this child.
    fn spawn_withholding(&mut self) -> Result<Child, ProcessError> {
        for key in withheld() {
            if !self.command.get_envs().any(|(set, _)| set == key.as_str()) {
                self.command.env_remove(key);
            }
        }
        let program = self.command.get_program().to_string_lossy().into_owned();
        self.command.spawn().map_err(|source| ProcessError::Start { program, source })
    }
}

/// Whether a program of this name is on `PATH`.
pub fn is_available(program: &str) -> bool {
    find_program(program, &super::env::path()).is_some()
}

/// The file that `program` names on `search_path`, folders joined by colons as in `PATH`.
pub(crate) fn find_program(program: &str, search_path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(search_path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn append(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}

fn signal_group(child: &Child, signal: Signal) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

#[cfg(test)]
mod tests;
