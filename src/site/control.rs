//! The folder of SSH's control sockets: short, as a socket's path may have 108 bytes at most (unix(7)) and a run
//! folder's path has no such limit; and new for each playbook, as a master that outlived a restart hangs the next
//! play. Dropping it ends the masters and removes the folder.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::deadline::Deadline;
use crate::support::env;
use crate::support::process::Process;

/// Longest path of the folder that leaves room for `/<10 hex digits>.<16 characters>` and a margin.
const LONGEST: usize = 60;

#[derive(Debug)]
pub(super) struct ControlDir {
    dir: TempDir,
    ssh: PathBuf,
}

impl ControlDir {
    /// A new one. `ssh` is the client that ends the masters.
    pub(super) fn create(ssh: &Path) -> std::io::Result<Self> {
        let builder = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix("boma-it-ssh-");
            builder
        };
        let runtime = env::named("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|dir| dir.as_os_str().len() + 20 <= LONGEST && dir.is_dir());
        let dir = match runtime.map(|dir| builder().tempdir_in(dir)) {
            Some(Ok(dir)) => dir,
            _ => builder().tempdir_in("/tmp")?,
        };
        Ok(Self { dir, ssh: ssh.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for ControlDir {
    fn drop(&mut self) {
        let deadline = Deadline::uninterrupted(Duration::from_secs(2), "ending SSH masters");
        let entries = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket())) {
            let control = format!("ControlPath={}", entry.path().display());
            // A master that cannot be told ends by itself, one minute after its last use.
            let _ = Process::new(&self.ssh)
                .args(["-F", "none", "-O", "exit", "-o"])
                .arg(control)
                .arg("vm")
                .run(&deadline);
        }
    }
}
