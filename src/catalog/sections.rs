//! Sections that more than one kind of file has, as they are written: `version:`, `vm:` and `image:`.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::document::{Check, Document};
use super::image::{
    ImageSource, InvalidBuildId, InvalidPackage, Official, PackageName, Packages, Release, is_trustworthy,
};
use super::plan::Sizing;
use super::problem::Problem;
use super::quantity::Bytes;
use super::root::expand;

/// The version of the file formats that this program reads.
const VERSION: u64 = 1;

/// The key `version`: only [`VERSION`] is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "Value", inline, extend("const" = VERSION))]
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
    vcpus: Option<u32>,
    /// Memory, whole MiB and at least 512MiB; 3GiB by default.
    memory: Option<Bytes>,
    /// Virtual size of the thin overlay, whole MiB and at least 4GiB; 20GiB by default.
    disk: Option<Bytes>,
}

impl VmFile {
    /// The smallest memory that a Debian boots in.
    const LEAST_MEMORY: Bytes = Bytes::mib(512);
    /// The smallest disk that a golden image fits on.
    const LEAST_DISK: Bytes = Bytes::gib(4);

    /// This size; `base` where the section says nothing.
    pub(super) fn over(&self, base: Sizing) -> Sizing {
        Sizing {
            vcpus: self.vcpus.unwrap_or(base.vcpus),
            memory: self.memory.unwrap_or(base.memory),
            disk: self.disk.unwrap_or(base.disk),
        }
    }

    /// Reports sizes that no VM can have.
    pub(super) fn check(&self, check: &mut Check) {
        if self.vcpus.is_some_and(|vcpus| !(1..=255).contains(&vcpus)) {
            check.value(&["vm", "vcpus"], "`vm.vcpus` is out of range: from 1 to 255");
        }
        let least = [("memory", self.memory, Self::LEAST_MEMORY), ("disk", self.disk, Self::LEAST_DISK)];
        for (key, size, least) in least {
            let Some(size) = size else { continue };
            if size < least {
                check.value(
                    &["vm", key],
                    format!("`vm.{key}` is {size}, which is too small: at least {least}"),
                );
            } else if size.0 % Bytes::mib(1).0 != 0 {
                check.value(&["vm", key], format!("`vm.{key}` is {size}: write a whole number of MiB"));
            }
        }
    }
}

/// `image:` of the harness, a profile or a scenario.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = image_schemas()))]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{source: build}`")]
pub(super) struct ImageFile {
    /// Where it comes from.
    #[serde(default)]
    source: ImageWord,
    /// The file, for `source: path`; relative to the root.
    path: Option<String>,
    /// Which of Debian's builds, for `official`: `latest`, the default, or one such as `20251117-2299`.
    release: Option<String>,
    /// The server's base address, for `official`.
    url: Option<String>,
    /// The packages installed beside the base system, for `build`.
    packages: Option<PackagesFile>,
}

/// Where an image comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum ImageWord {
    /// Made on this machine by mmdebstrap.
    Build,
    /// Debian's own cloud image.
    #[default]
    Official,
    /// A qcow2 file of one's own.
    Path,
}

/// `image.packages:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`packages` is `reference-site`, `none` or a list of Debian packages")]
enum PackagesFile {
    /// A set that has a name.
    Word(PackagesWord),
    /// Names of Debian packages.
    These(Vec<String>),
}

/// What `image.packages` may be beside a list.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum PackagesWord {
    /// What the roles of the reference site install.
    ReferenceSite,
    /// Nothing beside the base system.
    None,
}

/// What `image` can be: each source with its keys.
fn image_schemas() -> Value {
    let none = json!({"type": "null"});
    json!([
        {"properties": {"source": {"const": "official"}, "path": none, "packages": none}},
        {"required": ["source"], "properties": {"source": {"const": "build"}, "path": none, "release": none, "url": none}},
        {
            "required": ["source", "path"],
            "properties": {
                "source": {"const": "path"}, "path": {"type": "string"}, "release": none, "url": none, "packages": none,
            },
        },
    ])
}

impl ImageFile {
    /// The image's source, with every default filled in and an absolute path.
    pub(super) fn resolve(self, root: &Path, document: &Document) -> Result<ImageSource, Problem> {
        let keys = [
            ("path", self.path.is_some(), ImageWord::Path, "path"),
            ("release", self.release.is_some(), ImageWord::Official, "official"),
            ("url", self.url.is_some(), ImageWord::Official, "official"),
            ("packages", self.packages.is_some(), ImageWord::Build, "build"),
        ];
        let misplaced = keys.into_iter().find(|(_, is_set, source, _)| *is_set && *source != self.source);
        if let Some((key, _, _, source)) = misplaced {
            let message = format!(
                "`image.{key}` applies only to `source: {source}`: remove it, or set `image.source: {source}`"
            );
            return Err(document.at_key(&["image", key], message));
        }
        Ok(match self.source {
            ImageWord::Build => ImageSource::Build { packages: packages(self.packages, document)? },
            ImageWord::Official => {
                ImageSource::Official(official(self.release.as_deref(), self.url.as_deref(), document)?)
            }
            ImageWord::Path => {
                let missing = || {
                    let message = "`source: path` needs the file: add `path: <file.qcow2>` to `image`";
                    document.at_value(&["image", "source"], message)
                };
                let written = self.path.ok_or_else(missing)?;
                let path = expand(root, &written)
                    .map_err(|message| document.at_value(&["image", "path"], message))?;
                ImageSource::Path { path }
            }
        })
    }
}

fn official(release: Option<&str>, url: Option<&str>, document: &Document) -> Result<Official, Problem> {
    let mut official = Official::default();
    if let Some(release) = release.filter(|release| *release != "latest") {
        let build = release.parse().map_err(|error: InvalidBuildId| {
            document.at_value(&["image", "release"], format!("{error}, or `latest`"))
        })?;
        official.release = Release::Build(build);
    }
    if let Some(url) = url {
        let url = url.trim_end_matches('/');
        if !is_trustworthy(url) {
            let message = format!(
                "`image.url` is `{url}`: expected an address that starts with `https://`, as nothing else proves who \
                 sent the image (plain http is accepted from 127.0.0.1 only)"
            );
            return Err(document.at_value(&["image", "url"], message));
        }
        official.url = url.to_owned();
    }
    Ok(official)
}

fn packages(written: Option<PackagesFile>, document: &Document) -> Result<Packages, Problem> {
    let names = match written {
        None | Some(PackagesFile::Word(PackagesWord::ReferenceSite)) => return Ok(Packages::ReferenceSite),
        Some(PackagesFile::Word(PackagesWord::None)) => return Ok(Packages::None),
        Some(PackagesFile::These(names)) => names,
    };
    let parse = |(index, name): (usize, String)| -> Result<PackageName, Problem> {
        name.parse().map_err(|error: InvalidPackage| {
            document.at_value(&["image", "packages", &index.to_string()], error.to_string())
        })
    };
    Ok(Packages::These(names.into_iter().enumerate().map(parse).collect::<Result<_, _>>()?))
}

/// What is wrong with an operator's own image file, if it cannot be read; `file` is the one that names it.
pub(super) fn unreadable(image: &ImageSource, root: &Path, file: &Path) -> Option<Problem> {
    let ImageSource::Path { path } = image else { return None };
    let named = format!("`image.path`: `{}`", path.display());
    let message = match fs::metadata(path) {
        // Opening a FIFO or a device may block for ever.
        Ok(found) if !found.is_file() => {
            format!("{named} is not a regular file: write the path of a qcow2 image")
        }
        found => match found.and_then(|_| fs::File::open(path)) {
            Ok(_) => return None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("{named} does not exist: put a qcow2 image there, or correct the path")
            }
            Err(error) => {
                format!("{named} cannot be read ({error}): make it readable to you, or correct the path")
            }
        },
    };
    Some(Document::problem_in(root, file, &["image", "path"], message))
}
