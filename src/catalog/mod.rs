//! Floor 2: the YAML files → [`Plan`]. Strict, pure, and no I/O beyond reading the files.
//!
//! Two steps. [`Project::load`] reads `harness.yml` and lists the trials by the names of their files, which is all that
//! `--list` needs. [`Project::plan`] reads one trial's files whole, and is where everything about them is checked.
//! Every error is a [`ProjectError`]: all that is wrong, each with its file, line and column.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`], [`quantity`] | what comes out: plain data |
//! | `index`, `folder`, `root` | which files and trials there are |
//! | `planner` | a trial's files and a person's choices → a plan |
//! | [`certs`], [`risk`] | settings of the certificate tiers; risks that a run takes |
//! | `harness_file`, `profile`, `overrides`, `scenario`, `expect`, `image`, `parts` | each file as it is written, and its rules |
//! | [`reserved`] | variables that are not a file's to set |
//! | [`secrets`] | where secrets come from, never a value |
//! | [`schema`] | JSON Schemas of the files, from the structs that read them |
//! | `document`, `locate`, `value`, `text`, `subnet` | reading, with every error in its place |
//! | [`problem`] | the errors |

pub mod certs;
mod document;
mod expect;
mod folder;
mod harness_file;
mod image;
mod index;
mod locate;
mod overrides;
mod parts;
pub mod plan;
mod planner;
pub mod problem;
mod profile;
pub mod quantity;
pub mod reserved;
pub mod risk;
mod root;
mod scenario;
pub mod schema;
pub mod secrets;
mod subnet;
mod text;
mod value;

#[cfg(test)]
mod tests;

pub use folder::InvalidFile;
pub use index::Project;
pub use plan::Plan;
pub use planner::RunOptions;
pub use problem::ProjectError;
pub use root::find_root;
pub use subnet::InvalidSubnet;
