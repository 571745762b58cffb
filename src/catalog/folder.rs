//! What lies in `profiles/`, `overrides/` and `scenarios/`, by name, without reading it: a file is named by its stem.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::document::ENDINGS;
use super::problem::{Problem, ProjectError};
use crate::support::name::Name;

/// The files of a folder, relative to the root; more than one for a name is a duplicate.
pub(super) type Files = BTreeMap<Name, Vec<PathBuf>>;

/// A file that belongs to no trial that could be named: itself a trial, which fails with its error, so that a slip
/// of the pen never takes a test away unseen.
#[derive(Clone, Debug)]
pub struct InvalidFile {
    /// The file, relative to the root.
    pub file: PathBuf,
    /// What is wrong with it.
    pub error: ProjectError,
}

impl InvalidFile {
    /// The name of the trial that fails for it: `broken::scenarios/Incident.yml`. No blanks.
    pub fn name(&self) -> String {
        format!("broken::{}", self.file.display()).replace(char::is_whitespace, "_")
    }

    /// What is wrong with `file`.
    pub(super) fn new(problem: Problem, file: &Path) -> Self {
        Self { file: file.to_owned(), error: problem.into() }
    }
}

/// Sorts the files of `folder` by name. A folder that is not there has no files.
pub(super) fn files(root: &Path, folder: &str, strays: &mut Vec<InvalidFile>) -> Result<Files, ProjectError> {
    let mut files = Files::new();
    let unreadable =
        |error: io::Error| Problem::of_file(folder.as_ref(), format!("the folder cannot be read: {error}"));
    let entries = match fs::read_dir(root.join(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries.map_err(unreadable)?,
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let file = Path::new(folder).join(entry.file_name());
        if is_passed_over(&file) {
            continue;
        }
        match name_of(&file, entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            Ok(name) => files.entry(name).or_default().push(file),
            Err(message) => strays.push(InvalidFile::new(Problem::of_file(&file, message), &file)),
        }
    }
    files.values_mut().for_each(|files| files.sort());
    Ok(files)
}

/// The problem with a name that several files have.
pub(super) fn duplicate(files: &[PathBuf]) -> Problem {
    let (first, others) = files.split_first().map_or((Path::new(""), files), |(first, rest)| (first, rest));
    let others: Vec<_> = others.iter().map(|file| format!("`{}`", file.display())).collect();
    Problem::of_file(first, format!("{} has the same name: keep one of them", others.join(" and ")))
}

/// Hidden files, editors' backups and notes for people.
fn is_passed_over(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.ends_with('~') || name.ends_with(".md")
}

fn name_of(file: &Path, is_folder: bool) -> Result<Name, String> {
    if is_folder {
        return Err("this is a folder: files are taken from the folder above it only".to_owned());
    }
    if !file.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
        return Err(
            "the file's name must end in `.yml`, `.yaml` or `.json` (`.md` is passed over)".to_owned()
        );
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.parse().map_err(|error| format!("the file's name without its ending gives the name, but {error}"))
}
