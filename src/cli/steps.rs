//! `boma-it up | apply | reboot | assert | cycle | down`: runs told on the terminal and recorded in the run folder.

use super::args::{RiskyChoice, Target};
use super::exit::{Exit, Usage};
use super::print;
use super::project::Driver;
use crate::cycle::{self, Job};
use crate::support::env::{self, RepeatRemoved};

pub(super) fn run(project: &Driver, choice: &RiskyChoice, job: Job) -> anyhow::Result<Exit> {
    let plan = project.plan(choice)?;
    let world = project.world()?;
    let report = cycle::run(&world, &plan, job)?;
    Ok(Exit::of_run(report.outcome, &world.interrupt))
}

/// The whole cycle, once.
pub(super) fn cycle(project: &Driver, choice: &RiskyChoice, has_repeat: bool) -> anyhow::Result<Exit> {
    let option = if has_repeat { Err(RepeatRemoved("--repeat")) } else { Ok(()) };
    option.and_then(|()| env::refuse_repeat()).map_err(|error| Usage(error.to_string()))?;
    run(project, choice, Job::Cycle)
}

/// Needs no sound files: a VM must be removable also when its profile is gone.
pub(super) fn down(project: &Driver, target: &Target) -> anyhow::Result<Exit> {
    let trial = Driver::trial(target)?;
    let world = project.world()?;
    print(&match cycle::down(&world, &trial)? {
        Some(folder) => format!("{} is gone; its run folder is {}\n", trial.machine(), folder.display()),
        None => format!("there is no VM {}\n", trial.machine()),
    })?;
    Ok(Exit::Passed)
}
