//! Floor 5, what a person or a program reads. All are sinks of events: [`terminal::Terminal`] tells a run line by
//! line on standard error, [`json::JsonReporter`] writes `report.json` and `events.jsonl` into the run folder, and
//! [`summary::explain`] says in one block of text how a run ended. A sink
//! never fails a run.

pub mod json;
mod live;
mod narrator;
mod row;
mod screen;
pub mod summary;
pub mod terminal;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
