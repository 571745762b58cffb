//! Decodings of a text: with its escapes undone, its percent-encoding decoded, its white space and quotes removed.
//! Every byte of a decoding knows which bytes of the text it stands for, so that what is found in the decoding can be taken out of the
//! text. Decoding the text handles every escaped form of a secret; a list of such forms would miss some.

/// How many times escapes may be nested: JSON in JSON in a shell's quotes.
const DEPTH: usize = 3;

/// A text after some decoding.
#[derive(Debug, Default)]
pub(super) struct Decoding {
    pub(super) bytes: Vec<u8>,
    /// For each byte, where the text that it stands for begins and ends.
    spans: Vec<(usize, usize)>,
}

impl Decoding {
    /// The text as it is.
    fn of(text: &[u8]) -> Self {
        Self { bytes: text.to_vec(), spans: (0..text.len()).map(|at| (at, at + 1)).collect() }
    }

    /// Where in the text the bytes from `start` to before `end` of the decoding stand.
    pub(super) fn span(&self, start: usize, end: usize) -> Option<(usize, usize)> {
        let last = end.checked_sub(1)?;
        Some((self.spans.get(start)?.0, self.spans.get(last)?.1))
    }

    /// What `decode` makes of this decoding. It gives, for the rest of the text, how many bytes it took and what they mean.
    fn decode(&self, decode: impl Fn(&[u8]) -> (usize, Vec<u8>)) -> Self {
        let mut decoding = Self::default();
        let mut at = 0;
        while at < self.bytes.len() {
            let (length, decoded) = decode(&self.bytes[at..]);
            let length = length.clamp(1, self.bytes.len() - at);
            decoding.spans.extend(decoded.iter().filter_map(|_| self.span(at, at + length)));
            decoding.bytes.extend(decoded);
            at += length;
        }
        decoding
    }

    /// Without what quoting, wrapping and indenting add, as programs do these differently.
    fn solid(&self) -> Self {
        let mut decoding = Self::default();
        for (byte, span) in self.bytes.iter().zip(&self.spans).filter(|(byte, _)| is_solid(**byte)) {
            decoding.bytes.push(*byte);
            decoding.spans.push(*span);
        }
        decoding
    }
}

/// Every decoding of `text` in which something may be found.
pub(super) fn decodings(text: &[u8]) -> Vec<Decoding> {
    let mut decodings = vec![Decoding::of(text)];
    let mut latest = 0;
    for _ in 0..DEPTH {
        if !decodings[latest].bytes.contains(&b'\\') {
            break;
        }
        decodings.push(decodings[latest].decode(unescape));
        latest = decodings.len() - 1;
    }
    for at in 0..decodings.len() {
        if decodings[at].bytes.contains(&b'%') {
            decodings.push(decodings[at].decode(percent_decode));
        }
    }
    for at in 0..decodings.len() {
        decodings.push(decodings[at].solid());
    }
    decodings
}

/// Whether a byte is neither white space nor a quoting character.
pub(super) fn is_solid(byte: u8) -> bool {
    !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'\'' | b'"' | b'\\')
}

/// A percent-encoded byte (RFC 3986, 2.1).
fn percent_decode(rest: &[u8]) -> (usize, Vec<u8>) {
    match rest.strip_prefix(b"%").and_then(|digits| hex(digits, 2)) {
        Some(byte) => (3, vec![byte]),
        None => (1, rest.first().copied().into_iter().collect()),
    }
}

/// A backslash escape as JSON (RFC 8259, 7), YAML, Python and shells write them.
fn unescape(rest: &[u8]) -> (usize, Vec<u8>) {
    let [b'\\', escaped, digits @ ..] = rest else {
        return (1, rest.first().copied().into_iter().collect());
    };
    let unescaped = match escaped {
        b'n' => Some((2, vec![b'\n'])),
        b't' => Some((2, vec![b'\t'])),
        b'r' => Some((2, vec![b'\r'])),
        b'x' => hex(digits, 2).map(|byte| (4, vec![byte])),
        b'u' => unicode(digits),
        b'U' => hex(digits, 8).and_then(char::from_u32).map(|character| (10, utf8(character))),
        _ => None,
    };
    unescaped.unwrap_or_else(|| (2, vec![*escaped]))
}

/// `\uHHHH`, or two of them for what lies beyond 16 bits.
fn unicode(digits: &[u8]) -> Option<(usize, Vec<u8>)> {
    let first = hex(digits, 4)?;
    let second = digits.get(4..).and_then(|rest| rest.strip_prefix(b"\\u")).and_then(|rest| hex(rest, 4));
    let character = char::decode_utf16(std::iter::once(first).chain(second)).next()?;
    let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
    Some((6 * character.len_utf16(), utf8(character)))
}

fn hex<T: TryFrom<u32>>(digits: &[u8], count: usize) -> Option<T> {
    let digits = digits.get(..count)?;
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    T::try_from(u32::from_str_radix(text, 16).ok()?).ok()
}

fn utf8(character: char) -> Vec<u8> {
    character.to_string().into_bytes()
}
