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
use super::official::{DebianMirror, Patience, ServerFailure};
use super::recipe::{Recipe, hex};
use super::record::{Image, Origin};
use super::tools::Toolbox;
use super::{ImageError, Progress, local, place};
use crate::catalog::plan::{ImageSource, Official, Packages};
use crate::support::deadline::Deadline;
use crate::support::lock::{Busy, FileLock};

/// Where the unpacked system and the raw disk of a build lie: on disk, not in memory, and where an ordinary user's
/// namespaces may enter (a home folder is often closed to them).
const SCRATCH_PARENT: &str = "/var/tmp";

/// Golden images in a cache folder.
#[derive(Clone, Debug)]
pub struct ImageStore {
    dir: PathBuf,
    tools: Toolbox,
    scratch_parent: PathBuf,
    patience: Patience,
}

/// The image of a source, and what a person should know about how it came to be this one.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedImage {
    /// The image.
    pub image: Image,
    /// Which way `auto` went and why, or why an older image serves for the latest one.
    pub why: Option<String>,
}

impl ImageStore {
    /// The images in `dir`, which is made when the first one is.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let (dir, tools) = (dir.into(), Toolbox::of_the_system());
        Self { dir, tools, scratch_parent: SCRATCH_PARENT.into(), patience: Patience::default() }
    }

    #[cfg(test)]
    pub(super) fn for_tests(dir: &Path, tools: Toolbox, patience: Patience) -> Self {
        let scratch_parent = dir.join("scratch");
        fs::create_dir_all(&scratch_parent).unwrap();
        Self { dir: dir.join("images"), tools, scratch_parent, patience }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The image of `source`, if it is there and whole and no server has to be asked. Looks at a few files and runs
    /// nothing.
    pub fn find(&self, source: &ImageSource) -> Option<SelectedImage> {
        let plain = |image| SelectedImage { image, why: None };
        match source {
            ImageSource::Build { packages } => self.built(&Recipe::debian(packages)).map(plain),
            ImageSource::Path { path } => Image::load(&local::record_of(&self.dir, path)).map(plain),
            ImageSource::Official(wanted) => self.archive(wanted).known(&self.list().ok()?).map(official),
            ImageSource::Auto { official, packages } => {
                let archive = self.archive(official);
                if let Some(known) = archive.known(&self.list().ok()?) {
                    return Some(auto_official(known));
                }
                let trouble = archive.trouble()?;
                self.built(&Recipe::debian(packages)).map(|image| auto_built(image, &trouble))
            }
        }
    }

    /// The image of `source`, built, downloaded or read if need be. Another process that is at it is waited for.
    /// Building takes about a minute.
    ///
    /// # Errors
    /// [`ImageError`]; nothing half-built is left, whatever the reason, and of a download only what can be gone on with.
    pub fn ensure(
        &self,
        source: &ImageSource,
        deadline: &Deadline,
        progress: Progress<'_>,
    ) -> Result<SelectedImage, ImageError> {
        if let Some(found) = self.find(source) {
            return Ok(found);
        }
        match source {
            ImageSource::Build { .. } => self.tools.check_build(),
            _ => self.tools.check_read(),
        }
        .map_err(ImageError::Missing)?;
        let _lock = self.lock(&format!("getting {}", label(source)), deadline, progress)?;
        // Whoever held the lock may have got it for us.
        if let Some(found) = self.find(source) {
            return Ok(found);
        }
        match source {
            ImageSource::Build { packages } => {
                let image = self.build(&Recipe::debian(packages), deadline, progress)?;
                Ok(SelectedImage { image, why: None })
            }
            ImageSource::Path { path } => {
                let record = local::record_of(&self.dir, path);
                let image = local::read(path, &self.tools, deadline, progress)?;
                image.save(&record).map_err(ImageError::io("write the record", record))?;
                Ok(SelectedImage { image, why: None })
            }
            ImageSource::Official(wanted) => {
                self.archive(wanted).get(&self.list()?, deadline, progress).map(official)
            }
            ImageSource::Auto { official, packages } => self.auto(official, packages, deadline, progress),
        }
    }

    /// Debian's own, or else one that is built here. A server that failed lately is not asked again so soon.
    fn auto(
        &self,
        wanted: &Official,
        packages: &Packages,
        deadline: &Deadline,
        progress: Progress<'_>,
    ) -> Result<SelectedImage, ImageError> {
        let (archive, recipe) = (self.archive(wanted), Recipe::debian(packages));
        if archive.trouble().is_none() {
            match archive.get(&self.list()?, deadline, progress) {
                Ok(got) => return Ok(auto_official(got)),
                Err(error) if archive.trouble().is_none() => return Err(error),
                Err(error) => progress(&format!("no official image ({}); one is built here", error.reason())),
            }
        }
        let image = match self.built(&recipe) {
            Some(image) => image,
            None => {
                self.tools.check_build().map_err(ImageError::Missing)?;
                self.build(&recipe, deadline, progress)?
            }
        };
        Ok(match archive.trouble() {
            Some(trouble) => auto_built(image, &trouble),
            None => SelectedImage { image, why: None },
        })
    }

    /// Whoever asks next asks the servers, whatever they said lately.
    ///
    /// # Errors
    /// When what is remembered of them cannot be removed.
    pub fn ask_afresh(&self) -> Result<(), ImageError> {
        super::official::forget(&self.dir).map_err(ImageError::io("write to", &self.dir))
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
        if !matches!(image.origin, Origin::Path { .. }) {
            fs::remove_file(&image.path).map_err(ImageError::io("remove", &image.path))?;
        }
        fs::remove_file(&record).map_err(ImageError::io("remove", record))
    }

    /// Builds the recipe's image under a temporary name and renames it into place.
    fn build(
        &self,
        recipe: &Recipe,
        deadline: &Deadline,
        progress: Progress<'_>,
    ) -> Result<Image, ImageError> {
        let (started, name) = (Instant::now(), recipe.name());
        progress(&format!("building image {name}; this is done once and takes about a minute"));
        let partial = Partial(self.file(&name, "qcow2.partial"));
        let builder = Builder {
            recipe,
            tools: &self.tools,
            scratch: &self.scratch(),
            target: &partial.0,
            log: &self.dir.join("build.log"),
        };
        builder.build(deadline, progress)?;
        progress("taking the image's digest");
        place::put(&self.dir, name, &partial.0, &self.tools, deadline, || Origin::Build {
            recipe: recipe.digest(),
            built: Timestamp::now(),
            seconds: (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            tools: ["mmdebstrap", "qemu-img"].map(|tool| self.tools.version(tool, deadline)).into(),
        })
    }

    /// The recipe's image, if it is there.
    fn built(&self, recipe: &Recipe) -> Option<Image> {
        Image::load(&self.file(&recipe.name(), "json"))
    }

    fn archive<'a>(&'a self, wanted: &'a Official) -> DebianMirror<'a> {
        DebianMirror { dir: &self.dir, wanted, tools: &self.tools, patience: self.patience }
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

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        // Not `with_extension`: what follows a dot in the name is no extension.
        self.dir.join(format!("{name}.{extension}"))
    }
}

/// What a person is told that somebody is at.
fn label(source: &ImageSource) -> String {
    match source {
        ImageSource::Build { packages } => format!("image {}", Recipe::debian(packages).name()),
        ImageSource::Official(wanted) | ImageSource::Auto { official: wanted, .. } => {
            format!("Debian's image, release {}", wanted.release)
        }
        ImageSource::Path { path } => format!("image {}", path.display()),
    }
}

fn official((image, why): (Image, Option<String>)) -> SelectedImage {
    SelectedImage { image, why }
}

fn auto_official((image, stale): (Image, Option<String>)) -> SelectedImage {
    let why =
        stale.unwrap_or_else(|| "`image.source` is `auto`, and Debian's own image is to be had".to_owned());
    SelectedImage { image, why: Some(why) }
}

fn auto_built(image: Image, trouble: &ServerFailure) -> SelectedImage {
    let why = format!(
        "the image is built here, as `image.source` is `auto` and Debian's own is not to be had: {} (asked again after \
         {}, or at once by `boma-it image build`)",
        trouble.why,
        trouble.until()
    );
    SelectedImage { image, why: Some(why) }
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
