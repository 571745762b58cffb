//! The run folder: `<root>/<timestamp>-<host>/`, plain text and JSON that a person or a program reads without
//! asking anyone. Here is where it lies, how it is named, and which old ones go; what is in it is written by those
//! who know.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Zoned;

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
    pub fn create(root: &Path, label: &str, now: &Zoned) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let stem = format!("{}-{label}", now.strftime("%Y%m%dT%H%M%S"));
        let candidates = std::iter::once(stem.clone()).chain((2..).map(|n| format!("{stem}-{n}")));
        for name in candidates {
            let path = root.join(name);
            match create_private(&path) {
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
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Ok(Self { path: path.to_owned() });
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("the run folder {} is gone", path.display())))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file or folder in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a sub-folder, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn sub_folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

/// Removes all but the newest `keep` run folders under `root`, sparing those in `spare` (runs whose VM still lives).
/// Only folders whose name starts like a timestamp of ours and that hold our marker file `plan.json` are touched. Gives what
/// was removed.
///
/// # Errors
/// When `root` cannot be read. A folder that cannot be removed is left for the next time.
pub fn retain(root: &Path, keep: usize, spare: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let folders = all(root)?;
    let surplus = folders.len().saturating_sub(keep);
    let old = folders.into_iter().take(surplus).filter(|path| !spare.contains(path));
    Ok(old.filter(|path| fs::remove_dir_all(path).is_ok()).collect())
}

/// Every run folder under `root`, oldest first; none if there is no such folder.
///
/// # Errors
/// When `root` cannot be read.
pub fn all(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = match fs::read_dir(root) {
        Ok(entries) => {
            entries.filter_map(|entry| entry.ok().map(|e| e.path())).filter(|p| is_ours(p)).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    folders.sort();
    Ok(folders)
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let digits = |text: Option<&str>| text.is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    let stamped = digits(name.get(..8)) && name.get(8..9) == Some("T") && digits(name.get(9..15));
    stamped && name.get(15..16) == Some("-") && path.join("plan.json").is_file()
}

fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Zoned {
        "2026-06-17T12:00:00+02:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn runs_of_the_same_second_get_folders_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..3)
            .map(|_| RunFolder::create(root.path(), "askari", &noon()).unwrap())
            .map(|folder| folder.path().file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["20260617T120000-askari", "20260617T120000-askari-2", "20260617T120000-askari-3"]);
    }

    #[test]
    fn retention_takes_the_oldest_spares_the_living_and_never_touches_what_is_not_ours() {
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
