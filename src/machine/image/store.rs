//! The folder of golden images: lists them, gets the one that a trial needs, removes one.
//!
//! Builds and downloads run under a lock of the whole folder. A second process that needs an image waits for the lock,
//! reports so, and then finds the image. The next build removes what a killed one left behind.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::builder::Builder;
use super::official::{self, DebianMirror, Patience};
use super::recipe::{Recipe, hex};
use super::record::{Image, Origin};
use super::tools::{self, Toolbox};
use super::{ImageError, Operation, qcow2};
use crate::catalog::plan::{ImageSource, Official};
use crate::support::deadline::Deadline;
use crate::support::file;
use crate::support::lock::{Busy, FileLock};

/// Where a build keeps its unpacked system and raw disk: on disk, not in memory, and open to the user namespaces of an
/// ordinary user, which a home folder often is not.
const SCRATCH_PARENT: &str = "/var/tmp";

/// Golden images in a folder.
#[derive(Clone, Debug)]
pub struct ImageStore {
    dir: PathBuf,
    tools: Toolbox,
    scratch_parent: PathBuf,
    patience: Patience,
}

impl ImageStore {
    /// The images in `dir`, which is created when it is first needed.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let (dir, tools) = (dir.into(), Toolbox::of_the_system());
        Self { dir, tools, scratch_parent: SCRATCH_PARENT.into(), patience: Patience::default() }
    }

    /// The image of `source`, if it is there and no server need be asked. Reads a few small files and runs nothing.
    pub(crate) fn find(&self, source: &ImageSource) -> Option<Image> {
        match source {
            ImageSource::Build { packages } => {
                Image::load(&self.file(&Recipe::debian(packages).name(), "json"))
            }
            ImageSource::Path { path } => Image::load(&qcow2::record_of(&self.dir, path)),
            ImageSource::Official(wanted) => self.mirror(wanted).find(&self.list().ok()?),
        }
    }

    /// The image of `source`: built, downloaded or recorded if it is not there yet. Waits while another process does that.
    /// A build takes about a minute.
    ///
    /// # Errors
    /// [`ImageError`]. Nothing half-built is left, and of a download only a part that the next run can continue.
    pub(crate) fn ensure(
        &self,
        source: &ImageSource,
        deadline: &Deadline,
        progress: &dyn Fn(&str),
    ) -> Result<Image, ImageError> {
        if let Some(found) = self.find(source) {
            return Ok(found);
        }
        let needed = match source {
            ImageSource::Build { .. } => tools::BUILD,
            ImageSource::Path { .. } | ImageSource::Official(_) => tools::READ,
        };
        self.tools.check(needed).map_err(ImageError::MissingTools)?;
        let operation = Operation { tools: &self.tools, deadline, progress };
        let _lock = self.lock(&format!("getting {}", label(source)), operation)?;
        // Another process may have made it while this one waited for the lock.
        if let Some(found) = self.find(source) {
            return Ok(found);
        }
        match source {
            ImageSource::Build { packages } => self.build(&Recipe::debian(packages), operation),
            ImageSource::Path { path } => qcow2::adopt(&self.dir, path, operation),
            ImageSource::Official(wanted) => {
                let images = self.list()?;
                self.mirror(wanted).get(&images, operation).map_err(|error| match error {
                    ImageError::Official { source, .. } => {
                        ImageError::Official { source, cached: official::newest_build(&images) }
                    }
                    other => other,
                })
            }
        }
    }

    /// Makes the next [`ImageStore::ensure`] ask the server for its latest build, even if it was asked today.
    ///
    /// # Errors
    /// When the recorded answer cannot be removed.
    pub(crate) fn forget_latest(&self) -> Result<(), ImageError> {
        let file = official::latest_file(&self.dir);
        file::remove_if_exists(&file).map(drop).map_err(ImageError::io("remove", file))
    }

    /// All images by name, including the operator's files that were used.
    ///
    /// # Errors
    /// When the folder cannot be read; a missing folder holds no image.
    pub(crate) fn list(&self) -> Result<Vec<Image>, ImageError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ImageError::io("read the image folder", &self.dir)(error)),
        };
        let records = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let records = records.filter(|path| path.extension().is_some_and(|end| end == "json"));
        let mut images: Vec<_> = records.filter_map(|record| Image::load(&record)).collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// Removes the image of that name; of an operator's file, only its record.
    ///
    /// # Errors
    /// [`ImageError::Unknown`] with the known names; a lock that is held for longer than the deadline.
    pub(crate) fn remove(
        &self,
        name: &str,
        deadline: &Deadline,
        progress: &dyn Fn(&str),
    ) -> Result<(), ImageError> {
        let operation = Operation { tools: &self.tools, deadline, progress };
        let _lock = self.lock(&format!("removing image {name}"), operation)?;
        let images = self.list()?;
        let Some(image) = images.iter().find(|image| image.name == name) else {
            let known = images.into_iter().map(|image| image.name).collect();
            return Err(ImageError::Unknown { name: name.to_owned(), known });
        };
        let record = match image.origin {
            Origin::Path { .. } => qcow2::record_of(&self.dir, &image.path),
            Origin::Build { .. } | Origin::Official { .. } => {
                fs::remove_file(&image.path).map_err(ImageError::io("remove", &image.path))?;
                self.file(name, "json")
            }
        };
        fs::remove_file(&record).map_err(ImageError::io("remove", record))
    }

    /// Builds the recipe's image under a temporary name, then installs it.
    fn build(&self, recipe: &Recipe, operation: Operation<'_>) -> Result<Image, ImageError> {
        let (started, name) = (Instant::now(), recipe.name());
        (operation.progress)(&format!("building image {name}; this happens once and takes about a minute"));
        let partial = self.file(&name, "qcow2.partial");
        // Removed when dropped, also on an error.
        let partial = TempPath::try_from_path(&partial).map_err(ImageError::io("write", partial))?;
        let builder = Builder {
            recipe,
            operation,
            scratch: &self.scratch(),
            target: &partial,
            log: &self.dir.join("build.log"),
        };
        builder.build()?;
        (operation.progress)("computing the image's digest");
        qcow2::install(&self.dir, name, &partial, operation, || Origin::Build {
            recipe: recipe.digest(),
            built: Timestamp::now(),
            seconds: (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            tools: ["mmdebstrap", "qemu-img"].map(|tool| self.tools.version(tool, operation.deadline)).into(),
        })
    }

    fn mirror<'a>(&'a self, wanted: &'a Official) -> DebianMirror<'a> {
        DebianMirror { dir: &self.dir, wanted, patience: self.patience }
    }

    fn lock(&self, what: &str, operation: Operation<'_>) -> Result<FileLock, ImageError> {
        let holder = format!("pid {}, {what}", std::process::id());
        let on_busy = |other: &str| {
            (operation.progress)(&format!("waiting for {other}"));
            Busy::Wait
        };
        FileLock::acquire(&self.dir.join("lock"), &holder, operation.deadline, on_busy)
            .map_err(|error| ImageError::Lock(error.into()))
    }

    /// The scratch folder of this image folder: only the holder of its lock uses it.
    fn scratch(&self) -> PathBuf {
        let hash = hex(&Sha256::digest(self.dir.as_os_str().as_encoded_bytes()));
        self.scratch_parent.join(format!("boma-it-image-{}", &hash[..12]))
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        // Not `with_extension`: what follows a dot in the name is no extension.
        self.dir.join(format!("{name}.{extension}"))
    }
}

/// What another process reads that waits for the lock.
fn label(source: &ImageSource) -> String {
    match source {
        ImageSource::Build { packages } => format!("image {}", Recipe::debian(packages).name()),
        ImageSource::Official(wanted) => format!("Debian's image, release {}", wanted.release),
        ImageSource::Path { path } => format!("image {}", path.display()),
    }
}

#[cfg(test)]
mod tests;
