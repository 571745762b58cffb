//! How a run ended, in one block of text: the verdict, expected beside observed, the assertions that did not pass with
//! their place and message, the error's whole chain, and where to look further. Pure; the terminal shows it, and libtest's
//! failure message contains it.

use std::time::Duration;

use super::line::{Line, LineStyle};
use crate::event::{Compared, RunReport, StageReport};
use crate::outcome::{Assertion, AssertionStatus, Outcome, tally};
use crate::support::deadline::format_duration;

/// How many lines of an assertion's message are shown. `report.json` has all of them.
const MESSAGE_LINES: usize = 20;

/// The block of text, without colour and without a line end at its end.
pub fn explain(report: &RunReport) -> String {
    lines(report).iter().map(|line| line.paint(false)).collect::<Vec<_>>().join("\n")
}

/// The lines of the block.
pub(super) fn lines(report: &RunReport) -> Vec<Line> {
    let is_passed = report.outcome == Outcome::Passed;
    let mut lines = vec![headline(report)];
    if !is_passed {
        lines.push(Line::gap());
    }
    lines.extend(comparison(report));
    lines.extend(report.stages.iter().filter(|stage| stage.outcome != Outcome::Passed).map(stage_line));
    lines.extend(assertions("before", " before the restart", &report.before));
    lines.extend(assertions("assertions", "", &report.assertions));
    lines.extend(report.error.as_ref().map(|error| Line::new(LineStyle::Bad, "error", error)));
    if !is_passed {
        lines.extend(stage_times(report));
        lines.push(Line::new(LineStyle::Faint, "folder", report.folder.display().to_string()));
    }
    if report.kept {
        lines.push(Line::new(LineStyle::Warning, "kept", format!("{} stays for inspection", report.machine)));
    }
    lines
}

/// The verdict in a line: `failed  askari::cycle at assert, after 5m12s (5m09s waiting, 2.6s own)`, and from which layer.
pub(super) fn headline(report: &RunReport) -> Line {
    let sum = |part: fn(&StageReport) -> Duration| report.stages.iter().map(part).sum::<Duration>();
    let time =
        (!report.stages.is_empty()).then(|| timing(sum(|s| s.took), sum(|s| s.waited), sum(|s| s.own)));
    let broken = report.stages.iter().find(|stage| stage.outcome != Outcome::Passed);
    let trial = &report.trial;
    let mut text = match (report.outcome, broken, time) {
        (Outcome::Passed, _, Some(time)) => format!("{trial} in {time}"),
        (_, Some(broken), Some(time)) => format!("{trial} at {}, after {time}", broken.stage),
        (_, _, Some(time)) => format!("{trial} after {time}"),
        (_, _, None) => trial.clone(),
    };
    if let Some(layer) = &report.layer {
        text += &format!(", from {layer}");
    }
    Line::new(style_of(report.outcome), report.outcome, text)
}

/// A stage that ended: `apply  passed in 3m07s (3m06s waiting, 1.1s own): 23 tasks, 11 changed`.
pub(super) fn stage_line(stage: &StageReport) -> Line {
    let time = timing(stage.took, stage.waited, stage.own);
    let preposition = if stage.outcome == Outcome::Passed { "in" } else { "after" };
    let colon = if stage.summary.is_empty() { "" } else { ": " };
    let text = format!("{} {preposition} {time}{colon}{}", stage.outcome, stage.summary);
    Line::new(style_of(stage.outcome), stage.stage, text)
}

/// The commands to look inside a kept VM, each fit to paste, with what it is for as a comment.
pub(super) fn commands_line(commands: &[(String, String)]) -> Line {
    let width = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or_default();
    let lines = commands.iter().map(|(command, purpose)| format!("{command:width$}  # {purpose}"));
    Line::new(LineStyle::Warning, "look inside", lines.collect::<Vec<_>>().join("\n"))
}

fn style_of(outcome: Outcome) -> LineStyle {
    match outcome {
        Outcome::Passed => LineStyle::Good,
        Outcome::Failed | Outcome::Errored => LineStyle::Bad,
        Outcome::Interrupted => LineStyle::Warning,
    }
}

/// `59s (57s waiting, 2.1s own)`, or without the parentheses if there was no waiting.
fn timing(took: Duration, waited: Duration, own: Duration) -> String {
    if waited.is_zero() {
        return format_duration(took);
    }
    format!("{} ({} waiting, {} own)", format_duration(took), format_duration(waited), format_duration(own))
}

/// Expected and observed, for a scenario or a run that did not pass.
fn comparison(report: &RunReport) -> Vec<Line> {
    let is_in_error = report.outcome == Outcome::Interrupted && report.error.is_some();
    let is_plain_pass = report.outcome == Outcome::Passed && report.scenario.is_none();
    if is_in_error || is_plain_pass {
        return Vec::new();
    }
    let mut lines = vec![
        Line::new(LineStyle::Faint, "expected", &report.expected),
        Line::new(LineStyle::Faint, "seen", &report.seen),
    ];
    if !report.compared.is_empty() {
        lines.push(Line::new(LineStyle::Faint, "compared", table(&report.compared)));
    }
    lines
}

/// One line for each declared thing, in columns two spaces apart, with a `≠` where expected and observed differ.
fn table(compared: &[Compared]) -> String {
    let mut rows = vec![["", "stage", "what", "expected", "seen"].map(str::to_owned)];
    rows.extend(compared.iter().map(|it| {
        let sign = if it.holds { "=" } else { "≠" };
        [sign.to_owned(), it.at.to_string(), it.what.clone(), it.expected.clone(), it.seen.clone()]
    }));
    let widths: [usize; 5] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |cells: &[String; 5]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The counts, and each assertion that failed or was skipped.
fn assertions(label: &str, when: &str, all: &[Assertion]) -> Vec<Line> {
    if all.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![Line::new(LineStyle::Faint, label, tally(all) + when)];
    for (status, style) in
        [(AssertionStatus::Failed, LineStyle::Bad), (AssertionStatus::Skipped, LineStyle::Warning)]
    {
        lines.extend(
            all.iter()
                .filter(|it| it.status == status)
                .map(|it| Line::new(style, status, located(&it.name, &it.path, it.message.as_deref()))),
        );
    }
    lines
}

/// A task's name, its place, and the beginning of its message.
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

/// The times of all stages in one line.
fn stage_times(report: &RunReport) -> Option<Line> {
    let times = report.stages.iter().map(|stage| format!("{} {}", stage.stage, format_duration(stage.took)));
    let line = times.collect::<Vec<_>>().join(" · ");
    (!line.is_empty()).then(|| Line::new(LineStyle::Faint, "stages", line))
}
