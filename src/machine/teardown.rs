//! Undoing machines: one, and all that nobody answers for. Every step succeeds when there is nothing to undo, so it
//! can be run from any half-built (or half-undone) state, and again.

use std::path::PathBuf;
use std::time::Duration;

use super::hypervisor::{Hypervisor, HypervisorError, Result};
use super::names::{NamePrefix, VmVolumes};
use super::ownership::Processes;
use crate::support::deadline::Deadline;

/// How long a teardown may take that nobody has set a time for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Destroys a machine: its power, its volumes, its domain with the firmware variables.
///
/// The domain goes last, as it is the record of who owns the volumes; but it goes even if a volume cannot be deleted.
/// Every step is tried.
///
/// # Errors
/// The first step's that failed.
pub fn teardown(hypervisor: &dyn Hypervisor, domain: &str) -> Result<()> {
    teardown_within(hypervisor, domain, &Deadline::uninterrupted(PATIENCE, format!("removing {domain}")))
}

/// As [`teardown`], and what is not begun by the deadline is left: a hypervisor that hangs must not hold us for ever.
///
/// # Errors
/// As [`teardown`]; or the deadline's.
pub fn teardown_within(hypervisor: &dyn Hypervisor, domain: &str, deadline: &Deadline) -> Result<()> {
    let in_time = |what: String, step: &dyn Fn() -> Result<()>| {
        deadline.check(&what).map_err(|source| HypervisorError::Ended { what, source })?;
        step()
    };
    let power = in_time(format!("stop domain {domain}"), &|| hypervisor.power_off(domain));
    let files = VmVolumes(domain);
    let (parts, listed) = match earlier_parts(hypervisor, files, deadline) {
        Ok(parts) => (parts, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let volumes: Vec<_> = files
        .all()
        .into_iter()
        .chain(parts)
        .map(|volume| in_time(format!("delete volume {volume}"), &|| hypervisor.delete_volume(&volume)))
        .collect();
    let undefine = in_time(format!("undefine domain {domain}"), &|| hypervisor.undefine(domain));
    [power, listed].into_iter().chain(volumes).chain([undefine]).collect()
}

/// The earlier parts of a machine's logs that are there.
fn earlier_parts(
    hypervisor: &dyn Hypervisor,
    files: VmVolumes<'_>,
    deadline: &Deadline,
) -> Result<Vec<String>> {
    if deadline.remaining().is_zero() {
        return Ok(Vec::new());
    }
    let parts = [files.console(), files.journal()].map(|log| VmVolumes::rolled(&log)).concat();
    match hypervisor.volumes() {
        Ok(there) => {
            Ok(there.into_iter().map(|volume| volume.name).filter(|name| parts.contains(name)).collect())
        }
        // No pool, no volumes.
        Err(HypervisorError::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What [`prune`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Machines, by the name of the domain.
    pub machines: Vec<String>,
    /// The run folders of these machines, and of those of which something stayed, as far as they are known: keys lie there that are
    /// to open nothing any more, and the machine may have been the only record of where.
    pub run_folders: Vec<PathBuf>,
    /// Volumes of machines that were not there any more.
    pub volumes: Vec<String>,
}

impl Pruned {
    /// Whether there was nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty() && self.volumes.is_empty()
    }
}

/// [`prune`] did not remove everything.
#[derive(Debug, thiserror::Error)]
#[error("something could not be removed")]
pub struct Unfinished {
    /// What it did remove.
    pub pruned: Box<Pruned>,
    /// The first error.
    #[source]
    pub first: HypervisorError,
}

/// How much [`prune`] removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneScope {
    /// What nobody answers for.
    Orphans,
    /// Everything of ours but the golden images.
    Everything,
}

/// Tears down machines that nobody answers for, or all of them, and deletes volumes of machines that are no more.
///
/// # Errors
/// The first that occurred, with what was removed; everything is tried.
pub fn prune(
    hypervisor: &dyn Hypervisor,
    realm: &NamePrefix,
    processes: &dyn Processes,
    reach: PruneScope,
) -> Result<Pruned, Unfinished> {
    let mut pruned = Pruned::default();
    let mut first = None;
    let mut note = |result: Result<()>| result.map_err(|error| first.get_or_insert(error)).is_ok();
    let machines = hypervisor.machines().map_err(|first| Unfinished { pruned: Box::default(), first })?;
    for machine in machines {
        let orphan = machine.ownership.as_ref().is_some_and(|it| it.is_orphan(processes));
        if orphan || reach == PruneScope::Everything {
            if note(teardown(hypervisor, &machine.name)) {
                pruned.machines.push(machine.name);
            }
            pruned.run_folders.extend(machine.ownership.map(|it| it.run_folder));
        }
    }
    match stray_volumes(hypervisor, realm) {
        Ok(strays) => {
            for volume in strays {
                if note(hypervisor.delete_volume(&volume)) {
                    pruned.volumes.push(volume);
                }
            }
        }
        // No pool, no volumes.
        Err(HypervisorError::NotFound { .. }) => {}
        Err(error) => {
            note(Err(error));
        }
    }
    match first {
        None => Ok(pruned),
        Some(first) => Err(Unfinished { pruned: Box::new(pruned), first }),
    }
}

/// Volumes of machines that are not there. The volumes are listed first: a machine is defined before it has any, so one
/// that comes up meanwhile is not mistaken for gone.
fn stray_volumes(hypervisor: &dyn Hypervisor, realm: &NamePrefix) -> Result<Vec<String>> {
    let volumes = hypervisor.volumes()?;
    let machines = hypervisor.machines()?;
    let is_stray = |name: &String| {
        realm.domain_of(name).is_some_and(|domain| machines.iter().all(|machine| machine.name != domain))
    };
    Ok(volumes.into_iter().map(|volume| volume.name).filter(is_stray).collect())
}

#[cfg(test)]
mod tests;
