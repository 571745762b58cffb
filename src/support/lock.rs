//! Locks across processes: an advisory lock on a file, released by the kernel whenever its holder ends.
//!
//! nextest runs each trial in its own process, so a mutex in memory would guard nothing.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::deadline::{Deadline, Progress, WaitError};

/// How often a held lock is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// How many tries in a row may find a holder without a name. A holder writes its name just after taking the lock and
/// removes it just before releasing it, so a nameless holder for a moment means nothing.
const NAMELESS: u32 = 20;

/// A held lock; dropping it releases it. The file stays, as removing it would race with the next holder.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock file cannot be made or locked.
    #[error("cannot use the lock file {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another process holds it, and the caller did not want to wait.
    #[error("the lock {} is held by {holder}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// Another process held it until the deadline.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// What to do about a lock that another process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Wait until it is free.
    Wait,
    /// Fail with [`LockError::Held`].
    GiveUp,
}

impl FileLock {
    /// Takes the lock at `path`. While another process holds it, `on_busy` gets what that holder wrote about itself, each
    /// time the holder changes, and says whether to wait. Other processes will read `holder`, one line on who holds the
    /// lock and why.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(
        path: &Path,
        holder: &str,
        deadline: &Deadline,
        on_busy: impl FnMut(&str) -> Busy,
    ) -> Result<Self, LockError> {
        if let Some(dir) = path.parent() {
            let io = |source| LockError::Io { path: path.to_owned(), source };
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        Self::acquire_in_place(path, holder, deadline, on_busy)
    }

    /// The same in a folder that must exist.
    ///
    /// # Errors
    /// [`LockError`].
    pub(crate) fn acquire_in_place(
        path: &Path,
        holder: &str,
        deadline: &Deadline,
        mut on_busy: impl FnMut(&str) -> Busy,
    ) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(io)?;
        let awaited = format!("the lock {}", path.display());
        let mut reported: Option<String> = None;
        let mut nameless = 0;
        let taken = deadline.wait_for(&awaited, RETRY, || match file.try_lock() {
            Ok(()) => Ok(Progress::Ready(Ok(()))),
            Err(TryLockError::WouldBlock) => {
                let named = read_holder(&mut file);
                nameless = if named.is_some() { 0 } else { nameless + 1 };
                if (1..NAMELESS).contains(&nameless) {
                    return Ok(Progress::Pending("held by a process that has just taken it".to_owned()));
                }
                let holder = named.unwrap_or_else(|| "another process".to_owned());
                if reported.as_ref() != Some(&holder) && on_busy(&holder) == Busy::GiveUp {
                    return Ok(Progress::Ready(Err(holder)));
                }
                reported = Some(holder.clone());
                Ok(Progress::Pending(format!("held by {holder}")))
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        })?;
        taken.map_err(|holder| LockError::Held { path: path.to_owned(), holder })?;
        // The text is only information: the lock holds without it.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{holder}"));
        Ok(Self { file })
    }
}

/// What the process that holds the lock at `path` wrote about itself, if one holds it. A file without a lock, or no file,
/// is free.
///
/// # Errors
/// [`LockError::Io`].
pub(crate) fn holder_of(path: &Path) -> Result<Option<String>, LockError> {
    if !path.exists() {
        return Ok(None);
    }
    let soon = Deadline::uninterrupted(RETRY * NAMELESS * 2, "a look at a lock");
    match FileLock::acquire(path, "a look", &soon, |_| Busy::GiveUp) {
        Ok(_free) => Ok(None),
        Err(LockError::Held { holder, .. }) => Ok(Some(holder)),
        Err(error) => Err(error),
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

/// What the holder wrote about itself, if it did.
fn read_holder(file: &mut File) -> Option<String> {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let holder = text.trim();
    (!holder.is_empty()).then(|| holder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short() -> Deadline {
        Deadline::uninterrupted(Duration::from_millis(250), "the test")
    }

    #[test]
    fn a_waiting_process_learns_the_holder_and_gets_the_lock_once_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/vm.lock");
        let was_free = |_: &str| panic!("was free");
        let first = FileLock::acquire(&path, "askari::cycle, pid 7", &short(), was_free).unwrap();
        let mut told = Vec::new();
        let error = FileLock::acquire(&path, "second", &short(), |holder| {
            told.push(holder.to_owned());
            Busy::Wait
        })
        .unwrap_err();
        assert_eq!(told, ["askari::cycle, pid 7"]);
        assert!(error.to_string().ends_with("held by askari::cycle, pid 7"), "{error}");
        drop(first);
        FileLock::acquire(&path, "third", &short(), was_free).unwrap();
    }

    #[test]
    fn giving_up_on_a_held_lock_fails_at_once_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.lock");
        let _first = FileLock::acquire(&path, "first", &short(), |_| Busy::Wait).unwrap();
        let error = FileLock::acquire(&path, "second", &short(), |_| Busy::GiveUp).unwrap_err();
        assert!(matches!(error, LockError::Held { holder, .. } if holder == "first"));
    }

    #[test]
    fn a_holder_without_a_name_for_a_moment_is_not_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.lock");
        let first = FileLock::acquire(&path, "first", &short(), |_| Busy::Wait).unwrap();
        first.file.set_len(0).unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || {
                let minute = Deadline::uninterrupted(Duration::from_secs(60), "the test");
                FileLock::acquire(&path, "second", &minute, |holder| panic!("reported {holder}"))
            }
        });
        short().pause(RETRY * 2);
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_holder_that_stays_nameless_is_reported_as_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.lock");
        let first = FileLock::acquire(&path, "first", &short(), |_| Busy::Wait).unwrap();
        first.file.set_len(0).unwrap();
        let minute = Deadline::uninterrupted(Duration::from_secs(60), "the test");
        let error = FileLock::acquire(&path, "second", &minute, |_| Busy::GiveUp).unwrap_err();
        assert!(matches!(error, LockError::Held { holder, .. } if holder == "another process"));
    }
}
