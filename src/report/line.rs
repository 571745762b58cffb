//! A line of the output: a right-aligned label, two spaces, and text whose further lines stay in its column, as cargo and
//! nextest print it. The line also removes control characters and secrets that a guest may have put into a message.

use console::{Style, strip_ansi_codes};

use crate::support::secret::Redactor;

/// Width of the label column.
pub(super) const LABEL_WIDTH: usize = 12;

/// The style of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineStyle {
    /// Progress.
    Plain,
    /// A success.
    Good,
    /// A failure.
    Bad,
    /// A warning.
    Warning,
    /// A detail.
    Faint,
}

impl LineStyle {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new().cyan().bold(),
            Self::Good => Style::new().green().bold(),
            Self::Bad => Style::new().red().bold(),
            Self::Warning => Style::new().yellow().bold(),
            Self::Faint => Style::new().dim(),
        }
    }
}

/// A labelled line. Its text may have several lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    label: String,
    style: LineStyle,
    text: String,
}

impl Line {
    /// Removes escape sequences and control characters from `text`, as it may come from a guest. Redacts secrets before and
    /// after: a secret may contain a control character, or be split by one.
    pub(super) fn new(style: LineStyle, label: impl ToString, text: impl AsRef<str>) -> Self {
        let secrets = Redactor::of_process();
        let text = clean(&secrets.redact(text.as_ref()));
        Self { label: label.to_string(), style, text: secrets.redact(&text).into_owned() }
    }

    /// An empty line.
    pub(super) fn gap() -> Self {
        Self::new(LineStyle::Plain, "", "")
    }

    /// The text to print, one or more lines, without the last line's end.
    pub(super) fn paint(&self, colour: bool) -> String {
        if self.label.is_empty() && self.text.is_empty() {
            return String::new();
        }
        let label = format!("{:>LABEL_WIDTH$}", self.label);
        let label = self.style.style().force_styling(colour).apply_to(label);
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
    fn further_lines_stay_in_the_column_and_blank_ones_are_dropped() {
        let line = Line::new(LineStyle::Bad, "error", "booting\n\nCaused by:\n    0: no kernel\r\n");
        assert_eq!(
            line.paint(false),
            "       error  booting\n              Caused by:\n                  0: no kernel"
        );
    }

    #[test]
    fn a_message_of_a_guest_cannot_control_the_terminal() {
        let line = Line::new(LineStyle::Plain, "failed", "\u{1b}[2J\u{1b}]0;owned\u{7}hel\u{8}lo\tthere");
        assert_eq!(line.paint(false), "      failed  hello there");
    }

    #[test]
    fn only_the_label_is_coloured_and_only_on_request() {
        let line = Line::new(LineStyle::Good, "passed", "askari::cycle");
        assert_eq!(line.paint(true), "\u{1b}[32m\u{1b}[1m      passed\u{1b}[0m  askari::cycle");
        assert_eq!(line.paint(false), "      passed  askari::cycle");
        assert_eq!(Line::gap().paint(true), "");
    }
}
