//! Where the lines go: into a writer, with a spinner below them on a terminal. Errors are ignored: nobody is left to tell,
//! and they must not fail a run.

use std::io::Write;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::event_formatter::whole_seconds;
use super::line::LABEL_WIDTH;
use crate::outcome::Stage;
use crate::support::secret::Redactor;

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// Prints lines, and perhaps shows the running stage.
pub(super) struct Output {
    /// On a terminal, the one that also has the spinner. indicatif's own way to print would pad the lines with blanks to
    /// the terminal's width, which breaks after libtest's half-written line.
    out: Box<dyn Write + Send>,
    /// The spinner's part of the terminal, if there is a spinner.
    progress: Option<MultiProgress>,
    /// The spinner of the running stage.
    spinner: Option<ProgressBar>,
}

impl Output {
    /// Prints lines into `out`, and draws a spinner on `target`, which is the same terminal.
    pub(super) fn new(out: Box<dyn Write + Send>, target: Option<ProgressDrawTarget>) -> Self {
        Self { out, progress: target.map(MultiProgress::with_draw_target), spinner: None }
    }

    /// Whether the running stage is shown without a line of its own.
    pub(super) fn has_spinner(&self) -> bool {
        self.progress.is_some()
    }

    /// Prints a line, or the several lines that `line` holds.
    pub(super) fn print(&mut self, line: &str) {
        let out = &mut self.out;
        let mut print = || drop(writeln!(out, "{line}").and_then(|()| out.flush()));
        match &self.progress {
            Some(progress) => progress.suspend(print),
            None => print(),
        }
    }

    /// Starts the spinner of a stage.
    pub(super) fn start_stage(&mut self, stage: Stage) {
        self.end_stage();
        self.spinner = self.progress.as_ref().map(|progress| {
            let spinner = ProgressBar::new_spinner().with_style(style()).with_prefix(stage.to_string());
            let spinner = progress.add(spinner);
            spinner.enable_steady_tick(TURN);
            spinner
        });
    }

    /// Shows beside the spinner what the stage is doing.
    pub(super) fn show_status(&mut self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(Redactor::of_process().redact(text).into_owned());
        }
    }

    /// Removes the spinner.
    pub(super) fn end_stage(&mut self) {
        if let (Some(progress), Some(spinner)) = (&self.progress, self.spinner.take()) {
            spinner.finish_and_clear();
            progress.remove(&spinner);
        }
    }
}

/// The spinner, the stage in the label column, its time, and what it is doing, cut to the terminal's width.
fn style() -> ProgressStyle {
    let template =
        format!("{{spinner:.cyan}} {{prefix:>{}.cyan.bold}}  {{took}}  {{wide_msg:.dim}}", LABEL_WIDTH - 2);
    let took = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = out.write_str(&whole_seconds(state.elapsed()));
    };
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .with_key("took", took)
}
