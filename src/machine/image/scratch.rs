//! The scratch folder of a build: the unpacked system and the raw disk. It is removed however the build ends.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::ImageError;
use super::tools::Toolbox;
use crate::support::deadline::{Deadline, Progress};

/// How long the removal can take.
const REMOVAL: Duration = Duration::from_secs(30);
/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(200);
/// Errors that go away once no process writes there any more.
const RETRIED: [io::ErrorKind; 2] = [io::ErrorKind::PermissionDenied, io::ErrorKind::DirectoryNotEmpty];

/// The scratch folder of one build; dropping it removes it.
#[derive(Debug)]
pub(super) struct Scratch<'a> {
    pub path: &'a Path,
    tools: &'a Toolbox,
}

impl<'a> Scratch<'a> {
    /// Creates an empty folder that other users can enter but not write, in place of what an earlier build left.
    pub(super) fn make(path: &'a Path, tools: &'a Toolbox) -> Result<Self, ImageError> {
        let scratch = Self { path, tools };
        scratch.remove().map_err(ImageError::io("empty the scratch folder", path))?;
        fs::create_dir(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .map_err(ImageError::io("make the scratch folder", path))?;
        Ok(scratch)
    }

    fn remove(&self) -> io::Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        // `remove_dir_all` would enter mounts and remove foreign files.
        if let Some(mount) = mount_below(&fs::read_to_string("/proc/self/mountinfo")?, self.path) {
            return Err(io::Error::other(format!("{mount} is mounted; `umount` it first")));
        }
        // Children of a killed build can still write here, until they fail for lack of their files.
        let deadline = Deadline::uninterrupted(REMOVAL, "removing a scratch folder");
        let removed =
            deadline.wait_for("an empty scratch folder", RETRY, || match self.try_remove(&deadline) {
                Ok(()) => Ok(Progress::Ready(())),
                Err(error) if RETRIED.contains(&error.kind()) => Ok(Progress::Pending(error.to_string())),
                Err(error) => Err(error.into()),
            });
        removed.map_err(io::Error::other)
    }

    fn try_remove(&self, deadline: &Deadline) -> io::Result<()> {
        match fs::remove_dir_all(self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // Its files belong to other users, who are root only in mmdebstrap's user namespace.
                let helper = self.tools.process("mmdebstrap").arg("--unshare-helper").args(["rm", "-rf"]);
                let _ = helper.arg(self.path).run(deadline);
                fs::remove_dir_all(self.path).map_err(|_| error)
            }
            other => other,
        }
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The first mount point below `dir`, from the text of `/proc/self/mountinfo`: man page proc_pid_mountinfo(5).
fn mount_below<'a>(mountinfo: &'a str, dir: &Path) -> Option<&'a str> {
    let mut points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.find(|point| Path::new(point).starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mount_below_the_folder_counts() {
        let mounts = "22 27 0:20 / /sys rw - sysfs sysfs rw\n\
                      90 27 0:50 / /var/tmp/boma-2/proc rw - proc proc rw\n\
                      91 27 0:51 / /var/tmp/boma/tree/proc rw - proc proc rw";
        assert_eq!(mount_below(mounts, Path::new("/var/tmp/boma")), Some("/var/tmp/boma/tree/proc"));
        assert_eq!(mount_below(mounts, Path::new("/var/tmp/bom")), None);
    }

    #[test]
    fn a_scratch_folder_starts_empty_and_is_removed_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let (path, tools) = (dir.path().join("scratch"), Toolbox::of_the_system());
        fs::create_dir_all(path.join("left/over")).unwrap();
        let scratch = Scratch::make(&path, &tools).unwrap();
        assert_eq!(fs::read_dir(scratch.path).unwrap().count(), 0);
        drop(scratch);
        assert!(!path.exists());
    }
}
