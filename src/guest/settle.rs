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
use super::prober::{Awaited, Prober, SshProber};
use super::readiness::{BootId, Ready, ReadyError, RunningJobs};
use super::ssh::{GiveUp, HealthCheck, SshError, WaitContext};
use crate::support::deadline::{Deadline, WaitError};
use crate::support::ssh_access::SshAccess;

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
        let (session, facts) =
            settle(&mut SshProber(access), Awaited::Settled, &mut context, progress, GuestReport::conclude)
                .map_err(|failure| failure.into_error(access, started.elapsed()))?;
        Ok(Ready { session, facts })
    })
}

/// Logs in anew and runs a command, as often as it takes. Whether the guest has settled does not matter.
///
/// `health_check` and `progress` are as in [`wait_ready`]. While no login works, `give_up` is asked after every attempt;
/// `true` ends the wait as if the deadline had passed.
///
/// # Errors
/// [`ReadyError`]; [`ReadyError::Unreachable`] if no login worked.
pub fn log_in(
    access: &SshAccess,
    deadline: &Deadline,
    health_check: &mut HealthCheck<'_>,
    give_up: &mut GiveUp<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<BootId, ReadyError> {
    let started = Instant::now();
    deadline.time_wait(|| {
        let mut context = WaitContext::new(deadline).with_health_check(health_check).with_give_up(give_up);
        settle(&mut SshProber(access), Awaited::Login, &mut context, progress, GuestReport::boot)
            .map(|(_, boot_id)| boot_id)
            .map_err(|failure| failure.into_error(access, started.elapsed()))
    })
}

/// What answered last.
#[derive(Debug)]
pub(super) enum LastContact {
    /// Nothing, since then; and how the last attempt failed, or how far the present one came.
    None { since: Instant, last: Option<SshError> },
    /// This boot, which has not settled yet, or should have ended; and the units whose jobs run, since then.
    Boot { boot_id: BootId, busy: String, jobs: Option<(Vec<String>, Instant)> },
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
            Self::TimedOut(LastContact::Boot { boot_id, busy, jobs }) => {
                let jobs = jobs.map(|(units, since)| RunningJobs { units, unchanged_for: since.elapsed() });
                ReadyError::NotSettled { boot_id, budget, last: busy, jobs }
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

/// Waits for what is awaited. Returns the session that saw it and what `conclude` made of its report.
pub(super) fn settle<P: Prober, T>(
    prober: &mut P,
    awaited: Awaited,
    context: &mut WaitContext<'_>,
    progress: &mut dyn FnMut(&str),
    conclude: fn(GuestReport) -> Conclusion<T>,
) -> Result<(P::Session, T), WaitFailure> {
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
            if let LastContact::None { last, .. } = &mut contact {
                // Whatever failed before, this login works.
                *last = Some(prober.mute());
            }
            prober.ask(&mut session, awaited, context, &mut |line| {
                match report.read_line(line) {
                    Some(ReportLine::Boot(boot_id)) => {
                        let busy = "no progress reported yet".into();
                        contact = LastContact::Boot { boot_id, busy, jobs: contact.jobs_of(boot_id) };
                        is_old = awaited == Awaited::SettledAfter(boot_id);
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
                    Some(ReportLine::Jobs(units)) => {
                        let words = busy_with(&units);
                        show(&words);
                        contact.set_busy(words);
                        contact.set_jobs(units);
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
                context.logged_in();
                if !is_old {
                    match conclude(report) {
                        Conclusion::Settled(facts) => return Ok((session, facts)),
                        Conclusion::Failed(error) => return Err(WaitFailure::Failed(error)),
                        Conclusion::Busy(reason) => contact.set_busy(reason),
                    }
                }
                pace.after_report(is_old)
            }
            Err(error) if error.is_final() => {
                contact.set_unfinished(&error);
                return Err(WaitFailure::new(error, contact));
            }
            Err(error) => {
                let delay = pace.after_failure(&error);
                show(if answered { "waiting for SSH again" } else { "waiting for SSH" });
                let since = match contact {
                    LastContact::None { since, .. } => since,
                    LastContact::Boot { .. } => {
                        context.logged_in();
                        Instant::now()
                    }
                };
                let answered = error.is_answer();
                contact = LastContact::None { since, last: Some(error) };
                if context.gives_up(since.elapsed(), answered) {
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

    /// The jobs that this very boot listed before.
    fn jobs_of(&self, id: BootId) -> Option<(Vec<String>, Instant)> {
        match self {
            Self::Boot { boot_id, jobs, .. } if *boot_id == id => jobs.clone(),
            _ => None,
        }
    }

    fn set_jobs(&mut self, units: Vec<String>) {
        if let Self::Boot { jobs, .. } = self
            && jobs.as_ref().is_none_or(|(known, _)| *known != units)
        {
            *jobs = Some((units, Instant::now()));
        }
    }

    /// An attempt that the deadline cut short: the error of the one before would be out of date.
    fn set_unfinished(&mut self, error: &SshError) {
        if let (Self::None { last, .. }, SshError::Wait(WaitError::TimedOut { awaited, .. })) = (self, error)
            && !matches!(last, Some(SshError::Mute { .. }))
        {
            *last = Some(SshError::Unfinished { doing: awaited.clone() });
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
            // sshd counts no such login, but each costs the guest as much as any.
            SshError::NoShell { .. } | SshError::Mute { .. } => AFTER_LOGIN,
            // No sshd runs; the next one starts without penalties.
            _ => {
                *self = Self::default();
                AFTER_SYN
            }
        }
    }
}

/// The running jobs, in a few words.
fn busy_with(units: &[String]) -> String {
    const SHOWN: usize = 4;
    if units.is_empty() {
        return "waiting for the boot to finish".into();
    }
    if units.iter().any(|unit| unit.starts_with("cloud-")) {
        return "SSH answers, waiting for cloud-init".into();
    }
    let (shown, more) = units.split_at(SHOWN.min(units.len()));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!("waiting for units: {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests;
