//! Room on disk: is there enough before a build begins, and was it the lack of it that broke one.

use std::path::{Path, PathBuf};

use crate::support::process::ProcessError;

/// Not enough room on a file system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough room in {}: {} MiB are free, {what} needs {} MiB; free some there{hint}",
    dir.display(), free >> 20, needed >> 20
)]
pub struct NoRoom {
    /// A folder on the file system.
    pub dir: PathBuf,
    /// Bytes free there, for us.
    pub free: u64,
    /// Bytes needed there.
    pub needed: u64,
    /// What needs them.
    pub what: &'static str,
    /// Another way out, as the end of a sentence.
    pub hint: &'static str,
}

/// A wish for room in a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpaceRequirement<'a> {
    pub dir: &'a Path,
    pub bytes: u64,
    pub what: &'static str,
    pub hint: &'static str,
}

impl SpaceRequirement<'_> {
    /// Whether there is that much room.
    pub(super) fn check(&self) -> Result<(), NoRoom> {
        match free(self.dir) {
            Some(free) if free < self.bytes => Err(self.refusal(free)),
            // A file system that does not say is no reason to refuse: the build would tell.
            _ => Ok(()),
        }
    }

    /// The refusal to show when a program said that the disk is full.
    pub(super) fn blame(&self, error: &ProcessError) -> Option<NoRoom> {
        let ProcessError::Failed { shown, .. } = error else { return None };
        let full = shown.contains("No space left on device") || shown.contains("not enough free space");
        full.then(|| self.refusal_now())
    }

    /// The refusal to show when the system said that the disk is full.
    pub(super) fn refusal_now(&self) -> NoRoom {
        self.refusal(free(self.dir).unwrap_or_default())
    }

    fn refusal(&self, free: u64) -> NoRoom {
        NoRoom { dir: self.dir.to_owned(), free, needed: self.bytes, what: self.what, hint: self.hint }
    }
}

/// Bytes that we may still write on the file system of `dir`.
fn free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_refused_with_both_figures() {
        let dir = tempfile::tempdir().unwrap();
        let wish = SpaceRequirement { dir: dir.path(), bytes: 1 << 60, what: "building an image", hint: "" };
        let error = wish.check().unwrap_err();
        assert!(error.free > 0 && error.free < 1 << 60);
        let text = error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
        let text = text.replace(&(error.free >> 20).to_string(), "N");
        assert_eq!(
            text,
            "not enough room in DIR: N MiB are free, building an image needs 1099511627776 MiB; free some there"
        );
        SpaceRequirement { bytes: 1, ..wish }.check().unwrap();
    }
}
