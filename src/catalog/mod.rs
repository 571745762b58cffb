//! The YAML files → [`Plan`]. Strict and pure: no I/O beyond reading the files.
//!
//! Two steps. [`Project::load`] reads `harness.yml` and lists the trials by the names of their files, which is all that
//! `--list` needs. [`Project::plan`] reads one trial's files whole and checks everything about them. Every error is a
//! [`ProjectError`]: all that is wrong, each with its file, line and column.
//!
//! | module | contents, each row using only the rows above it |
//! |---|---|
//! | [`plan`], `image`, `ansible_section`, [`secrets`], [`quantity`], `subnet` | the result: plain data |
//! | [`problem`], `position`, `document`, `root` | reading a file, with the place of every error |
//! | [`variables`], `sections` | parts that several files have |
//! | `harness_file`, `secrets_section`, `profile`, `scenario` | each file as it is written, and its rules |
//! | [`schema`] | JSON Schemas of the files, generated from the structs that read them |
//! | `project` | which files and trials exist |
//! | `planner` | a trial's files and a person's options → a plan |

mod ansible_section;
mod document;
mod harness_file;
mod image;
pub mod plan;
mod planner;
mod position;
pub mod problem;
mod profile;
mod project;
pub mod quantity;
mod root;
mod scenario;
pub mod schema;
pub mod secrets;
mod secrets_section;
mod sections;
mod subnet;
pub mod variables;

#[cfg(test)]
mod tests;

pub use plan::Plan;
pub use planner::RunOptions;
pub use problem::ProjectError;
pub use project::{InvalidFile, Project};
pub use root::find_root;
