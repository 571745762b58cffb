//! A writer that redacts a stream, wherever the stream is cut into pieces.

use std::io::{self, Write};

use super::decodings::is_solid;
use super::redactor::{Redactor, replace};

/// How much is looked at in one go, beside what is held back. Each byte of a view knows where it stands, and there are up to
/// sixteen views: to look at a whole console at once would take hundreds of times its length.
const PIECE: usize = 16 << 10;

/// Passes on what is written, redacted. If there are secrets it holds back the end, where one may have begun;
/// [`Redacting::finish`], or dropping it, passes that on too.
#[derive(Debug)]
pub struct Redacting<W: Write> {
    to: W,
    redactor: Redactor,
    pub(super) held: Vec<u8>,
    found: bool,
}

impl<W: Write> Redacting<W> {
    /// Writes to `to`, without the secrets of `redactor`.
    pub fn new(to: W, redactor: &Redactor) -> Self {
        Self { to, redactor: redactor.clone(), held: Vec::new(), found: false }
    }

    /// Writes to `to`, without the secrets of this process.
    pub fn of_process(to: W) -> Self {
        Self::new(to, Redactor::of_process())
    }

    /// Ends the stream: passes on what was held back. Returns whether the stream contained a secret.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(mut self) -> io::Result<bool> {
        self.pass(true)?;
        self.to.flush()?;
        Ok(self.found)
    }

    fn pass(&mut self, is_end: bool) -> io::Result<()> {
        let finds = self.redactor.find(&self.held);
        self.found |= !finds.is_empty();
        let mut cut =
            if is_end { self.held.len() } else { before_the_last(&self.held, self.redactor.reach()) };
        // A secret across the cut may be longer: it is searched again as a whole.
        if let Some((range, _)) = finds.iter().find(|(range, _)| range.start < cut && cut < range.end) {
            cut = range.start;
        }
        let rest = self.held.split_off(cut);
        let whole = std::mem::replace(&mut self.held, rest);
        let within: Vec<_> = finds.into_iter().filter(|(range, _)| range.end <= cut).collect();
        self.to.write_all(&replace(&whole, &within))
    }
}

impl<W: Write> Write for Redacting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.chunks(PIECE) {
            self.held.extend(piece);
            self.pass(false)?;
        }
        Ok(bytes.len())
    }

    /// What is held back stays held back.
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<W: Write> Drop for Redacting<W> {
    fn drop(&mut self) {
        let _ = self.pass(true);
    }
}

/// Where the last `reach` bytes begin, not counting white space and quotes.
fn before_the_last(text: &[u8], reach: usize) -> usize {
    if reach == 0 {
        return text.len();
    }
    let solid = text.iter().enumerate().rev().filter(|(_, byte)| is_solid(**byte));
    solid.map(|(at, _)| at).nth(reach - 1).unwrap_or(0)
}
