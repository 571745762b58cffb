//! The places of VMs on this machine, and the locks that runs take turns with. Each is a file in the state folder that the
//! kernel releases with its holder, so a killed run leaves nothing taken.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::context::RunContext;
use super::recorder::RunRecorder;
use crate::machine::Slot;
use crate::machine::live_run::LiveRun;
use crate::support::deadline::Deadline;
use crate::support::lock::{Busy, FileLock, LockError, holder_of};

/// How long the decision of another run may take; it removes VMs meanwhile.
const TURN: Duration = Duration::from_secs(15 * 60);
/// A lock that was just seen to be free.
const MOMENT: Duration = Duration::from_secs(10);

/// A slot that this run holds: nobody else of this user works on the VM in it.
#[derive(Debug)]
pub(super) struct Place {
    /// The slot.
    pub slot: Slot,
    _lock: FileLock,
}

/// The turn to decide about places. Two runs that decide at once would both see the last place, or the same memory, free.
///
/// # Errors
/// An interrupt, or that the lock cannot be used.
pub(super) fn turn(context: &RunContext, recorder: &RunRecorder) -> anyhow::Result<FileLock> {
    wait_for(context, "admission.lock", TURN, recorder)
}

/// The turn to prepare what all VMs share: network, pool, golden image, the probe of KVM. `budget` is how long another run
/// may need for it.
///
/// # Errors
/// An interrupt, or that the lock cannot be used.
pub(super) fn shared(
    context: &RunContext,
    budget: Duration,
    recorder: &RunRecorder,
) -> anyhow::Result<FileLock> {
    wait_for(context, "shared.lock", budget, recorder)
}

/// The turn to choose the ports of the ACME server and to listen there.
///
/// # Errors
/// An interrupt, or that the lock cannot be used.
pub(super) fn ports(
    context: &RunContext,
    budget: Duration,
    recorder: &RunRecorder,
) -> anyhow::Result<FileLock> {
    wait_for(context, "acme.lock", budget, recorder)
}

fn wait_for(
    context: &RunContext,
    name: &str,
    budget: Duration,
    recorder: &RunRecorder,
) -> anyhow::Result<FileLock> {
    let holder = format!("process {}", std::process::id());
    let deadline = recorder.deadline(budget, "another run");
    let lock = FileLock::acquire(&context.state.join(name), &holder, &deadline, |_| Busy::Wait);
    lock.context("cannot take turns with other runs")
}

/// Every run of this user that holds a slot. The caller has the turn.
///
/// # Errors
/// When a lock cannot be used.
pub(super) fn live_runs(context: &RunContext) -> Result<Vec<LiveRun>, LockError> {
    let mut runs = Vec::new();
    for slot in Slot::all() {
        runs.extend(holder_of(&path(context, slot))?.map(|line| LiveRun::read(slot, &line)));
    }
    Ok(runs)
}

/// Takes the slot of `run`. The caller has the turn and knows the slot to be free.
///
/// # Errors
/// [`LockError::Held`] if it is not free after all, or that the lock cannot be used.
pub(super) fn take(context: &RunContext, run: &LiveRun) -> Result<Place, LockError> {
    let deadline = Deadline::uninterrupted(MOMENT, "a slot");
    let lock = FileLock::acquire(&path(context, run.slot), &run.line(), &deadline, |_| Busy::GiveUp)?;
    Ok(Place { slot: run.slot, _lock: lock })
}

fn path(context: &RunContext, slot: Slot) -> PathBuf {
    context.state.join(format!("slot-{}.lock", slot.number() + 1))
}
