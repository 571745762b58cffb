//! The spread of a series: outcomes with their counts, and the times of each stage. Pure.

use std::path::PathBuf;
use std::time::Duration;

use crate::event::{Count, RunReport, SeriesReport, SeriesRun, StageSpread};
use crate::outcome::{AssertionStatus, Outcome, Stage};

const OUTCOMES: [Outcome; 4] = [Outcome::Passed, Outcome::Failed, Outcome::Errored, Outcome::Interrupted];
const STAGES: [Stage; 6] =
    [Stage::Up, Stage::Apply, Stage::Before, Stage::Reboot, Stage::Assert, Stage::Down];

/// The spread of `runs`, of which `planned` were asked for, and whose series `stopped` for an error before the last, where it
/// did. Nothing of no runs.
pub fn spread(
    runs: &[RunReport],
    planned: usize,
    stopped: Option<String>,
    file: PathBuf,
) -> Option<SeriesReport> {
    let first = runs.first()?;
    let endings: Vec<Ending> = runs.iter().map(Ending::of).collect();
    let usual = most(&endings);
    let one = |(index, run): (usize, &RunReport)| SeriesRun {
        number: index + 1,
        outcome: run.outcome,
        seen: run.seen.clone(),
        took: run.stages.iter().map(|stage| stage.took).sum(),
        differs: usual != Some(&endings[index]),
        folder: run.folder.clone(),
    };
    let interrupted = runs.iter().any(|run| run.outcome == Outcome::Interrupted);
    let whole = runs.len() == planned && stopped.is_none() && !interrupted;
    let count = |outcome| runs.iter().filter(|run| run.outcome == outcome).count();
    let counts = OUTCOMES.map(|outcome| Count { outcome, runs: count(outcome) });
    let ways = ways(&endings);
    Some(SeriesReport {
        version: 1,
        trial: first.trial.clone(),
        host: first.host.clone(),
        scenario: first.scenario.clone(),
        started: first.started.clone(),
        planned,
        outcome: outcome(&count, whole),
        flaky: is_flaky(&count),
        verdict: verdict(&count, ways, planned, whole),
        stopped,
        outcomes: counts.into_iter().filter(|count| count.runs > 0).collect(),
        stages: STAGES.into_iter().filter_map(|stage| stage_spread(stage, runs)).collect(),
        runs: runs.iter().enumerate().map(one).collect(),
        file,
    })
}

/// How a run ended, without what differs from run to run.
#[derive(PartialEq)]
struct Ending {
    outcome: Outcome,
    at: Option<Stage>,
    failed: Vec<String>,
}

impl Ending {
    fn of(run: &RunReport) -> Self {
        let failed = run.before.iter().chain(&run.assertions);
        let failed = failed.filter(|it| it.status == AssertionStatus::Failed).map(|it| it.name.clone());
        let at = run.stages.iter().find(|stage| stage.outcome != Outcome::Passed).map(|stage| stage.stage);
        Self { outcome: run.outcome, at, failed: failed.collect() }
    }
}

/// The ending that most have; of equals, the one that came first.
fn most(endings: &[Ending]) -> Option<&Ending> {
    let times = |ending: &Ending| endings.iter().filter(|other| *other == ending).count();
    // `max_by_key` would give the last of equals.
    endings.iter().rev().max_by_key(|ending| times(ending))
}

/// In how many ways runs ended that came to an end.
fn ways(endings: &[Ending]) -> usize {
    let ended = |ending: &&Ending| ending.outcome != Outcome::Interrupted;
    let is_new = |(index, ending): &(usize, &Ending)| !endings[..*index].contains(ending);
    endings.iter().enumerate().filter(|(_, ending)| ended(ending)).filter(is_new).count()
}

fn is_flaky(count: &dyn Fn(Outcome) -> usize) -> bool {
    count(Outcome::Passed) > 0 && count(Outcome::Failed) + count(Outcome::Errored) > 0
}

/// A failure says more than an error, and either more than that there are too few runs.
fn outcome(count: &dyn Fn(Outcome) -> usize, whole: bool) -> Outcome {
    let worst = [Outcome::Interrupted, Outcome::Failed, Outcome::Errored];
    let seen = worst.into_iter().find(|outcome| count(*outcome) > 0);
    seen.unwrap_or(if whole { Outcome::Passed } else { Outcome::Errored })
}

/// `5 of 5 passed`, `flaky: 4 of 5 passed`, `5 of 5 failed, in 2 ways`, `2 of 2 passed; ended after 2 of 5 runs`.
fn verdict(count: &dyn Fn(Outcome) -> usize, ways: usize, planned: usize, whole: bool) -> String {
    let [passed, failed, errored] = [Outcome::Passed, Outcome::Failed, Outcome::Errored].map(count);
    let ended = passed + failed + errored;
    let words = match (passed, failed, errored) {
        (0, 0, 0) => "no run came to its end".to_owned(),
        (1.., 0, 0) => format!("{passed} of {ended} passed"),
        (1.., ..) => format!("flaky: {passed} of {ended} passed"),
        (0, failed, 0) => format!("{failed} of {ended} failed"),
        (0, 0, errored) => format!("{errored} of {ended} errored"),
        (0, failed, errored) => format!("{failed} of {ended} failed, {errored} errored"),
    };
    let ways = if passed == 0 && ways > 1 { format!(", in {ways} ways") } else { String::new() };
    let short = if whole { String::new() } else { format!("; ended after {ended} of {planned} runs") };
    words + &ways + &short
}

/// The times of a stage, those cut short by an interrupt left out.
fn stage_spread(stage: Stage, runs: &[RunReport]) -> Option<StageSpread> {
    let stages = runs.iter().flat_map(|run| &run.stages);
    let ended = stages.filter(|it| it.stage == stage && it.outcome != Outcome::Interrupted);
    let mut times: Vec<Duration> = ended.map(|it| it.took).collect();
    times.sort();
    let (min, max) = (*times.first()?, *times.last()?);
    let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
    Some(StageSpread { stage, runs: times.len(), min, median: (low + high) / 2, max })
}

#[cfg(test)]
mod tests;
