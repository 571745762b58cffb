//! The scratch folder of a build: an unpacked system and a raw disk, gone whatever way the build ends.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::ImageError;
use super::tools::Toolbox;
use crate::support::deadline::{Deadline, Progress};

/// How long removing it may take.
const REMOVAL: Duration = Duration::from_secs(30);
/// How soon it is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// What passes when nobody writes there any more.
const RETRIED: [io::ErrorKind; 2] = [io::ErrorKind::PermissionDenied, io::ErrorKind::DirectoryNotEmpty];

/// The scratch folder of one build; dropping it removes it.
#[derive(Debug)]
pub(super) struct Scratch<'a> {
    pub path: &'a Path,
    tools: &'a Toolbox,
}

impl<'a> Scratch<'a> {
    /// An empty folder that others may enter but not write; what an earlier build left there goes.
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
        // Removing goes through mounts, into what is not ours.
        if let Some(mount) = mount_below(&fs::read_to_string("/proc/self/mountinfo")?, self.path) {
            return Err(io::Error::other(format!("{mount} is mounted; `umount` it first")));
        }
        // A build that was killed for good may have left children that still write here, until they miss their files.
        let deadline = Deadline::uninterrupted(REMOVAL, "removing a scratch folder");
        let removed = deadline.wait_for("it to be empty", RETRY, || match self.try_remove(&deadline) {
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
                // The root of a user namespace owns what lies there; the folder itself is ours.
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
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.into_iter().find(|point| Path::new(point).starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_below_is_seen_and_one_beside_is_not() {
        let mounts = "22 27 0:20 / /sys rw - sysfs sysfs rw\n\
                      90 27 0:50 / /var/tmp/boma-2/proc rw - proc proc rw\n\
                      91 27 0:51 / /var/tmp/boma/tree/proc rw - proc proc rw";
        assert_eq!(mount_below(mounts, Path::new("/var/tmp/boma")), Some("/var/tmp/boma/tree/proc"));
        assert_eq!(mount_below(mounts, Path::new("/var/tmp/bom")), None);
    }

    #[test]
    fn a_folder_is_made_anew_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (path, tools) = (dir.path().join("scratch"), Toolbox::of_the_system());
        fs::create_dir_all(path.join("left/over")).unwrap();
        let scratch = Scratch::make(&path, &tools).unwrap();
        assert_eq!(fs::read_dir(scratch.path).unwrap().count(), 0);
        drop(scratch);
        assert!(!path.exists());
    }
}
