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
