//! Admission: the VM lock, the guards, the slot of the new VM, and who owns a VM. Everything that can refuse a run does so
//! before anything is created.

use std::time::Duration;

use anyhow::Context;

use super::context::RunContext;
use super::recorder::RunRecorder;
use super::running_vm::remove_keys_in;
use crate::catalog::Plan;
use crate::catalog::plan::TrialName;
use crate::machine::guard::{self, Admission, Refusal};
use crate::machine::hypervisor::HypervisorError;
use crate::machine::network::{Slot, host_note};
use crate::machine::teardown::teardown;
use crate::machine::{Machine, Ownership};
use crate::support::lock::{Busy, FileLock, LockError};

/// How long a trial queues for the VM: longer than any test run takes.
const QUEUE: Duration = Duration::from_secs(12 * 3600);

/// Another process is working on a VM.
#[derive(Debug, thiserror::Error)]
#[error(
    "another boma-it process holds the VM lock: {holder}; one VM runs at a time, so wait for it or end that process"
)]
pub struct LockHeld {
    holder: String,
}

/// Takes the lock that everything holds which creates, changes or ends a VM. A trial queues behind trials of its own test
/// run; anyone else who finds the lock held is refused.
///
/// # Errors
/// [`LockHeld`], an interrupt, or that the lock cannot be used.
pub(super) fn lock(
    context: &RunContext,
    trial: &TrialName,
    recorder: &RunRecorder,
) -> anyhow::Result<FileLock> {
    let path = context.state.join("vm.lock");
    let ours = format!("of test run {}, ", context.session);
    let holder = format!("{trial} {ours}process {}", std::process::id());
    let taken = FileLock::acquire(&path, &holder, &recorder.deadline(QUEUE, "the queue"), |holder| {
        if holder.contains(&ours) {
            recorder.doing(format!("waiting for {holder}"));
            Busy::Wait
        } else {
            Busy::GiveUp
        }
    });
    taken.map_err(|error| match error {
        LockError::Held { holder, .. } => LockHeld { holder }.into(),
        other => other.into(),
    })
}

/// A run that may bring up a VM.
#[derive(Debug)]
pub(super) struct Admitted {
    /// The slot of its VM.
    pub slot: Slot,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Checks the guards, removes the VMs that the plan's VM may replace, and chooses its slot.
///
/// # Errors
/// [`Refusal`], or that the hypervisor does not answer.
pub(super) fn admit(context: &RunContext, plan: &Plan) -> anyhow::Result<Admitted> {
    let mut machines = context.machines()?;
    let mut notes = Vec::new();
    let Admission { orphans, kept } = check_others(context, plan, &machines)?;
    for (names, why) in [(orphans, "its process is gone"), (kept, "an earlier trial of this run kept it")] {
        for name in names {
            let torn_down = teardown(context.hypervisor.as_ref(), &name);
            // Even if a volume is left: once the domain is gone, nothing records where the keys are.
            let owned = machines.iter().filter(|it| it.name == name).filter_map(|it| it.ownership.as_ref());
            remove_keys_in(owned.map(|it| it.run_folder.as_path()));
            torn_down.with_context(|| format!("cannot remove the VM {name}"))?;
            machines.retain(|it| it.name != name);
            notes.push(format!("removed the VM {name}: {why}"));
        }
    }
    let host = context.host_info()?;
    guard::check_memory(plan.vm.memory, host.available_memory, plan.harness.memory_reserve)?;
    notes.extend(host.local.then(|| host_note("/sys/class/net".as_ref())).flatten());
    let slot = free_slot(context, plan, &machines)
        .context("every address of the network is taken; `boma-it prune --all` frees them")?;
    Ok(Admitted { slot, notes })
}

/// The lowest slot that no VM has, running or not. A VM without metadata has the slot that its name tells.
fn free_slot(context: &RunContext, plan: &Plan, machines: &[Machine]) -> Option<Slot> {
    let named = |slot: &Slot| {
        let name = context.prefix.machine(&plan.trial.host, *slot);
        machines.iter().any(|it| it.name == name)
    };
    let recorded = machines.iter().filter_map(|it| it.ownership.as_ref()).map(|it| it.slot);
    Slot::free(recorded.chain(Slot::all().filter(named)))
}

/// Checks right before the start that no other VM runs. The lock is one user's; another user of this hypervisor may have
/// got this far as well while an image was built here.
///
/// # Errors
/// [`Refusal`], or that the hypervisor does not answer.
pub(super) fn check_alone(context: &RunContext, plan: &Plan, machine: &str) -> anyhow::Result<()> {
    let mut others = context.machines()?;
    others.retain(|it| it.name != machine);
    check_others(context, plan, &others)?;
    Ok(())
}

/// Why the plan's VM could not be defined. If another VM has its name by now, the error says whose it is and how to end
/// it.
pub(super) fn not_defined(
    context: &RunContext,
    plan: &Plan,
    machine: &str,
    error: HypervisorError,
) -> anyhow::Error {
    if let HypervisorError::Exists { .. } = error
        && let Ok(Some(theirs)) = context.machine(machine)
        && let Err(refusal) = check_others(context, plan, &[theirs])
    {
        return refusal.into();
    }
    anyhow::Error::from(error).context("cannot define the VM")
}

fn check_others(context: &RunContext, plan: &Plan, machines: &[Machine]) -> Result<Admission, Refusal> {
    guard::admit(&plan.trial, Some(&context.session), machines, &context.processes)
}

/// Whether the VM of that name belongs to another run than `ownership` says. A run ends its VM by name, and that name may
/// have been taken meanwhile.
///
/// # Errors
/// When the hypervisor does not answer.
pub(super) fn belongs_to_another(
    context: &RunContext,
    machine: &str,
    ownership: &Ownership,
) -> anyhow::Result<bool> {
    let is_ours = |it: &Machine| it.ownership.as_ref().is_some_and(|it| it.is_same_run(ownership));
    Ok(context.machine(machine)?.is_some_and(|it| !is_ours(&it)))
}
