//! `boma-it console`: what the serial console printed, over all boots, straight from the hypervisor, and without the
//! secrets of the run.

use std::time::Duration;

use anyhow::Context;

use super::args::Target;
use super::exit::Exit;
use super::project::Driver;
use crate::cycle;
use crate::machine::VmVolumes;
use crate::support::deadline::{Deadline, Waited};

/// How long it may take to read the secrets of the run.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(project: &Driver, target: &Target) -> anyhow::Result<Exit> {
    let (world, live) = project.live(target)?;
    let deadline = Deadline::after(PATIENCE, "console", world.interrupt.clone(), Waited::default());
    cycle::redact_secrets_of(&live.folder, &deadline)
        .context("cannot take the secrets of the run out of what the console said")?;
    let mut text = Vec::new();
    world.hypervisor.download(&VmVolumes(&live.machine).console(), 0, &mut text)?;
    super::print(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Passed)
}
