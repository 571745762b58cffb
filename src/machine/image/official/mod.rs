//! Debian's own cloud image: finding out which build is wanted, downloading it once, and keeping it by its digest.
//!
//! The server's list of sums, read over HTTPS, is what vouches for the image: Debian publishes no signature beside it.
//! The caller holds the lock of the image folder.

mod download;
mod error;
mod http;
mod listing;
mod memory;
#[cfg(test)]
pub(super) mod server;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use ureq::http::StatusCode;

pub use error::OfficialError;
pub(super) use http::Patience;
pub(super) use memory::ServerFailure;

use self::download::Download;
use self::http::Next;
use self::memory::Memory;
use super::record::{Image, Origin};
use super::tools::Toolbox;
use super::{ImageError, Progress, local, place};
use crate::catalog::plan::{BuildId, Official, Release};
use crate::support::deadline::Deadline;

/// No small file beside an image is larger than this. The manifest lists the packages: some 50 KiB.
const SMALL: usize = 4 << 20;
/// Extension of a file that is coming in.
const COMING_IN: &str = "download";

/// Debian's own images in an image folder.
pub(super) struct DebianMirror<'a> {
    pub dir: &'a Path,
    pub wanted: &'a Official,
    pub tools: &'a Toolbox,
    pub patience: Patience,
}

impl DebianMirror<'_> {
    /// The wanted image among `images`, if there is no need to ask the server; and a word about it where it is not the
    /// latest one for sure.
    pub(super) fn known(&self, images: &[Image]) -> Option<(Image, Option<String>)> {
        match &self.wanted.release {
            Release::Build(build) => of_build(images, &build.to_string()).map(|image| (image, None)),
            Release::Latest => {
                let memory = Memory::of(self.dir);
                let latest = memory.latest(&self.wanted.url).and_then(|build| of_build(images, build));
                if let Some(image) = latest {
                    return Some((image, None));
                }
                let trouble = memory.trouble(&self.wanted.url)?;
                newest(images).map(|image| (image, Some(self.stale(trouble))))
            }
        }
    }

    /// The trouble that the server made lately.
    pub(super) fn trouble(&self) -> Option<ServerFailure> {
        Memory::of(self.dir).trouble(&self.wanted.url).cloned()
    }

    /// Asks the server, and downloads the image if it is not among `images`. Without an answer the newest one here does
    /// for the latest.
    pub(super) fn get(
        &self,
        images: &[Image],
        deadline: &Deadline,
        progress: Progress<'_>,
    ) -> Result<(Image, Option<String>), ImageError> {
        let mut memory = Memory::of(self.dir);
        let error = match self.ask(&mut memory, images, deadline, progress) {
            Ok(image) => {
                memory.note_success(&self.wanted.url).map_err(ImageError::io("write to", self.dir))?;
                return Ok((image, None));
            }
            Err(error) => error,
        };
        // Whoever was stopped, or has no room, learned nothing about the server.
        if deadline.check("the official image").is_err() || !matches!(error, ImageError::Official(_)) {
            return Err(error);
        }
        let noted = memory.note_trouble(&self.wanted.url, error.reason());
        let trouble = noted.map_err(ImageError::io("write to", self.dir))?;
        match (&self.wanted.release, newest(images)) {
            (Release::Latest, Some(image)) => Ok((image, Some(self.stale(&trouble)))),
            _ => Err(error),
        }
    }

    fn ask(
        &self,
        memory: &mut Memory,
        images: &[Image],
        deadline: &Deadline,
        progress: Progress<'_>,
    ) -> Result<Image, ImageError> {
        let url = self.wanted.url.as_str();
        let build = match &self.wanted.release {
            Release::Build(build) => build.clone(),
            Release::Latest => {
                let manifest = listing::manifest(url);
                let build = listing::build_of(&self.small(&manifest, deadline, progress)?);
                let build = build.map_err(|why| OfficialError::Nonsense { url: manifest, why })?;
                memory.note_latest(url, &build.to_string()).map_err(ImageError::io("write to", self.dir))?;
                build
            }
        };
        if let Some(image) = of_build(images, &build.to_string()) {
            return Ok(image);
        }
        let sums = listing::sums(url, &build);
        let sum = listing::sum_of(&self.small(&sums, deadline, progress)?, &listing::file(&build));
        let sha512 = sum.map_err(|why| OfficialError::Nonsense { url: sums, why })?;
        self.download(&build, &sha512, deadline, progress)
    }

    fn download(
        &self,
        build: &BuildId,
        sha512: &str,
        deadline: &Deadline,
        progress: Progress<'_>,
    ) -> Result<Image, ImageError> {
        let name = listing::name(build, sha512);
        let partial = self.dir.join(format!("{name}.{COMING_IN}"));
        self.drop_others(&partial)?;
        let url = listing::image(&self.wanted.url, build);
        let what = format!("Debian's image {build}");
        let (tools, patience) = (self.tools, self.patience);
        Download { url: &url, what: &what, partial: &partial, sha512, patience, tools }
            .run(deadline, progress)?;
        let info = local::info(&partial, tools, deadline)?;
        if let Err(why) = info.fit() {
            fs::remove_file(&partial).map_err(ImageError::io("remove", &partial))?;
            return Err(OfficialError::Nonsense { url, why }.into());
        }
        place::put(self.dir, name, &partial, tools, deadline, || Origin::Official {
            build: build.to_string(),
            url,
            sha512: sha512.to_owned(),
            downloaded: Timestamp::now(),
        })
    }

    /// What is coming in of other builds, or of this one with other contents, is of no use any more.
    fn drop_others(&self, partial: &Path) -> Result<(), ImageError> {
        let entries = fs::read_dir(self.dir).map_err(ImageError::io("read the image folder", self.dir))?;
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        for other in
            paths.filter(|path| path != partial && path.extension().is_some_and(|end| end == COMING_IN))
        {
            fs::remove_file(&other).map_err(ImageError::io("remove", other))?;
        }
        Ok(())
    }

    /// A small text file.
    fn small(&self, url: &str, deadline: &Deadline, progress: Progress<'_>) -> Result<String, OfficialError> {
        progress(&format!("asking for {url}"));
        let nonsense = |why: String| OfficialError::Nonsense { url: url.to_owned(), why };
        let (head, answer) = http::get(url, 0, self.patience, deadline)?;
        if head.status != StatusCode::OK {
            return Err(OfficialError::Status { url: url.to_owned(), status: head.status });
        }
        let mut text = Vec::new();
        loop {
            match answer.next(deadline)? {
                Next::Chunk(chunk) => text.extend(chunk),
                Next::End => break,
                Next::Broken(error) => {
                    return Err(nonsense(format!("it broke off after {} bytes ({error})", text.len())));
                }
            }
            if text.len() > SMALL {
                return Err(nonsense(format!("it has more than {SMALL} bytes")));
            }
        }
        String::from_utf8(text).map_err(|_| nonsense("it is no text".to_owned()))
    }

    fn stale(&self, trouble: &ServerFailure) -> String {
        format!(
            "the newest official image here is used, as the latest one could not be asked for: {} (asked again after {})",
            trouble.why,
            trouble.until()
        )
    }
}

/// Whoever asks next asks the servers, whatever they said lately.
pub(super) fn forget(dir: &Path) -> std::io::Result<()> {
    Memory::forget(dir)
}

fn of_build(images: &[Image], wanted: &str) -> Option<Image> {
    let is_it = |image: &&Image| matches!(&image.origin, Origin::Official { build, .. } if build == wanted);
    images.iter().find(is_it).cloned()
}

fn newest(images: &[Image]) -> Option<Image> {
    let build = |image: &Image| match &image.origin {
        Origin::Official { build, .. } => Some(build.clone()),
        _ => None,
    };
    images.iter().filter(|image| build(image).is_some()).max_by_key(|image| build(image)).cloned()
}
