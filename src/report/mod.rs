//! Layer 5, the reports that a person or a program reads. Each is a [`Reporter`](crate::event::Reporter) of events, and none
//! ever fails a run: [`terminal::Terminal`] prints a run line by line on standard error, [`json::JsonReporter`] writes
//! `report.json` and `events.jsonl` into the run folder, and [`summary::explain`] explains in one block of text how a run
//! ended.

mod event_formatter;
pub mod json;
mod line;
mod output;
pub mod summary;
pub mod terminal;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::event::Reporter;
use crate::support::env::InvalidVariable;
use json::JsonReporter;
use terminal::{Mode, Terminal, TerminalUse};

/// The reporters of a run: one for a person, one for programs.
///
/// # Errors
/// [`InvalidVariable`] when `BOMA_IT_PROGRESS` names no mode.
pub(crate) fn reporters(terminal_use: TerminalUse) -> Result<Arc<dyn Reporter>, InvalidVariable> {
    let terminal = Terminal::stderr(Mode::from_env()?, terminal_use);
    let reporters: Vec<Box<dyn Reporter>> = vec![Box::new(terminal), Box::new(JsonReporter::default())];
    Ok(Arc::new(reporters))
}
