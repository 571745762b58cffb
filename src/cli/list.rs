//! `boma-it list`: every trial, from the files alone.

use super::exit::Exit;
use super::print;
use super::project::Driver;

pub(super) fn run(project: &Driver, json: bool) -> anyhow::Result<Exit> {
    let catalog = project.catalog();
    let trials: Vec<_> = catalog.trials().collect();
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&trials)?))?;
    } else {
        print(&trials.iter().map(|trial| format!("{trial}\n")).collect::<String>())?;
    }
    Ok(Exit::Passed)
}
