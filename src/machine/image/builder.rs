//! Builds the golden image in a few steps, each a program run under the deadline, in a scratch folder that is always
//! removed. No step needs root, a loop device or a mount on the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::layout;
use super::recipe::{CONFIGURE, COPY_TREE, FILL_DISK, Recipe, SUITE};
use super::scratch::Scratch;
use super::space::SpaceRequirement;
use super::{ImageError, Operation};
use crate::support::process::{Process, ProcessError, Stream, quote};

/// Bytes that a build writes into its scratch folder at most: packages, the unpacked tree, the disk's file systems.
const SCRATCH_BYTES: u64 = 2600 << 20;
/// Bytes of the finished image.
const IMAGE_BYTES: u64 = 1100 << 20;

/// A build about to run.
pub(super) struct Builder<'a> {
    pub recipe: &'a Recipe,
    pub operation: Operation<'a>,
    /// The scratch folder, which the build creates and removes. The caller's lock keeps others out.
    pub scratch: &'a Path,
    /// The file that becomes the image.
    pub target: &'a Path,
    /// Where the output of a failed build stays.
    pub log: &'a Path,
}

impl Builder<'_> {
    /// Builds the image into `target`, which the caller removes after an error.
    pub(super) fn build(&self) -> Result<(), ImageError> {
        let tools = self.operation.tools;
        let dir = self.scratch.parent().unwrap_or(self.scratch).to_owned();
        let what = "building the golden image";
        let scratch_space = SpaceRequirement { dir, bytes: SCRATCH_BYTES, what, hint: "" };
        let image_space = SpaceRequirement::for_image(self.target, IMAGE_BYTES, "the golden image");
        scratch_space.check()?;
        image_space.check()?;
        let scratch = Scratch::make(self.scratch, tools)?;
        let disk = self.prepare(&scratch)?;
        let _ = fs::remove_file(self.log);

        let table = tools.process("sfdisk").arg("--quiet").arg(&disk);
        let table = table.input(&*self.recipe.partitions);
        self.step("partitioning the disk", table, &scratch_space)?;
        self.step("installing Debian", self.install(&scratch, &disk), &scratch_space)?;
        let convert = tools.process("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2", "-W"]);
        let convert = convert.arg(&disk).arg(self.target);
        self.step("writing the qcow2 file", convert, &image_space)?;
        let _ = fs::remove_file(self.log);
        Ok(())
    }

    /// Writes the recipe's files and an empty disk. Gives the disk's path.
    fn prepare(&self, scratch: &Scratch<'_>) -> Result<PathBuf, ImageError> {
        self.recipe.write_into(scratch.path).map_err(ImageError::io("write the recipe to", scratch.path))?;
        // For an ordinary user, mmdebstrap's hooks run as root of a user namespace, which is another user outside of it.
        // So everyone can write the disk, and its folder has a name that nobody else can guess.
        let hidden = tempfile::Builder::new().prefix("disk-").tempdir_in(scratch.path);
        let hidden = hidden.map_err(ImageError::io("write to", scratch.path))?.keep();
        // Set afterwards, as the umask does not apply then.
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o711))
            .map_err(ImageError::io("set the permissions of", &hidden))?;
        let disk = hidden.join("golden.raw");
        let made = fs::File::create_new(&disk).and_then(|file| {
            file.set_len(layout::DISK)?;
            file.set_permissions(fs::Permissions::from_mode(0o666))
        });
        made.map_err(ImageError::io("create the disk", &disk))?;
        Ok(disk)
    }

    /// mmdebstrap with its hooks, which do everything that needs the tree with its real owners.
    fn install(&self, scratch: &Scratch<'_>, disk: &Path) -> Process {
        let hook = |kind: &str, script: &str, args: &[String]| {
            let script = scratch.path.join(script).display().to_string();
            let words = std::iter::once(&script).chain(args).map(|word| quote(word));
            format!("--{kind}-hook={} \"$1\"", words.collect::<Vec<_>>().join(" "))
        };
        let figures = [layout::ESP_OFFSET, layout::ESP_SECTORS, layout::ROOT_OFFSET, layout::ROOT_KIB];
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
            .args([SUITE, "/dev/null"])
    }

    /// As root, mmdebstrap mounts what a chroot needs on the host and, when killed, leaves mounts and children behind. So
    /// it gets namespaces of its own, which end with it. For any other user it creates some itself.
    fn mmdebstrap(&self) -> Process {
        if !rustix::process::geteuid().is_root() {
            return self.operation.tools.process("mmdebstrap");
        }
        let namespaces = ["--mount", "--pid", "--mount-proc", "--fork", "--kill-child"];
        self.operation.tools.process("unshare").args(namespaces).arg("mmdebstrap")
    }

    /// Runs one step: logs its output, and reports it and mmdebstrap's phases as progress.
    fn step(&self, step: &'static str, process: Process, space: &SpaceRequirement) -> Result<(), ImageError> {
        let Operation { deadline, progress, .. } = self.operation;
        progress(step);
        let on_line = |stream, line: &str| {
            if let (Stream::Stderr, Some(phase)) = (stream, phase(line)) {
                progress(phase);
            }
        };
        let run = process.log_to(self.log).run_with(deadline, on_line);
        let failed = |source: ProcessError| match space.explains(&source) {
            Some(full) => full.into(),
            None => {
                let log = matches!(source, ProcessError::Failed { .. }).then(|| self.log.to_owned());
                ImageError::Step { step, log, source: source.into() }
            }
        };
        run.and_then(|finished| finished.into_ok()).map(|_| ()).map_err(failed)
    }
}

/// The phase of the build that a line of mmdebstrap's output begins.
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
