//! `boma-it plan`: what a trial would do, with every default filled in. Nothing is done.

use super::args::RiskyChoice;
use super::exit::Exit;
use super::print;
use super::project::Driver;

pub(super) fn run(project: &Driver, choice: &RiskyChoice) -> anyhow::Result<Exit> {
    let plan = project.plan(choice)?;
    print(&serde_yaml::to_string(&plan)?)?;
    Ok(Exit::Passed)
}
