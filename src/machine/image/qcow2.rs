//! qcow2 files: what qemu-img reports about one, its digest, and the two ways it becomes a golden image. A finished build
//! or download is installed in the image folder; a file of the operator is used where it lies.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::recipe::hex;
use super::record::{Image, Origin, modified};
use super::{ImageError, Operation};

/// The part that matters here of what `qemu-img info --output json` prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct QemuInfo {
    format: String,
    virtual_size: u64,
    backing_filename: Option<String>,
    #[serde(default)]
    encrypted: bool,
}

impl QemuInfo {
    pub(super) fn read(path: &Path, operation: Operation<'_>) -> Result<Self, ImageError> {
        let Operation { tools, deadline, .. } = operation;
        let run = tools.process("qemu-img").args(["info", "--output", "json"]).arg(path).run_ok(deadline);
        serde_json::from_str(&run.map_err(ImageError::read(path))?).map_err(|error| ImageError::Unusable {
            path: path.to_owned(),
            why: format!("cannot understand the output of `qemu-img info`: {error}"),
        })
    }

    /// Checks that an overlay can lie on it: a whole, unencrypted qcow2 image. The error says what it is instead.
    pub(super) fn check_usable(&self) -> Result<(), String> {
        if self.format != "qcow2" {
            return Err(format!("its format is {}, expected qcow2", self.format));
        }
        if let Some(backing) = &self.backing_filename {
            return Err(format!(
                "it is an overlay of {backing}, expected a whole image (`qemu-img convert -O qcow2` makes one)"
            ));
        }
        if self.encrypted { Err("it is encrypted".to_owned()) } else { Ok(()) }
    }
}

/// The digest of a file, hexadecimal, by `sha256sum` or `sha512sum`: a program can be interrupted, and is fast in an
/// unoptimised build too.
pub(super) fn digest(program: &str, path: &Path, operation: Operation<'_>) -> Result<String, ImageError> {
    let run = operation.tools.process(program).arg("--").arg(path).run_ok(operation.deadline);
    let text = run.map_err(ImageError::read(path))?;
    // coreutils marks a line whose file name is escaped with a backslash.
    Ok(text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\').to_owned())
}

/// Makes `partial`, a file in the image folder `dir`, the image `name`: recorded and renamed, so that it appears whole
/// or not at all. `origin` is called last, for its time.
pub(super) fn install(
    dir: &Path,
    name: String,
    partial: &Path,
    operation: Operation<'_>,
    origin: impl FnOnce() -> Origin,
) -> Result<Image, ImageError> {
    let QemuInfo { format, virtual_size, .. } = QemuInfo::read(partial, operation)?;
    let sha256 = digest("sha256sum", partial, operation)?;
    let file_size = fs::metadata(partial).map_err(ImageError::io("read", partial))?.len();
    let origin = origin();
    // Not `with_extension`: what follows a dot in the name is no extension.
    let [path, record] = ["qcow2", "json"].map(|extension| dir.join(format!("{name}.{extension}")));
    fs::rename(partial, &path).map_err(ImageError::io("install", &path))?;
    let image = Image { name, path, format, virtual_size, file_size, sha256, origin };
    image.save(&record)?;
    Ok(image)
}

/// The record in the image folder `dir` of the operator's file at `path`.
pub(super) fn record_of(dir: &Path, path: &Path) -> PathBuf {
    let hash = hex(&Sha256::digest(path.as_os_str().as_encoded_bytes()));
    dir.join(format!("path-{}.json", &hash[..12]))
}

/// Checks the operator's file at `path` and records it in the image folder `dir`: taking its digest takes seconds.
pub(super) fn adopt(dir: &Path, path: &Path, operation: Operation<'_>) -> Result<Image, ImageError> {
    let unusable = |why: String| ImageError::Unusable { path: path.to_owned(), why };
    let file = fs::metadata(path).map_err(ImageError::io("read the image", path))?;
    if !file.is_file() {
        return Err(unusable("it is not a regular file (expected a qcow2 image)".into()));
    }
    fs::File::open(path).map_err(ImageError::io("read the image", path))?;
    let info = QemuInfo::read(path, operation)?;
    info.check_usable().map_err(|why| match info.format.as_str() {
        "qcow2" => unusable(why),
        _ => unusable(format!("{why} (`qemu-img convert -O qcow2 {} NEW.qcow2`)", path.display())),
    })?;
    (operation.progress)(&format!("computing the digest of {}", path.display()));
    let sha256 = digest("sha256sum", path, operation)?;
    let modified = modified(&file).map_err(ImageError::io("read the image", path))?;
    let image = Image {
        name: format!("{}-{}", stem(path), sha256.get(..12).unwrap_or(&sha256)),
        path: path.to_owned(),
        format: info.format,
        virtual_size: info.virtual_size,
        file_size: file.len(),
        sha256,
        origin: Origin::Path { read: Timestamp::now(), modified },
    };
    image.save(&record_of(dir, path))?;
    Ok(image)
}

/// The file's name without its extension, in characters that a volume's name can hold.
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
    fn an_images_name_comes_from_its_file(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(stem(Path::new(path)), expected);
    }

    proptest::proptest! {
        #[test]
        fn every_file_name_gives_a_safe_nonempty_name(name in "[^/\0]{1,80}") {
            let stem = stem(&Path::new("/images").join(name));
            proptest::prop_assert!(!stem.is_empty() && !stem.starts_with(['-', '.']));
            let safe = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
            proptest::prop_assert!(stem.bytes().all(safe), "{stem}");
        }
    }
}
