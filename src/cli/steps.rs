//! `boma-it up | apply | reboot | assert | cycle | down`: runs told on the terminal and recorded in the run folder.

use super::args::{RiskyChoice, Target};
use super::exit::{Exit, Usage};
use super::print;
use super::project::Driver;
use crate::cycle::{self, Job, Times};

pub(super) fn run(project: &Driver, choice: &RiskyChoice, job: Job) -> anyhow::Result<Exit> {
    let plan = project.plan(choice)?;
    let world = project.world()?;
    let report = cycle::run(&world, &plan, job)?;
    Ok(Exit::of_run(report.outcome, &world.interrupt))
}

/// The whole cycle, as often as the option says, or else the environment.
pub(super) fn cycle(project: &Driver, choice: &RiskyChoice, repeat: Option<Times>) -> anyhow::Result<Exit> {
    let times = repeat.map_or_else(Times::from_env, Ok).map_err(|error| Usage(error.to_string()))?;
    if times == Times::ONCE {
        return run(project, choice, Job::Cycle);
    }
    let plan = project.plan(choice)?;
    let mut world = project.world()?;
    let series = cycle::repeat(&mut world, &plan, times)?;
    Ok(Exit::of_run(series.outcome, &world.interrupt))
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
