//! `boma-it prune`: what nobody answers for is torn down, and what killed runs left of their secrets; with `--all`, everything of ours but the images.

use std::path::PathBuf;

use super::exit::Exit;
use super::print;
use super::project::Project;
use crate::catalog::Choices;
use crate::cycle;
use crate::machine::teardown::{Reach, prune};

pub(super) fn run(project: &Project, all: bool) -> anyhow::Result<Exit> {
    let world = project.world()?;
    let reach = if all { Reach::Everything } else { Reach::Orphans };
    let pruned = prune(world.hypervisor.as_ref(), &world.realm, &world.processes, reach)?;
    cycle::forget_keys_in(pruned.run_folders.iter().map(PathBuf::as_path));
    let machines = pruned.machines.iter().map(|name| format!("removed the VM {name}\n"));
    let volumes = pruned.volumes.iter().map(|name| format!("removed the volume {name}\n"));
    let runs = project.catalog().harness(&Choices::from_env(None, None)?)?.runs;
    let secrets = cycle::prune_secrets(&world, &runs)?;
    let secrets = secrets.iter().map(|path| format!("removed the secrets {}\n", path.display()));
    let text: String = machines.chain(volumes).chain(secrets).collect();
    print(if text.is_empty() { "nothing to prune\n" } else { &text })?;
    Ok(Exit::Passed)
}
