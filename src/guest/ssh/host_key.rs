//! The guest's public host key: parsed from a `.pub` file or presented by a server, and its fingerprint.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// A public key as it is sent over the wire (RFC 4253, section 6.6).
#[derive(PartialEq, Eq)]
pub(super) struct HostKey(pub(super) Vec<u8>);

impl HostKey {
    /// Parses `<type> <base64> [comment]`, the content of a `.pub` file; the error says what is wrong with it.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let (Some(kind), Some(encoded)) = (words.next(), words.next()) else {
            return Err("expected `<type> <base64>` as in a .pub file of ssh-keygen".into());
        };
        let blob =
            STANDARD.decode(encoded).map_err(|error| format!("the second word is not base64: {error}"))?;
        let length = u32::try_from(kind.len()).unwrap_or(u32::MAX).to_be_bytes();
        if !blob.starts_with(&[length.as_slice(), kind.as_bytes()].concat()) {
            return Err(format!("the first word is `{kind}`, but the key is of another type"));
        }
        Ok(Self(blob))
    }

    /// `SHA256:…`, as `ssh-keygen -l` and `ssh` show it.
    pub(super) fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMCirpgJmQ2JAi1CVG+dBYcedwdUhLXbi9SuenrpEKct host";

    #[test]
    fn the_fingerprint_is_the_one_ssh_keygen_shows() {
        assert_eq!(
            HostKey::parse(LINE).unwrap().fingerprint(),
            "SHA256:A9Rpi2YZOssjwXQZjkcYJ01bckSkTQXIxS1BPb/OL2A"
        );
    }

    #[rstest::rstest]
    #[case("", "expected `<type> <base64>` as in a .pub file of ssh-keygen")]
    #[case("ssh-ed25519", "expected `<type> <base64>` as in a .pub file of ssh-keygen")]
    #[case("ssh-ed25519 AAAA!", "the second word is not base64: Invalid symbol 33, offset 4.")]
    #[case(
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIMCirpgJmQ2JAi1CVG+dBYcedwdUhLXbi9SuenrpEKct",
        "the first word is `ssh-rsa`, but the key is of another type"
    )]
    #[case("ssh-ed25519 AAAA", "the first word is `ssh-ed25519`, but the key is of another type")]
    fn an_invalid_key_is_rejected_with_the_reason(#[case] line: &str, #[case] reason: &str) {
        assert_eq!(HostKey::parse(line).err().unwrap(), reason);
    }
}
