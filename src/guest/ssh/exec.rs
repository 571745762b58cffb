//! Running a command in the guest: both streams are drained as they come, whatever their size.

use std::convert::Infallible;
use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;

use super::{Session, SshError, WaitContext};
use crate::support::deadline::Deadline;

/// How many reads in a row one stream gets before the deadline and the other stream are looked at.
const TURN: usize = 32;
/// How much of standard error an error shows.
const SHOWN: usize = 2000;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// With this exit status.
    Exited(i32),
    /// By this signal, named without `SIG` (RFC 4254, section 6.10).
    Signal(String),
}

impl Status {
    /// Whether it is exit status 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Exited(0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit status {code}"),
            Self::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

/// Which stream some bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A command that ended, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// All of standard output, lossily decoded.
    pub stdout: String,
    /// All of standard error, lossily decoded.
    pub stderr: String,
}

impl Session {
    /// Runs `command` by the user's shell, its standard input empty, to its end. When the deadline passes or an
    /// interrupt comes the channel is given up; the command itself may live on in the guest.
    ///
    /// # Errors
    /// [`SshError::Closed`], [`SshError::Wait`], [`SshError::Protocol`]. A failing command is no error.
    pub fn exec(&mut self, command: &str, deadline: &Deadline) -> Result<Output, SshError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = self.exec_with(command, deadline, |stream, bytes| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        })?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Like [`Session::exec`], and insists on exit status 0; gives standard output.
    ///
    /// # Errors
    /// Also [`SshError::Failed`], with the end of standard error.
    pub fn exec_ok(&mut self, command: &str, deadline: &Deadline) -> Result<String, SshError> {
        let output = self.exec(command, deadline)?;
        if output.status.is_success() {
            return Ok(output.stdout);
        }
        let stderr = output.stderr.trim_end();
        let skipped = stderr.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
        Err(SshError::Failed {
            command: command.to_owned(),
            status: output.status,
            stderr: stderr.get(skipped..).unwrap_or_default().to_owned(),
        })
    }

    /// Like [`Session::exec`], but hands the bytes over as they come and keeps none.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub fn exec_with(
        &mut self,
        command: &str,
        deadline: &Deadline,
        mut on_bytes: impl FnMut(Stream, &[u8]),
    ) -> Result<Status, SshError> {
        let ended = deadline.time_wait(|| {
            self.run(command, &mut WaitContext::over(deadline), &mut |stream, bytes| {
                on_bytes(stream, bytes);
                ControlFlow::<Infallible>::Continue(())
            })
        })?;
        match ended {
            ControlFlow::Continue(status) => Ok(status),
            ControlFlow::Break(never) => match never {},
        }
    }

    /// Runs `command` until it ends (its status) or `on_bytes` has heard enough (what it says then).
    pub(in crate::guest) fn run<B>(
        &mut self,
        command: &str,
        watch: &mut WaitContext<'_>,
        on_bytes: &mut dyn FnMut(Stream, &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B, Status>, SshError> {
        let doing = || format!("`{}`", command.lines().next().unwrap_or_default());
        let mut channel = self.drive("opening a channel", None, watch, |ssh| ssh.channel_session())?;
        self.drive("starting a command", None, watch, |_| channel.exec(command))?;
        self.drive("starting a command", None, watch, |_| channel.send_eof())?;
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let mut moved = false;
            for (id, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
                let mut source = channel.stream(id);
                for _ in 0..TURN {
                    match source.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(read) => {
                            moved = true;
                            let bytes = buffer.get(..read).unwrap_or_default();
                            if let ControlFlow::Break(heard) = on_bytes(stream, bytes) {
                                return Ok(ControlFlow::Break(heard));
                            }
                        }
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                        Err(error) => {
                            let (peer, source) = (self.peer, error.into());
                            return Err(SshError::Closed { peer, doing: doing(), source });
                        }
                    }
                }
            }
            if channel.eof() {
                break;
            }
            watch.look(&doing())?;
            if !moved {
                watch.await_socket(&self.tcp, self.ssh.block_directions());
            }
        }
        // The exit status comes before the server's close, which is therefore awaited before we send ours.
        self.drive("the end of a command", None, watch, |_| channel.wait_close())?;
        let peer = self.peer;
        let lost = |source| SshError::from_ssh2(peer, "the end of a command", source);
        // libssh2 knows no "none": after a signal, its exit status is 0.
        let status = match channel.exit_signal().map_err(lost)?.exit_signal {
            Some(name) => Status::Signal(name),
            None => Status::Exited(channel.exit_status().map_err(lost)?),
        };
        Ok(ControlFlow::Continue(status))
    }
}
