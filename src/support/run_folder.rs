//! The run folder `<root>/<timestamp>-<host>/`, which holds plain text and JSON: its place, its name, which process works
//! in it, and which old ones are removed. Other modules write its contents.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Zoned;

use super::deadline::Deadline;
use super::lock::{Busy, FileLock, LockError};

/// The lock that a process holds while it works in a run folder.
const LOCK: &str = "lock";
/// Whoever only looks into a run folder holds its lock for a moment.
const MOMENT: Duration = Duration::from_secs(10);

/// One run's folder, mode 0700: it holds the run's private SSH key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes `<root>/<timestamp>-<label>/`; two runs within one second get a distinguishing `-2`, `-3`, ….
    ///
    /// # Errors
    /// When `root` or the folder cannot be made.
    pub(crate) fn create(root: &Path, label: &str, now: &Zoned) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let stem = format!("{}-{label}", now.strftime("%Y%m%dT%H%M%S"));
        let candidates = std::iter::once(stem.clone()).chain((2..).map(|n| format!("{stem}-{n}")));
        for name in candidates {
            let path = root.join(name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the candidates never end")
    }

    /// The folder of an earlier run, for a later process of the same run.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it is gone.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Ok(Self { path: path.to_owned() });
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("the run folder {} is gone", path.display())))
    }

    /// Marks the folder as one that this process works in, for as long as the lock lives. The kernel ends it with the
    /// process, so that nobody takes a killed run for a living one.
    ///
    /// # Errors
    /// When the lock cannot be taken: another process works in the folder.
    pub fn occupy(&self) -> Result<FileLock, LockError> {
        let deadline = Deadline::uninterrupted(MOMENT, "the run folder");
        let holder = format!("process {}", std::process::id());
        FileLock::acquire_in_place(&self.join(LOCK), &holder, &deadline, |_| Busy::Wait)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file or folder in it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a sub-folder, if it does not exist.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn sub_folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

/// The lock of the run folder at `path`, unless a living process works in it. Whoever removes something from a folder
/// holds it meanwhile, so that no process begins to work there.
///
/// # Errors
/// When the lock cannot be used.
pub(crate) fn claim(path: &Path) -> io::Result<Option<FileLock>> {
    let soon = Deadline::uninterrupted(MOMENT, "a run folder");
    match FileLock::acquire_in_place(&path.join(LOCK), "a sweep", &soon, |_| Busy::GiveUp) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held { .. }) => Ok(None),
        Err(LockError::Io { source, .. }) => Err(source),
        Err(error @ LockError::Wait(_)) => Err(io::Error::other(error)),
    }
}

/// Removes all run folders under `root` except the newest `keep`, those in `spare` (runs whose VM still exists), and those
/// that a living process works in. A run
/// folder has a name that starts with a timestamp, and a `plan.json`; other folders are never touched. Returns what was
/// removed.
///
/// # Errors
/// When `root` cannot be read. A folder that cannot be removed is tried again next time.
pub(crate) fn retain(root: &Path, keep: usize, spare: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let folders = all(root)?;
    let surplus = folders.len().saturating_sub(keep);
    let old = folders.into_iter().take(surplus).filter(|path| !spare.contains(path));
    let remove = |path: &PathBuf| matches!(claim(path), Ok(Some(_lock)) if fs::remove_dir_all(path).is_ok());
    Ok(old.filter(remove).collect())
}

/// Every run folder under `root`, oldest first; none if there is no such folder.
///
/// # Errors
/// When `root` cannot be read.
pub(crate) fn all(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = match fs::read_dir(root) {
        Ok(entries) => {
            entries.filter_map(|entry| entry.ok().map(|e| e.path())).filter(|p| is_run_folder(p)).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    folders.sort();
    Ok(folders)
}

fn is_run_folder(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let digits = |text: Option<&str>| text.is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    let stamped = digits(name.get(..8)) && name.get(8..9) == Some("T") && digits(name.get(9..15));
    stamped && name.get(15..16) == Some("-") && path.join("plan.json").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Zoned {
        "2026-06-17T12:00:00+02:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn runs_of_the_same_second_get_separate_folders() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..3)
            .map(|_| RunFolder::create(root.path(), "askari", &noon()).unwrap())
            .map(|folder| folder.path().file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["20260617T120000-askari", "20260617T120000-askari-2", "20260617T120000-askari-3"]);
    }

    #[test]
    fn retention_spares_a_folder_that_a_process_works_in() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(root.path(), "askari", &noon()).unwrap();
        fs::write(folder.join("plan.json"), "{}").unwrap();
        let occupied = folder.occupy().unwrap();
        assert_eq!(retain(root.path(), 0, &[]).unwrap(), Vec::<PathBuf>::new());
        drop(occupied);
        assert_eq!(retain(root.path(), 0, &[]).unwrap(), [folder.path().to_owned()]);
    }

    #[test]
    fn retention_removes_the_oldest_but_no_run_with_a_vm_and_no_foreign_folder() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str, marked: bool| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            if marked {
                fs::write(path.join("plan.json"), "{}").unwrap();
            }
            path
        };
        let alive = make("20260101T000000-askari", true);
        let old = make("20260102T000000-askari", true);
        make("20260103T000000-askari", true);
        make("20260104T000000-ubongo", true);
        make("20250101T000000-unmarked", false);
        make("holiday-photos", true);
        assert_eq!(retain(root.path(), 2, &[alive]).unwrap(), [old]);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 5);
    }
}
