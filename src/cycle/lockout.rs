//! Whether nobody can log in to a guest that is up: what proves a lockout, and how soon.
//!
//! A lockout is never inferred from silence alone. Either sshd's own words in the streamed journal show it, within seconds, or
//! the guest shows in another way that it is up and stays closed for [`super::vm_monitor::SILENCE`].

use std::cell::RefCell;
use std::time::Duration;

use super::vm_monitor::VmMonitor;
use crate::guest::{Refusal, RefusalCause, Silence, SshError, SshdLog, goes_down};
use crate::support::ssh_access::SshAccess;

/// How long sshd must listen elsewhere: it may be about to restart.
const STEADY: Duration = Duration::from_secs(5);
/// How often the logs are read.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many times the patience is waited for a sign of life of a guest that is silent in every way.
const LAST_CHANCE: u32 = 4;

/// What is known of a guest that gave no login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// sshd's own words, and what a login needs instead.
    Proven(String),
    /// It takes no key of our kind, in sshd's own words. So nothing is known of other keys.
    KeyType(String),
    /// It was closed for long enough, and this shows that it was up.
    Silent(String),
}

/// Watches a guest that gives no login.
pub(super) struct LoginWatch<'w, 'm> {
    monitor: &'w RefCell<VmMonitor<'m>>,
    access: &'w SshAccess,
    patience: Duration,
    /// Length of the journal when the first login had failed.
    spoken: Option<usize>,
    /// How long the silence was when the logs were last read.
    read_at: Option<Duration>,
    closed: Option<Closed>,
}

impl<'w, 'm> LoginWatch<'w, 'm> {
    /// `patience` is [`super::vm_monitor::SILENCE`], stretched to the machine and no longer than the stage may take.
    pub(super) fn new(
        monitor: &'w RefCell<VmMonitor<'m>>,
        access: &'w SshAccess,
        patience: Duration,
    ) -> Self {
        Self { monitor, access, patience, spoken: None, read_at: None, closed: None }
    }

    /// What is known at the end.
    pub(super) fn into_closed(self) -> Option<Closed> {
        self.closed
    }

    /// The longest that [`LoginWatch::gives_up_running`] waits.
    pub(super) fn limit(&self) -> Duration {
        self.patience * (LAST_CHANCE + 1)
    }

    /// Whether to give up a guest that was up a moment ago and has not been restarted.
    pub(super) fn gives_up_running(&mut self, silence: &Silence<'_>) -> bool {
        if !self.is_due(silence) {
            return false;
        }
        let is_over = silence.length >= self.patience * LAST_CHANCE;
        let journal = self.monitor.borrow_mut().journal().into_owned();
        if goes_down(&journal) || self.monitor.borrow_mut().began_boots() > 0 {
            // The playbook restarts it, at its own pace.
            return is_over;
        }
        if self.is_proven(silence, &journal, &journal) {
            return true;
        }
        let spoken = *self.spoken.get_or_insert(journal.len());
        let life = if silence.answered {
            Some("its kernel answers")
        } else if journal.is_empty() {
            // An image that is not ours. The hypervisor and the console show no fault, and there is no other sign.
            Some("it runs, and the image streams no journal that could say more")
        } else {
            (journal.len() > spoken).then_some("its journal goes on")
        };
        if silence.length < self.patience {
            return false;
        }
        let words = SshdLog::read(&journal).last_words().map(|words| format!("; sshd said last: `{words}`"));
        self.closed = life.map(|life| Closed::Silent(life.to_owned() + &words.unwrap_or_default()));
        self.closed.is_some() || is_over
    }

    /// Whether to give up a guest that was restarted. Its boot must have ended: until then it may refuse logins.
    pub(super) fn gives_up_booted(&mut self, silence: &Silence<'_>) -> bool {
        if !self.is_due(silence) {
            return false;
        }
        let (after, journal) = {
            let mut monitor = self.monitor.borrow_mut();
            let Some(after) = monitor.journal_after_boot() else { return false };
            (after, monitor.journal().into_owned())
        };
        self.is_proven(silence, &after, &journal)
            || (silence.length >= self.patience && self.monitor.borrow().boot_ended_before(self.patience))
    }

    /// Whether to read the logs again. A guest on whose port nothing listens answers ten times a second.
    fn is_due(&mut self, silence: &Silence<'_>) -> bool {
        let is_due =
            self.read_at.is_none_or(|last| silence.length < last || silence.length >= last + INTERVAL);
        if is_due {
            self.read_at = Some(silence.length);
        }
        is_due
    }

    /// Whether sshd's own words show it: those in `recent` about our logins, those in `boot` about where it listens.
    fn is_proven(&mut self, silence: &Silence<'_>, recent: &str, boot: &str) -> bool {
        let (user, peer) = (&self.access.user, self.access.peer());
        self.closed = match SshdLog::read(recent).refusal(user, silence.refused) {
            Some(Refusal::Account(words, cause)) => Some(Closed::Proven(words + &needed(cause, user))),
            Some(Refusal::KeyType(words)) => Some(Closed::KeyType(words)),
            None if silence.refused.is_empty() && silence.length >= STEADY => {
                let words = SshdLog::read(boot).listens_elsewhere(peer);
                words.map(|words| Closed::Proven(format!("{words}; boma-it needs it to listen on {peer}")))
            }
            None => None,
        };
        self.closed.is_some()
    }
}

/// What boma-it needs in order to log in as `user`, after sshd's words.
fn needed(cause: RefusalCause, user: &str) -> String {
    match cause {
        RefusalCause::Named => format!("; boma-it needs to log in as `{user}` with its key alone"),
        RefusalCause::NoShell => format!("; boma-it needs a shell of `{user}` that runs its commands"),
        RefusalCause::Unnamed => format!(
            " and names no reason; boma-it needs its key in the authorized_keys of `{user}` (`exclusive: false` keeps \
             it), and a login with that key alone"
        ),
    }
}

/// The client's error, unless sshd's own words say why it was refused: the client can only guess.
pub(super) fn unexplained(client: SshError, closed: Option<&Closed>) -> Option<SshError> {
    let sshd_says = matches!(closed, Some(Closed::Proven(_) | Closed::KeyType(_)));
    (!sshd_says || !matches!(client, SshError::AuthRefused { .. })).then_some(client)
}

#[cfg(test)]
mod tests;
