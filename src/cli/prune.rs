//! `boma-it prune`: what nobody answers for is torn down, and what killed runs left of their secrets; with `--all`, everything of ours but the images.

use super::exit::Exit;
use super::print;
use super::project::Driver;
use crate::catalog::RunOptions;
use crate::cycle;
use crate::machine::teardown::PruneScope;

pub(super) fn run(project: &Driver, all: bool) -> anyhow::Result<Exit> {
    let world = project.world()?;
    let runs = project.catalog().harness(&RunOptions::from_env(None, None)?)?.runs;
    let reach = if all { PruneScope::Everything } else { PruneScope::Orphans };
    let (removed, done) = cycle::prune(&world, &runs, reach);
    let machines = removed.machines.iter().map(|name| format!("removed the VM {name}\n"));
    let volumes = removed.volumes.iter().map(|name| format!("removed the volume {name}\n"));
    let secrets = removed.secrets.iter().map(|path| format!("removed the secrets {}\n", path.display()));
    let text: String = machines.chain(volumes).chain(secrets).collect();
    print(if text.is_empty() && done.is_ok() { "nothing to prune\n" } else { &text })?;
    done.map(|()| Exit::Passed)
}
