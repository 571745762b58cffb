//! What ends VMs outside of a run: `down` for one VM, `prune` for everything without an owner.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::admission;
use super::context::RunContext;
use super::diagnostics::save_logs;
use super::recorder::RunRecorder;
use super::running_vm::{remove_keys, remove_keys_in};
use super::secrets::redact_secrets_of;
use crate::catalog::plan::TrialName;
use crate::machine::teardown::{self, PruneError, PruneScope, teardown};
use crate::site::secrets;
use crate::support::deadline::{Deadline, Waited};
use crate::support::lock::{Busy, FileLock, LockError};
use crate::support::run_folder::RunFolder;

/// How long reading the secrets of the run may take.
const SECRETS: Duration = Duration::from_secs(120);

/// Ends the VM of a trial, whoever brought it up, and removes everything that belongs to it. Returns its run folder, or
/// nothing if there was no such VM.
///
/// # Errors
/// When another process holds the VM lock, or the hypervisor fails.
pub fn down(context: &RunContext, trial: &TrialName) -> anyhow::Result<Option<PathBuf>> {
    let recorder = RunRecorder::new(context.reporter.clone(), context.interrupt.clone());
    let _lock = admission::lock(context, trial, &recorder)?;
    let hypervisor = context.hypervisor.as_ref();
    let machine = trial.machine();
    let found = context.machine(&machine)?;
    let path = found.as_ref().and_then(|it| it.ownership.as_ref()).map(|it| it.run_folder.clone());
    if let Some(folder) = path.as_deref().and_then(|path| RunFolder::open(path).ok()) {
        match redact_secrets_of(&folder, &recorder.deadline(SECRETS, "down")) {
            Ok(()) => save_logs(hypervisor, &machine, &folder, &recorder),
            Err(error) => recorder.note(format!(
                "console.log and journal.log stay as the last step saved them, as the secrets of the run cannot be read to \
                 redact the rest: {error:#}"
            )),
        }
        remove_keys(&folder);
    }
    // Even without such a domain: one of its volumes may be left.
    teardown(hypervisor, &machine).with_context(|| format!("cannot end the VM {machine}"))?;
    Ok(found.map(|_| path.unwrap_or_default()))
}

/// What [`prune`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names of VMs.
    pub machines: Vec<String>,
    /// Volumes whose VM no longer exists.
    pub volumes: Vec<String>,
    /// Files with secrets of killed runs.
    pub secrets: Vec<PathBuf>,
}

/// Removes orphaned VMs, volumes, keys and leftover secrets below `runs`; with [`PruneScope::Everything`] everything of ours but
/// the images. Returns what was removed, and the first error: the rest is tried all the same, as a later prune cannot
/// find the keys of a VM that is gone.
pub fn prune(context: &RunContext, runs: &Path, scope: PruneScope) -> (Removed, anyhow::Result<()>) {
    let (pruned, torn_down) =
        match teardown::prune(context.hypervisor.as_ref(), &context.prefix, &context.processes, scope) {
            Ok(pruned) => (pruned, Ok(())),
            Err(PruneError { pruned, first }) => (*pruned, Err(first)),
        };
    remove_keys_in(pruned.run_folders.iter().map(PathBuf::as_path));
    let (secrets, secrets_removed) = match prune_secrets(context, runs) {
        Ok(secrets) => (secrets, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let removed = Removed { machines: pruned.machines, volumes: pruned.volumes, secrets };
    (removed, torn_down.map_err(Into::into).and(secrets_removed))
}

/// Removes the secrets that killed runs left below `runs`, unless a run is in progress.
fn prune_secrets(context: &RunContext, runs: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let soon = Deadline::after(Duration::from_secs(1), "prune", context.interrupt.clone(), Waited::default());
    match FileLock::acquire(&context.state.join("vm.lock"), "boma-it prune", &soon, |_| Busy::GiveUp) {
        Ok(_lock) => {
            secrets::remove_leftovers(runs).context("cannot remove the secrets that a killed run left")
        }
        Err(LockError::Held { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
