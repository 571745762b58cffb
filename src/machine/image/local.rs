//! A qcow2 file of the operator's as golden image: looked at, not copied. Its digest is taken once and recorded, as
//! reading a large file takes seconds.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::recipe::hex;
use super::record::{Image, Origin, modified};
use super::tools::Toolbox;
use super::{ImageError, Progress};
use crate::support::deadline::Deadline;

/// What `qemu-img info --output json` says, as far as we ask.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Info {
    pub format: String,
    pub virtual_size: u64,
    backing_filename: Option<String>,
    #[serde(default)]
    encrypted: bool,
}

/// Asks qemu-img about a disk image.
pub(super) fn info(path: &Path, tools: &Toolbox, deadline: &Deadline) -> Result<Info, ImageError> {
    let run = tools.process("qemu-img").args(["info", "--output", "json"]).arg(path).run_ok(deadline);
    let text = run.map_err(ImageError::read(path))?;
    let unfit = |error| ImageError::Unfit {
        path: path.to_owned(),
        why: format!("what qemu-img says about it cannot be understood: {error}"),
    };
    serde_json::from_str(&text).map_err(unfit)
}

impl Info {
    /// Whether it can lie beneath an overlay: a whole qcow2 image. If not, what it is, and what was expected.
    pub(super) fn fit(&self) -> Result<(), String> {
        if self.format != "qcow2" {
            return Err(format!("its format is {}, expected qcow2", self.format));
        }
        if let Some(backing) = &self.backing_filename {
            let rest = "expected a whole image (`qemu-img convert -O qcow2` makes one)";
            return Err(format!("it only holds changes to {backing}; {rest}"));
        }
        match self.encrypted {
            true => Err("it is encrypted".to_owned()),
            false => Ok(()),
        }
    }
}

/// The digest of a file, hexadecimal, by `sha256sum` or its sisters.
pub(super) fn digest(
    program: &str,
    path: &Path,
    tools: &Toolbox,
    deadline: &Deadline,
) -> Result<String, ImageError> {
    // A program: it can be interrupted, and is fast in an unoptimised build of ours, too. `--` and a reading of the
    // first word only: coreutils marks odd file names with a backslash.
    let run = tools.process(program).arg("--").arg(path).run_ok(deadline);
    let text = run.map_err(ImageError::read(path))?;
    let word = text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\');
    Ok(word.to_owned())
}

/// The record of the file at `path` in the cache folder `dir`.
pub(super) fn record_of(dir: &Path, path: &Path) -> PathBuf {
    let hash = hex(&Sha256::digest(path.as_os_str().as_encoded_bytes()));
    dir.join(format!("path-{}.json", &hash[..12]))
}

/// Reads the file at `path`, which must be a whole qcow2 image, and makes its record.
pub(super) fn read(
    path: &Path,
    tools: &Toolbox,
    deadline: &Deadline,
    progress: Progress<'_>,
) -> Result<Image, ImageError> {
    let unfit = |why: String| ImageError::Unfit { path: path.to_owned(), why };
    let file = fs::metadata(path).map_err(ImageError::io("read the image", path))?;
    if !file.is_file() {
        return Err(unfit("it is no regular file (expected a qcow2 image)".into()));
    }
    fs::File::open(path).map_err(ImageError::io("read the image", path))?;
    let info = info(path, tools, deadline)?;
    info.fit().map_err(|why| match info.format.as_str() {
        "qcow2" => unfit(why),
        _ => unfit(format!("{why} (`qemu-img convert -O qcow2 {} NEW.qcow2`)", path.display())),
    })?;
    progress(&format!("reading {} for its digest", path.display()));
    let sha256 = digest("sha256sum", path, tools, deadline)?;
    let modified = modified(&file).map_err(ImageError::io("read the image", path))?;
    Ok(Image {
        name: format!("{}-{}", stem(path), sha256.get(..12).unwrap_or(&sha256)),
        path: path.to_owned(),
        format: info.format,
        virtual_size: info.virtual_size,
        file_size: file.len(),
        sha256,
        origin: Origin::Path { read: Timestamp::now(), modified },
    })
}

/// The file's name without its extension, of characters that a volume's name may hold.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let stem: String = stem.chars().map(plain).take(40).collect();
    match stem.trim_matches(['-', '.']) {
        "" => "image".to_owned(),
        stem => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("/images/debian-13-genericcloud-amd64.qcow2", "debian-13-genericcloud-amd64")]
    #[case("/images/Mein Bild (neu).qcow2", "mein-bild--neu")]
    #[case("/images/....", "image")]
    #[case("/images/Ü.qcow2", "image")]
    fn a_name_comes_from_the_file_and_is_safe(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(stem(Path::new(path)), expected);
    }

    proptest::proptest! {
        #[test]
        fn no_file_name_makes_an_unsafe_or_empty_name(name in "[^/\0]{1,80}") {
            let stem = stem(&Path::new("/images").join(name));
            proptest::prop_assert!(!stem.is_empty() && !stem.starts_with(['-', '.']));
            let safe = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
            proptest::prop_assert!(stem.bytes().all(safe), "{stem}");
        }
    }
}
