//! A secret → the byte strings to search for: itself, its lines, and their base64. Escapes, quotes, percent-encoding and
//! white space are not enumerated: the text is searched without them ([`super::decodings`]).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::SHORTEST;
use super::decodings::is_solid;

/// The shortest line of a multi-line secret that is searched for by itself.
const SHORTEST_LINE: usize = 8;
/// Where programs wrap base64: RFC 7468 (PEM) and RFC 2045 (MIME, coreutils).
const WRAPS: [usize; 2] = [64, 76];
/// The shortest line of wrapped base64 that is searched for by itself.
const SHORTEST_WRAPPED: usize = 16;

/// Everything to search for, each once.
pub(super) fn encodings(secret: &str) -> BTreeSet<Vec<u8>> {
    let mut encodings = BTreeSet::new();
    add_word(secret, &mut encodings);
    if secret.contains(['\n', '\r']) {
        let lines = secret.split(['\n', '\r']).map(str::trim);
        lines
            .filter(|line| line.chars().count() >= SHORTEST_LINE)
            .for_each(|line| add_word(line, &mut encodings));
    }
    let bare: Vec<_> = encodings.iter().map(|encoding| solid(encoding)).collect();
    encodings.extend(bare);
    encodings.retain(|encoding| encoding.len() >= SHORTEST);
    encodings
}

fn add_word(word: &str, encodings: &mut BTreeSet<Vec<u8>>) {
    encodings.insert(word.into());
    encodings.insert(word.trim().into());
    // HTML encodings, and `quote_plus` of many languages.
    encodings.insert(word.replace(' ', "+").into());
    for encoded in [STANDARD.encode(word), URL_SAFE.encode(word)] {
        let bare = encoded.trim_end_matches('=');
        for width in WRAPS {
            let lines = bare.as_bytes().chunks(width).filter(|line| line.len() >= SHORTEST_WRAPPED);
            encodings.extend(lines.map(<[u8]>::to_vec));
        }
        encodings.insert(bare.into());
        encodings.insert(encoded.into());
    }
    for before in 0..3 {
        let mut shifted = vec![0; before];
        shifted.extend(word.as_bytes());
        // Six bits a character: those that hold bits of this word alone, whatever stands around it.
        let whole = (before * 8).div_ceil(6)..shifted.len() * 8 / 6;
        for encoded in [STANDARD.encode(&shifted), URL_SAFE.encode(&shifted)] {
            encodings.extend(encoded.as_bytes().get(whole.clone()).map(<[u8]>::to_vec));
        }
    }
}

fn solid(encoding: &[u8]) -> Vec<u8> {
    encoding.iter().copied().filter(|byte| is_solid(*byte)).collect()
}
