//! Disk space: checked before a build or download begins, and named with figures when one fails for lack of it.

use std::path::{Path, PathBuf};

use crate::support::process::ProcessError;

/// A file system has too little space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough space in {}: {} MiB are free, {} needs {} MiB; free some there{}",
    needed.dir.display(), free >> 20, needed.what, needed.bytes >> 20, needed.hint
)]
pub(crate) struct NotEnoughSpace {
    /// Bytes that this user can still write.
    pub free: u64,
    /// What is needed instead.
    pub needed: SpaceRequirement,
}

/// Space that is needed in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpaceRequirement {
    pub dir: PathBuf,
    pub bytes: u64,
    /// What needs it, for the error.
    pub what: &'static str,
    /// Another way out, as the end of the error.
    pub hint: &'static str,
}

impl SpaceRequirement {
    /// Space in the image folder, for the file `target` in it.
    pub(super) fn for_image(target: &Path, bytes: u64, what: &'static str) -> Self {
        let hint = ", or remove images that are no longer used (`boma-it image remove`)";
        Self { dir: target.parent().unwrap_or(target).to_owned(), bytes, what, hint }
    }

    /// Fails if there is less space. A file system that does not report its space is not refused: the build would fail
    /// with the same error.
    pub(super) fn check(&self) -> Result<(), NotEnoughSpace> {
        match free(&self.dir) {
            Some(free) if free < self.bytes => Err(self.error(free)),
            _ => Ok(()),
        }
    }

    /// The error to show if the program failed because the disk is full.
    pub(super) fn explains(&self, error: &ProcessError) -> Option<NotEnoughSpace> {
        let ProcessError::Failed { shown, .. } = error else { return None };
        let full = shown.contains("No space left on device") || shown.contains("not enough free space");
        full.then(|| self.exhausted())
    }

    /// The error to show after the system reported a full disk.
    pub(super) fn exhausted(&self) -> NotEnoughSpace {
        self.error(free(&self.dir).unwrap_or_default())
    }

    fn error(&self, free: u64) -> NotEnoughSpace {
        NotEnoughSpace { free, needed: self.clone() }
    }
}

/// Bytes that this user can still write on the file system of `dir`.
fn free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_is_refused_with_both_figures() {
        let dir = tempfile::tempdir().unwrap();
        let needed = SpaceRequirement {
            dir: dir.path().to_owned(),
            bytes: 1 << 60,
            what: "building an image",
            hint: "",
        };
        let error = needed.check().unwrap_err();
        assert!(error.free > 0 && error.free < 1 << 60);
        let text = error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
        let text = text.replace(&(error.free >> 20).to_string(), "N");
        assert_eq!(
            text,
            "not enough space in DIR: N MiB are free, building an image needs 1099511627776 MiB; free some there"
        );
        SpaceRequirement { bytes: 1, ..needed }.check().unwrap();
    }
}
