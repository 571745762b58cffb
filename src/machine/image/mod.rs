//! Golden images: the Debian disk that every VM's overlay lies on. Owns the recipe, its building, and the cache
//! folder with a record beside each image. Bringing an image into a hypervisor's pool is the hypervisor's business.
//!
//! An image is named by the hash of its recipe (or, for one that was not built here, of its content), is built or
//! downloaded once under a lock, and appears whole or not at all.

mod builder;
mod layout;
mod local;
mod official;
mod place;
mod recipe;
mod record;
mod scratch;
mod space;
mod store;
mod tools;

use std::io;
use std::path::PathBuf;

pub use official::OfficialError;
pub use recipe::Recipe;
pub use record::{Image, Origin};
pub use space::NoRoom;
pub use store::{ImageStore, SelectedImage};
pub use tools::{Missing, Tool};

use crate::support::lock::LockError;
use crate::support::process::ProcessError;

/// Tells a person what is going on: a fragment without a full stop, one at a time.
pub type Progress<'a> = &'a dyn Fn(&str);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Programs are missing.
    #[error("no golden image without {0}; `make setup` installs what is missing")]
    Missing(Missing),
    /// Not enough room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Debian's own image could not be had.
    #[error("Debian's own image is not to be had; {}", .0.next_step())]
    Official(#[source] OfficialError),
    /// A file of the operator's that will not do.
    #[error("{} cannot be a golden image: {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what was expected.
        why: String,
    },
    /// A step of the build failed.
    #[error("building the golden image failed while {step}{}", .log.as_ref().map(|l| format!("; the whole output is in {}", l.display())).unwrap_or_default())]
    Step {
        /// What was being done.
        step: &'static str,
        /// The output of the failed build, where it was kept.
        log: Option<PathBuf>,
        /// How it failed.
        #[source]
        source: Box<ProcessError>,
    },
    /// Reading an image failed.
    #[error("cannot read the image {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: Box<ProcessError>,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried: a verb.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The lock could not be had.
    #[error("cannot have the golden images to ourselves")]
    Lock(#[source] Box<LockError>),
    /// There is no image of that name.
    #[error("there is no image `{name}`; there {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are, as the end of a sentence.
        known: String,
    },
}

impl From<LockError> for ImageError {
    fn from(error: LockError) -> Self {
        Self::Lock(error.into())
    }
}

impl From<OfficialError> for ImageError {
    fn from(error: OfficialError) -> Self {
        Self::Official(error)
    }
}

impl ImageError {
    /// What went wrong, the whole chain in a line, without what to do about it.
    fn reason(&self) -> String {
        let first: &dyn std::error::Error = match self {
            Self::Official(error) => error,
            other => other,
        };
        let causes = std::iter::successors(Some(first), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    fn read(path: impl Into<PathBuf>) -> impl FnOnce(ProcessError) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source: source.into() }
    }
}
