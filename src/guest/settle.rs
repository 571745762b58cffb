//! The wait for a ready guest: attempts in a row, each a fresh SSH session, until one reports a boot that has settled and, when
//! a restart is to be proven, is not the old one.
//!
//! The waiting happens *in the guest*: one session runs `settle.sh`, which blocks in `systemctl is-system-running --wait` and
//! prints facts line by line. Polling from outside would slow down an emulated guest just while it boots: a login costs 1 to
//! 2 CPU seconds (key exchange, PAM session, user manager), and each command on an open session forks a shell and a systemctl,
//! some 0.1 s. The script sleeps on the bus instead, and we see its last line within a few tens of milliseconds. It also lists
//! the running jobs every 3 s, to show them as progress.
//!
//! The script reads cloud-init's files in `/run/cloud-init/`, as `cloud-init status` does: that command is a Python program and
//! takes 1 to 2 s under emulation. cloud-init's units are part of systemd's boot, so both finish together.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::guest_report::{Conclusion, GuestReport, ReportLine};
use super::readiness::{BootFacts, BootId, Ready, ReadyError};
use super::ssh::{HealthCheck, Session, SshError, WaitContext};
use crate::support::deadline::{Deadline, WaitError};
use crate::support::process::{Stream, quote};
use crate::support::ssh_access::SshAccess;

const SCRIPT: &str = include_str!("settle.sh");
/// Between attempts that cost the guest one SYN.
const AFTER_SYN: Duration = Duration::from_millis(100);
/// Between attempts that cost it a login.
const AFTER_LOGIN: Duration = Duration::from_secs(1);
/// Between attempts that reach the old boot: each login slows its shutdown, and no machine restarts in less.
const AFTER_OLD_BOOT: Duration = Duration::from_secs(2);
/// Between refused authentications; the last one repeats. sshd since 9.8 adds a penalty of 5 s for each and stops answering an
/// address from 15 s on (sshd_config(5), PerSourcePenalties).
const AFTER_REFUSAL: [Duration; 3] = [Duration::from_millis(500), AFTER_LOGIN, Duration::from_secs(6)];

/// Waits until the guest is ready, and reports to `progress` what it is waiting for whenever that changes.
///
/// `health_check` runs twice a second. Its error, when the VM died, paused, panicked or entered emergency mode, ends the wait.
///
/// # Errors
/// [`ReadyError`].
pub fn wait_ready(
    access: &SshAccess,
    deadline: &Deadline,
    health_check: &mut HealthCheck<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<Ready, ReadyError> {
    let started = Instant::now();
    deadline.time_wait(|| {
        let mut context = WaitContext::new(deadline).with_health_check(health_check);
        let (session, facts) = settle(&mut SshProber(access), None, &mut context, progress)
            .map_err(|failure| failure.into_error(access, started.elapsed()))?;
        Ok(Ready { session, facts })
    })
}

/// How a guest is asked. Tests play through restarts with a scripted one.
pub(super) trait Prober {
    /// A connection to the boot that answered.
    type Session;

    /// One attempt to connect.
    fn open(&mut self, context: &mut WaitContext<'_>) -> Result<Self::Session, SshError>;

    /// Passes the lines of `settle.sh` to `on_line` until the script ends or `on_line` breaks off.
    fn ask(
        &mut self,
        session: &mut Self::Session,
        old: Option<BootId>,
        context: &mut WaitContext<'_>,
        on_line: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SshError>;

    /// The boots in the guest's journal, oldest first; or why it cannot list them.
    fn boots(
        &mut self,
        session: &mut Self::Session,
        context: &mut WaitContext<'_>,
    ) -> Result<Vec<BootId>, String>;
}

/// What answered last.
#[derive(Debug)]
pub(super) enum LastContact {
    /// Nothing, since then; and why the last attempt failed.
    None { since: Instant, last: Option<SshError> },
    /// This boot, which has not settled yet, or should have ended.
    Boot { boot_id: BootId, busy: String },
}

/// Why no boot settled.
#[derive(Debug)]
pub(super) enum WaitFailure {
    /// The deadline passed, or the caller gave the guest up before it.
    TimedOut(LastContact),
    /// Something that waiting does not change.
    Failed(ReadyError),
}

impl WaitFailure {
    /// The error of a caller that waited for `budget` and expected no particular boot.
    pub(super) fn into_error(self, access: &SshAccess, budget: Duration) -> ReadyError {
        match self {
            Self::Failed(error) => error,
            Self::TimedOut(LastContact::None { since, last }) => {
                let (peer, silent) = (access.peer(), since.elapsed());
                ReadyError::Unreachable { peer, budget, silent, last: last.map(Box::new) }
            }
            Self::TimedOut(LastContact::Boot { boot_id, busy }) => {
                ReadyError::NotSettled { boot_id, budget, last: busy }
            }
        }
    }

    fn new(error: SshError, contact: LastContact) -> Self {
        match error {
            SshError::Wait(WaitError::TimedOut { .. }) => Self::TimedOut(contact),
            other => Self::Failed(other.into()),
        }
    }
}

/// Waits for a settled boot other than `old`. Returns the session that saw it and what it reported.
pub(super) fn settle<P: Prober>(
    prober: &mut P,
    old: Option<BootId>,
    context: &mut WaitContext<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(P::Session, BootFacts), WaitFailure> {
    let mut shown = String::new();
    let mut show = |text: &str| {
        if text != shown {
            text.clone_into(&mut shown);
            progress(text);
        }
    };
    let mut contact = LastContact::None { since: Instant::now(), last: None };
    let mut pace = Pace::default();
    let mut answered = false;
    show("waiting for SSH");
    loop {
        let (mut report, mut is_old) = (GuestReport::default(), false);
        let attempt = prober.open(context).and_then(|mut session| {
            prober.ask(&mut session, old, context, &mut |line| {
                match report.read_line(line) {
                    Some(ReportLine::Boot(boot_id)) => {
                        contact = LastContact::Boot { boot_id, busy: "no progress reported yet".into() };
                        is_old = Some(boot_id) == old;
                        if is_old {
                            show(&format!("still the old boot {}", boot_id.short()));
                            return ControlFlow::Break(());
                        }
                        show("SSH answers, waiting for the system to settle");
                    }
                    Some(ReportLine::Busy(words)) => {
                        show(&words);
                        contact.set_busy(words);
                    }
                    None => {}
                }
                ControlFlow::Continue(())
            })?;
            Ok(session)
        });
        answered |= !matches!(contact, LastContact::None { .. });
        let delay = match attempt {
            Ok(session) => {
                if !is_old {
                    match report.conclude() {
                        Conclusion::Settled(facts) => return Ok((session, facts)),
                        Conclusion::Failed(error) => return Err(WaitFailure::Failed(error)),
                        Conclusion::Busy(reason) => contact.set_busy(reason),
                    }
                }
                pace.after_report(is_old)
            }
            Err(error) if error.is_final() => return Err(WaitFailure::new(error, contact)),
            Err(error) => {
                let delay = pace.after_failure(&error);
                show(if answered { "waiting for SSH again" } else { "waiting for SSH" });
                let since = match contact {
                    LastContact::None { since, .. } => since,
                    LastContact::Boot { .. } => Instant::now(),
                };
                contact = LastContact::None { since, last: Some(error) };
                if context.gives_up(since.elapsed()) {
                    return Err(WaitFailure::TimedOut(contact));
                }
                delay
            }
        };
        if let Err(error) = context.pause(delay, "a settled boot") {
            return Err(WaitFailure::new(error, contact));
        }
    }
}

impl LastContact {
    fn set_busy(&mut self, words: String) {
        if let Self::Boot { busy, .. } = self {
            *busy = words;
        }
    }
}

/// How long to wait before the next attempt.
#[derive(Debug, Default)]
struct Pace {
    refused: usize,
    cut: usize,
}

impl Pace {
    fn after_report(&mut self, is_old: bool) -> Duration {
        *self = Self::default();
        if is_old { AFTER_OLD_BOOT } else { AFTER_LOGIN }
    }

    fn after_failure(&mut self, error: &SshError) -> Duration {
        match error {
            SshError::AuthRefused { .. } => {
                let delay = AFTER_REFUSAL[self.refused.min(AFTER_REFUSAL.len() - 1)];
                self.refused += 1;
                delay
            }
            // Several cuts in a row probably happened before the login, where sshd counts them against us.
            SshError::Closed { .. } | SshError::Protocol { .. } => {
                self.cut += 1;
                if self.cut > 1 { AFTER_LOGIN } else { AFTER_SYN }
            }
            // No sshd runs; the next one starts without penalties.
            _ => {
                *self = Self::default();
                AFTER_SYN
            }
        }
    }
}

/// Asks a real guest over SSH.
pub(super) struct SshProber<'a>(pub(super) &'a SshAccess);

impl Prober for SshProber<'_> {
    type Session = Session;

    fn open(&mut self, context: &mut WaitContext<'_>) -> Result<Session, SshError> {
        Session::open(self.0, context)
    }

    fn ask(
        &mut self,
        session: &mut Session,
        old: Option<BootId>,
        context: &mut WaitContext<'_>,
        on_line: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SshError> {
        let mut pending = Vec::new();
        let command = format!("exec sh -c {}", quote(&script("", old)));
        // What it reported counts, not its exit status.
        let _status = session.run(&command, &[], context, &mut |stream, bytes| {
            if stream == Stream::Stderr {
                return ControlFlow::Continue(());
            }
            pending.extend_from_slice(bytes);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                on_line(String::from_utf8_lossy(&line).trim_end())?;
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    fn boots(&mut self, session: &mut Session, context: &mut WaitContext<'_>) -> Result<Vec<BootId>, String> {
        let command = "sudo -n journalctl --list-boots --quiet --no-pager";
        let output = session.output(command, context).map_err(|error| format!("`{command}`: {error}"))?;
        if !output.status.is_success() {
            let last = output.stderr.lines().last().unwrap_or("no message");
            return Err(format!("`{command}` ended with {}: {last}", output.status));
        }
        // ` -1 4a6f… Mon 2026-11-23 08:49:43 UTC …`
        let id = |line: &str| {
            let id = line.split_whitespace().nth(1).and_then(BootId::parse);
            id.ok_or_else(|| format!("`{command}` printed `{line}`, which names no boot id"))
        };
        output.stdout.lines().map(id).collect()
    }
}

/// `settle.sh` for a system whose root is at `root`.
fn script(root: &str, old: Option<BootId>) -> String {
    SCRIPT.replace("@root@", root).replace("@old@", &old.map(|id| id.to_string()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
