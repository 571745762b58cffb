//! Where the rows go: plain lines into a writer, or above a spinner at the foot of a terminal. Trouble in writing
//! is swallowed: there is nobody left to tell, and it must not fail a run.

use std::io::Write;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::narrator::whole_seconds;
use super::row::LABEL_WIDTH;
use crate::support::secret::Redactor;

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// A place that shows lines, and perhaps what is going on now.
pub(super) enum TerminalOutput {
    /// Lines alone.
    Lines(Box<dyn Write + Send>),
    /// Lines, and a spinner below them while a stage runs.
    Spinner {
        /// Where the lines go: the same terminal. Its own way of printing would fill them up with blanks to the
        /// terminal's width, which is wrong after libtest's half-written line.
        out: Box<dyn Write + Send>,
        /// What keeps the two apart.
        page: MultiProgress,
        /// The running stage's.
        bar: Option<ProgressBar>,
    },
}

impl TerminalOutput {
    /// Lines into `out`.
    pub(super) fn lines(out: Box<dyn Write + Send>) -> Self {
        Self::Lines(out)
    }

    /// Lines into `out`, and a spinner on `target`, which is the same terminal.
    pub(super) fn spinner(out: Box<dyn Write + Send>, target: ProgressDrawTarget) -> Self {
        Self::Spinner { out, page: MultiProgress::with_draw_target(target), bar: None }
    }

    /// Whether the running stage is seen without a line of its own.
    pub(super) fn is_spinner(&self) -> bool {
        matches!(self, Self::Spinner { .. })
    }

    /// Writes a line, or the several that `line` holds.
    pub(super) fn print(&mut self, line: &str) {
        match self {
            Self::Lines(out) => write_line(out, line),
            Self::Spinner { out, page, .. } => page.suspend(|| write_line(out, line)),
        }
    }

    /// A stage runs from now on.
    pub(super) fn busy(&mut self, stage: &str) {
        self.idle();
        if let Self::Spinner { page, bar, .. } = self {
            let spinner =
                page.add(ProgressBar::new_spinner().with_style(style()).with_prefix(stage.to_owned()));
            spinner.enable_steady_tick(TURN);
            *bar = Some(spinner);
        }
    }

    /// What is happening inside the running stage.
    pub(super) fn status(&mut self, text: &str) {
        if let Self::Spinner { bar: Some(bar), .. } = self {
            bar.set_message(Redactor::of_process().redact(text).into_owned());
        }
    }

    /// No stage runs.
    pub(super) fn idle(&mut self) {
        if let Self::Spinner { page, bar, .. } = self
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
            page.remove(&bar);
        }
    }
}

impl std::fmt::Debug for TerminalOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_spinner() { "Spinner" } else { "Lines" })
    }
}

fn write_line(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
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
