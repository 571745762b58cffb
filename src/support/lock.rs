//! Locks across processes: an advisory lock on a file, released by the kernel whenever its holder ends.
//!
//! nextest runs each trial in a process of its own, so a mutex in memory guards nothing.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::deadline::{Deadline, Progress, WaitError};

/// How often a taken lock is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// For so many looks a holder may have no name. Whoever takes the lock writes its name, and whoever leaves it removes it, an
/// instant after and before: who looks in that moment learns nothing of the holder, and must not judge by it.
const NAMELESS: usize = 20;

/// A held lock; dropping it releases it. The file stays, as removing it would race with the next holder.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

/// Why a lock was not had.
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
    /// Somebody else holds it, and it was not worth waiting.
    #[error("the lock {} is held by {holder}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// Somebody else held it for too long.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// What to do about a lock that somebody else holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Wait until it is free.
    Wait,
    /// Fail with [`LockError::Held`].
    GiveUp,
}

impl FileLock {
    /// Takes the lock at `path`. While another process holds it, `on_busy` is told what that holder wrote about
    /// itself, each time it is another one, and says whether to wait. `holder` (one line: who and what for) is
    /// what others will be told about us.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(
        path: &Path,
        holder: &str,
        deadline: &Deadline,
        mut on_busy: impl FnMut(&str) -> Busy,
    ) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(io)?;
        let awaited = format!("the lock {}", path.display());
        let mut told: Option<String> = None;
        let mut nameless = 0;
        let had = deadline.wait_for(&awaited, LOOK, || match file.try_lock() {
            Ok(()) => Ok(Progress::Ready(Ok(()))),
            Err(TryLockError::WouldBlock) => {
                let named = read_holder(&mut file);
                nameless = if named.is_some() { 0 } else { nameless + 1 };
                if (1..NAMELESS).contains(&nameless) {
                    return Ok(Progress::Pending("held by whoever has just taken it".to_owned()));
                }
                let holder = named.unwrap_or_else(|| "another process".to_owned());
                if told.as_ref() != Some(&holder) && on_busy(&holder) == Busy::GiveUp {
                    return Ok(Progress::Ready(Err(holder)));
                }
                told = Some(holder.clone());
                Ok(Progress::Pending(format!("held by {holder}")))
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        })?;
        had.map_err(|holder| LockError::Held { path: path.to_owned(), holder })?;
        // What is written only informs; failing to write it takes nothing from the lock.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{holder}"));
        Ok(Self { file })
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
    fn a_second_taker_is_told_who_holds_the_lock_and_gets_it_once_it_is_free() {
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
    fn who_does_not_want_to_wait_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.lock");
        let _first = FileLock::acquire(&path, "first", &short(), |_| Busy::Wait).unwrap();
        let error = FileLock::acquire(&path, "second", &short(), |_| Busy::GiveUp).unwrap_err();
        assert!(matches!(error, LockError::Held { holder, .. } if holder == "first"));
    }

    #[test]
    fn nobody_is_judged_by_a_name_that_is_not_there_yet_or_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.lock");
        let first = FileLock::acquire(&path, "first", &short(), |_| Busy::Wait).unwrap();
        first.file.set_len(0).unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || {
                let minute = Deadline::uninterrupted(Duration::from_secs(60), "the test");
                FileLock::acquire(&path, "second", &minute, |holder| panic!("told of {holder}"))
            }
        });
        short().pause(LOOK * 2);
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn who_never_gives_a_name_is_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.lock");
        let first = FileLock::acquire(&path, "first", &short(), |_| Busy::Wait).unwrap();
        first.file.set_len(0).unwrap();
        let minute = Deadline::uninterrupted(Duration::from_secs(60), "the test");
        let error = FileLock::acquire(&path, "second", &minute, |_| Busy::GiveUp).unwrap_err();
        assert!(matches!(error, LockError::Held { holder, .. } if holder == "another process"));
    }
}
