//! Building the golden image: a list of steps, each a program run under the deadline, in a scratch folder that goes
//! away whatever happens. No step needs root, a loop device or a mount on the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::recipe::{CONFIGURE, COPY_TREE, FILL_DISK, Recipe};
use super::scratch::Scratch;
use super::space::SpaceRequirement;
use super::tools::Toolbox;
use super::{ImageError, Progress};
use crate::support::deadline::Deadline;
use crate::support::process::{Process, ProcessError, Stream, quote};

/// What a build writes into its scratch folder at most: packages, the unpacked tree, the disk's file systems.
const SCRATCH_NEED: u64 = 2600 << 20;
/// What the finished image takes in the cache folder.
const IMAGE_NEED: u64 = 1100 << 20;

/// A build about to run.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    pub recipe: &'a Recipe,
    pub tools: &'a Toolbox,
    /// The scratch folder; made and removed here. Nobody else uses it: the caller holds a lock.
    pub scratch: &'a Path,
    /// Where the image goes; nothing is there while the build runs but what it writes.
    pub target: &'a Path,
    /// Where the output of a failed build is kept.
    pub log: &'a Path,
}

impl Builder<'_> {
    /// Builds the image into `target`. On an error `target` may be half-written: the caller removes it.
    pub(super) fn build(&self, deadline: &Deadline, progress: Progress<'_>) -> Result<(), ImageError> {
        let (scratch_room, cache_room) = (self.scratch_room(), self.cache_room());
        scratch_room.check()?;
        cache_room.check()?;
        let scratch = Scratch::make(self.scratch, self.tools)?;
        let disk = self.prepare(&scratch)?;
        let _ = fs::remove_file(self.log);

        progress("partitioning the disk");
        let table = self.tools.process("sfdisk").arg("--quiet").arg(&disk);
        let table = table.input(self.recipe.layout.sfdisk_script());
        self.step("partitioning the disk", table, scratch_room, deadline, progress)?;
        self.step("installing Debian", self.install(&scratch, &disk), scratch_room, deadline, progress)?;
        progress("writing the qcow2 file");
        let convert = self.tools.process("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2", "-W"]);
        let convert = convert.arg(&disk).arg(self.target);
        self.step("writing the qcow2 file", convert, cache_room, deadline, progress)?;
        let _ = fs::remove_file(self.log);
        Ok(())
    }

    fn scratch_room(&self) -> SpaceRequirement<'_> {
        let dir = self.scratch.parent().unwrap_or(self.scratch);
        SpaceRequirement { dir, bytes: SCRATCH_NEED, what: "building the golden image", hint: "" }
    }

    fn cache_room(&self) -> SpaceRequirement<'_> {
        let dir = self.target.parent().unwrap_or(self.target);
        let hint = ", or remove images that are not used any more (`boma-it image remove`)";
        SpaceRequirement { dir, bytes: IMAGE_NEED, what: "the golden image", hint }
    }

    /// The files of the recipe and an empty disk. Gives the disk's path.
    fn prepare(&self, scratch: &Scratch<'_>) -> Result<PathBuf, ImageError> {
        self.recipe.write_into(scratch.path).map_err(ImageError::io("write the recipe to", scratch.path))?;
        // As an ordinary user, mmdebstrap's hooks run as root of a user namespace, which here is a stranger: the disk
        // must be writable for everyone, and so lies where nobody else can guess its name.
        let hidden = tempfile::Builder::new().prefix("disk-").tempdir_in(scratch.path);
        let hidden = hidden.map_err(ImageError::io("write to", scratch.path))?.keep();
        // Whatever the umask; and so for the disk.
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o711))
            .map_err(ImageError::io("open up", &hidden))?;
        let disk = hidden.join("golden.raw");
        let made = fs::File::create_new(&disk).and_then(|file| {
            file.set_len(self.recipe.layout.disk)?;
            file.set_permissions(fs::Permissions::from_mode(0o666))
        });
        made.map_err(ImageError::io("make the disk", &disk))?;
        Ok(disk)
    }

    /// mmdebstrap, and in its hooks everything that needs the tree with its true owners.
    fn install(&self, scratch: &Scratch<'_>, disk: &Path) -> Process {
        let layout = self.recipe.layout;
        let hook = |kind: &str, script: &str, args: &[String]| {
            let script = scratch.path.join(script).display().to_string();
            let words = std::iter::once(&script).chain(args).map(|word| quote(word));
            format!("--{kind}-hook={} \"$1\"", words.collect::<Vec<_>>().join(" "))
        };
        let figures = [layout.esp_offset(), layout.esp_sectors(), layout.root_offset(), layout.root_kib()];
        let mut disk_args = vec![disk.display().to_string()];
        disk_args.extend(figures.iter().map(u64::to_string));
        self.mmdebstrap()
            .env("TMPDIR", scratch.path)
            .env("LC_ALL", "C.UTF-8")
            .args(["--variant=minbase", "--format=null"])
            .arg(format!("--include={}", self.recipe.include()))
            .arg("--aptopt=Acquire::Languages \"none\"")
            .args(["man", "doc", "locale"].map(|dir| format!("--dpkgopt=path-exclude=/usr/share/{dir}/*")))
            .arg(hook("essential", COPY_TREE, &[scratch.path.join("tree").display().to_string()]))
            .arg(hook("customize", CONFIGURE, &[]))
            .arg(hook("customize", FILL_DISK, &disk_args))
            .args([self.recipe.suite(), "/dev/null"])
    }

    /// For root, mmdebstrap mounts what a chroot needs where everyone sees it, and leaves that, with its children, when it
    /// is killed. So it gets namespaces of its own, which end with it. For anyone else it makes some itself.
    fn mmdebstrap(&self) -> Process {
        if !rustix::process::geteuid().is_root() {
            return self.tools.process("mmdebstrap");
        }
        let namespaces = ["--mount", "--pid", "--mount-proc", "--fork", "--kill-child"];
        self.tools.process("unshare").args(namespaces).arg("mmdebstrap")
    }

    /// Runs one step, with its output kept in the log and mmdebstrap's phases told as progress.
    fn step(
        &self,
        step: &'static str,
        process: Process,
        room: SpaceRequirement<'_>,
        deadline: &Deadline,
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        let told = |stream, line: &str| {
            if let (Stream::Stderr, Some(phase)) = (stream, phase(line)) {
                progress(phase);
            }
        };
        let run = process.log_to(self.log).run_with(deadline, told);
        let failed = |source: ProcessError| match room.blame(&source) {
            Some(full) => ImageError::NoRoom(full),
            None => {
                let log = matches!(source, ProcessError::Failed { .. }).then(|| self.log.to_owned());
                ImageError::Step { step, log, source: source.into() }
            }
        };
        run.and_then(|finished| finished.into_ok()).map(|_| ()).map_err(failed)
    }
}

/// What a line of mmdebstrap's, or of our hooks', means to a person.
fn phase(line: &str) -> Option<&'static str> {
    let info = line.strip_prefix("I: ")?;
    let phases = [
        ("running apt-get update", "reading Debian's package lists"),
        ("downloading packages", "downloading the base system"),
        ("extracting archives", "unpacking the base system"),
        ("installing essential", "installing the base system"),
        ("installing remaining", "downloading and installing packages"),
        ("running --customize-hook", "configuring the system and filling the disk"),
    ];
    phases.iter().find(|(start, _)| info.starts_with(start)).map(|(_, phase)| *phase)
}
