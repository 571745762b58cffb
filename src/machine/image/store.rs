//! The cache folder of golden images: which there are, getting one that is not, removing one.
//!
//! A build runs under a lock of the whole folder. A second process that wants an image waits for it, says so, and then
//! finds the image there. What a build leaves behind when it is killed is removed by the next one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::builder::Builder;
use super::local;
use super::recipe::{Recipe, hex};
use super::record::{Image, Origin};
use super::tools::Toolbox;
use super::{ImageError, Progress};
use crate::catalog::plan::ImageSource;
use crate::support::deadline::Deadline;
use crate::support::lock::{Busy, FileLock};

/// Where the unpacked system and the raw disk of a build lie: on disk, not in memory, and where an ordinary user's
/// namespaces may enter (a home folder is often closed to them).
const SCRATCH_PARENT: &str = "/var/tmp";

/// Golden images in a cache folder.
#[derive(Clone, Debug)]
pub struct ImageStore {
    dir: PathBuf,
    recipe: Recipe,
    tools: Toolbox,
    scratch_parent: PathBuf,
}

impl ImageStore {
    /// The images in `dir`, which is made when the first one is; `recipe` is what `build` builds.
    pub fn new(dir: impl Into<PathBuf>, recipe: Recipe) -> Self {
        let (dir, tools) = (dir.into(), Toolbox::of_the_system());
        Self { dir, recipe, tools, scratch_parent: SCRATCH_PARENT.into() }
    }

    #[cfg(test)]
    pub(super) fn for_tests(dir: &Path, recipe: Recipe, tools: Toolbox) -> Self {
        let scratch_parent = dir.join("scratch");
        fs::create_dir_all(&scratch_parent).unwrap();
        Self { dir: dir.join("images"), recipe, tools, scratch_parent }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The image of `source`, if it is there and whole. Looks at two files and runs nothing.
    pub fn find(&self, source: &ImageSource) -> Option<Image> {
        let record = match source {
            ImageSource::Build => self.record(&self.recipe.name()),
            ImageSource::Official => return None,
            ImageSource::Path(path) => local::record_of(&self.dir, path),
        };
        Image::load(&record)
    }

    /// The image of `source`, built or read if need be. Another process that is at it is waited for. Building takes
    /// about a minute.
    ///
    /// # Errors
    /// [`ImageError`]; nothing half-built is left, whatever the reason.
    pub fn ensure(
        &self,
        source: &ImageSource,
        deadline: &Deadline,
        progress: Progress<'_>,
    ) -> Result<Image, ImageError> {
        if *source == ImageSource::Official {
            return Err(ImageError::OfficialUnavailable);
        }
        if let Some(image) = self.find(source) {
            return Ok(image);
        }
        match source {
            ImageSource::Path(_) => self.tools.check_read(),
            _ => self.tools.check_build(),
        }
        .map_err(ImageError::Missing)?;
        let _lock = self.lock(&format!("getting image {}", self.label(source)), deadline, progress)?;
        // Whoever held the lock may have got it for us.
        if let Some(image) = self.find(source) {
            return Ok(image);
        }
        let (image, record) = match source {
            ImageSource::Path(path) => {
                (local::read(path, &self.tools, deadline, progress)?, local::record_of(&self.dir, path))
            }
            _ => (self.build(deadline, progress)?, self.record(&self.recipe.name())),
        };
        image.save(&record).map_err(ImageError::io("write the record", record))?;
        Ok(image)
    }

    /// Every image there is, files of the operator's that were used included, by name.
    ///
    /// # Errors
    /// When the folder cannot be read; one that is not there holds no image.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut images: Vec<_> = self.records()?.iter().filter_map(|record| Image::load(record)).collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// Removes the image of that name; of a file of the operator's only what we know about it.
    ///
    /// # Errors
    /// [`ImageError::Unknown`] with the names there are; a lock that is held for longer than the deadline.
    pub fn remove(&self, name: &str, deadline: &Deadline, progress: Progress<'_>) -> Result<(), ImageError> {
        let _lock = self.lock(&format!("removing image {name}"), deadline, progress)?;
        let records = self.records()?;
        let known = |record: &PathBuf| Image::load(record).filter(|image| image.name == name);
        let Some((record, image)) = records.into_iter().find_map(|r| known(&r).map(|image| (r, image)))
        else {
            let names: Vec<_> = self.list()?.into_iter().map(|image| image.name).collect();
            let known = match names.len() {
                0 => "are none".to_owned(),
                1 => format!("is {}", names[0]),
                _ => format!("are {}", names.join(", ")),
            };
            return Err(ImageError::Unknown { name: name.to_owned(), known });
        };
        if matches!(image.origin, Origin::Build { .. }) {
            fs::remove_file(&image.path).map_err(ImageError::io("remove", &image.path))?;
        }
        fs::remove_file(&record).map_err(ImageError::io("remove", record))
    }

    /// Builds the recipe's image under a temporary name and renames it into place.
    fn build(&self, deadline: &Deadline, progress: Progress<'_>) -> Result<Image, ImageError> {
        let (started, name) = (Instant::now(), self.recipe.name());
        progress(&format!("building image {name}; this is done once and takes about a minute"));
        let (path, partial) = (self.file(&name, "qcow2"), Partial(self.file(&name, "qcow2.partial")));
        let builder = Builder {
            recipe: &self.recipe,
            tools: &self.tools,
            scratch: &self.scratch(),
            target: &partial.0,
            log: &self.dir.join("build.log"),
        };
        builder.build(deadline, progress)?;
        progress("taking the image's digest");
        let info = local::info(&partial.0, &self.tools, deadline)?;
        let sha256 = local::sha256(&partial.0, &self.tools, deadline)?;
        let file = fs::metadata(&partial.0).map_err(ImageError::io("read", &partial.0))?;
        let versions = ["mmdebstrap", "qemu-img"].map(|tool| self.tools.version(tool, deadline));
        fs::rename(&partial.0, &path).map_err(ImageError::io("put into place", &path))?;
        Ok(Image {
            name,
            path,
            format: info.format,
            virtual_size: info.virtual_size,
            file_size: file.len(),
            sha256,
            origin: Origin::Build {
                recipe: self.recipe.digest(),
                built: Timestamp::now(),
                seconds: (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
                tools: versions.into(),
            },
        })
    }

    fn lock(&self, what: &str, deadline: &Deadline, progress: Progress<'_>) -> Result<FileLock, ImageError> {
        fs::create_dir_all(&self.dir).map_err(ImageError::io("make the image folder", &self.dir))?;
        let holder = format!("pid {}, {what}", std::process::id());
        let lock = FileLock::acquire(&self.dir.join("lock"), &holder, deadline, |other| {
            progress(&format!("waiting for {other}"));
            Busy::Wait
        })?;
        Ok(lock)
    }

    /// One scratch folder for each image folder: whoever holds the lock may remove what is in it.
    fn scratch(&self) -> PathBuf {
        let hash = hex(&Sha256::digest(self.dir.as_os_str().as_encoded_bytes()));
        self.scratch_parent.join(format!("boma-it-image-{}", &hash[..12]))
    }

    fn records(&self) -> Result<Vec<PathBuf>, ImageError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ImageError::io("read the image folder", &self.dir)(error)),
        };
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect())
    }

    fn label(&self, source: &ImageSource) -> String {
        match source {
            ImageSource::Build | ImageSource::Official => self.recipe.name(),
            ImageSource::Path(path) => path.display().to_string(),
        }
    }

    fn record(&self, name: &str) -> PathBuf {
        self.file(name, "json")
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        // Not `with_extension`: what follows a dot in the name is no extension.
        self.dir.join(format!("{name}.{extension}"))
    }
}

/// A file that is not yet what its final name would promise; dropping it removes it.
#[derive(Debug)]
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
