//! A golden image and its record, the file `<name>.json` beside it: where the image came from, and its size and digest.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ImageError;
use crate::support::file;

/// Where an image came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "source")]
pub(crate) enum Origin {
    /// Built on this machine.
    Build {
        /// SHA-256 of the recipe.
        recipe: String,
        /// When the build ended.
        built: Timestamp,
        /// How long it took.
        seconds: f64,
        /// The versions of mmdebstrap and qemu-img, as they print them.
        tools: Vec<String>,
    },
    /// Debian's own, downloaded and checked.
    Official {
        /// Debian's name of the build: `20251117-2299`.
        build: String,
        /// The file's address.
        url: String,
        /// SHA-512 of the file, hexadecimal, as in the server's list of sums.
        sha512: String,
        /// When the download was complete.
        downloaded: Timestamp,
    },
    /// A file of the operator, used where it lies.
    Path {
        /// When its digest was taken.
        read: Timestamp,
        /// Its modification time then: a changed file is read again.
        modified: Timestamp,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build { built, seconds, .. } => write!(f, "built here {built} in {seconds:.0} s"),
            Self::Official { build, url, downloaded, .. } => {
                write!(f, "Debian's image, build {build}, downloaded {downloaded} from {url}")
            }
            Self::Path { read, .. } => write!(f, "a file of yours, read {read}"),
        }
    }
}

/// A golden image. Serialised, it is the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// Its name, unique by content or recipe, and usable as a volume's name.
    pub name: String,
    /// The qcow2 file: absolute.
    pub path: PathBuf,
    /// Its format, as libvirt and QEMU call it: always `qcow2`.
    pub format: String,
    /// The size of the disk that a guest sees, in bytes: no overlay can be smaller.
    pub virtual_size: u64,
    /// The size of the file, in bytes.
    pub file_size: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Where it came from.
    #[serde(flatten)]
    pub origin: Origin,
}

impl Image {
    /// The recorded image, if its file still has the recorded size (and, for the operator's file, modification time).
    /// A record that is missing or of another version counts as no image.
    pub(super) fn load(record: &Path) -> Option<Self> {
        let image: Self = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
        let file = fs::metadata(&image.path).ok()?;
        let unchanged = match image.origin {
            Origin::Build { .. } | Origin::Official { .. } => true,
            Origin::Path { modified, .. } => self::modified(&file).ok()? == modified,
        };
        (file.len() == image.file_size && unchanged).then_some(image)
    }

    /// Writes the record.
    pub(super) fn save(&self, record: &Path) -> Result<(), ImageError> {
        write_json(record, self)
    }
}

/// Writes a JSON file, which is replaced as a whole.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ImageError> {
    let write = |file: &mut fs::File| -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    };
    file::replace(path, 0o644, write).map_err(ImageError::io("write", path))
}

/// A file's modification time, to the second: sub-seconds do not survive every file system.
pub(super) fn modified(file: &fs::Metadata) -> io::Result<Timestamp> {
    let time = Timestamp::try_from(file.modified()?).map_err(io::Error::other)?;
    Timestamp::from_second(time.as_second()).map_err(io::Error::other)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A built image in `dir`; its file does not exist.
    pub(crate) fn sample(dir: &Path) -> Image {
        Image {
            name: "debian-13-0123456789ab".into(),
            path: dir.join("debian-13-0123456789ab.qcow2"),
            format: "qcow2".into(),
            virtual_size: 4 << 30,
            file_size: 5,
            sha256: "abcd".into(),
            origin: Origin::Build {
                recipe: "0123456789abcdef".into(),
                built: "2026-06-17T12:00:00Z".parse().unwrap(),
                seconds: 61.5,
                tools: vec!["mmdebstrap 1.3.5".into()],
            },
        }
    }

    #[test]
    fn a_record_is_json_with_the_origin_inline() {
        let text = serde_json::to_string_pretty(&sample(Path::new("/cache"))).unwrap();
        insta::assert_snapshot!(text, @r#"
        {
          "name": "debian-13-0123456789ab",
          "path": "/cache/debian-13-0123456789ab.qcow2",
          "format": "qcow2",
          "virtual_size": 4294967296,
          "file_size": 5,
          "sha256": "abcd",
          "source": "build",
          "recipe": "0123456789abcdef",
          "built": "2026-06-17T12:00:00Z",
          "seconds": 61.5,
          "tools": [
            "mmdebstrap 1.3.5"
          ]
        }
        "#);
    }

    #[test]
    fn a_record_counts_only_while_its_file_has_the_recorded_size() {
        let dir = tempfile::tempdir().unwrap();
        let (image, record) = (sample(dir.path()), dir.path().join("record.json"));
        image.save(&record).unwrap();
        assert_eq!(Image::load(&record), None, "the file is missing");
        fs::write(&image.path, "12345").unwrap();
        assert_eq!(Image::load(&record).as_ref(), Some(&image));
        fs::write(&image.path, "1234").unwrap();
        assert_eq!(Image::load(&record), None, "the file was truncated");
    }
}
