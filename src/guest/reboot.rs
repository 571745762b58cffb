//! The proof of a reboot: a *different* boot id, reported by a guest that has settled again.
//!
//! Time, a port that went down, and the domain's state do not count. The old boot answers SSH while it shuts down; its id gives
//! it away. Each attempt is a fresh session: the caller gave up the session of the old boot to get its [`Baseline`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::boot_count::{self, BootCount, Witness};
use super::guest_report::GuestReport;
use super::prober::{Awaited, Prober, SshProber};
use super::readiness::{Baseline, BootFacts, BootId, Ready, ReadyError};
use super::settle::{LastContact, WaitFailure, settle};
use super::ssh::{GiveUp, HealthCheck, SshError, WaitContext};
use crate::support::deadline::{Deadline, format_duration};
use crate::support::ssh_access::SshAccess;

/// Proof that a guest restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebootProof {
    /// The boot before.
    pub old: BootId,
    /// The boot after.
    pub new: BootId,
    /// How many boots followed the old one, by each witness that was asked.
    pub counts: Vec<BootCount>,
    /// Time from the call to the settled new boot.
    pub took: Duration,
}

impl RebootProof {
    /// Adds the counts of other witnesses and requires that none saw more than one boot.
    ///
    /// # Errors
    /// [`RebootError::NotOnce`].
    pub fn confirm(mut self, others: Vec<BootCount>) -> Result<Self, RebootError> {
        self.counts.extend(others);
        if boot_count::shows_more(&self.counts) {
            return Err(RebootError::NotOnce { old: self.old, new: self.new, counts: self.counts });
        }
        Ok(self)
    }

    /// Who confirms that the guest booted once, in words: `the console and wtmp`.
    pub fn confirmed_by(&self) -> String {
        let names: Vec<_> =
            self.counts.iter().filter(|it| it.boots.is_ok()).map(|it| it.witness.to_string()).collect();
        match names.split_last() {
            None => "nobody".to_owned(),
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
        }
    }

    /// Why the others cannot.
    pub fn unconfirmed(&self) -> impl Iterator<Item = (Witness, &str)> {
        self.counts.iter().filter_map(|it| Some((it.witness, it.boots.as_ref().err()?.as_str())))
    }
}

/// Why a reboot could not be proven.
#[derive(Debug, thiserror::Error)]
pub enum RebootError {
    /// The old boot still answered at the deadline.
    #[error(
        "the VM did not restart: after {} it still answers with boot id {boot_id}",
        format_duration(*.waited)
    )]
    DidNotRestart {
        /// The boot that should have ended.
        boot_id: BootId,
        /// How long we waited.
        waited: Duration,
    },
    /// The old boot ended, and SSH never answered again. It is a lockout only if the guest came up, which the caller knows.
    #[error(
        "unreachable after the restart: no SSH session with {peer} for the last {} (old boot id {old})",
        format_duration(*.silent)
    )]
    Unreachable {
        /// Address and port of the guest's sshd.
        peer: SocketAddr,
        /// The boot before.
        old: BootId,
        /// How long nothing had answered.
        silent: Duration,
        /// Why the last attempt failed.
        #[source]
        last: Option<Box<SshError>>,
    },
    /// Somebody counted more boots than one.
    #[error(
        "the VM booted more than once, expected exactly once: {old} → {new}; {}; it restarts by itself",
        boot_count::list(.counts)
    )]
    NotOnce {
        /// The boot before.
        old: BootId,
        /// The boot that settled.
        new: BootId,
        /// How many boots followed the old one, by each witness.
        counts: Vec<BootCount>,
    },
    /// A new boot answered, or should have, and did not become ready.
    #[error("the new boot did not become ready")]
    NotReady(#[source] ReadyError),
}

/// Waits for a settled boot other than `old`; call it right after the restart was requested.
///
/// `health_check` and `progress` are as in [`super::wait_ready`], and `give_up` as in [`super::log_in`]. The proof is complete
/// once [`RebootProof::confirm`] has heard the other witnesses.
///
/// # Errors
/// [`RebootError`].
pub fn prove_reboot(
    old: Baseline,
    access: &SshAccess,
    deadline: &Deadline,
    health_check: &mut HealthCheck<'_>,
    give_up: &mut GiveUp<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(Ready, RebootProof), RebootError> {
    deadline.time_wait(|| {
        let mut context = WaitContext::new(deadline).with_health_check(health_check).with_give_up(give_up);
        let (session, facts, proof) = prove(&mut SshProber(access), access, old, &mut context, progress)?;
        Ok((Ready { session, facts }, proof))
    })
}

fn prove<P: Prober>(
    prober: &mut P,
    access: &SshAccess,
    Baseline { boot_id: old, wtmp: wtmp_before }: Baseline,
    context: &mut WaitContext<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(P::Session, BootFacts, RebootProof), RebootError> {
    let started = Instant::now();
    let settled = settle(prober, Awaited::SettledAfter(old), context, progress, GuestReport::conclude);
    let took = started.elapsed();
    let (mut session, facts) = settled.map_err(|failure| match failure {
        WaitFailure::TimedOut(LastContact::Boot { boot_id, .. }) if boot_id == old => {
            RebootError::DidNotRestart { boot_id, waited: took }
        }
        WaitFailure::TimedOut(LastContact::None { since, last }) => {
            let (peer, silent) = (access.peer(), since.elapsed());
            RebootError::Unreachable { peer, old, silent, last: last.map(Box::new) }
        }
        other => RebootError::NotReady(other.into_error(access, took)),
    })?;
    let journal = prober.boots(&mut session, context).and_then(|listed| {
        listed.iter().rev().position(|id| *id == old).ok_or_else(|| {
            format!("it lists {} boots, and boot {} is not among them", listed.len(), old.short())
        })
    });
    let wtmp = wtmp_before.and_then(|before| {
        let now = prober.wtmp(&mut session, context)?;
        now.checked_sub(before).ok_or_else(|| format!("it counted {before} boots before, and {now} now"))
    });
    let counts = vec![BootCount::new(Witness::Journal, journal), BootCount::new(Witness::Wtmp, wtmp)];
    let proof = RebootProof { old, new: facts.boot_id, counts, took };
    Ok((session, facts, proof))
}

#[cfg(test)]
mod tests;
