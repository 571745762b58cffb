//! Parts of files that more than one kind of file has: the format's version, a VM's size, the image's source.

use std::fmt;
use std::path::Path;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::plan::{ImageSource, Sizing};
use super::problem::Problem;
use super::quantity::Bytes;

/// The version of the file formats that this program reads.
pub(super) const VERSION: u64 = 1;

/// The key `version`: only [`VERSION`] is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl Visitor<'_> for Version {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the number {VERSION}")
    }

    fn visit_u64<E: Error>(self, version: u64) -> Result<Self, E> {
        match version {
            VERSION => Ok(self),
            _ => Err(E::custom(format!(
                "version {version} is not supported: this boma-it reads version {VERSION} of its files"
            ))),
        }
    }
}

/// `vm:` of a profile or a scenario.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct VmFile {
    /// Virtual CPUs.
    pub(super) vcpus: Option<u32>,
    /// Memory.
    pub(super) memory: Option<Bytes>,
    /// Virtual size of the thin overlay.
    pub(super) disk: Option<Bytes>,
}

impl VmFile {
    /// The smallest memory that a Debian boots in.
    const LEAST_MEMORY: Bytes = Bytes::mib(512);
    /// The smallest disk that a golden image fits on.
    const LEAST_DISK: Bytes = Bytes::gib(4);

    /// This size, with `base` where nothing is said.
    pub(super) fn over(&self, base: Sizing) -> Sizing {
        Sizing {
            vcpus: self.vcpus.unwrap_or(base.vcpus),
            memory: self.memory.unwrap_or(base.memory),
            disk: self.disk.unwrap_or(base.disk),
        }
    }

    /// Figures that no VM can have.
    pub(super) fn check(&self, document: &Document, problems: &mut Vec<Problem>) {
        if self.vcpus.is_some_and(|vcpus| !(1..=255).contains(&vcpus)) {
            problems.push(document.at_value(&["vm", "vcpus"], "`vm.vcpus` is out of range: from 1 to 255"));
        }
        let least = [("memory", self.memory, Self::LEAST_MEMORY), ("disk", self.disk, Self::LEAST_DISK)];
        for (key, size, least) in least {
            let Some(size) = size else { continue };
            if size < least {
                let message = format!("`vm.{key}` is {size}, which is too small: at least {least}");
                problems.push(document.at_value(&["vm", key], message));
            } else if size.0 % Bytes::mib(1).0 != 0 {
                let message = format!("`vm.{key}` is {size}, which is no whole number of MiB");
                problems.push(document.at_value(&["vm", key], message));
            }
        }
    }
}

impl Default for Sizing {
    /// SPEC §6: 2 vCPUs, 3 GiB of memory, a thin overlay of 20 GiB.
    fn default() -> Self {
        Self { vcpus: 2, memory: Bytes::gib(3), disk: Bytes::gib(20) }
    }
}

/// `image:` of the harness or a profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{source: build}`")]
pub(super) struct ImageFile {
    /// Where it comes from.
    source: ImageWord,
    /// The file, for `source: path`; relative to the root.
    path: Option<String>,
}

/// Where an image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ImageWord {
    Build,
    Official,
    Path,
}

impl ImageFile {
    /// The image's source, with an absolute path.
    pub(super) fn resolve(&self, root: &Path, document: &Document) -> Result<ImageSource, Problem> {
        match (self.source, &self.path) {
            (ImageWord::Build, None) => Ok(ImageSource::Build),
            (ImageWord::Official, None) => Ok(ImageSource::Official),
            (ImageWord::Path, Some(path)) => {
                let path = super::root::expand(root, path)
                    .map_err(|message| document.at_value(&["image", "path"], message))?;
                Ok(ImageSource::Path(path))
            }
            (ImageWord::Path, None) => Err(document.at_value(
                &["image", "source"],
                "`source: path` needs to know which: add `path: <file.qcow2>` to `image`",
            )),
            (_, Some(_)) => Err(document.at_key(
                &["image", "path"],
                "`image.path` means something only with `source: path`: remove it, or change the source",
            )),
        }
    }
}
