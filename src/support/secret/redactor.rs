//! Replaces secrets in text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use aho_corasick::AhoCorasick;

use super::Secret;
use super::decodings::decodings;
use super::encodings::encodings;

/// How many bytes one byte of an encoding may take in a text: `\\u0041`, and as much again for white space.
const SWELLING: usize = 8;

/// Knows secrets and replaces each with `[secret NAME]`. A clone shares what the original knows.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Known>>);

/// The secrets are too long to be searched for at once.
#[derive(Debug, thiserror::Error)]
#[error("the secrets of this run are too long to be redacted from its output")]
pub struct TooMuch(#[source] aho_corasick::BuildError);

#[derive(Default)]
struct Known {
    /// Every encoding, with its replacement.
    encodings: BTreeMap<Vec<u8>, Arc<str>>,
    /// The replacement of each encoding, by its number in `search`.
    marks: Vec<Arc<str>>,
    search: Option<AhoCorasick>,
}

/// A part of a text that reveals a secret, and its replacement.
type Find = (Range<usize>, Arc<str>);

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// A redactor that knows no secret yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The redactor of this process: everything that it writes and shows goes through it.
    pub fn of_process() -> &'static Self {
        static OURS: OnceLock<Redactor> = OnceLock::new();
        OURS.get_or_init(Self::new)
    }

    /// Adds a secret. A secret with two names is shown with the first.
    ///
    /// # Errors
    /// [`TooMuch`]: the secret was not added and must not be used.
    pub fn add(&self, name: &str, secret: &Secret) -> Result<(), TooMuch> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mark = mark(name, secret);
        let mut all = known.encodings.clone();
        for encoding in encodings(secret.reveal()) {
            all.entry(encoding).or_insert_with(|| Arc::clone(&mark));
        }
        if all.len() == known.encodings.len() {
            return Ok(());
        }
        let search = AhoCorasick::new(all.keys()).map_err(TooMuch)?;
        *known = Known { search: Some(search), marks: all.values().cloned().collect(), encodings: all };
        Ok(())
    }

    /// Whether it knows no secret.
    pub(crate) fn is_empty(&self) -> bool {
        self.known().search.is_none()
    }

    /// `text` without the secrets.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.redact_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // A cut inside a UTF-8 character is repaired here.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// `text` without the secrets.
    pub(crate) fn redact_bytes<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let finds = self.find(text);
        if finds.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(replace(text, &finds)) }
    }

    /// JSON text without the secrets, still JSON: each string is decoded, searched and, where a secret is found, encoded
    /// again. With `longest`, strings are cut to their last `longest` characters.
    pub(crate) fn redact_json<'a>(&self, json: &'a str, longest: Option<usize>) -> Cow<'a, str> {
        if self.is_empty() && longest.is_none() {
            return Cow::Borrowed(json);
        }
        let mut out = String::with_capacity(json.len());
        let mut rest = json;
        while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
            let (before, token) = rest.split_at(at);
            let length = if token.starts_with('"') { string_length(token) } else { number_length(token) };
            let (token, after) = token.split_at(length);
            out.push_str(before);
            out.push_str(&self.redact_token(token, longest));
            rest = after;
        }
        out.push_str(rest);
        Cow::Owned(out)
    }

    /// A string or a number of JSON.
    fn redact_token<'a>(&self, token: &'a str, longest: Option<usize>) -> Cow<'a, str> {
        let Ok(text) = serde_json::from_str::<String>(token) else {
            return match self.redact(token) {
                Cow::Owned(redacted) if !token.starts_with('"') => {
                    Cow::Owned(serde_json::Value::String(redacted).to_string())
                }
                redacted => redacted,
            };
        };
        let redacted = self.redact(&text);
        let cut = longest.map_or(Cow::Borrowed(&*redacted), |longest| last(&redacted, longest));
        if *cut == text {
            Cow::Borrowed(token)
        } else {
            Cow::Owned(serde_json::Value::from(&*cut).to_string())
        }
    }

    /// The longest text, without white space and quotes, that a secret may take.
    pub(super) fn reach(&self) -> usize {
        self.known().search.as_ref().map_or(0, |search| search.max_pattern_len() * SWELLING)
    }

    /// The places of secrets in `text`, in order and without overlaps.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Find> {
        let known = self.known();
        let Some(search) = &known.search else { return Vec::new() };
        let mut finds: Vec<Find> = Vec::new();
        for decoding in decodings(text) {
            for found in search.find_overlapping_iter(&decoding.bytes) {
                let Some((start, end)) = decoding.span(found.start(), found.end()) else { continue };
                let mark = known.marks.get(found.pattern().as_usize()).cloned();
                finds.push((start..end, mark.unwrap_or_else(|| Arc::from("[secret]"))));
            }
        }
        // Of those that begin together the longest gives the name.
        finds.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut apart: Vec<Find> = Vec::new();
        for (range, mark) in finds {
            match apart.last_mut() {
                Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
                _ => apart.push((range, mark)),
            }
        }
        apart
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The replacement of a secret; it never contains the secret.
fn mark(name: &str, secret: &Secret) -> Arc<str> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let known = encodings(secret.reveal());
    let reveals = |mark: &str| {
        known.iter().any(|encoding| {
            mark.as_bytes().windows(encoding.len()).any(|window| window == encoding.as_slice())
        })
    };
    let marks = [format!("[secret {name}]"), "[redacted]".to_owned(), "[***]".to_owned()];
    let mark = marks.into_iter().find(|mark| !reveals(mark));
    Arc::from(mark.unwrap_or_default())
}

pub(super) fn replace(text: &[u8], finds: &[Find]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for (range, mark) in finds {
        out.extend(text.get(at..range.start).unwrap_or_default());
        out.extend(mark.as_bytes());
        at = range.end;
    }
    out.extend(text.get(at..).unwrap_or_default());
    out
}

/// The last characters of a text that is too long.
fn last(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().rev().nth(longest) {
        None => Cow::Borrowed(text),
        Some((at, _)) => {
            let rest: String = text[at..].chars().skip(1).collect();
            Cow::Owned(format!("… {rest}"))
        }
    }
}

/// The length of the JSON string at the beginning of `text`, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn number_length(text: &str) -> usize {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}
