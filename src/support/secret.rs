//! Secrets of a run, and what keeps them out of everything that is written or shown.
//!
//! A [`Secret`] cannot be printed or serialised; code that needs the value calls [`Secret::reveal`]. A [`Redactor`] replaces
//! the secrets it knows in text, in every encoding in which programs repeat them. The process has one
//! ([`Redactor::of_process`]), and everything that writes uses it: the process runner, the debug log, the reports, the
//! terminal. It is not passed around, so no caller can forget it.
//!
//! The values stay in memory until the process ends, as the redactor searches for them.

mod decodings;
mod encodings;
mod redactor;
mod scrub;
mod writer;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

pub use redactor::{Redactor, TooMuch};
pub(crate) use scrub::scrub;
pub use writer::Redacting;

/// The shortest secret: redacting a shorter one would remove ordinary words from every text.
pub const SHORTEST: usize = 6;
/// The longest secret, in bytes: a bundle of keys is far shorter.
pub const LONGEST: usize = 64 * 1024;

/// A value that must not be seen: a token, a password, a private key. `Debug` shows `[secret]`; there is no other way to
/// print or serialise it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A value that cannot be redacted. The error says what is wrong with it, never what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// It is only white space.
    #[error("it is empty")]
    Empty,
    /// It is shorter than [`SHORTEST`], white space, quotes and backslashes not counted.
    #[error(
        "it has fewer than {SHORTEST} characters (white space, quotes and backslashes not counted): redacting it would remove ordinary words from every output"
    )]
    Short,
    /// It is longer than [`LONGEST`].
    #[error("it is longer than {LONGEST} bytes, too long for a token, password or key")]
    Long,
    /// It contains a NUL byte.
    #[error("it contains a NUL byte, so it is not text")]
    Binary,
}

impl Secret {
    /// A secret of this value, without the line ends that an editor or `echo` puts after it.
    ///
    /// # Errors
    /// [`InvalidSecret`].
    pub fn new(value: impl Into<String>) -> Result<Self, InvalidSecret> {
        let mut value = value.into();
        value.truncate(value.trim_end_matches(['\n', '\r']).len());
        let solid = |c: &char| !c.is_ascii() || u8::try_from(*c).is_ok_and(decodings::is_solid);
        match value.chars().filter(solid).count() {
            0 => Err(InvalidSecret::Empty),
            length if length < SHORTEST => Err(InvalidSecret::Short),
            _ if value.len() > LONGEST => Err(InvalidSecret::Long),
            _ if value.contains('\0') => Err(InvalidSecret::Binary),
            _ => Ok(Self(value)),
        }
    }

    /// The value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Environment variables that hold secrets: no child inherits them.
static WITHHELD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// From now on no child of this process inherits these variables.
pub(crate) fn withhold<'a>(variables: impl IntoIterator<Item = &'a str>) {
    let mut withheld = WITHHELD.lock().unwrap_or_else(PoisonError::into_inner);
    withheld.extend(variables.into_iter().map(str::to_owned));
}

/// The variables that no child inherits.
pub(super) fn withheld() -> Vec<String> {
    WITHHELD.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

#[cfg(test)]
mod tests;
