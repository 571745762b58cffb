//! How a run ended, in one block of text: the verdict, expected against seen, the assertions that did not hold
//! with where they stand and what they said, the error's whole chain, and where to look further. Pure; the terminal
//! shows it and the libtest failure message carries it.

use std::time::Duration;

use super::row::{Line, LineStyle};
use crate::event::{Compared, RunReport, StageReport};
use crate::outcome::{Assertion, AssertionStatus, Outcome};
use crate::support::deadline::format_duration;

/// Lines of an assertion's message that are shown; the whole of it is in `report.json`.
const MESSAGE_LINES: usize = 20;

/// The block of text, without colour: lines of at most a label, two spaces and text, no line end at the end.
pub fn explain(report: &RunReport) -> String {
    text(&rows(report))
}

/// What to type to look inside a VM that was kept ([`crate::event::Event::Kept`]): a command a line, fit to paste,
/// with what it is for as a comment.
pub fn explain_kept(commands: &[(String, String)]) -> String {
    text(&[kept_row(commands)])
}

/// The rows of the block.
pub(super) fn rows(report: &RunReport) -> Vec<Line> {
    let mut rows = vec![headline(report)];
    if report.outcome != Outcome::Passed {
        rows.push(Line::gap());
    }
    rows.extend(expected_against_seen(report));
    rows.extend(report.stages.iter().filter(|stage| stage.outcome != Outcome::Passed).map(stage_row));
    rows.extend(assertions("before", " before the restart", &report.before));
    rows.extend(assertions("assertions", "", &report.assertions));
    if let Some(error) = &report.error {
        rows.push(Line::new(LineStyle::Bad, "error", error));
    }
    if report.outcome != Outcome::Passed {
        rows.extend(stages(report));
        rows.push(Line::new(LineStyle::Faint, "folder", report.folder.display().to_string()));
    }
    if report.kept {
        rows.push(Line::new(LineStyle::Wary, "kept", format!("{} stays for inspection", report.machine)));
    }
    rows
}

/// The verdict in a line: `failed  askari::cycle at assert, after 5m12s (5m09s waiting, 2.6s own)`.
pub(super) fn headline(report: &RunReport) -> Line {
    let sum = |part: fn(&StageReport) -> Duration| report.stages.iter().map(part).sum::<Duration>();
    let time =
        (!report.stages.is_empty()).then(|| timing(sum(|s| s.took), sum(|s| s.waited), sum(|s| s.own)));
    let broken = report.stages.iter().find(|stage| stage.outcome != Outcome::Passed);
    let trial = &report.trial;
    let text = match (report.outcome, broken, time) {
        (Outcome::Passed, _, Some(time)) => format!("{trial} in {time}"),
        (_, Some(broken), Some(time)) => format!("{trial} at {}, after {time}", broken.stage),
        (_, _, Some(time)) => format!("{trial} after {time}"),
        (_, _, None) => trial.clone(),
    };
    Line::new(tone(report.outcome), report.outcome.to_string(), text)
}

/// A stage that ended: `apply  passed in 3m07s (3m06s waiting, 1.1s own): 23 tasks, 11 changed`.
pub(super) fn stage_row(stage: &StageReport) -> Line {
    let time = timing(stage.took, stage.waited, stage.own);
    let preposition = if stage.outcome == Outcome::Passed { "in" } else { "after" };
    let colon = if stage.summary.is_empty() { "" } else { ": " };
    let text = format!("{} {preposition} {time}{colon}{}", stage.outcome, stage.summary);
    Line::new(tone(stage.outcome), stage.stage.to_string(), text)
}

/// What to type to look inside: each command with what it is for as a comment.
pub(super) fn kept_row(commands: &[(String, String)]) -> Line {
    let width = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or_default();
    let lines = commands.iter().map(|(command, purpose)| format!("{command:width$}  # {purpose}"));
    Line::new(LineStyle::Wary, "look inside", lines.collect::<Vec<_>>().join("\n"))
}

/// An outcome's tone.
pub(super) fn tone(outcome: Outcome) -> LineStyle {
    match outcome {
        Outcome::Passed => LineStyle::Good,
        Outcome::Failed | Outcome::Errored => LineStyle::Bad,
        Outcome::Interrupted => LineStyle::Wary,
    }
}

/// `59s (57s waiting, 2.1s own)`; the split is left out where nothing was waited for.
fn timing(took: Duration, waited: Duration, own: Duration) -> String {
    if waited.is_zero() {
        return format_duration(took);
    }
    format!("{} ({} waiting, {} own)", format_duration(took), format_duration(waited), format_duration(own))
}

/// Both, one above the other and then side by side, where the comparison says something: the run did not pass, or it is a scenario.
fn expected_against_seen(report: &RunReport) -> Vec<Line> {
    let said_elsewhere = report.outcome == Outcome::Interrupted && report.error.is_some();
    let as_ever = report.outcome == Outcome::Passed && report.scenario.is_none();
    if said_elsewhere || as_ever {
        return Vec::new();
    }
    let mut rows = vec![
        Line::new(LineStyle::Faint, "expected", &report.expected),
        Line::new(LineStyle::Faint, "seen", &report.seen),
    ];
    if !report.compared.is_empty() {
        rows.push(Line::new(LineStyle::Faint, "compared", side_by_side(&report.compared)));
    }
    rows
}

/// One line for each thing that was declared; a `≠` before those where the two differ.
fn side_by_side(compared: &[Compared]) -> String {
    let head = ["", "stage", "what", "expected", "seen"].map(str::to_owned);
    let line = |it: &Compared| {
        let sign = if it.holds { "=" } else { "≠" };
        [sign.to_owned(), it.at.to_string(), it.what.clone(), it.expected.clone(), it.seen.clone()]
    };
    aligned(&std::iter::once(head).chain(compared.iter().map(line)).collect::<Vec<_>>())
}

/// How many held, and each that did not hold or was not looked at.
fn assertions(label: &str, when: &str, all: &[Assertion]) -> Vec<Line> {
    if all.is_empty() {
        return Vec::new();
    }
    let count = |status| all.iter().filter(|assertion| assertion.status == status).count();
    let tally = [
        (count(AssertionStatus::Passed), "passed"),
        (count(AssertionStatus::Failed), "failed"),
        (count(AssertionStatus::Skipped), "skipped"),
    ];
    let counted = tally.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}"));
    let tally = counted.collect::<Vec<_>>().join(", ");
    let mut rows = vec![Line::new(LineStyle::Faint, label, format!("{tally}{when}"))];
    rows.extend(all.iter().filter(|a| a.status == AssertionStatus::Failed).map(assertion_row));
    rows.extend(all.iter().filter(|a| a.status == AssertionStatus::Skipped).map(assertion_row));
    rows
}

fn assertion_row(assertion: &Assertion) -> Line {
    let (tone, label) = match assertion.status {
        AssertionStatus::Passed => (LineStyle::Good, "passed"),
        AssertionStatus::Failed => (LineStyle::Bad, "failed"),
        AssertionStatus::Skipped => (LineStyle::Wary, "skipped"),
    };
    Line::new(tone, label, located(&assertion.name, &assertion.path, assertion.message.as_deref()))
}

/// A task's name, where it stands, and the beginning of what it said.
pub(super) fn located(name: &str, path: &str, message: Option<&str>) -> String {
    let mut text = format!("{name}\n{path}");
    let lines: Vec<&str> = message.unwrap_or_default().lines().collect();
    for line in lines.iter().take(MESSAGE_LINES) {
        text = text + "\n" + line;
    }
    if lines.len() > MESSAGE_LINES {
        text += &format!("\n… {} more lines in the run folder", lines.len() - MESSAGE_LINES);
    }
    text
}

/// All stages with their times, in one row.
fn stages(report: &RunReport) -> Option<Line> {
    let times = report.stages.iter().map(|stage| format!("{} {}", stage.stage, format_duration(stage.took)));
    let line = times.collect::<Vec<_>>().join(" · ");
    (!line.is_empty()).then(|| Line::new(LineStyle::Faint, "stages", line))
}

pub(super) fn text(rows: &[Line]) -> String {
    rows.iter().map(|row| row.paint(false)).collect::<Vec<_>>().join("\n")
}

/// Lines of as many cells each, the columns two spaces apart.
pub(super) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
