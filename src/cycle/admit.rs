//! Admission: everything that can say no says it here, before anything exists.

use std::time::Duration;

use anyhow::Context;

use super::ledger::Ledger;
use super::stop::Stop;
use super::world::World;
use crate::catalog::Plan;
use crate::machine::guard::{self, Admission};
use crate::machine::network::host_note;
use crate::machine::teardown::teardown;
use crate::support::lock::{Busy, FileLock, LockError};

/// How long a trial queues for the VM: as long as any sane test run lasts.
const QUEUE: Duration = Duration::from_secs(12 * 3600);

/// Takes the lock under which everything happens that makes, changes or ends a VM. A trial queues behind trials of its
/// own test run; whoever else finds the lock taken is refused.
pub fn lock(world: &World, plan: &Plan, ledger: &Ledger) -> Result<FileLock, Stop> {
    let path = world.state.join("vm.lock");
    let holder = format!("{} of test run {} (process {})", plan.trial, world.session, std::process::id());
    let ours = format!("test run {} ", world.session);
    let taken = FileLock::acquire(&path, &holder, &ledger.deadline(QUEUE, "the queue"), |holder| {
        if holder.contains(&ours) {
            ledger.doing(format!("waiting for the VM of {holder}"));
            Busy::Wait
        } else {
            Busy::GiveUp
        }
    });
    taken.map_err(|error| match error {
        LockError::Held { holder, .. } => Stop::Refused(anyhow::anyhow!(
            "one VM runs at a time, and {holder} is at it; wait for it, or end that process"
        )),
        other => anyhow::Error::from(other).into(),
    })
}

/// Makes room for the plan's VM among those that are there, or says why there is none.
pub fn room(world: &World, plan: &Plan, ledger: &Ledger) -> Result<(), Stop> {
    let hypervisor = world.hypervisor.as_ref();
    let machines = hypervisor.machines().context("cannot see which VMs there are")?;
    let Admission { reap, displace } =
        guard::admit(&plan.machine, Some(&world.session), &machines, &world.processes)
            .map_err(|refusal| Stop::Refused(refusal.into()))?;
    for (machines, why) in [(reap, "its process is gone"), (displace, "an earlier trial of this run kept it")] {
        for machine in machines {
            teardown(hypervisor, &machine).with_context(|| format!("cannot reap {machine}"))?;
            ledger.note(format!("reaped the VM {machine}: {why}"));
        }
    }
    let facts = hypervisor.facts().context("cannot ask the hypervisor what it has")?;
    guard::check_memory(plan.vm.memory, facts.available_memory, plan.harness.memory_reserve)
        .map_err(|refusal| Stop::Refused(refusal.into()))?;
    if let Some(note) = facts.local.then(|| host_note("/sys/class/net".as_ref())).flatten() {
        ledger.note(note);
    }
    Ok(())
}
