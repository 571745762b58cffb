//! What is wrong with a file: where, what was expected, what to do. Every error of the catalog is a list of these.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::support::name::near_miss;

/// A place in a file; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, where it is known.
    pub column: Option<usize>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, relative to the root where it lies below it; none for a choice made outside of any file.
    pub file: Option<PathBuf>,
    /// Where in it.
    pub position: Option<Position>,
    /// What is wrong, what was expected and what to do, as one lower-case fragment.
    pub message: String,
}

impl Problem {
    /// About a file as a whole.
    pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: Some(file.to_owned()), position: None, message: message.into() }
    }

    /// About an option, a variable or a name that somebody gave.
    pub(super) fn of_request(message: impl Into<String>) -> Self {
        Self { file: None, position: None, message: message.into() }
    }
}

impl fmt::Display for Problem {
    /// `profiles/askari.yml:4:3: unknown key …`, as compilers write it, so that editors can jump there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(Position { line, column }) = self.position {
                write!(f, "{line}:")?;
                if let Some(column) = column {
                    write!(f, "{column}:")?;
                }
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

/// One or more problems, shown one a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ProjectError {
    /// In the order in which a person should read them. Never empty.
    pub(super) problems: Vec<Problem>,
}

impl ProjectError {
    /// `value` if nothing is wrong.
    pub(super) fn unless<T>(problems: Vec<Problem>, value: T) -> Result<T, Self> {
        if problems.is_empty() { Ok(value) } else { Err(Self { problems }) }
    }
}

impl From<Problem> for ProjectError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl From<Vec<Problem>> for ProjectError {
    fn from(problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "an error says what is wrong");
        Self { problems }
    }
}

/// The value of a part, or its problems added to those already found: one bad part hides no other.
pub(super) fn collect<T>(part: Result<T, impl Into<ProjectError>>, problems: &mut Vec<Problem>) -> Option<T> {
    part.map_err(|error| problems.extend(error.into().problems)).ok()
}

/// `, did you mean …?` where a known word is near, followed by all known words.
pub(super) fn suggestion<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let near = near_miss(wanted, known.clone());
    let known: Vec<_> = known.into_iter().collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    match near {
        Some(near) => format!(", did you mean `{near}`? (known: {known})"),
        None => format!(" (known: {known})"),
    }
}
