//! Removing VMs: one, all orphans, or all. Every step succeeds when there is nothing to remove, so a teardown can start from
//! any half-built or half-removed state, and can be repeated.

use std::path::PathBuf;
use std::time::Duration;

use super::hypervisor::{Hypervisor, HypervisorError, Result, Volume};
use super::names::{NamePrefix, VmVolumes};
use super::network::Slot;
use super::ownership::Processes;
use crate::support::deadline::Deadline;
use crate::support::name::Name;

/// The budget of a teardown without a deadline.
const BUDGET: Duration = Duration::from_secs(120);

/// Removes a VM: its power, its volumes, then its domain with the firmware variables.
///
/// The domain goes last, as it records who owns the volumes, but it goes even if a volume cannot be deleted. A failed step
/// does not stop the next ones.
///
/// # Errors
/// The first error.
pub fn teardown(hypervisor: &dyn Hypervisor, domain: &str) -> Result<()> {
    teardown_within(hypervisor, domain, &Deadline::uninterrupted(BUDGET, format!("removing {domain}")))
}

/// As [`teardown`], but starts no step after the deadline, so a hypervisor that hangs cannot hold us for ever.
///
/// # Errors
/// The first error, which may be the deadline's.
pub(crate) fn teardown_within(hypervisor: &dyn Hypervisor, domain: &str, deadline: &Deadline) -> Result<()> {
    let in_time = |what: String, step: &dyn Fn() -> Result<()>| {
        deadline.check(&what).map_err(|source| HypervisorError::GaveUp { what, source })?;
        step()
    };
    let mut results = vec![in_time(format!("stop domain {domain}"), &|| hypervisor.power_off(domain))];
    let mut volumes = VmVolumes(domain).all().to_vec();
    if !deadline.remaining().is_zero() {
        let logs = [VmVolumes(domain).console(), VmVolumes(domain).journal()];
        let parts = logs.map(|log| VmVolumes::rolled(&log)).concat();
        results.push(existing_volumes(hypervisor).map(|existing| {
            let names = existing.into_iter().map(|volume| volume.name);
            volumes.extend(names.filter(|name| parts.contains(name)));
        }));
    }
    for volume in volumes {
        let delete = || hypervisor.delete_volume(&volume);
        results.push(in_time(format!("delete volume {volume}"), &delete));
    }
    results.push(in_time(format!("undefine domain {domain}"), &|| hypervisor.undefine(domain)));
    results.into_iter().collect()
}

/// The volumes in the pool, none if there is no pool.
fn existing_volumes(hypervisor: &dyn Hypervisor) -> Result<Vec<Volume>> {
    match hypervisor.volumes() {
        Err(HypervisorError::NotFound { .. }) => Ok(Vec::new()),
        result => result,
    }
}

/// What [`prune`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// VMs, by the name of the domain.
    pub machines: Vec<String>,
    /// The run folders of these VMs and of those that could only be removed in part. Keys are left there, and the VM may
    /// have been the only record of the folder.
    pub run_folders: Vec<PathBuf>,
    /// Volumes whose VM did not exist.
    pub volumes: Vec<String>,
}

/// [`prune`] did not remove everything.
#[derive(Debug, thiserror::Error)]
#[error("prune did not remove everything")]
pub struct PruneError {
    /// What it did remove.
    pub pruned: Box<Pruned>,
    /// The first error.
    #[source]
    pub first: HypervisorError,
}

/// How much [`prune`] removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneScope {
    /// VMs whose owner is dead.
    Orphans,
    /// Everything except the golden images.
    Everything,
}

/// Removes VMs within the scope, and volumes whose VM does not exist. An error does not stop the rest.
///
/// # Errors
/// The first error, with what was removed.
pub fn prune(
    hypervisor: &dyn Hypervisor,
    prefix: &NamePrefix,
    processes: &dyn Processes,
    scope: PruneScope,
) -> Result<Pruned, PruneError> {
    let mut pruned = Pruned::default();
    let mut first = None;
    let mut succeeded = |result: Result<()>| result.map_err(|error| first.get_or_insert(error)).is_ok();
    let machines = hypervisor.machines().map_err(|first| PruneError { pruned: Box::default(), first })?;
    for machine in machines {
        let is_orphan = machine.ownership.as_ref().is_some_and(|it| it.is_orphan(processes));
        if is_orphan || scope == PruneScope::Everything {
            if succeeded(teardown(hypervisor, &machine.name)) {
                pruned.machines.push(machine.name);
            }
            pruned.run_folders.extend(machine.ownership.map(|it| it.run_folder));
        }
    }
    let orphaned = orphaned_volumes(hypervisor, prefix);
    for volume in orphaned.as_deref().unwrap_or_default() {
        if succeeded(hypervisor.delete_volume(volume)) {
            pruned.volumes.push(volume.clone());
        }
    }
    succeeded(orphaned.map(drop));
    match first {
        None => Ok(pruned),
        Some(first) => Err(PruneError { pruned: Box::new(pruned), first }),
    }
}

/// Removes the volumes of a host's VMs that do not exist. An error does not stop the rest.
///
/// # Errors
/// The first error.
pub(crate) fn remove_orphaned_volumes(
    hypervisor: &dyn Hypervisor,
    prefix: &NamePrefix,
    host: &Name,
) -> Result<()> {
    let names: Vec<_> = Slot::all().map(|slot| prefix.machine(host, slot)).collect();
    let orphaned = orphaned_volumes(hypervisor, prefix)?.into_iter();
    let of_host = |volume: &String| {
        prefix.domain_of(volume).is_some_and(|domain| names.iter().any(|name| name == domain))
    };
    let results: Vec<_> = orphaned.filter(of_host).map(|volume| hypervisor.delete_volume(&volume)).collect();
    results.into_iter().collect()
}

/// Volumes whose VM does not exist. The volumes are listed first: a VM is defined before it gets any, so one that another
/// process brings up meanwhile is not mistaken for gone.
fn orphaned_volumes(hypervisor: &dyn Hypervisor, prefix: &NamePrefix) -> Result<Vec<String>> {
    let volumes = existing_volumes(hypervisor)?;
    let machines = hypervisor.machines()?;
    let is_orphaned = |name: &String| {
        prefix.domain_of(name).is_some_and(|domain| machines.iter().all(|machine| machine.name != domain))
    };
    Ok(volumes.into_iter().map(|volume| volume.name).filter(is_orphaned).collect())
}

#[cfg(test)]
mod tests;
