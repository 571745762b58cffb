//! `boma-it ssh`: OpenSSH into the guest with the run's key and known host key, and nothing of the user's own
//! configuration or agent.

use super::args::Target;
use super::exit::Exit;
use super::project::Driver;

pub(super) fn run(project: &Driver, target: &Target, command: &[String]) -> anyhow::Result<Exit> {
    let (_, live) = project.live(target)?;
    let status = live.ssh_command()?.args(command).interact()?;
    Ok(match status.code() {
        Some(code) => Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)),
        None => Exit::Infrastructure,
    })
}
