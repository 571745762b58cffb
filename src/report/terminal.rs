//! Reports a run to a person on standard error, which leaves standard output for results. On a terminal a spinner shows
//! what the running stage is doing. Elsewhere plain lines appear, with a heartbeat after a while without output, so that a
//! CI log does not look dead. [`super::event_formatter`] decides what is printed; here is where, and when.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::{Style, Term};
use indicatif::ProgressDrawTarget;

use super::event_formatter::EventFormatter;
use super::line;
use super::output::Output;
use crate::event::{Event, Reporter};
use crate::outcome::{Outcome, error_chain};
use crate::support::env::{self, InvalidVariable};

/// The heartbeat of a log that nobody watches live.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// Shape of the progress output: `BOMA_IT_PROGRESS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A spinner on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Lines everywhere.
    Lines,
    /// No progress. A run that did not pass is still explained at its end.
    None,
}

impl Mode {
    /// The mode that the environment asks for.
    ///
    /// # Errors
    /// [`InvalidVariable`] when there is no such mode.
    pub fn from_env() -> Result<Self, InvalidVariable> {
        Ok(env::PROGRESS.choice()?.unwrap_or_default())
    }
}

/// A spinner needs a terminal that can move its cursor, and no debug log on it.
fn wants_spinner() -> bool {
    let able = || Term::stderr().is_term() && env::named("TERM").is_none_or(|term| term != "dumb");
    env::LOG.get().is_none() && able()
}

/// Prints an error that no run reports, with its whole chain, on standard error.
pub fn print_error(error: &anyhow::Error) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {}", error_chain(error));
}

/// Who prints the rest of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TerminalUse {
    /// Nobody: the driver. The end of the run is explained in full.
    Driver,
    /// libtest: it printed `test askari::cycle ... ` before us, and explains the end in its failure message, so a headline
    /// is enough here.
    Trial,
    /// libtest, with other trials beside this one. It prints a trial's name only at its end, so here each line begins with
    /// it. No spinner: several would draw over one another and over libtest's lines.
    SideBySide {
        /// The trial.
        trial: String,
        /// The width of the longest name beside it.
        width: usize,
    },
}

impl TerminalUse {
    /// `text` as it is printed: beside other trials, each of its lines after the trial's name, and no empty lines.
    fn prefix(&self, text: &str, colour: bool) -> Option<String> {
        let Self::SideBySide { trial, width } = self else { return Some(text.to_owned()) };
        let name = Style::new().bold().force_styling(colour).apply_to(format!("{trial:width$}")).to_string();
        let lines: Vec<_> =
            text.lines().filter(|line| !line.is_empty()).map(|line| format!("{name} {line}")).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// The reporter of one run.
pub struct Terminal {
    state: Arc<Mutex<TerminalState>>,
    ticker: Option<Ticker>,
}

impl Terminal {
    /// On standard error, coloured if it is a terminal and the environment (`NO_COLOR`, `CLICOLOR`) agrees.
    pub fn stderr(mode: Mode, terminal_use: TerminalUse) -> Self {
        let out = Box::new(std::io::stderr());
        let colour = console::colors_enabled_stderr();
        match mode {
            Mode::Auto if wants_spinner() && !matches!(terminal_use, TerminalUse::SideBySide { .. }) => {
                let output = Output::new(out, Some(ProgressDrawTarget::stderr()));
                Self::new(output, colour, terminal_use, false)
            }
            Mode::Auto | Mode::Lines => Self::lines(out, colour, terminal_use, HEARTBEAT),
            Mode::None => Self::new(Output::new(out, None), colour, terminal_use, true),
        }
    }

    /// Plain lines on `out`, with a sign of life after each `heartbeat` without output.
    pub fn lines(
        out: Box<dyn Write + Send>,
        colour: bool,
        terminal_use: TerminalUse,
        heartbeat: Duration,
    ) -> Self {
        let mut terminal = Self::new(Output::new(out, None), colour, terminal_use, false);
        terminal.ticker = start_heartbeat(Arc::clone(&terminal.state), heartbeat);
        terminal
    }

    /// Every line on `output`; if `quiet`, only the end of a run that did not pass, and the commands to look inside a kept VM.
    pub(super) fn new(output: Output, colour: bool, terminal_use: TerminalUse, quiet: bool) -> Self {
        let (formatter, now) = (EventFormatter::new(terminal_use.clone()), Instant::now());
        let (epoch, last_output) = (now, now);
        let state = TerminalState { formatter, output, terminal_use, colour, quiet, epoch, last_output };
        Self { state: Arc::new(Mutex::new(state)), ticker: None }
    }
}

impl Reporter for Terminal {
    fn on_event(&self, event: &Event) {
        lock(&self.state).on_event(event);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some((alive, thread)) = self.ticker.take() {
            drop(alive);
            if thread.join().is_err() {
                tracing::warn!("the heartbeat's thread panicked");
            }
        }
        lock(&self.state).output.end_stage();
    }
}

/// Formatter, output and clock under one lock, which the ticker shares.
struct TerminalState {
    formatter: EventFormatter,
    output: Output,
    terminal_use: TerminalUse,
    colour: bool,
    quiet: bool,
    epoch: Instant,
    last_output: Instant,
}

impl TerminalState {
    fn on_event(&mut self, event: &Event) {
        let lines = self.formatter.format(event, self.epoch.elapsed());
        let is_start = matches!(event, Event::StageStarted(_));
        if self.formatter.running().is_none() {
            self.output.end_stage();
        }
        if !(self.hides(event) || is_start && self.output.has_spinner()) {
            for line in lines {
                self.print(&line.paint(self.colour));
            }
        }
        match self.formatter.running() {
            Some(running) if is_start => self.output.start_stage(running.stage),
            Some(running) => self.output.show_status(&line::clean(&running.status()).replace('\n', " ")),
            None => {}
        }
    }

    /// Whether the quiet mode hides an event.
    fn hides(&self, event: &Event) -> bool {
        self.quiet && !matches!(event, Event::RunFinished(run) if run.outcome != Outcome::Passed || run.kept)
    }

    fn print(&mut self, line: &str) {
        if let Some(text) = self.terminal_use.prefix(line, self.colour) {
            self.output.print(&text);
        }
        self.last_output = Instant::now();
    }

    /// Prints a sign of life if it is due. Returns how long to wait for the next one.
    fn tick(&mut self, interval: Duration) -> Duration {
        let left = interval.saturating_sub(self.last_output.elapsed());
        if !left.is_zero() {
            return left;
        }
        match self.formatter.heartbeat(self.epoch.elapsed()) {
            Some(line) => self.print(&line.paint(self.colour)),
            None => self.last_output = Instant::now(),
        }
        interval
    }
}

/// A panic during a report must not silence or fail the run.
fn lock(state: &Mutex<TerminalState>) -> MutexGuard<'_, TerminalState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread of the heartbeat, and the sender that ends it when it is dropped.
type Ticker = (mpsc::Sender<()>, JoinHandle<()>);

/// None if the thread cannot start: a run without a heartbeat is better than none.
fn start_heartbeat(state: Arc<Mutex<TerminalState>>, interval: Duration) -> Option<Ticker> {
    let (alive, ended) = mpsc::channel::<()>();
    let work = move || {
        let mut wait = interval;
        while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            wait = lock(&state).tick(interval);
        }
    };
    match std::thread::Builder::new().name("heartbeat".into()).spawn(work) {
        Ok(thread) => Some((alive, thread)),
        Err(error) => {
            tracing::warn!(%error, "no heartbeat: cannot start its thread");
            None
        }
    }
}
