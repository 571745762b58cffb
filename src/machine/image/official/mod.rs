//! Debian's own cloud image: finds out which build is wanted, downloads it once and keeps it under its digest.
//!
//! The server's list of sums, read over HTTPS, vouches for the image: Debian publishes no signature beside it.
//! The caller holds the lock of the image folder.

mod download;
mod error;
mod http;
mod listing;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub(super) use error::OfficialError;
pub(super) use http::Patience;

use self::download::Download;
use super::qcow2::{self, QemuInfo};
use super::record::{self, Image, Origin};
use super::{ImageError, Operation};
use crate::catalog::plan::{BuildId, Official, Release};

/// How long the build that the server last named as its latest is used without asking again.
const LATEST_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Extension of a download that is not complete.
const PARTIAL: &str = "download";

/// The build that a server named as its latest: the file `latest-build.json` in the image folder.
#[derive(Serialize, Deserialize)]
struct LatestBuild {
    url: String,
    build: String,
    checked: Timestamp,
}

/// Debian's own images in an image folder, and the server that has more.
pub(super) struct DebianMirror<'a> {
    pub dir: &'a Path,
    pub wanted: &'a Official,
    pub patience: Patience,
}

impl DebianMirror<'_> {
    /// The wanted image among `images`, if it is there and the server need not be asked.
    pub(super) fn find(&self, images: &[Image]) -> Option<Image> {
        match &self.wanted.release {
            Release::Build(build) => of_build(images, &build.to_string()),
            Release::Latest => of_build(images, &self.known_latest()?),
        }
    }

    /// Asks the server which build is wanted, and downloads its image unless it is among `images`.
    pub(super) fn get(&self, images: &[Image], operation: Operation<'_>) -> Result<Image, ImageError> {
        let build = match &self.wanted.release {
            Release::Build(build) => build.clone(),
            Release::Latest => self.ask_latest(operation)?,
        };
        if let Some(image) = of_build(images, &build.to_string()) {
            return Ok(image);
        }
        let sums = listing::sums(&self.wanted.url, &build);
        let text = http::get_text(&sums, self.patience, operation)?;
        let sha512 = listing::sum_of(&text, &listing::file(&build))
            .map_err(|why| OfficialError::Unexpected { url: sums, why })?;
        self.download(&build, &sha512, operation)
    }

    /// The build last named as the latest, if the server was asked within [`LATEST_LIFETIME`]. A time in the future comes
    /// from a clock that was wrong.
    fn known_latest(&self) -> Option<String> {
        let text = fs::read(latest_file(self.dir)).ok()?;
        let latest: LatestBuild = serde_json::from_slice(&text).ok()?;
        let age = Timestamp::now().duration_since(latest.checked);
        let is_fresh = !age.is_negative() && age < LATEST_LIFETIME;
        (is_fresh && latest.url == self.wanted.url).then_some(latest.build)
    }

    fn ask_latest(&self, operation: Operation<'_>) -> Result<BuildId, ImageError> {
        let manifest = listing::manifest(&self.wanted.url);
        let build = listing::build_of(&http::get_text(&manifest, self.patience, operation)?)
            .map_err(|why| OfficialError::Unexpected { url: manifest, why })?;
        let (url, checked) = (self.wanted.url.clone(), Timestamp::now());
        record::write_json(&latest_file(self.dir), &LatestBuild { url, build: build.to_string(), checked })?;
        Ok(build)
    }

    fn download(&self, build: &BuildId, sha512: &str, operation: Operation<'_>) -> Result<Image, ImageError> {
        let name = listing::name(build, sha512);
        let partial = self.dir.join(format!("{name}.{PARTIAL}"));
        self.remove_other_downloads(&partial)?;
        let url = listing::image(&self.wanted.url, build);
        let what = format!("Debian's image {build}");
        Download { url: &url, what: &what, partial: &partial, sha512, patience: self.patience, operation }
            .run()?;
        let info = QemuInfo::read(&partial, operation)?;
        if let Err(why) = info.check_usable() {
            fs::remove_file(&partial).map_err(ImageError::io("remove", &partial))?;
            return Err(OfficialError::Unexpected { url, why }.into());
        }
        qcow2::install(self.dir, name, &partial, operation, || Origin::Official {
            build: build.to_string(),
            url,
            sha512: sha512.to_owned(),
            downloaded: Timestamp::now(),
        })
    }

    /// Incomplete downloads of other builds, or of this build with other contents, are of no use any more.
    fn remove_other_downloads(&self, partial: &Path) -> Result<(), ImageError> {
        let entries = fs::read_dir(self.dir).map_err(ImageError::io("read the image folder", self.dir))?;
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        for other in
            paths.filter(|path| path != partial && path.extension().is_some_and(|end| end == PARTIAL))
        {
            fs::remove_file(&other).map_err(ImageError::io("remove", other))?;
        }
        Ok(())
    }
}

/// Where the image folder `dir` records the latest build. Without this file the server is asked.
pub(super) fn latest_file(dir: &Path) -> PathBuf {
    dir.join("latest-build.json")
}

fn of_build(images: &[Image], wanted: &str) -> Option<Image> {
    let is_it = |image: &&Image| matches!(&image.origin, Origin::Official { build, .. } if build == wanted);
    images.iter().find(is_it).cloned()
}

/// The newest of Debian's own builds among `images`.
pub(super) fn newest_build(images: &[Image]) -> Option<String> {
    let builds = images.iter().filter_map(|image| match &image.origin {
        Origin::Official { build, .. } => Some(build.clone()),
        _ => None,
    });
    builds.max()
}
