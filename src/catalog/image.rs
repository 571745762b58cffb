//! Where the golden image comes from: plain data, and the words in it that are checked (a build, a package, an address).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

/// Debian's server of cloud images: below it `trixie/<build>/`, and `trixie/latest/`.
pub const DEBIAN_IMAGES: &str = "https://cloud.debian.org/images/cloud";

/// The answer to `image.source: auto`, which earlier versions had.
pub(super) const AUTO_IS_GONE: &str = "`image.source: auto` no longer exists: write `source: official` (Debian's image, \
                                       the default) or `source: build` (built on this machine)";

/// Where the golden image comes from. Serialised as `image:` is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "source")]
pub enum ImageSource {
    /// Debian's own cloud image.
    Official(Official),
    /// Built here by mmdebstrap.
    Build {
        /// What it contains beside the base system.
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
        Self::Official(Official::default())
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// Whatever the server calls its latest.
    #[default]
    Latest,
    /// This one.
    #[serde(untagged)]
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

/// A dated build of Debian's cloud images, `20251117-2299`. Later builds sort after earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BuildId(String);

/// The text is not a build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a build of Debian's cloud images (expected a date and a number, as in `20251117-2299`)"
)]
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

/// What an image built here contains beside the base system, which is about what Debian's own contains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packages {
    /// What the roles of the reference site install, so that installing is quick.
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

/// The word is not the name of a Debian package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the name of a Debian package (expected lower-case letters, digits and `+-.`, as in `libc6` or `g++`)"
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

/// Whether an image from this address can be trusted: it is whatever the server sends, so the server must prove who it is.
pub(super) fn is_trustworthy(url: &str) -> bool {
    let is_host =
        |rest: &str| !rest.is_empty() && !rest.starts_with('/') && !rest.contains([' ', '?', '#', '@']);
    match (url.strip_prefix("https://"), url.strip_prefix("http://127.0.0.1")) {
        (Some(rest), _) => is_host(rest),
        (None, Some(rest)) => {
            (rest.is_empty() || rest.starts_with([':', '/'])) && is_host(&format!("x{rest}"))
        }
        (None, None) => false,
    }
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
    fn a_build_is_a_date_and_a_number(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<BuildId>().is_ok(), valid);
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
    fn an_address_is_trusted_only_over_https_or_from_this_machine(#[case] url: &str, #[case] trusted: bool) {
        assert_eq!(is_trustworthy(url), trusted);
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
    fn invalid_package_names_are_refused(#[case] word: &str) {
        assert_eq!(word.parse::<PackageName>().unwrap_err(), InvalidPackage(word.into()));
    }
}
