//! The kernel's boot id: a random UUID made at every boot, the only proof of a reboot we accept.
//!
//! `/proc/sys/kernel/random/boot_id`, see random(4). Not `btime` (moves with NTP), not uptime, not a port that went
//! down and came back.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A boot id, as the kernel writes it: `3fe1ac58-53e2-4f7b-8b4c-…`, lower case, with dashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BootId(String);

/// What was read is no boot id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no boot id; expected a UUID as in /proc/sys/kernel/random/boot_id")]
pub struct NoBootId(String);

/// Lengths of the groups of a UUID.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

impl FromStr for BootId {
    type Err = NoBootId;

    /// Accepts the kernel's form and the one without dashes that `journalctl --list-boots` shows.
    fn from_str(text: &str) -> Result<Self, NoBootId> {
        let refuse = || NoBootId(text.chars().take(80).collect());
        let text = text.trim();
        let digits: String = if text.contains('-') {
            if !text.split('-').map(str::len).eq(GROUPS) {
                return Err(refuse());
            }
            text.split('-').collect()
        } else {
            text.to_owned()
        };
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        let digits = digits.to_ascii_lowercase();
        let mut rest = digits.as_str();
        let groups = GROUPS.map(|length| {
            let (group, tail) = rest.split_at(length);
            rest = tail;
            group
        });
        Ok(Self(groups.join("-")))
    }
}

impl BootId {
    /// The first eight digits: enough for a person to tell two boots apart.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for BootId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "3fe1ac58-53e2-4f7b-8b4c-0123456789ab";

    #[rstest::rstest]
    #[case("3fe1ac58-53e2-4f7b-8b4c-0123456789ab\n")]
    #[case("3fe1ac5853e24f7b8b4c0123456789ab")]
    #[case("3FE1AC58-53E2-4F7B-8B4C-0123456789AB")]
    fn every_spelling_of_one_boot_is_one_boot(#[case] text: &str) {
        assert_eq!(text.parse::<BootId>().unwrap().to_string(), KERNEL);
    }

    #[rstest::rstest]
    #[case("")]
    #[case("3fe1ac58")]
    #[case("3fe1ac58-53e2-4f7b-8b4c-0123456789a")]
    #[case("3fe1ac5853e2-4f7b-8b4c-0123456789ab")]
    #[case("3fe1ac58-53e2-4f7b-8b4c-0123456789ag")]
    #[case("ééé1ac5853e24f7b8b4c0123456789ab")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert!(text.parse::<BootId>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,64}") {
            let _ = text.parse::<BootId>();
        }
    }
}
