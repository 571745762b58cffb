//! Parts of files that more than one kind of file has: the format's version, a VM's size, the image's source.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::plan::Sizing;
use super::problem::Problem;
use super::quantity::Bytes;
use super::schema::source_schemas;

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
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct VmFile {
    /// Virtual CPUs; 2 by default.
    #[schemars(range(min = 1, max = 255))]
    pub(super) vcpus: Option<u32>,
    /// Memory, whole MiB and at least 512MiB; 3GiB by default.
    pub(super) memory: Option<Bytes>,
    /// Virtual size of the thin overlay, whole MiB and at least 4GiB; 20GiB by default.
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
    /// As the runbook says: 2 vCPUs, 3 GiB of memory, a thin overlay of 20 GiB.
    fn default() -> Self {
        Self { vcpus: 2, memory: Bytes::gib(3), disk: Bytes::gib(20) }
    }
}

/// `image:` of the harness, a profile or a scenario.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = source_schemas()))]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{source: build}`")]
pub(super) struct ImageFile {
    /// Where it comes from.
    #[serde(default)]
    pub(super) source: ImageWord,
    /// The file, for `source: path`; relative to the root.
    pub(super) path: Option<String>,
    /// Which of Debian's builds, for `official` and `auto`: `latest`, the default, or one such as `20251117-2299`.
    pub(super) release: Option<String>,
    /// The server's base address, for `official` and `auto`.
    pub(super) url: Option<String>,
    /// What is in it beside the base system, for `build` and `auto`.
    pub(super) packages: Option<PackagesFile>,
}

/// Where an image comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ImageWord {
    /// Debian's own cloud image, or a built one where that cannot be had.
    #[default]
    Auto,
    /// Made on this machine by mmdebstrap.
    Build,
    /// Debian's own cloud image.
    Official,
    /// A qcow2 file of one's own.
    Path,
}

/// `image.packages:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`packages` is `reference-site`, `none` or a list of Debian packages")]
pub(super) enum PackagesFile {
    /// A set that has a name.
    Word(PackagesWord),
    /// Names of Debian packages.
    These(Vec<String>),
}

/// What `image.packages` may be beside a list.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PackagesWord {
    /// What the roles of the reference site install.
    ReferenceSite,
    /// Nothing beside the base system.
    None,
}
