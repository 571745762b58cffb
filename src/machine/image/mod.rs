//! Golden images: the Debian disk that every VM's overlay lies on. Owns the recipe, the build, the download and the image
//! folder with a record beside each image. Uploading an image to a hypervisor's pool is the hypervisor's task.
//!
//! An image is named by the hash of its recipe or, if it was not built here, of its content. It is built or downloaded
//! once, under a lock, and appears whole or not at all.

mod builder;
mod layout;
mod official;
mod qcow2;
mod recipe;
mod record;
mod scratch;
mod space;
mod store;
mod tools;

use std::io;
use std::path::PathBuf;

pub(crate) use record::Image;
#[cfg(test)]
pub(crate) use record::tests::sample;
pub use store::ImageStore;

use self::official::OfficialError;
use self::space::NotEnoughSpace;
use self::tools::{MissingTools, Toolbox};
use crate::support::deadline::Deadline;
use crate::support::lock::LockError;
use crate::support::process::ProcessError;

/// A build, a download or a check that is under way: what it runs with, and where it reports.
#[derive(Clone, Copy)]
struct Operation<'a> {
    tools: &'a Toolbox,
    deadline: &'a Deadline,
    /// Gets what is being done: a fragment without a full stop.
    progress: &'a dyn Fn(&str),
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// Programs are missing.
    #[error("no golden image without {0}; `make setup` installs what is missing")]
    MissingTools(MissingTools),
    /// Not enough disk space.
    #[error(transparent)]
    NotEnoughSpace(#[from] NotEnoughSpace),
    /// Debian's own image cannot be downloaded. `cached` is the newest build that is already in the image folder:
    /// `20251117-2299`.
    #[error(
        "cannot download Debian's image; {}{}, or set `image.source: build`", .source.next_step(),
        .cached.as_ref().map(|build| format!(", set `image.release: {build}`, which is downloaded already")).unwrap_or_default()
    )]
    Official { source: OfficialError, cached: Option<String> },
    /// The operator's file, or the output of qemu-img, is not what it should be. `why` says what is wrong with
    /// the file, and what was expected.
    #[error("{} cannot be a golden image: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
    /// A step of the build failed. `log` is where the output of the failed build was kept.
    #[error("building the golden image failed while {step}{}", .log.as_ref().map(|l| format!("; the whole output is in {}", l.display())).unwrap_or_default())]
    Step { step: &'static str, log: Option<PathBuf>, source: Box<ProcessError> },
    /// A program could not read an image.
    #[error("cannot read the image {}", path.display())]
    Read { path: PathBuf, source: Box<ProcessError> },
    /// A file or folder could not be read or written. `what` was tried: a verb.
    #[error("cannot {what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// The lock of the image folder could not be taken.
    #[error("cannot lock the image folder")]
    Lock(#[source] Box<LockError>),
    /// There is no image of that name; `known` are the names of all images.
    #[error("unknown image `{name}` (known: {})", if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
    Unknown { name: String, known: Vec<String> },
}

impl From<OfficialError> for ImageError {
    fn from(source: OfficialError) -> Self {
        Self::Official { source, cached: None }
    }
}

impl ImageError {
    fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    fn read(path: impl Into<PathBuf>) -> impl FnOnce(ProcessError) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source: source.into() }
    }
}
