//! The record beside an image, `<name>.json`: where the image came from, what built it, what it must look like.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::support::file;

/// Where an image came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "source")]
pub enum Origin {
    /// Built here.
    Build {
        /// SHA-256 of the recipe.
        recipe: String,
        /// When the build ended.
        built: Timestamp,
        /// How long it took.
        seconds: f64,
        /// The versions of mmdebstrap, mkfs.ext4 and qemu-img, as they say it.
        tools: Vec<String>,
    },
    /// Debian's own, downloaded and checked.
    Official {
        /// Debian's name of the build: `20251117-2299`.
        build: String,
        /// The file's address.
        url: String,
        /// SHA-512 of the file, hexadecimal, as the server's list of sums has it.
        sha512: String,
        /// When it was there whole.
        downloaded: Timestamp,
    },
    /// A file of the operator's, used where it lies.
    Path {
        /// When we read it.
        read: Timestamp,
        /// Its modification time when we did: a changed file is read again.
        modified: Timestamp,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build { built, seconds, .. } => write!(f, "built here {built} in {seconds:.0} s"),
            Self::Official { build, url, downloaded, .. } => {
                write!(f, "Debian's own, build {build}, downloaded {downloaded} from {url}")
            }
            Self::Path { read, .. } => write!(f, "a file of yours, read {read}"),
        }
    }
}

/// A golden image: what everything else about it is made from. Serialised, it is the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Its name, unique by content or recipe; fit for a volume's name.
    pub name: String,
    /// The qcow2 file: absolute.
    pub path: PathBuf,
    /// Its format, as libvirt and QEMU call it: always `qcow2`.
    pub format: String,
    /// The size of the disk a guest sees, in bytes: no overlay may be smaller.
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
    /// The recorded image, if its file is still what the record says. Anything else (no record, a truncated file, a
    /// record of another version) is as good as no image.
    pub(super) fn load(record: &Path) -> Option<Self> {
        let image: Self = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
        let file = fs::metadata(&image.path).ok()?;
        let unchanged = match image.origin {
            Origin::Build { .. } | Origin::Official { .. } => true,
            Origin::Path { modified, .. } => self::modified(&file).ok()? == modified,
        };
        (file.len() == image.file_size && unchanged).then_some(image)
    }

    /// Writes the record under a temporary name and renames it into place.
    pub(super) fn save(&self, record: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        file::replace(record, 0o644, |file| file.write_all(&text))
    }
}

/// A file's modification time, to the second: sub-seconds do not survive every file system.
pub(super) fn modified(file: &fs::Metadata) -> io::Result<Timestamp> {
    let time = Timestamp::try_from(file.modified()?).map_err(io::Error::other)?;
    Timestamp::from_second(time.as_second()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) -> Image {
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
    fn the_record_as_it_is_written() {
        let text = serde_json::to_string_pretty(&image(Path::new("/cache"))).unwrap();
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
    fn a_record_counts_only_while_its_file_is_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let (image, record) = (image(dir.path()), dir.path().join("record.json"));
        image.save(&record).unwrap();
        assert_eq!(Image::load(&record), None, "the file is missing");
        fs::write(&image.path, "12345").unwrap();
        assert_eq!(Image::load(&record).as_ref(), Some(&image));
        fs::write(&image.path, "1234").unwrap();
        assert_eq!(Image::load(&record), None, "the file was truncated");
    }
}
