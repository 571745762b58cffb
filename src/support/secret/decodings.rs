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

    /// `decoded` stands for the `length` bytes of this decoding that begin at `at`.
    fn take(&self, at: usize, length: usize, decoded: &[u8], into: &mut Self) {
        let Some(span) = self.span(at, at + length) else { return };
        into.bytes.extend(decoded);
        into.spans.extend(std::iter::repeat_n(span, decoded.len()));
    }

    /// What `decode` makes of this decoding. It gives, for the rest of the text, how many bytes it took and what they mean.
    fn decode(&self, decode: impl Fn(&[u8]) -> (usize, Vec<u8>)) -> Self {
        let mut decoding = Self::default();
        let mut at = 0;
        while at < self.bytes.len() {
            let (length, decoded) = decode(&self.bytes[at..]);
            let length = length.clamp(1, self.bytes.len() - at);
            self.take(at, length, &decoded, &mut decoding);
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
    match rest {
        [b'%', digits @ ..] => match hex(digits, 2) {
            Some(byte) => (3, u8::try_from(byte).into_iter().collect()),
            None => (1, vec![b'%']),
        },
        [byte, ..] => (1, vec![*byte]),
        [] => (0, Vec::new()),
    }
}

/// A backslash escape as JSON (RFC 8259, 7), YAML, Python and shells write them.
fn unescape(rest: &[u8]) -> (usize, Vec<u8>) {
    let [b'\\', escaped, digits @ ..] = rest else {
        return (1, rest.first().copied().into_iter().collect());
    };
    match escaped {
        b'n' => (2, vec![b'\n']),
        b't' => (2, vec![b'\t']),
        b'r' => (2, vec![b'\r']),
        b'x' => match hex(digits, 2) {
            Some(byte) => (4, u8::try_from(byte).into_iter().collect()),
            None => (2, vec![b'x']),
        },
        b'u' => unicode(digits),
        b'U' => match hex(digits, 8).and_then(char::from_u32) {
            Some(character) => (10, utf8(character)),
            None => (2, vec![b'U']),
        },
        other => (2, vec![*other]),
    }
}

/// `\uHHHH`, or two of them for what lies beyond 16 bits.
fn unicode(digits: &[u8]) -> (usize, Vec<u8>) {
    let Some(first) = hex(digits, 4) else { return (2, vec![b'u']) };
    if let Some(character) = char::from_u32(first) {
        return (6, utf8(character));
    }
    let second = digits.get(4..).and_then(|rest| rest.strip_prefix(b"\\u")).and_then(|rest| hex(rest, 4));
    let pair = second.filter(|second| (0xdc00..0xe000).contains(second) && first < 0xdc00);
    let joined = pair.map(|second| 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
    match joined.and_then(char::from_u32) {
        Some(character) => (12, utf8(character)),
        None => (6, utf8(char::REPLACEMENT_CHARACTER)),
    }
}

fn hex(digits: &[u8], count: usize) -> Option<u32> {
    let digits = digits.get(..count)?;
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, 16).ok()
}

fn utf8(character: char) -> Vec<u8> {
    character.to_string().into_bytes()
}
