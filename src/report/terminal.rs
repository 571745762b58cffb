//! A run told to a person on standard error, which leaves standard output to results. On a terminal each stage has a
//! spinner and what is happening inside it; elsewhere plain lines, with a heartbeat when nothing was said for a
//! while, so that a CI log does not look dead. What is said is the narrator's; here is where, and when.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::Term;
use indicatif::ProgressDrawTarget;

use super::narrator::EventFormatter;
use super::row;
use super::screen::TerminalOutput;
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
    /// No progress. How a run ended, if it did not pass, is still told.
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

/// A spinner needs a terminal that can move its cursor, and for itself: a debug log would run through it.
fn wants_spinner() -> bool {
    let able = || Term::stderr().is_term() && env::named("TERM").is_none_or(|term| term != "dumb");
    env::LOG.get().is_none() && able()
}

/// Tells an error that no run reports: its whole chain, on standard error.
pub fn print_error(error: &anyhow::Error) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {}", error_chain(error));
}

/// Who else writes around us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalUse {
    /// Nobody: the driver. The end is explained in full.
    Driver,
    /// libtest: `test askari::cycle ... ` stands before us, and the failure message it shows later explains the
    /// end, so a headline is enough here.
    Trial,
}

/// The sink. One for each run: it remembers what the run is doing.
#[derive(Debug)]
pub struct Terminal {
    teller: Arc<Mutex<TerminalState>>,
    ticker: Option<Ticker>,
}

impl Terminal {
    /// On standard error, coloured if it is a terminal and the environment (`NO_COLOR`, `CLICOLOR`) agrees.
    pub fn stderr(mode: Mode, context: TerminalUse) -> Self {
        let out = Box::new(std::io::stderr());
        let colour = console::colors_enabled_stderr();
        match mode {
            Mode::Auto if wants_spinner() => {
                Self::spinner(out, ProgressDrawTarget::stderr(), colour, context)
            }
            Mode::Auto | Mode::Lines => Self::lines(out, colour, context, HEARTBEAT),
            Mode::None => Self::quiet(out, colour, context),
        }
    }

    /// Plain lines on `out`, with a sign of life whenever nothing was said for `heartbeat`.
    pub fn lines(
        out: Box<dyn Write + Send>,
        colour: bool,
        context: TerminalUse,
        heartbeat: Duration,
    ) -> Self {
        let teller = TerminalState::share(TerminalOutput::lines(out), colour, context, false);
        let ticker = Ticker::start(Arc::clone(&teller), heartbeat);
        Self { teller, ticker }
    }

    /// Nothing on `out` but the end of a run that did not pass, and what to type to look inside a kept VM.
    pub fn quiet(out: Box<dyn Write + Send>, colour: bool, context: TerminalUse) -> Self {
        Self { teller: TerminalState::share(TerminalOutput::lines(out), colour, context, true), ticker: None }
    }

    /// Lines on `out` above a spinner on `target`, both the same terminal.
    pub(super) fn spinner(
        out: Box<dyn Write + Send>,
        target: ProgressDrawTarget,
        colour: bool,
        context: TerminalUse,
    ) -> Self {
        Self {
            teller: TerminalState::share(TerminalOutput::spinner(out, target), colour, context, false),
            ticker: None,
        }
    }
}

impl Reporter for Terminal {
    fn on_event(&self, event: &Event) {
        lock(&self.teller).on_event(event);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.ticker.take());
        lock(&self.teller).screen.idle();
    }
}

/// Narrator, screen and clock under one lock, which the ticker shares.
#[derive(Debug)]
struct TerminalState {
    narrator: EventFormatter,
    screen: TerminalOutput,
    colour: bool,
    quiet: bool,
    epoch: Instant,
    spoke: Instant,
}

impl TerminalState {
    fn share(screen: TerminalOutput, colour: bool, context: TerminalUse, quiet: bool) -> Arc<Mutex<Self>> {
        let now = Instant::now();
        let narrator = EventFormatter::new(context);
        Arc::new(Mutex::new(Self { narrator, screen, colour, quiet, epoch: now, spoke: now }))
    }

    fn on_event(&mut self, event: &Event) {
        let rows = self.narrator.tell(event, self.epoch.elapsed());
        let starts = matches!(event, Event::StageStarted(_));
        if self.narrator.live().is_none() {
            self.screen.idle();
        }
        if !(self.hushes(event) || starts && self.screen.is_spinner()) {
            for row in rows {
                self.say(&row.paint(self.colour));
            }
        }
        match self.narrator.live() {
            Some(live) if starts => self.screen.busy(&live.stage.to_string()),
            Some(live) => self.screen.status(&row::clean(&live.status()).replace('\n', " ")),
            None => {}
        }
    }

    /// Whether an event goes unsaid in the quiet mode.
    fn hushes(&self, event: &Event) -> bool {
        let bad_end = match event {
            Event::RunFinished(run) => run.outcome != Outcome::Passed || run.kept,
            _ => false,
        };
        self.quiet && !bad_end
    }

    fn say(&mut self, line: &str) {
        self.screen.print(line);
        self.spoke = Instant::now();
    }

    /// Gives a sign of life if it is time for one, and says how long it is until the next may be due.
    fn tick(&mut self, interval: Duration) -> Duration {
        let left = interval.saturating_sub(self.spoke.elapsed());
        if !left.is_zero() {
            return left;
        }
        match self.narrator.heartbeat(self.epoch.elapsed()) {
            Some(row) => self.say(&row.paint(self.colour)),
            None => self.spoke = Instant::now(),
        }
        interval
    }
}

/// A panic while telling must not silence or fail the run.
fn lock(teller: &Mutex<TerminalState>) -> MutexGuard<'_, TerminalState> {
    teller.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread behind the heartbeat. It ends, and is joined, when this is dropped.
#[derive(Debug)]
struct Ticker {
    alive: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// None where the system gives us no thread: a run without heartbeat is better than none.
    fn start(teller: Arc<Mutex<TerminalState>>, interval: Duration) -> Option<Self> {
        let (alive, ended) = mpsc::channel::<()>();
        let work = move || {
            let mut wait = interval;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = lock(&teller).tick(interval);
            }
        };
        match std::thread::Builder::new().name("heartbeat".into()).spawn(work) {
            Ok(thread) => Some(Self { alive: Some(alive), thread: Some(thread) }),
            Err(error) => {
                tracing::warn!(%error, "no heartbeat: cannot start its thread");
                None
            }
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.alive.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the heartbeat ended in a panic");
        }
    }
}
