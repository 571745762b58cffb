//! A row of what a person reads: a right-aligned label, two spaces, and text whose further lines stay in its
//! column, as cargo and nextest lay it out. Here is the shape, the colour, and the guard against what a guest may
//! have put into a message, a secret among it; what the rows say is decided elsewhere.

use console::{Style, strip_ansi_codes};

use crate::support::secret::Redactor;

/// Width of the label column.
pub(super) const LABEL_WIDTH: usize = 12;

/// What a label feels like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineStyle {
    /// A step of the story.
    Plain,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Worth a look.
    Wary,
    /// By the way.
    Faint,
}

impl LineStyle {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new().cyan().bold(),
            Self::Good => Style::new().green().bold(),
            Self::Bad => Style::new().red().bold(),
            Self::Wary => Style::new().yellow().bold(),
            Self::Faint => Style::new().dim(),
        }
    }
}

/// One row; its text may have several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    label: String,
    tone: LineStyle,
    text: String,
}

impl Line {
    /// A labelled row. Escape sequences and control characters in `text` are taken out: it may come from a guest. So are
    /// secrets, before that and after: a control character may hold one together, or apart.
    pub(super) fn new(tone: LineStyle, label: impl Into<String>, text: impl AsRef<str>) -> Self {
        let secrets = Redactor::of_process();
        let text = clean(&secrets.redact(text.as_ref()));
        Self { label: label.into(), tone, text: secrets.redact(&text).into_owned() }
    }

    /// An empty row.
    pub(super) fn gap() -> Self {
        Self::new(LineStyle::Plain, "", "")
    }

    /// The row as one or more lines, without the last line's end.
    pub(super) fn paint(&self, colour: bool) -> String {
        if self.label.is_empty() && self.text.is_empty() {
            return String::new();
        }
        let label = format!("{:>LABEL_WIDTH$}", self.label);
        let label = self.tone.style().force_styling(colour).apply_to(label);
        let indent = format!("\n{:width$}", "", width = LABEL_WIDTH + 2);
        let text = self.text.replace('\n', &indent);
        format!("{label}  {text}").trim_end().to_owned()
    }
}

/// `text` without escape sequences, control characters, blank lines and trailing space.
pub(super) fn clean(text: &str) -> String {
    let plain = strip_ansi_codes(text);
    let lines = plain.lines().map(|line| {
        let line: String =
            line.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect();
        line.trim_end().to_owned()
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_lines_stay_in_the_column_and_blank_ones_go() {
        let row = Line::new(LineStyle::Bad, "error", "booting\n\nCaused by:\n    0: no kernel\r\n");
        assert_eq!(
            row.paint(false),
            "       error  booting\n              Caused by:\n                  0: no kernel"
        );
    }

    #[test]
    fn a_guest_cannot_steer_the_terminal_through_a_message() {
        let row = Line::new(LineStyle::Plain, "failed", "\u{1b}[2J\u{1b}]0;owned\u{7}hel\u{8}lo\tthere");
        assert_eq!(row.paint(false), "      failed  hello there");
    }

    #[test]
    fn colour_is_in_the_label_alone_and_only_when_asked_for() {
        let row = Line::new(LineStyle::Good, "passed", "askari::cycle");
        assert_eq!(row.paint(true), "\u{1b}[32m\u{1b}[1m      passed\u{1b}[0m  askari::cycle");
        assert_eq!(row.paint(false), "      passed  askari::cycle");
        assert_eq!(Line::gap().paint(true), "");
    }
}
