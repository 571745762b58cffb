//! `boma-it console`: what the serial console printed, over all boots, straight from the hypervisor.

use super::args::Target;
use super::exit::Exit;
use super::project::Project;
use crate::machine::MachineFiles;

pub(super) fn run(project: &Project, target: &Target) -> anyhow::Result<Exit> {
    let (world, live) = project.live(target)?;
    let mut text = Vec::new();
    world.hypervisor.download(&MachineFiles(&live.machine).console(), 0, &mut text)?;
    super::print(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Passed)
}
