//! The proof of a reboot: a *different* boot id, reported by a guest that has settled again.
//!
//! Time, a port that went down, and the domain's state do not count. The old boot answers SSH while it shuts down; its id gives
//! it away. Each attempt is a fresh session: the caller gave up the session of the old boot to get its [`Baseline`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::readiness::{Baseline, BootFacts, BootId, Ready, ReadyError};
use super::settle::{LastContact, Prober, SshProber, WaitFailure, settle};
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
    /// Whether the guest's journal confirms that exactly one boot followed the old one; or why it cannot. It may not reach
    /// back that far, because it is volatile or a power cut lost the end of it.
    pub single_boot: Result<(), String>,
    /// Time from the call to the settled new boot.
    pub took: Duration,
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
    /// The guest's journal counts another number of boots than one.
    #[error("the VM booted {boots} times, expected exactly once: {old} → {new}; it restarts by itself")]
    NotOnce {
        /// The boot before.
        old: BootId,
        /// The boot that settled.
        new: BootId,
        /// How many boots followed the old one.
        boots: usize,
    },
    /// A new boot answered, or should have, and did not become ready.
    #[error("the new boot did not become ready")]
    NotReady(#[source] ReadyError),
}

/// Waits for a settled boot other than `old`; call it right after the restart was requested.
///
/// `health_check` and `progress` are as in [`super::wait_ready`]. While nothing answers, `give_up` gets the length of the silence;
/// `true` ends the wait as if the deadline had passed.
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
    Baseline(old): Baseline,
    context: &mut WaitContext<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(P::Session, BootFacts, RebootProof), RebootError> {
    let started = Instant::now();
    let settled = settle(prober, Some(old), context, progress);
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
    let single_boot = match prober.boots(&mut session, context) {
        Ok(listed) => match listed.iter().rev().position(|id| *id == old) {
            Some(1) => Ok(()),
            Some(boots) => return Err(RebootError::NotOnce { old, new: facts.boot_id, boots }),
            None => {
                Err(format!("it lists {} boots, and boot {} is not among them", listed.len(), old.short()))
            }
        },
        Err(reason) => Err(reason),
    };
    let proof = RebootProof { old, new: facts.boot_id, single_boot, took };
    Ok((session, facts, proof))
}

#[cfg(test)]
mod tests;
