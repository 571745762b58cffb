//! The wait for a settled boot: attempts, one after the other, each a fresh session, until one tells of a boot that is
//! over and, where a restart is to be proven, is not the old one.
//!
//! Whom it asks is behind [`Prober`], so that restarts can be played through in tests.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::ReadyError;
use super::facts::{BootFacts, GuestReport, ReportLine};
use crate::guest::BootId;
use crate::guest::ssh::{Session, SshError, Stream, WaitContext};
use crate::support::deadline::WaitError;
use crate::support::process::quote;
use crate::support::ssh_access::SshAccess;

const SCRIPT: &str = include_str!("settle.sh");
/// Between attempts that cost the guest a SYN.
const CHEAP: Duration = Duration::from_millis(100);
/// Between attempts that cost it a login.
const DEAR: Duration = Duration::from_secs(1);
/// Between looks at the old boot: its logins cost the shutdown, and no machine goes from its last answer to its next
/// boot's first in less.
const OLD: Duration = Duration::from_secs(2);
/// Between refused authentications from the third on. sshd books 5 s of penalty for each and shuts an address out
/// from 15 s on (sshd_config(5), PerSourcePenalties).
const REFUSED: [Duration; 3] = [Duration::from_millis(500), DEAR, Duration::from_secs(6)];

/// How a guest is asked.
pub(in crate::guest) trait Prober {
    /// A connection with the boot that answered.
    type Session;

    /// One attempt at a session.
    fn open(&mut self, watch: &mut WaitContext<'_>) -> Result<Self::Session, SshError>;

    /// Lets the guest tell of itself (see `settle.sh`) until it has told all or `on_line` has heard enough.
    fn ask(
        &mut self,
        session: &mut Self::Session,
        old: Option<&BootId>,
        watch: &mut WaitContext<'_>,
        on_line: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SshError>;

    /// The boots its journal knows, oldest first; or why it cannot tell.
    fn boots(
        &mut self,
        session: &mut Self::Session,
        watch: &mut WaitContext<'_>,
    ) -> Result<Vec<BootId>, String>;
}

/// What last answered.
#[derive(Debug)]
pub(in crate::guest) enum LastContact {
    /// Nothing, since then; and how the last attempt failed.
    None { since: Instant, last: Option<SshError> },
    /// The boot that should have ended.
    Old(BootId),
    /// A boot that is welcome, and not settled yet.
    Some { boot_id: BootId, busy: String },
}

/// Why no boot settled.
#[derive(Debug)]
pub(in crate::guest) enum WaitFailure {
    /// The deadline passed, or the guest was given up on before it.
    TimedOut(LastContact),
    /// Something that waiting does not mend.
    Failed(ReadyError),
}

/// Waits for a settled boot other than `old`; gives the session that saw it, and all it told.
pub(in crate::guest) fn settle<P: Prober>(
    prober: &mut P,
    old: Option<&BootId>,
    watch: &mut WaitContext<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(P::Session, BootFacts), WaitFailure> {
    let mut said = String::new();
    let mut say = |text: &str| {
        if text != said {
            text.clone_into(&mut said);
            progress(text);
        }
    };
    let mut contact = LastContact::None { since: Instant::now(), last: None };
    let mut pace = Pace::default();
    let mut answered = false;
    say("waiting for SSH");
    loop {
        let mut account = GuestReport::default();
        let told = prober.open(watch).and_then(|mut session| {
            prober.ask(&mut session, old, watch, &mut |line| {
                match account.hear(line) {
                    ReportLine::Boot(id) if Some(&id) == old => {
                        say(&format!("still the old boot {}", id.short()));
                        contact = LastContact::Old(id);
                        return ControlFlow::Break(());
                    }
                    ReportLine::Boot(boot_id) => {
                        say("SSH answers, waiting for the system to settle");
                        contact = LastContact::Some { boot_id, busy: "it has not said more".into() };
                    }
                    ReportLine::Busy(words) => {
                        say(&words);
                        if let LastContact::Some { busy, .. } = &mut contact {
                            *busy = words;
                        }
                    }
                    ReportLine::Other => {}
                }
                ControlFlow::Continue(())
            })?;
            Ok(session)
        });
        answered |= !matches!(contact, LastContact::None { .. });
        let failed = match (told, &mut contact) {
            (Ok(_), LastContact::Old(_)) => None,
            (Ok(session), contact) => match account.conclude().map_err(WaitFailure::Failed)? {
                Ok(facts) => return Ok((session, facts)),
                Err(not_yet) => {
                    if let LastContact::Some { busy, .. } = contact {
                        *busy = not_yet;
                    }
                    None
                }
            },
            (Err(error), _) => Some(error),
        };
        let delay = match failed {
            None => pace.after_login(&contact),
            Some(error) => {
                if error.is_final() {
                    return Err(ended(error, contact));
                }
                let delay = pace.after_failure(&error);
                say(if answered { "waiting for SSH again" } else { "waiting for SSH" });
                let since = match contact {
                    LastContact::None { since, .. } => since,
                    LastContact::Old(_) | LastContact::Some { .. } => Instant::now(),
                };
                contact = LastContact::None { since, last: Some(error) };
                if watch.resigns(since.elapsed()) {
                    return Err(WaitFailure::TimedOut(contact));
                }
                delay
            }
        };
        if let Err(error) = watch.pause(delay, "a settled boot") {
            return Err(ended(error, contact));
        }
    }
}

fn ended(error: SshError, contact: LastContact) -> WaitFailure {
    match error {
        SshError::Wait(WaitError::TimedOut { .. }) => WaitFailure::TimedOut(contact),
        other => WaitFailure::Failed(other.into()),
    }
}

/// How long to wait before the next attempt.
#[derive(Debug, Default)]
struct Pace {
    refused: usize,
    cut: usize,
}

impl Pace {
    fn after_login(&mut self, contact: &LastContact) -> Duration {
        *self = Self::default();
        if matches!(contact, LastContact::Old(_)) { OLD } else { DEAR }
    }

    fn after_failure(&mut self, error: &SshError) -> Duration {
        match error {
            SshError::AuthRefused { .. } => {
                let delay = REFUSED.get(self.refused).or(REFUSED.last()).copied().unwrap_or(DEAR);
                self.refused += 1;
                delay
            }
            // Cut off before or after the login; several in a row are likely before, and count against us.
            SshError::Closed { .. } | SshError::Protocol { .. } => {
                self.cut += 1;
                if self.cut > 1 { DEAR } else { CHEAP }
            }
            // No sshd: the next one knows nothing of our past.
            _ => {
                *self = Self::default();
                CHEAP
            }
        }
    }
}

/// The real guest.
pub(in crate::guest) struct Guest<'a> {
    pub(in crate::guest) access: &'a SshAccess,
}

impl Prober for Guest<'_> {
    type Session = Session;

    fn open(&mut self, watch: &mut WaitContext<'_>) -> Result<Session, SshError> {
        Session::open(self.access, watch)
    }

    fn ask(
        &mut self,
        session: &mut Session,
        old: Option<&BootId>,
        watch: &mut WaitContext<'_>,
        on_line: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SshError> {
        let mut pending = Vec::new();
        let command = format!("exec sh -c {}", quote(&script("", old)));
        // What it told decides, not how it ended.
        let _ended = session.run(&command, watch, &mut |stream, bytes| {
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

    fn boots(&mut self, session: &mut Session, watch: &mut WaitContext<'_>) -> Result<Vec<BootId>, String> {
        let (mut text, mut complaint) = (Vec::new(), Vec::new());
        let command = "sudo -n journalctl --list-boots --quiet --no-pager";
        let ended = session.run::<Infallible>(command, watch, &mut |stream, bytes| {
            match stream {
                Stream::Stdout => text.extend_from_slice(bytes),
                Stream::Stderr => complaint.extend_from_slice(bytes),
            }
            ControlFlow::Continue(())
        });
        let ControlFlow::Continue(status) = ended.map_err(|error| format!("`{command}`: {error}"))?;
        if !status.is_success() {
            let complaint = String::from_utf8_lossy(&complaint);
            let last = complaint.lines().last().unwrap_or("and no word");
            return Err(format!("`{command}` ended with {status}: {last}"));
        }
        // ` -1 4a6f… Mon 2026-11-23 08:49:43 UTC …`
        let id = |line: &str| {
            let id = line.split_whitespace().nth(1).and_then(|id| id.parse().ok());
            id.ok_or_else(|| format!("`{command}` said `{line}`"))
        };
        String::from_utf8_lossy(&text).lines().map(id).collect()
    }
}

/// `settle.sh` for a system whose root is at `root`.
fn script(root: &str, old: Option<&BootId>) -> String {
    SCRIPT.replace("@root@", root).replace("@old@", &old.map(ToString::to_string).unwrap_or_default())
}

#[cfg(test)]
mod tests;
