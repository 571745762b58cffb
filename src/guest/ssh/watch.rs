//! What is looked at while waiting: the deadline, an interrupt, and whether the VM still lives.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::BlockDirections;

use super::SshError;
use crate::support::deadline::Deadline;

/// The longest we wait on a socket before looking around again.
const SLICE: Duration = Duration::from_millis(100);
/// How often we ask whether the VM still lives.
const ALIVE: Duration = Duration::from_millis(500);

/// Asks whether the VM still lives: errs, with the reason, when it died, paused, panicked or sits in emergency mode.
pub(in crate::guest) type Alive<'a> = dyn FnMut() -> anyhow::Result<()> + 'a;

/// Asks whether to give up on a guest that has been silent for so long.
pub(in crate::guest) type Resign<'a> = dyn FnMut(Duration) -> bool + 'a;

/// A deadline, and somebody who knows whether waiting still makes sense.
pub(in crate::guest) struct WaitContext<'a> {
    deadline: &'a Deadline,
    health_check: Option<(&'a mut Alive<'a>, Instant)>,
    give_up: Option<&'a mut Resign<'a>>,
}

impl<'a> WaitContext<'a> {
    /// Only the deadline and its interrupt.
    pub(in crate::guest) fn over(deadline: &'a Deadline) -> Self {
        Self { deadline, health_check: None, give_up: None }
    }

    /// Also asks `health_check`, twice a second.
    pub(in crate::guest) fn with_alive(deadline: &'a Deadline, health_check: &'a mut Alive<'a>) -> Self {
        Self { deadline, health_check: Some((health_check, Instant::now())), give_up: None }
    }

    /// Also asks `give_up` while nothing answers.
    pub(in crate::guest) fn or_resign(self, give_up: &'a mut Resign<'a>) -> Self {
        Self { give_up: Some(give_up), ..self }
    }

    /// Whether to give up on a guest that has been silent for so long, though the deadline has not passed.
    pub(in crate::guest) fn resigns(&mut self, silent: Duration) -> bool {
        self.give_up.as_mut().is_some_and(|give_up| give_up(silent))
    }

    pub(in crate::guest) fn deadline(&self) -> &'a Deadline {
        self.deadline
    }

    /// `Err` when there is a reason to stop waiting for `awaited`.
    pub(in crate::guest) fn look(&mut self, awaited: &str) -> Result<(), SshError> {
        self.deadline.check(awaited)?;
        match &mut self.health_check {
            Some((health_check, next)) if Instant::now() >= *next => {
                let verdict = health_check();
                *next = Instant::now() + ALIVE;
                verdict.map_err(SshError::Dead)
            }
            _ => Ok(()),
        }
    }

    /// Waits until the socket can do what libssh2 waits for, a tenth of a second at most.
    pub(in crate::guest) fn await_socket(&self, tcp: &TcpStream, directions: BlockDirections) {
        let flags = match directions {
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
        };
        let slice = SLICE.min(self.deadline.remaining());
        let slice = Timespec { tv_sec: 0, tv_nsec: i64::from(slice.subsec_nanos()) };
        // Whatever it says (a signal came, the peer is gone), the next operation on the socket will tell.
        let _ = poll(&mut [PollFd::new(tcp, flags)], Some(&slice));
    }

    /// Waits `time`, cut short by the deadline or an interrupt, and keeps asking whether the VM lives.
    pub(in crate::guest) fn pause(&mut self, time: Duration, awaited: &str) -> Result<(), SshError> {
        let until = Instant::now() + time;
        loop {
            self.look(awaited)?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.deadline.pause(left.min(ALIVE));
        }
    }
}
