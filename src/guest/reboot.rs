//! The proof of a reboot: a *different* boot id, told by a guest that is settled again.
//!
//! Neither time, nor a port that went down, nor the domain's state counts. The old boot goes on answering SSH while it shuts
//! down, and is recognised by its id. Every look is a fresh session; the one of the old boot is gone by then, as only its
//! surrender gives the [`Baseline`] to compare with.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::boot_id::BootId;
use super::readiness::{
    Baseline, BootFacts, Guest, LastContact, Prober, Ready, ReadyError, WaitFailure, settle,
};
use super::ssh::{SshError, WaitContext};
use crate::support::deadline::{Deadline, format_duration};
use crate::support::ssh_access::SshAccess;

/// That a guest was restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RebootProof {
    /// The boot before.
    pub old: BootId,
    /// The boot after.
    pub new: BootId,
    /// How many boots the guest's journal counts after the old one: 1. None where the journal does not reach back that
    /// far (it is volatile, or a power cut lost it) or cannot be read.
    pub boots: Option<usize>,
    /// Why they are not counted, where they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncounted: Option<String>,
    /// From the call to the settled new boot.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub took: Duration,
}

/// Why a reboot could not be proven.
#[derive(Debug, thiserror::Error)]
pub enum RebootError {
    /// The old boot was there to the end.
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
    /// The old boot went, and SSH never answered again: a lockout if the guest came up all the same, which this floor does not
    /// know.
    #[error(
        "unreachable after the restart: no SSH session with {peer} for the last {} (old boot id {old})",
        format_duration(*.silent)
    )]
    Unreachable {
        /// Whom we called.
        peer: SocketAddr,
        /// The boot before.
        old: BootId,
        /// How long nothing had answered.
        silent: Duration,
        /// How the last attempt ended.
        #[source]
        last: Option<Box<SshError>>,
    },
    /// The journal knows of more boots than the one that was asked for (or of none).
    #[error("the VM booted {boots} times, expected exactly once: {old} → {new}; it restarts by itself")]
    NotOnce {
        /// The boot before.
        old: BootId,
        /// The boot that settled.
        new: BootId,
        /// How many boots came after the old one.
        boots: usize,
    },
    /// A new boot answered, or should have, and did not become ready.
    #[error("the new boot did not become ready")]
    NotReady(#[source] ReadyError),
}

/// Waits for a settled boot other than `old`; to be called right after the restart was asked for.
///
/// `health_check` and `progress` are as in [`super::wait_ready`]. `give_up` is asked while nothing answers, with how long that has
/// been so: true ends the wait as if the deadline had passed.
///
/// # Errors
/// [`RebootError`].
pub fn prove_reboot(
    old: Baseline,
    access: &SshAccess,
    deadline: &Deadline,
    health_check: &mut dyn FnMut() -> anyhow::Result<()>,
    give_up: &mut dyn FnMut(Duration) -> bool,
    progress: &mut dyn FnMut(&str),
) -> Result<(Ready, RebootProof), RebootError> {
    deadline.time_wait(|| {
        let mut watch = WaitContext::with_alive(deadline, health_check).or_resign(give_up);
        let (session, facts, proof) = prove(&mut Guest { access }, access.peer(), old, &mut watch, progress)?;
        let ready = Ready::from_facts(session, facts, proof.took);
        Ok((ready, proof))
    })
}

fn prove<P: Prober>(
    prober: &mut P,
    peer: SocketAddr,
    old: Baseline,
    watch: &mut WaitContext<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(P::Session, BootFacts, RebootProof), RebootError> {
    let started = Instant::now();
    let old = old.boot_id().clone();
    let (mut session, facts) = match settle(prober, Some(&old), watch, progress) {
        Ok(settled) => settled,
        Err(WaitFailure::TimedOut(LastContact::Old(boot_id))) => {
            return Err(RebootError::DidNotRestart { boot_id, waited: started.elapsed() });
        }
        Err(WaitFailure::TimedOut(LastContact::None { since, last })) => {
            let last = last.map(Box::new);
            return Err(RebootError::Unreachable { peer, old, silent: since.elapsed(), last });
        }
        Err(other) => return Err(RebootError::NotReady(other.into_error(peer, started.elapsed()))),
    };
    let took = started.elapsed();
    let new = facts.boot_id.clone();
    let counted = prober.boots(&mut session, watch).and_then(|boots| boots_after(&boots, &old));
    let (boots, uncounted) = match counted {
        Ok(1) => (Some(1), None),
        Ok(boots) => return Err(RebootError::NotOnce { old, new, boots }),
        Err(why) => (None, Some(why)),
    };
    Ok((session, facts, RebootProof { old, new, boots, uncounted, took }))
}

/// How many boots came after `old`; or that the journal does not know `old`.
fn boots_after(boots: &[BootId], old: &BootId) -> Result<usize, String> {
    let known = boots.iter().rev().position(|id| id == old);
    known.ok_or_else(|| format!("it knows of {} boots, and not of boot {}", boots.len(), old.short()))
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests;
