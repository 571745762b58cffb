//! Which golden image a run uses, as a file in its folder: later steps of the same run, other processes, report it too.

use std::fs;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::machine::image::{Image, SelectedImage};
use crate::support::run_folder::RunFolder;

/// The file: the image's record, and `why`.
const FILE: &str = "image.json";

/// An image, and why it was this one where that needs saying.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImageUsed {
    #[serde(flatten)]
    pub(super) image: Image,
    pub(super) why: Option<String>,
}

impl ImageUsed {
    /// Writes it down.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub(super) fn keep(
        SelectedImage { image, why }: SelectedImage,
        folder: &RunFolder,
    ) -> anyhow::Result<Self> {
        let used = Self { image, why };
        let text = serde_json::to_string_pretty(&used).context("cannot write the image's record as JSON")?;
        fs::write(folder.join(FILE), text + "\n")
            .with_context(|| format!("cannot write into {}", folder.path().display()))?;
        Ok(used)
    }

    /// The image called `name`, in words: its name, where it came from, and why it was this one.
    pub(super) fn shown(name: &str, folder: &RunFolder) -> String {
        let text = fs::read(folder.join(FILE)).unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(Self { image, why }) if image.name == name => {
                let why = why.map(|why| format!("; {why}")).unwrap_or_default();
                format!("{name}, {}{why}", image.origin)
            }
            _ => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Zoned;

    use super::*;
    use crate::machine::image::Origin;

    #[test]
    fn a_later_step_still_tells_what_the_image_is_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path(), "askari", &Zoned::now()).unwrap();
        let image = Image {
            name: "debian-13-0123456789ab".into(),
            path: "/cache/debian-13-0123456789ab.qcow2".into(),
            format: "qcow2".into(),
            virtual_size: 4 << 30,
            file_size: 5,
            sha256: "abcd".into(),
            origin: Origin::Build {
                recipe: "0123456789abcdef".into(),
                built: "2026-06-17T12:00:00Z".parse().unwrap(),
                seconds: 61.5,
                tools: vec![],
            },
        };
        assert_eq!(ImageUsed::shown(&image.name, &folder), "debian-13-0123456789ab");
        let why = Some("the image is built here, as nobody answers".to_owned());
        ImageUsed::keep(SelectedImage { image: image.clone(), why }, &folder).unwrap();
        assert_eq!(
            ImageUsed::shown(&image.name, &folder),
            "debian-13-0123456789ab, built here 2026-06-17T12:00:00Z in 62 s; the image is built here, as nobody answers"
        );
        assert_eq!(ImageUsed::shown("another", &folder), "another");
    }
}
