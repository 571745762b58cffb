//! Writing the seed's documents: YAML, in the one style that no reader takes for something else.
//!
//! cloud-init reads YAML 1.1, where a plain `on` is true, `2026-06-17` a date, and the MAC address
//! `52:54:00:12:34:56` a number to the base of 60; our serialiser writes YAML 1.2, where they are plain strings. JSON is
//! YAML in either version, and quotes every string.

use serde::Serialize;

/// `value` as a document that YAML 1.1, YAML 1.2 and JSON readers all read alike.
pub(super) fn document(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string_pretty(value)?;
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        match c {
            // Legal as such in JSON; in YAML 1.1 a line break, a byte order mark, or not printable.
            '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text.push('\n');
    Ok(text)
}
