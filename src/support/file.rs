//! File operations that several modules need, each in one place: reading what a person wrote, replacing a file in one step,
//! and removing one that may not exist. Small, because every other use of files is plain `std::fs`.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// How large a file may be that a person wrote.
const LARGEST: u64 = 1 << 20;

/// The content of a file that a person wrote. Never waits, as a pipe or a device would make it.
///
/// # Errors
/// When it cannot be read, is no regular file, or has more than 1 MiB.
pub(crate) fn read_input(path: &Path) -> io::Result<Vec<u8>> {
    let refused = |why: &str| Err(io::Error::other(why));
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return refused("it is no regular file");
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= LARGEST {
        true => Ok(bytes),
        false => refused("it has more than 1 MiB"),
    }
}

/// Replaces the file at `path` by what `write` writes. A reader sees the old file or the whole new one, never a part; on
/// an error the old file stays. The new file has the permissions `mode`, less the umask.
///
/// # Errors
/// When the folder of `path` cannot be written to; what `write` fails with.
pub(crate) fn replace<T, E: From<io::Error>>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    // In the same folder, as a rename works within one file system only.
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
    let written = write(new.as_file_mut())?;
    new.persist(path).map_err(io::Error::from)?;
    Ok(written)
}

/// Removes the file at `path`, if it exists. Returns whether it did.
///
/// # Errors
/// When it exists and cannot be removed.
pub(crate) fn remove_if_exists(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_a_regular_file_of_at_most_1_mib_is_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let error = |name: &str| read_input(&path(name)).unwrap_err().to_string();
        fs::write(path("largest"), vec![b'x'; 1 << 20]).unwrap();
        fs::write(path("larger"), vec![b'x'; (1 << 20) + 1]).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("device")).unwrap();
        std::os::unix::fs::symlink("largest", path("link")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert_eq!(read_input(&path("largest")).unwrap().len(), 1 << 20);
        assert_eq!(read_input(&path("link")).unwrap().len(), 1 << 20);
        assert_eq!(error("larger"), "it has more than 1 MiB");
        for name in ["pipe", "device", "."] {
            assert_eq!(error(name), "it is no regular file", "{name}");
        }
        assert!(error("socket").starts_with("No such device or address"), "{}", error("socket"));
    }

    #[test]
    fn a_file_is_replaced_whole_with_the_given_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        fs::write(&path, "old").unwrap();
        replace(&path, 0o600, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_old_file_stays_when_writing_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        fs::write(&path, "old").unwrap();
        let failed = replace(&path, 0o600, |file| {
            file.write_all(b"half of the n")?;
            Err::<(), _>(io::Error::other("disk full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "disk full");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn removing_a_file_twice_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.json");
        fs::write(&path, "").unwrap();
        assert!(remove_if_exists(&path).unwrap());
        assert!(!remove_if_exists(&path).unwrap());
    }
}
