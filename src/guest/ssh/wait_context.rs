//! What a wait checks while it waits: the deadline, an interrupt, the VM's health, and whether to give up.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::BlockDirections;

use super::error::SshError;
use crate::support::deadline::Deadline;

/// The longest wait on a socket between two checks.
const SLICE: Duration = Duration::from_millis(100);
/// How often the health check runs.
const HEALTH_CHECK: Duration = Duration::from_millis(500);

/// Fails, with the reason, when the VM died, paused, panicked or entered emergency mode.
pub(in crate::guest) type HealthCheck<'a> = dyn FnMut() -> anyhow::Result<()> + 'a;
/// Decides whether to give up on a guest that nobody can log in to.
pub(in crate::guest) type GiveUp<'a> = dyn FnMut(&Silence<'_>) -> bool + 'a;

/// The time in which nobody could log in, up to now.
#[derive(Clone, Copy, Debug)]
pub struct Silence<'a> {
    /// How long it has lasted.
    pub length: Duration,
    /// Our ends of the connections on which the guest's own sshd, known by its host key, gave us no session.
    pub refused: &'a [SocketAddr],
    /// Whether the guest answered the last attempt, if only to refuse it: its kernel runs.
    pub answered: bool,
}

/// A deadline, and the reasons to stop waiting before it.
pub(in crate::guest) struct WaitContext<'a> {
    pub(super) deadline: &'a Deadline,
    health_check: Option<(&'a mut HealthCheck<'a>, Instant)>,
    give_up: Option<&'a mut GiveUp<'a>>,
    refused: Vec<SocketAddr>,
}

impl<'a> WaitContext<'a> {
    /// Only the deadline and its interrupt.
    pub(in crate::guest) fn new(deadline: &'a Deadline) -> Self {
        Self { deadline, health_check: None, give_up: None, refused: Vec::new() }
    }

    /// Also runs `health_check` twice a second.
    pub(in crate::guest) fn with_health_check(self, health_check: &'a mut HealthCheck<'a>) -> Self {
        Self { health_check: Some((health_check, Instant::now())), ..self }
    }

    /// Also asks `give_up` while nothing answers.
    pub(in crate::guest) fn with_give_up(self, give_up: &'a mut GiveUp<'a>) -> Self {
        Self { give_up: Some(give_up), ..self }
    }

    /// Remembers a connection on which the guest's sshd gave us no session.
    pub(in crate::guest) fn refused(&mut self, ours: SocketAddr) {
        self.refused.push(ours);
    }

    /// Forgets them: somebody could log in.
    pub(in crate::guest) fn logged_in(&mut self) {
        self.refused.clear();
    }

    /// Whether to give up on a guest that has been silent for so long, although the deadline has not passed.
    pub(in crate::guest) fn gives_up(&mut self, length: Duration, answered: bool) -> bool {
        let silence = Silence { length, refused: &self.refused, answered };
        self.give_up.as_mut().is_some_and(|give_up| give_up(&silence))
    }

    /// Fails when there is a reason to stop waiting for `awaited`.
    pub(super) fn check(&mut self, awaited: &str) -> Result<(), SshError> {
        self.deadline.check(awaited)?;
        match &mut self.health_check {
            Some((health_check, next)) if Instant::now() >= *next => {
                let health = health_check();
                *next = Instant::now() + HEALTH_CHECK;
                health.map_err(SshError::VmFailed)
            }
            _ => Ok(()),
        }
    }

    /// Waits until libssh2 can go on with the socket, for a tenth of a second at most.
    pub(super) fn wait_for_socket(&self, tcp: &TcpStream, directions: BlockDirections) {
        let flags = match directions {
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
        };
        let slice = SLICE.min(self.deadline.remaining());
        let slice = Timespec { tv_sec: 0, tv_nsec: i64::from(slice.subsec_nanos()) };
        // On an error, such as a signal or a lost peer, the next operation on the socket reports what happened.
        let _ = poll(&mut [PollFd::new(tcp, flags)], Some(&slice));
    }

    /// Waits for `time`, checking meanwhile; the deadline or an interrupt cuts it short.
    pub(in crate::guest) fn pause(&mut self, time: Duration, awaited: &str) -> Result<(), SshError> {
        let until = Instant::now() + time;
        loop {
            self.check(awaited)?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.deadline.pause(left.min(HEALTH_CHECK));
        }
    }
}
