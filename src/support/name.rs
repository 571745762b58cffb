//! Names: validated once, at the edge. A host, scenario or machine name ends up in file names, domain names, DNS
//! labels and shell commands, so it is a DNS label (RFC 1123): lower-case letters, digits and inner hyphens,
//! at most 63 characters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The prefix of every object that boma-it creates on a hypervisor.
pub const PREFIX: &str = "boma-it";

/// The name of a host, profile or scenario: a DNS label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// The name is not a DNS label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is not a valid name: {why} (expected lower-case letters, digits and inner hyphens, at most 63 characters)"
)]
pub struct InvalidName {
    name: String,
    why: &'static str,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let invalid = |why| Err(InvalidName { name: name.to_owned(), why });
        if name.is_empty() {
            return invalid("it is empty");
        }
        if name.len() > 63 {
            return invalid("it is too long");
        }
        if name.starts_with('-') || name.ends_with('-') {
            return invalid("it starts or ends with a hyphen");
        }
        if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            return invalid("it has other characters");
        }
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        name.parse()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The candidate nearest to `wanted`, if any is near enough to be a typing error: for "did you mean …?".
pub(crate) fn near_miss<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(wanted, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(wanted.len().max(candidate.len()) / 3))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("askari", true)]
    #[case("incident-2026-06-17", true)]
    #[case("", false)]
    #[case("-x", false)]
    #[case("x-", false)]
    #[case("Askari", false)]
    #[case("a.b", false)]
    #[case("a/b", false)]
    fn a_name_is_a_dns_label(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<Name>().is_ok(), valid);
    }

    #[test]
    fn only_a_near_miss_is_suggested() {
        let known = ["memory", "vcpus", "disk"];
        assert_eq!(near_miss("memmory", known), Some("memory"));
        assert_eq!(near_miss("vcups", known), Some("vcpus"));
        assert_eq!(near_miss("network", known), None);
    }

    proptest::proptest! {
        #[test]
        fn a_valid_name_survives_serialisation(text in "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?") {
            let name: Name = text.parse().unwrap();
            let json = serde_json::to_string(&name).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Name>(&json).unwrap(), name);
        }
    }
}
