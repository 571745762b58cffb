//! Secrets of a run, and what keeps them out of everything that is written or shown.
//!
//! A [`Secret`] never shows itself; whoever needs the value says so with [`Secret::reveal`]. A [`Redactor`] takes the
//! secrets it knows out of text, in every form in which programs tend to repeat them. The process has one
//! ([`Redactor::of_process`]), which the few places that write use themselves: the runner of children, the debug log,
//! the reports, the terminal. Nobody has to hand it on, and so nobody can forget to.
//!
//! The values stay in memory to the end of the process: the redactor has to know what it looks for.

mod decodings;
mod encodings;
mod redactor;
mod scrub;
mod writer;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Serialize, Serializer};

pub use redactor::{Redactor, TooMuch};
pub use scrub::scrub;
pub use writer::Redacting;

/// The shortest secret: what is shorter would take ordinary words out of every text.
pub const SHORTEST: usize = 6;
/// The longest, in bytes: a bundle of keys is far below.
pub const LONGEST: usize = 64 * 1024;

/// A value that must not be seen: a token, a password, a private key. Its `Debug`, `Display` and serialised forms are
/// `[secret]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A value that cannot be kept out of sight. Says what is wrong with it and not what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is nothing but white space.
    #[error("it is empty")]
    Empty,
    /// It is shorter than [`SHORTEST`], white space, quotes and backslashes not counted.
    #[error(
        "it has fewer than {SHORTEST} characters (white space, quotes and backslashes not counted), and taking it out of every output would take ordinary words out"
    )]
    Short,
    /// It is longer than [`LONGEST`].
    #[error("it is longer than {LONGEST} bytes, which is no token, password or key")]
    Long,
    /// It holds a NUL byte.
    #[error("it holds a NUL byte: it is no text")]
    Binary,
}

impl Secret {
    /// Takes a value, without the line ends that an editor or `echo` put after it.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn new(value: impl Into<String>) -> Result<Self, Unfit> {
        let mut value = value.into();
        value.truncate(value.trim_end_matches(['\n', '\r']).len());
        let solid = |c: &char| !c.is_ascii() || u8::try_from(*c).is_ok_and(decodings::is_solid);
        match value.chars().filter(solid).count() {
            0 => Err(Unfit::Empty),
            length if length < SHORTEST => Err(Unfit::Short),
            _ if value.len() > LONGEST => Err(Unfit::Long),
            _ if value.contains('\0') => Err(Unfit::Binary),
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

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[secret]")
    }
}

/// Environment variables that hold secrets: no child inherits them.
static WITHHELD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// From now on no child of this process inherits these variables.
pub fn withhold<'a>(variables: impl IntoIterator<Item = &'a str>) {
    let mut withheld = WITHHELD.lock().unwrap_or_else(PoisonError::into_inner);
    withheld.extend(variables.into_iter().map(str::to_owned));
}

/// What no child inherits.
pub(super) fn withheld() -> Vec<String> {
    WITHHELD.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

#[cfg(test)]
mod tests;
