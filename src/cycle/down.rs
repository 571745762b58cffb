//! What ends VMs outside of a run: `down` for one VM, `prune` for everything without an owner.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;

use super::admission;
use super::context::RunContext;
use super::diagnostics::save_logs;
use super::recorder::RunRecorder;
use super::running_vm::{remove_keys, remove_keys_in};
use super::secrets::redact_secrets_of;
use crate::catalog::plan::TrialName;
use crate::catalog::quantity::Bytes;
use crate::machine::layer::LayerName;
use crate::machine::layer::store::LayerStore;
use crate::machine::teardown::{self, PruneError, PruneScope, teardown};
use crate::machine::{Hypervisor, HypervisorError, Machine};
use crate::site::secrets;
use crate::support::run_folder::RunFolder;

/// How long reading the secrets of the run may take.
const SECRETS: Duration = Duration::from_secs(120);

/// A VM that [`down`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The domain's name.
    pub machine: String,
    /// Its run folder.
    pub folder: PathBuf,
}

/// Ends the VM of a trial, whoever brought it up, and removes everything that belongs to it, and the volumes that other
/// VMs of the host left behind. Returns nothing if there was no such VM.
///
/// # Errors
/// When another process works on the VM, it has no metadata, or the hypervisor fails.
pub fn down(context: &RunContext, trial: &TrialName) -> anyhow::Result<Option<Ended>> {
    let recorder = RunRecorder::new(context.reporter.clone(), context.interrupt.clone());
    let hypervisor = context.hypervisor.as_ref();
    let ended = match admission::hold(context, trial, &recorder)? {
        Some((Machine { name: machine, .. }, ownership, _place)) => {
            let ended = Ended { machine, folder: ownership.run_folder };
            end(hypervisor, &ended, &recorder)?;
            Some(ended)
        }
        None => None,
    };
    // A VM that was only removed in part leaves volumes. They do not tell the scenario, and none of these has a VM.
    teardown::remove_orphaned_volumes(hypervisor, &context.prefix, &trial.host)
        .with_context(|| format!("cannot remove the volumes that a VM of {} left", trial.host))?;
    // The disk of a layer that the VM was making.
    context
        .layers()
        .sweep(Bytes(u64::MAX), Timestamp::now())
        .1
        .context("cannot remove an unfinished layer")?;
    Ok(ended)
}

fn end(hypervisor: &dyn Hypervisor, ended: &Ended, recorder: &RunRecorder) -> anyhow::Result<()> {
    let machine = &ended.machine;
    if let Ok(folder) = RunFolder::open(&ended.folder) {
        match redact_secrets_of(&folder, &recorder.deadline(SECRETS, "down")) {
            Ok(()) => save_logs(hypervisor, machine, &folder, recorder),
            Err(error) => recorder.note(format!(
                "console.log and journal.log stay as the last step saved them, as the secrets of the run cannot be read to \
                 redact the rest: {error:#}"
            )),
        }
        remove_keys(&folder);
    }
    teardown(hypervisor, machine).with_context(|| format!("cannot end the VM {machine}"))
}

/// What [`prune`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names of VMs.
    pub machines: Vec<String>,
    /// Volumes whose VM no longer exists.
    pub volumes: Vec<String>,
    /// Layers: unfinished or too old ones, or all.
    pub layers: Vec<LayerName>,
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
    let (layers, layers_removed) = prune_layers(&context.layers(), scope);
    remove_keys_in(pruned.run_folders.iter().map(PathBuf::as_path));
    let (secrets, secrets_removed) = match secrets::remove_leftovers(runs) {
        Ok(secrets) => (secrets, Ok(())),
        Err(error) => {
            let error =
                anyhow::Error::from(error).context("cannot remove the secrets that a killed run left");
            (Vec::new(), Err(error))
        }
    };
    let removed = Removed { machines: pruned.machines, volumes: pruned.volumes, layers, secrets };
    (removed, torn_down.map_err(Into::into).and(layers_removed.map_err(Into::into)).and(secrets_removed))
}

fn prune_layers(layers: &LayerStore<'_>, scope: PruneScope) -> (Vec<LayerName>, Result<(), HypervisorError>) {
    match scope {
        PruneScope::Orphans => layers.sweep(Bytes(u64::MAX), Timestamp::now()),
        PruneScope::Everything => match layers.list() {
            Ok(all) => layers.remove_all(all.into_iter().map(|it| it.name).collect()),
            Err(error) => (Vec::new(), Err(error)),
        },
    }
}
