//! A child that runs until it is stopped: a server that a run needs. It ends when its [`Service`] is dropped, and the
//! kernel kills it if this process dies first.

use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{GRACE, Process, ProcessError, append, describe, signal_group};
use crate::support::deadline::Deadline;

/// A child that runs until it is stopped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    command: String,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it and leaves it running. Both streams go to the file of [`Process::log_to`], or nowhere; it has no input.
    ///
    /// The kernel ends the child with the *thread* that started it: that thread must live as long as the service.
    ///
    /// # Errors
    /// [`ProcessError::Start`], or [`ProcessError::Io`] when the log cannot be opened.
    pub(crate) fn start(mut self) -> Result<Service, ProcessError> {
        let command = self.command_line();
        let io = |source| ProcessError::Io { command: command.clone(), source };
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It writes to the file itself, so its log is redacted when the run is over.
        if let Some(log) = self.log.as_deref().map(append).transpose().map_err(io)? {
            self.command.stderr(log.try_clone().map_err(io)?).stdout(log);
        }
        Ok(Service { child: self.spawn_contained()?, command, ended: None })
    }
}

impl Service {
    /// The command line, fit to paste into a shell.
    pub(crate) fn command(&self) -> &str {
        &self.command
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, in words, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.map(describe)
    }

    /// Asks it to end (SIGTERM), kills it if it has not within five seconds, and waits until it is gone. Its children
    /// go with it.
    pub(crate) fn stop(&mut self) {
        if self.ended().is_none() {
            signal_group(&self.child, Signal::TERM);
            let grace = Deadline::uninterrupted(GRACE, "ending a service");
            while self.ended().is_none() && !grace.remaining().is_zero() {
                grace.pause(Duration::from_millis(5));
            }
            signal_group(&self.child, Signal::KILL);
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(pid: u32) -> bool {
        std::path::Path::new("/proc").join(pid.to_string()).exists()
    }

    fn wait_until_it_spoke(log: &std::path::Path) {
        use crate::support::deadline::Progress::{Pending, Ready};
        let empty = || Ok(if std::fs::read(log)?.is_empty() { Pending("empty".into()) } else { Ready(()) });
        let deadline = Deadline::uninterrupted(Duration::from_secs(60), "the test");
        deadline.wait_for("the log", Duration::from_millis(5), empty).unwrap();
    }

    #[test]
    fn a_service_keeps_its_log_and_is_gone_once_it_is_stopped_or_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let start =
            || Process::new("sh").args(["-c", "echo up; sleep 60 & wait"]).log_to(&log).start().unwrap();
        let mut stopped = start();
        assert!(lives(stopped.pid()) && stopped.ended().is_none());
        wait_until_it_spoke(&log);
        stopped.stop();
        assert_eq!(stopped.ended().as_deref(), Some("signal 15"));
        let pid = stopped.pid();
        drop(stopped);
        let dropped = start();
        let other = dropped.pid();
        drop(dropped);
        assert!(!lives(pid) && !lives(other));
        assert!(std::fs::read_to_string(&log).unwrap().starts_with("up\n"));
    }

    #[test]
    fn one_that_heeds_no_signal_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = "trap '' TERM; echo deaf; while :; do sleep 1; done";
        let mut deaf = Process::new("sh").args(["-c", script]).log_to(&log).start().unwrap();
        wait_until_it_spoke(&log);
        deaf.stop();
        assert_eq!(deaf.ended().as_deref(), Some("signal 9"));
    }

    #[test]
    fn how_one_ended_by_itself_is_told() {
        let mut short = Process::new("sh").args(["-c", "exit 3"]).start().unwrap();
        let deadline = Deadline::uninterrupted(Duration::from_secs(10), "the test");
        while short.ended().is_none() && !deadline.remaining().is_zero() {
            deadline.pause(Duration::from_millis(5));
        }
        assert_eq!(short.ended().as_deref(), Some("exit status 3"));
        short.stop();
    }
}
