//! Removes secrets from the files of a folder that were not written through the redactor: an Ansible task on this machine
//! may have written them. It stands alone because it changes files on disk, and the redactor only text.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use super::redactor::Redactor;
use super::writer::Redacting;
use crate::support::file;

/// Redacts every file below `folder` except those below one of `except`. Returns the files that contained a secret. A file
/// is replaced in one step and keeps its mode.
///
/// # Errors
/// When a file or folder cannot be read or replaced.
pub(crate) fn scrub(folder: &Path, except: &[PathBuf], redactor: &Redactor) -> io::Result<Vec<PathBuf>> {
    let mut cleaned = Vec::new();
    if redactor.is_empty() {
        return Ok(cleaned);
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if except.contains(&path) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && clean(&path, redactor)? {
                cleaned.push(path);
            }
        }
    }
    cleaned.sort();
    Ok(cleaned)
}

fn clean(path: &Path, redactor: &Redactor) -> io::Result<bool> {
    let mut old = File::open(path)?;
    let mut look = Redacting::new(io::sink(), redactor);
    io::copy(&mut old, &mut look)?;
    if !look.finish()? {
        return Ok(false);
    }
    old.rewind()?;
    file::replace(path, 0o600, |new| {
        let mut redacting = Redacting::new(&mut *new, redactor);
        io::copy(&mut old, &mut redacting)?;
        redacting.finish()?;
        new.set_permissions(old.metadata()?.permissions())
    })?;
    Ok(true)
}
