//! The stage `down`: save what the VM said, destroy it, forget its keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::admit;
use super::ledger::RunRecorder;
use super::live::keys;
use super::secrets;
use super::world::RunContext;
use crate::catalog::plan::TrialName;
use crate::machine::teardown::teardown;
use crate::machine::{Hypervisor, HypervisorError, VmVolumes};
use crate::support::file;
use crate::support::run_folder::RunFolder;
use crate::support::secret::Redacting;

/// How long it may take to read the secrets of a run that is ended.
const LEARN: Duration = Duration::from_secs(120);

/// Ends the VM of a trial, whoever brought it up, and everything that belongs to it. Gives its run folder; nothing if
/// there was no such VM.
///
/// # Errors
/// When another process is at work on a VM, or the hypervisor does not do it.
pub fn down(world: &RunContext, trial: &TrialName) -> anyhow::Result<Option<PathBuf>> {
    let ledger = RunRecorder::new(world.sink.clone(), world.interrupt.clone());
    let _lock = admit::lock(world, trial, &ledger)?;
    let hypervisor = world.hypervisor.as_ref();
    let machine = trial.machine();
    let machines = hypervisor.machines().context("cannot see which VMs there are")?;
    let found = machines.into_iter().find(|it| it.name == machine);
    let path = found.as_ref().and_then(|it| it.ownership.as_ref()).map(|it| it.run_folder.clone());
    if let Some(folder) = path.as_deref().and_then(|path| RunFolder::open(path).ok()) {
        let deadline = ledger.deadline(LEARN, "down");
        match secrets::learn_of_run(&folder, &deadline) {
            Ok(()) => save_logs(hypervisor, &machine, &folder, &ledger),
            Err(error) => ledger.note(format!(
                "console.log and journal.log are left as the last step saved them, as the secrets of the run cannot be taken out of more: {error:#}"
            )),
        }
        forget_keys(&folder);
    }
    // Also where there is no such domain: a volume of it may be left.
    teardown(hypervisor, &machine).with_context(|| format!("cannot end {machine}"))?;
    Ok(found.map(|_| path.unwrap_or_default()))
}

/// Saves what the VM said on its console, and its journal, into the run folder. Trouble is noted, no more; and what was saved
/// before stays until there is a whole log in its place, as it may be the last that there is.
pub(super) fn save_logs(
    hypervisor: &dyn Hypervisor,
    machine: &str,
    folder: &RunFolder,
    ledger: &RunRecorder,
) {
    let files = VmVolumes(machine);
    let there = match hypervisor.volumes() {
        Ok(volumes) => Some(volumes.into_iter().map(|volume| volume.name).collect::<Vec<_>>()),
        // No pool, no volumes.
        Err(HypervisorError::NotFound { .. }) => return,
        Err(error) => {
            ledger.note(format!(
                "which earlier parts of the VM's logs there are is not known, so each is tried: {:#}",
                anyhow::Error::from(error)
            ));
            None
        }
    };
    let may_be_there = |part: &String| there.as_ref().is_none_or(|there| there.contains(part));
    for (volume, name) in [(files.console(), "console.log"), (files.journal(), "journal.log")] {
        let save = || -> anyhow::Result<()> {
            file::replace(&folder.join(name), 0o600, |file| {
                let mut redacting = Redacting::of_process(file);
                for part in VmVolumes::rolled(&volume).iter().filter(|part| may_be_there(part)) {
                    match hypervisor.download(part, 0, &mut redacting) {
                        Ok(_) | Err(HypervisorError::NotFound { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                hypervisor.download(&volume, 0, &mut redacting)?;
                redacting.finish()?;
                Ok(())
            })
        };
        match save() {
            // A guest without our image streams no journal.
            Err(error) if !is_absent(&error) => ledger.note(format!("{name} could not be saved: {error:#}")),
            _ => {}
        }
    }
}

/// Removes the keys of a VM that is no more: they open nothing now, and a run folder holds no secrets.
pub(super) fn forget_keys(folder: &RunFolder) {
    let _ = fs::remove_dir_all(keys(folder));
}

/// The same for the run folders at `paths`, as far as they are there.
pub fn forget_keys_in<'a>(paths: impl IntoIterator<Item = &'a Path>) {
    paths.into_iter().filter_map(|path| RunFolder::open(path).ok()).for_each(|folder| forget_keys(&folder));
}

fn is_absent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(HypervisorError::NotFound { .. }))
}

#[cfg(test)]
mod tests;
