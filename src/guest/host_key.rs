//! The guest's public host key: its one line as OpenSSH writes it, its bytes, its fingerprint. Checking against it
//! is left to [`super::ssh`].

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// A public key as the wire carries it (RFC 4253, section 6.6).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct HostKey(Vec<u8>);

impl HostKey {
    /// From `<type> <base64> [comment]`, the content of a `.pub` file; the error says what is wrong with it.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let (Some(kind), Some(encoded)) = (words.next(), words.next()) else {
            return Err("expected `<type> <base64>` as in a .pub file of ssh-keygen".into());
        };
        let blob =
            STANDARD.decode(encoded).map_err(|error| format!("its second word is not base64: {error}"))?;
        let named = blob.get(4..4 + kind.len());
        if blob.get(..4) != Some(&u32::try_from(kind.len()).unwrap_or(u32::MAX).to_be_bytes())
            || named != Some(kind.as_bytes())
        {
            return Err(format!("it says `{kind}`, and the key itself is of another type"));
        }
        Ok(Self(blob))
    }

    /// From the bytes that a server presented.
    pub(super) fn presented(blob: &[u8]) -> Self {
        Self(blob.to_vec())
    }

    /// As `ssh-keygen -l` and `ssh` show it: `SHA256:…`.
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
    #[case("", "expected `<type> <base64>`")]
    #[case("ssh-ed25519", "expected `<type> <base64>`")]
    #[case("ssh-ed25519 AAAA!", "not base64")]
    #[case("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIMCirpgJmQ2JAi1CVG+dBYcedwdUhLXbi9SuenrpEKct", "of another type")]
    #[case("ssh-ed25519 AAAA", "of another type")]
    fn what_is_no_key_is_refused_with_the_reason(#[case] line: &str, #[case] reason: &str) {
        let error = HostKey::parse(line).err().unwrap();
        assert!(error.contains(reason), "{error}");
    }
}
