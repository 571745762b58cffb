//! How a series of runs went, in one block of text: the verdict, outcomes with their counts, a table of the stages' times,
//! and the run folders of those that ended in another way than most. Pure, as [`super::summary`].

use super::row::{Line, LineStyle};
use super::summary::{text, tone};
use crate::event::SeriesReport;
use crate::support::deadline::format_duration;

/// The block of text, without colour and without a line end at the end.
pub fn explain_series(series: &SeriesReport) -> String {
    text(&rows(series))
}

/// The rows of the block.
pub(super) fn rows(series: &SeriesReport) -> Vec<Line> {
    let mut rows = vec![Line::gap(), headline(series)];
    let counts = series.outcomes.iter().map(|count| format!("{} {}", count.runs, count.outcome));
    rows.push(Line::new(LineStyle::Faint, "outcomes", counts.collect::<Vec<_>>().join(" · ")));
    if !series.stages.is_empty() {
        rows.push(Line::new(LineStyle::Faint, "times", table(series)));
    }
    rows.extend(series.runs.iter().filter(|run| run.differs).map(|run| {
        let what = format!("run {} {}: {}\n{}", run.number, run.outcome, run.seen, run.folder.display());
        Line::new(tone(run.outcome), "differs", what)
    }));
    rows.extend(series.stopped.as_ref().map(|error| Line::new(LineStyle::Bad, "stopped", error)));
    rows.push(Line::new(LineStyle::Faint, "series", series.file.display().to_string()));
    rows
}

/// `failed  5 runs of askari::cycle: flaky: 4 of 5 passed`.
fn headline(series: &SeriesReport) -> Line {
    let text = format!("{} runs of {}: {}", series.planned, series.trial, series.verdict);
    Line::new(tone(series.outcome), series.outcome.as_str(), text)
}

fn table(series: &SeriesReport) -> String {
    let head = ["stage", "runs", "min", "median", "max"].map(str::to_owned);
    let line = |it: &crate::event::StageSpread| {
        [
            it.stage.to_string(),
            it.runs.to_string(),
            format_duration(it.min),
            format_duration(it.median),
            format_duration(it.max),
        ]
    };
    let lines: Vec<_> = std::iter::once(head).chain(series.stages.iter().map(line)).collect();
    super::summary::aligned(&lines)
}
