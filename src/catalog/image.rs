//! `image:` of the harness, a profile or a scenario: where the golden image comes from.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::document::Document;
use super::parts::{ImageFile, ImageWord, PackagesFile, PackagesWord};
use super::problem::Problem;

/// Debian's server of cloud images: below it `trixie/<build>/`, and `trixie/latest/`.
pub const DEBIAN_IMAGES: &str = "https://cloud.debian.org/images/cloud";

/// Where the golden image comes from. Serialised as `image:` is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "source")]
pub enum ImageSource {
    /// Debian's own where it can be had, else built here.
    Auto {
        /// Which of Debian's own.
        #[serde(flatten)]
        official: Official,
        /// What a build has beside the base system.
        packages: Packages,
    },
    /// Debian's own cloud image.
    Official(Official),
    /// Built here by mmdebstrap.
    Build {
        /// What it has beside the base system.
        packages: Packages,
    },
    /// A qcow2 file of the operator's.
    Path {
        /// The file: absolute.
        path: PathBuf,
    },
}

impl Default for ImageSource {
    fn default() -> Self {
        Self::Auto { official: Official::default(), packages: Packages::default() }
    }
}

impl ImageSource {
    /// What is wrong with an operator's own file, if it cannot be read; `file` is the one that names it.
    pub(super) fn unreadable(&self, root: &Path, file: &Path) -> Option<Problem> {
        let Self::Path { path } = self else { return None };
        let named = format!("`image.path`: `{}`", path.display());
        let message = match fs::metadata(path) {
            // Opening what is no file may wait for ever.
            Ok(found) if !found.is_file() => format!("{named} is no file: write the path of a qcow2 image"),
            found => match found.and_then(|_| fs::File::open(path)) {
                Ok(_) => return None,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    format!("{named} is not there: put a qcow2 image there, or correct the path")
                }
                Err(error) => {
                    format!("{named} cannot be read ({error}): make it readable to you, or correct the path")
                }
            },
        };
        Some(Document::problem_in(root, file, &["image", "path"], message))
    }
}

/// Which of Debian's cloud images, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Official {
    /// Which build.
    pub release: Release,
    /// The server's base address, without a slash at its end.
    pub url: String,
}

impl Default for Official {
    fn default() -> Self {
        Self { release: Release::Latest, url: DEBIAN_IMAGES.to_owned() }
    }
}

/// Which build of Debian's cloud image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// Whatever the server calls its latest.
    #[default]
    Latest,
    /// This one.
    Build(BuildId),
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Build(build) => build.fmt(f),
        }
    }
}

impl Serialize for Release {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A dated build of Debian's cloud images, `20251117-2299`. Later builds sort after earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildId(String);

/// The text is no build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no build of Debian's cloud images (expected a date and a number, as in `20251117-2299`)")]
pub struct InvalidBuildId(pub String);

impl FromStr for BuildId {
    type Err = InvalidBuildId;

    fn from_str(text: &str) -> Result<Self, InvalidBuildId> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        match text.split_once('-') {
            Some((date, number)) if date.len() == 8 && number.len() < 9 && digits(date) && digits(number) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidBuildId(text.to_owned())),
        }
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What an image that is built here has beside the base system, which is about what Debian's own has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packages {
    /// What the roles of the reference site install, so that they find it there.
    #[default]
    ReferenceSite,
    /// Nothing.
    None,
    /// These, with what they depend on.
    #[serde(untagged)]
    These(Vec<PackageName>),
}

/// Name of a Debian package. It ends up in a command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PackageName(String);

/// A word that is no Debian package name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name of a Debian package (expected lower-case letters, digits and `+-.`, as in `libc6` or `g++`)"
)]
pub struct InvalidPackage(pub String);

impl FromStr for PackageName {
    type Err = InvalidPackage;

    /// Debian policy 5.6.1, "Source": at least two characters, starting with an alphanumeric one.
    fn from_str(name: &str) -> Result<Self, InvalidPackage> {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let all = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        // A trailing + or - means "install" or "remove" to apt: `g++` is a package all the same.
        let removal = name.ends_with('-');
        match first && all && !removal && name.len() > 1 {
            true => Ok(Self(name.to_owned())),
            false => Err(InvalidPackage(name.to_owned())),
        }
    }
}

impl PackageName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ImageFile {
    /// The image's source, with every default filled in and an absolute path.
    pub(super) fn resolve(self, root: &Path, document: &Document) -> Result<ImageSource, Problem> {
        let misplaced = |key: &str, sources: &str| {
            let message = format!(
                "`image.{key}` means something only with {sources}: remove it, or change `image.source`"
            );
            document.at_key(&["image", key], message)
        };
        if self.path.is_some() && self.source != ImageWord::Path {
            return Err(misplaced("path", "`source: path`"));
        }
        if !matches!(self.source, ImageWord::Auto | ImageWord::Official) {
            let set = [("release", self.release.is_some()), ("url", self.url.is_some())];
            if let Some((key, _)) = set.into_iter().find(|(_, set)| *set) {
                return Err(misplaced(key, "`source: official` or `auto`"));
            }
        }
        if self.packages.is_some() && !matches!(self.source, ImageWord::Auto | ImageWord::Build) {
            return Err(misplaced("packages", "`source: build` or `auto`"));
        }
        let packages = packages(self.packages, document)?;
        Ok(match self.source {
            ImageWord::Build => ImageSource::Build { packages },
            ImageWord::Auto | ImageWord::Official => {
                let official = official(self.release.as_deref(), self.url.as_deref(), document)?;
                match self.source {
                    ImageWord::Auto => ImageSource::Auto { official, packages },
                    _ => ImageSource::Official(official),
                }
            }
            ImageWord::Path => {
                let missing = || {
                    document.at_value(
                        &["image", "source"],
                        "`source: path` needs to know which: add `path: <file.qcow2>` to `image`",
                    )
                };
                let written = self.path.ok_or_else(missing)?;
                let path = super::root::expand(root, &written)
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
            let message = format!("{error}, or `latest`");
            document.at_value(&["image", "release"], message)
        })?;
        official.release = Release::Build(build);
    }
    if let Some(url) = url {
        let url = url.trim_end_matches('/');
        if !is_trustworthy(url) {
            let message = format!(
                "`image.url` is `{url}`: expected an address that starts with `https://`, as nothing else vouches for \
                 what comes from there (plain http is taken from 127.0.0.1 only)"
            );
            return Err(document.at_value(&["image", "url"], message));
        }
        official.url = url.to_owned();
    }
    Ok(official)
}

/// What comes from there is what the server's owner put there.
fn is_trustworthy(url: &str) -> bool {
    let host =
        |rest: &str| !rest.is_empty() && !rest.starts_with('/') && !rest.contains([' ', '?', '#', '@']);
    match (url.strip_prefix("https://"), url.strip_prefix("http://127.0.0.1")) {
        (Some(rest), _) => host(rest),
        (None, Some(rest)) => (rest.is_empty() || rest.starts_with([':', '/'])) && host(&format!("x{rest}")),
        (None, None) => false,
    }
}

fn packages(written: Option<PackagesFile>, document: &Document) -> Result<Packages, Problem> {
    let names = match written {
        None | Some(PackagesFile::Word(PackagesWord::ReferenceSite)) => return Ok(Packages::ReferenceSite),
        Some(PackagesFile::Word(PackagesWord::None)) => return Ok(Packages::None),
        Some(PackagesFile::These(names)) => names,
    };
    let parse = |(index, name): (usize, String)| {
        name.parse().map_err(|error: InvalidPackage| {
            document.at_value(&["image", "packages", &index.to_string()], error.to_string())
        })
    };
    Ok(Packages::These(names.into_iter().enumerate().map(parse).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("20251117-2299", true)]
    #[case("20251117-", false)]
    #[case("2025117-2299", false)]
    #[case("20251117", false)]
    #[case("20251117-22/../99", false)]
    #[case("latest", false)]
    fn a_build_is_a_date_and_a_number(#[case] text: &str, #[case] is_one: bool) {
        assert_eq!(text.parse::<BuildId>().is_ok(), is_one);
    }

    #[rstest::rstest]
    #[case("https://mirror.example/debian/cloud", true)]
    #[case("http://127.0.0.1:8123/cloud", true)]
    #[case("http://127.0.0.1", true)]
    #[case("http://127.0.0.1.example/cloud", false)]
    #[case("http://127.0.0.1@mirror.example/cloud", false)]
    #[case("http://mirror.example/cloud", false)]
    #[case("ftp://mirror.example", false)]
    #[case("https://", false)]
    #[case("https:///cloud", false)]
    fn an_address_must_vouch_for_what_comes_from_it(#[case] url: &str, #[case] does: bool) {
        assert_eq!(is_trustworthy(url), does);
    }

    #[rstest::rstest]
    #[case("")]
    #[case("x")]
    #[case("Restic")]
    #[case("a b")]
    #[case("a,b")]
    #[case("-rf")]
    #[case("docker.io-")]
    #[case("$(reboot)")]
    fn what_is_no_package_name_is_refused(#[case] word: &str) {
        assert_eq!(word.parse::<PackageName>().unwrap_err(), InvalidPackage(word.into()));
    }
}
