//! `prune`: what nobody answers for goes, VMs, volumes, keys and secrets; or, if that is asked for, everything of ours but
//! the images.

use std::path::{Path, PathBuf};

use super::down::forget_keys_in;
use super::secrets::prune_secrets;
use super::world::RunContext;
use crate::machine::teardown::{self, PruneScope, Unfinished};

/// What [`prune`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// VMs, by name.
    pub machines: Vec<String>,
    /// Volumes of VMs that were not there any more.
    pub volumes: Vec<String>,
    /// What killed runs left of their secrets.
    pub secrets: Vec<PathBuf>,
}

/// Removes it, and what killed runs left of their secrets below `runs`. Gives what was removed, and the first error: everything
/// is tried, as no later prune finds the keys of a VM that is gone.
pub fn prune(world: &RunContext, runs: &Path, reach: PruneScope) -> (Removed, anyhow::Result<()>) {
    let (pruned, torn_down) =
        match teardown::prune(world.hypervisor.as_ref(), &world.realm, &world.processes, reach) {
            Ok(pruned) => (pruned, Ok(())),
            Err(Unfinished { pruned, first }) => (*pruned, Err(first)),
        };
    forget_keys_in(pruned.run_folders.iter().map(PathBuf::as_path));
    let (secrets, forgotten) = match prune_secrets(world, runs) {
        Ok(secrets) => (secrets, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let removed = Removed { machines: pruned.machines, volumes: pruned.volumes, secrets };
    (removed, torn_down.map_err(Into::into).and(forgotten))
}
