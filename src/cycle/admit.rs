//! Admission: everything that can say no says it here, before anything exists.

use std::time::Duration;

use anyhow::Context;

use super::down::forget_keys_in;
use super::ledger::RunRecorder;
use super::world::RunContext;
use crate::catalog::Plan;
use crate::catalog::plan::TrialName;
use crate::machine::guard::{self, Admission};
use crate::machine::hypervisor::HypervisorError;
use crate::machine::network::host_note;
use crate::machine::teardown::teardown;
use crate::machine::{Machine, Ownership};
use crate::support::lock::{Busy, FileLock, LockError};

/// How long a trial queues for the VM: as long as any sane test run lasts.
const QUEUE: Duration = Duration::from_secs(12 * 3600);

/// Another process is at work on a VM.
#[derive(Debug, thiserror::Error)]
#[error("one VM runs at a time, and another is in the works: {holder}; wait for it, or end that process")]
pub struct LockHeld {
    holder: String,
}

/// Takes the lock under which everything happens that makes, changes or ends a VM. A trial queues behind trials of its
/// own test run; whoever else finds the lock taken is refused.
///
/// # Errors
/// [`LockHeld`]; or that the lock cannot be used, or an interrupt.
pub(super) fn lock(world: &RunContext, trial: &TrialName, ledger: &RunRecorder) -> anyhow::Result<FileLock> {
    let path = world.state.join("vm.lock");
    let ours = format!("of test run {}, ", world.session);
    let holder = format!("{} for {trial} {ours}process {}", trial.machine(), std::process::id());
    let taken = FileLock::acquire(&path, &holder, &ledger.deadline(QUEUE, "the queue"), |holder| {
        if holder.contains(&ours) {
            ledger.doing(format!("waiting for {holder}"));
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

/// Makes room for the plan's VM among those that are there, or says why there is none. Gives notes for a person.
///
/// # Errors
/// [`guard::Refusal`]; or that the hypervisor does not answer.
pub(super) fn room(world: &RunContext, plan: &Plan) -> anyhow::Result<Vec<String>> {
    let hypervisor = world.hypervisor.as_ref();
    let mut notes = Vec::new();
    let machines = hypervisor.machines().context("cannot see which VMs there are")?;
    let Admission { reap, displace } =
        guard::admit(&plan.machine, Some(&world.session), &machines, &world.processes)?;
    for (names, why) in [(reap, "its process is gone"), (displace, "an earlier trial of this run kept it")] {
        for name in names {
            let torn_down = teardown(hypervisor, &name);
            // Whatever became of its volumes: the domain may be gone, and nobody finds them after that.
            let owned = machines.iter().filter(|it| it.name == name).filter_map(|it| it.ownership.as_ref());
            forget_keys_in(owned.map(|it| it.run_folder.as_path()));
            torn_down.with_context(|| format!("cannot reap {name}"))?;
            notes.push(format!("reaped the VM {name}: {why}"));
        }
    }
    let facts = hypervisor.facts().context("cannot ask the hypervisor what it has")?;
    guard::check_memory(plan.vm.memory, facts.available_memory, plan.harness.memory_reserve)?;
    notes.extend(facts.local.then(|| host_note("/sys/class/net".as_ref())).flatten());
    Ok(notes)
}

/// Once more, right before the start, that no other VM runs. The lock is a user's; another user of this hypervisor may have come
/// to this point as well, while an image was built here.
///
/// # Errors
/// [`guard::Refusal`]; or that the hypervisor does not answer.
pub(super) fn alone(world: &RunContext, plan: &Plan) -> anyhow::Result<()> {
    let machines = world.hypervisor.machines().context("cannot see which VMs there are")?;
    let others: Vec<_> = machines.into_iter().filter(|it| it.name != plan.machine).collect();
    guard::admit(&plan.machine, Some(&world.session), &others, &world.processes)?;
    Ok(())
}

/// Why the plan's VM could not be defined: where there is one of its name by now, whose that is and how to end it.
pub(super) fn not_defined(world: &RunContext, plan: &Plan, error: HypervisorError) -> anyhow::Error {
    let refusal = match error {
        HypervisorError::Exists { .. } => named(world, &plan.machine).ok().and_then(|theirs| {
            guard::admit(&plan.machine, Some(&world.session), theirs.as_slice(), &world.processes).err()
        }),
        _ => None,
    };
    match refusal {
        Some(refusal) => refusal.into(),
        None => anyhow::Error::from(error).context("cannot define the VM"),
    }
}

/// Whether the VM of that name is not the one of the run that `ours` names. What is done at the end of a run is done to a VM by
/// its name, and that may be another party's: one that was faster, or came when ours was ended.
///
/// # Errors
/// That the hypervisor does not answer.
pub(super) fn is_anothers(world: &RunContext, machine: &str, ours: &Ownership) -> anyhow::Result<bool> {
    let is_ours = |it: &Machine| it.ownership.as_ref().is_some_and(|it| it.is_same_run(ours));
    Ok(named(world, machine)?.is_some_and(|it| !is_ours(&it)))
}

fn named(world: &RunContext, machine: &str) -> anyhow::Result<Option<Machine>> {
    let machines =
        world.hypervisor.machines().with_context(|| format!("cannot see whose the VM {machine} is"))?;
    Ok(machines.into_iter().find(|it| it.name == machine))
}
