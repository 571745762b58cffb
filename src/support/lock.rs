//! Locks across processes: an advisory lock on a file, released by the kernel whenever its holder ends.
//!
//! nextest runs each trial in a process of its own, so a mutex in memory guards nothing.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::deadline::{Deadline, Progress, WaitError};

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
    /// Somebody else held it for too long.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

impl FileLock {
    /// Takes the lock at `path`, waiting while another process holds it. `on_busy` is called once if it must wait,
    /// with what the holder wrote about itself. `holder` (one line: who and what for) is what others will be told.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(
        path: &Path,
        holder: &str,
        deadline: &Deadline,
        on_busy: impl FnOnce(&str),
    ) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(io)?;
        let mut on_busy = Some(on_busy);
        let awaited = format!("the lock {}", path.display());
        deadline.wait_for(&awaited, Duration::from_millis(100), || match file.try_lock() {
            Ok(()) => Ok(Progress::Ready(())),
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&mut file);
                if let Some(on_busy) = on_busy.take() {
                    on_busy(&holder);
                }
                Ok(Progress::Pending(format!("held by {holder}")))
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        })?;
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

fn read_holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match text.trim() {
        "" => "another process".to_owned(),
        holder => holder.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_holds_the_lock_and_gets_it_once_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/vm.lock");
        let short = || Deadline::uninterrupted(Duration::from_millis(250), "the test");
        let first =
            FileLock::acquire(&path, "askari::cycle, pid 7", &short(), |_| panic!("was free")).unwrap();
        let mut told = String::new();
        let error =
            FileLock::acquire(&path, "second", &short(), |holder| told = holder.to_owned()).unwrap_err();
        assert_eq!(told, "askari::cycle, pid 7");
        assert!(error.to_string().ends_with("held by askari::cycle, pid 7"), "{error}");
        drop(first);
        FileLock::acquire(&path, "third", &short(), |_| panic!("was free")).unwrap();
    }
}
