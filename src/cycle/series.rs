//! A series: the same trial several times, each run whole and with a folder of its own, to tell what is chance.
//!
//! The runs are one after the other. None but the last keeps its VM, whatever the caller wants kept: a VM that stays would
//! be in the way of the next run. A run that is interrupted, or cannot begin, ends the series.

use std::fmt;
use std::str::FromStr;

use super::run::{Job, run};
use super::spread::spread;
use super::world::{Keep, RunContext};
use crate::catalog::Plan;
use crate::event::{Event, RunReport, SeriesReport};
use crate::outcome::{Outcome, error_chain};
use crate::support::env;
use crate::support::run_folder::series_of;

/// How many times a trial is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times(usize);

/// The text is no such number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no number of runs: expected a whole number from 1 to {most}, in `--repeat` or {variable}",
    most = Times::MOST, variable = env::REPEAT.name)]
pub struct InvalidTimes(String);

impl Times {
    /// Once: no series at all.
    pub const ONCE: Self = Self(1);
    const MOST: usize = 1000;

    /// As `BOMA_IT_REPEAT` says; once, if it says nothing.
    ///
    /// # Errors
    /// [`InvalidTimes`].
    pub fn from_env() -> Result<Self, InvalidTimes> {
        env::REPEAT.get().map_or(Ok(Self::ONCE), |text| text.parse())
    }
}

impl FromStr for Times {
    type Err = InvalidTimes;

    fn from_str(text: &str) -> Result<Self, InvalidTimes> {
        let number = text.parse().ok().filter(|number| (1..=Self::MOST).contains(number));
        number.map(Self).ok_or_else(|| InvalidTimes(text.to_owned()))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A series ended before its last run, as that could not begin.
#[derive(Debug, thiserror::Error)]
#[error("the series ended after {runs} of {of} runs")]
pub struct CutShort {
    runs: usize,
    of: Times,
}

/// Runs the whole cycle of `plan` as often as `times` says. The world's sink hears of the series when it has come to its end,
/// also of one that an error cut short.
///
/// # Errors
/// As [`run()`], of the run that could not begin; within [`CutShort`] if others had been made.
pub fn repeat(world: &mut RunContext, plan: &Plan, times: Times) -> anyhow::Result<SeriesReport> {
    let keep = world.keep;
    let mut runs = Vec::new();
    let stopped = all(world, plan, times, &mut runs).err();
    world.keep = keep;
    let file = runs.first().map(|run| series_of(&run.folder)).unwrap_or_default();
    let report = spread(&runs, times.0, stopped.as_ref().map(error_chain), file);
    if let Some(report) = &report {
        world.sink.on_event(&Event::SeriesFinished(Box::new(report.clone())));
    }
    match (stopped, report) {
        (None, Some(report)) => Ok(report),
        (Some(error), Some(report)) => Err(error.context(CutShort { runs: report.runs.len(), of: times })),
        (Some(error), None) => Err(error),
        (None, None) => Err(anyhow::anyhow!("no run was made of {}", plan.trial)),
    }
}

fn all(world: &mut RunContext, plan: &Plan, times: Times, runs: &mut Vec<RunReport>) -> anyhow::Result<()> {
    let mut plan = plan.clone();
    // The series is to be read as a whole.
    plan.harness.keep_runs = plan.harness.keep_runs.max(times.0);
    let keep = world.keep;
    for number in 1..=times.0 {
        world.keep = if number == times.0 { keep } else { Keep::Never };
        if number > 1 {
            world.sink.on_event(&Event::Note(format!("run {number} of {times}")));
        }
        let report = run(world, &plan, Job::Cycle)?;
        let interrupted = report.outcome == Outcome::Interrupted;
        runs.push(report);
        if interrupted {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("1", Some(1))]
    #[case("1000", Some(1000))]
    #[case("0", None)]
    #[case("1001", None)]
    #[case("-1", None)]
    #[case("2.5", None)]
    #[case("five", None)]
    #[case("", None)]
    fn a_number_of_runs_is_a_whole_one(#[case] text: &str, #[case] expected: Option<usize>) {
        let seen = text.parse::<Times>();
        assert_eq!(seen.clone().ok().map(|times| times.0), expected);
        if let Err(error) = seen {
            let words = "is no number of runs: expected a whole number from 1 to 1000, in `--repeat` or BOMA_IT_REPEAT";
            assert_eq!(error.to_string(), format!("`{text}` {words}"));
        }
    }
}
