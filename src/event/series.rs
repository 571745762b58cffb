//! What a series of runs of one trial was like, as the reports hear it and `…-repeat.json` has it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::as_seconds;
use crate::outcome::{Outcome, Stage};

/// The whole of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesReport {
    /// Version of this format.
    pub version: u32,
    /// `askari::cycle`.
    pub trial: String,
    /// Inventory name of the host.
    pub host: String,
    /// Name of the scenario, if it is one.
    pub scenario: Option<String>,
    /// When the first run began, RFC 3339 with the time zone in brackets.
    pub started: String,
    /// How many runs were asked for.
    pub planned: usize,
    /// Passed only if every run that was asked for did.
    pub outcome: Outcome,
    /// Whether some runs passed and others did not.
    pub flaky: bool,
    /// All of it in a line: `flaky: 4 of 5 passed`.
    pub verdict: String,
    /// Why it ended before its last run, where it did: the error's whole chain.
    pub stopped: Option<String>,
    /// How many runs had each outcome.
    pub outcomes: Vec<Count>,
    /// The time of every stage that ran.
    pub stages: Vec<StageSpread>,
    /// Every run, in order.
    pub runs: Vec<SeriesRun>,
    /// Where this is written, beside the run folders.
    pub file: PathBuf,
}

/// How many runs ended in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The way.
    pub outcome: Outcome,
    /// How many.
    pub runs: usize,
}

/// Times of one stage over the runs that came to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageSpread {
    /// Which.
    pub stage: Stage,
    /// In how many runs it came to an end, whatever its outcome.
    pub runs: usize,
    /// The shortest.
    #[serde(rename = "min_seconds", serialize_with = "as_seconds")]
    pub min: Duration,
    /// The middle one; of an even number, half-way between the two in the middle.
    #[serde(rename = "median_seconds", serialize_with = "as_seconds")]
    pub median: Duration,
    /// The longest.
    #[serde(rename = "max_seconds", serialize_with = "as_seconds")]
    pub max: Duration,
}

/// One run of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesRun {
    /// Counted from 1.
    pub number: usize,
    /// Its verdict.
    pub outcome: Outcome,
    /// What was seen, in words.
    pub seen: String,
    /// All its stages together.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub took: Duration,
    /// Whether it ended in another way than most did: another outcome, stage or set of failed assertions.
    pub differs: bool,
    /// Its run folder.
    pub folder: PathBuf,
}
