//! However a secret is encoded and wherever a stream is cut, it is redacted. The encodings are made here by other means
//! than those that find them.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::support::process::quote;

const TOKEN: &str = "fake+token/9f'8e\"7d$6c%5b é";
const KEY: &str = "-----BEGIN FAKE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtz\n\
                   c2gtZWQyNTUxOQAAACBmYWtlIGZha2UgZmFrZSBmYWtlIGZha2UgZmFrZSBmYWtl\nAAAA==\n-----END FAKE KEY-----\n";

fn knowing(secret: &str) -> Redactor {
    let redactor = Redactor::new();
    redactor.add("vault.test", &Secret::new(secret).unwrap()).unwrap();
    redactor
}

fn percent(text: &str, keep: impl Fn(u8) -> bool, lower: bool) -> String {
    let byte = |byte: u8| match (keep(byte), lower) {
        (true, _) => char::from(byte).to_string(),
        (false, true) => format!("%{byte:02x}"),
        (false, false) => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// As bash's `printf %q` quotes.
fn backslashes(text: &str) -> String {
    let quoted = |c: char| match c {
        '\n' => "\\n".to_owned(),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => format!("\\{c}"),
        c => c.to_string(),
    };
    text.chars().map(quoted).collect()
}

/// Every encoding in which programs repeat a secret, with its name.
fn encodings_of(secret: &str) -> Vec<(&'static str, String)> {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let json = serde_json::to_string(secret).unwrap();
    let mut ascii = String::new();
    for unit in secret.encode_utf16() {
        match char::from_u32(u32::from(unit)).filter(|c| c.is_ascii_graphic() && !"\\\"'/".contains(*c)) {
            Some(plain) => ascii.push(plain),
            None => ascii += &format!("\\u{unit:04x}"),
        }
    }
    vec![
        ("plain", secret.to_owned()),
        ("base64", STANDARD.encode(secret)),
        ("base64 of a line", STANDARD.encode(format!("{secret}\n"))),
        ("base64 after one byte", STANDARD.encode(format!(":{secret}"))),
        ("base64 of user:password", STANDARD.encode(format!("ab:{secret}:cd"))),
        ("base64 after two bytes", STANDARD.encode(format!("a:{secret}?"))),
        ("url-safe base64", URL_SAFE.encode(secret)),
        ("url-safe base64 without padding", URL_SAFE_NO_PAD.encode(format!("x{secret}"))),
        ("percent-encoded", percent(secret, unreserved, false)),
        ("percent-encoded, lower case", percent(secret, unreserved, true)),
        ("shell, backslashes", backslashes(secret)),
        ("percent-encoded throughout", percent(secret, |_| false, false)),
        ("percent-encoded path", percent(secret, |b| unreserved(b) || b"/!'()*".contains(&b), false)),
        ("form", percent(secret, |b| unreserved(b) || b == b' ', false).replace(' ', "+")),
        ("JSON", json.clone()),
        ("JSON in ASCII", ascii),
        ("JSON with slashes escaped", json.replace('/', "\\/")),
        ("JSON in JSON", serde_json::to_string(&json).unwrap()),
        ("shell", quote(secret)),
        ("shell, single quotes", format!("'{}'", secret.replace('\'', r"'\''"))),
        ("shell, in JSON", serde_json::to_string(&quote(secret)).unwrap()),
        ("Rust's debug", format!("{secret:?}")),
    ]
}

/// What must not be left of a form: itself, or, of base64, all but the ends that hold bits of what stands around.
fn is_left(text: &str, form: &str) -> bool {
    let inner = form.get(4..form.len().saturating_sub(6)).filter(|inner| inner.len() >= 8);
    text.contains(form) || inner.is_some_and(|inner| text.contains(inner))
}

#[test]
fn the_debug_output_of_a_secret_hides_it() {
    let secret = Secret::new("not-really-a-token\n").unwrap();
    assert_eq!(secret.reveal(), "not-really-a-token");
    assert_eq!(format!("{secret:?}"), "[secret]");
}

#[rstest::rstest]
#[case("", InvalidSecret::Empty)]
#[case(" \n\t\n", InvalidSecret::Empty)]
#[case("abcde\n", InvalidSecret::Short)]
#[case("'a b c' \\\"de", InvalidSecret::Short)]
#[case("abc\0defgh", InvalidSecret::Binary)]
fn a_value_that_cannot_be_redacted_is_refused(#[case] value: &str, #[case] why: InvalidSecret) {
    assert_eq!(Secret::new(value), Err(why));
}

#[test]
fn every_encoding_is_redacted() {
    for secret in [TOKEN, KEY.trim_end(), "correct horse battery staple", "plain-fake-token"] {
        let redactor = knowing(secret);
        for (what, form) in encodings_of(secret) {
            let text = format!("before {form} after");
            let redacted = redactor.redact(&text);
            assert!(!is_left(&redacted, &form), "{what} of {secret:?}: {redacted}");
            assert!(redacted.contains("[secret vault.test]"), "{what}: {redacted}");
            assert!(redacted.starts_with("before ") && redacted.ends_with(" after"), "{what}: {redacted}");
        }
    }
}

#[test]
fn wrapped_base64_is_redacted_with_and_without_a_line_prefix() {
    let redactor = knowing(KEY);
    let encoded = STANDARD.encode(KEY);
    for width in [64, 76] {
        for prefix in ["", "    ", "Nov 24 06:00:00 askari sh[1]: "] {
            let lines: Vec<_> =
                encoded.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            let text: String = lines.iter().map(|line| format!("{prefix}{line}\n")).collect();
            let redacted = redactor.redact(&text);
            assert!(
                lines.iter().filter(|line| line.len() >= 16).all(|line| !redacted.contains(line)),
                "{redacted}"
            );
        }
    }
}

#[test]
fn every_long_line_of_a_key_is_redacted_and_a_whole_key_with_its_short_lines() {
    let redactor = knowing(KEY);
    let lines = KEY.lines().map(|line| format!("| {line}\n")).collect::<String>();
    assert_eq!(
        redactor.redact(&lines),
        "| [secret vault.test]\n| [secret vault.test]\n| [secret vault.test]\n| AAAA==\n| [secret vault.test]\n"
    );
    let indented = KEY.lines().map(|line| format!("      {line}\r\n")).collect::<String>();
    assert_eq!(redactor.redact(&indented), "      [secret vault.test]\r\n");
}

#[test]
fn other_text_is_unchanged() {
    let redactor = knowing(TOKEN);
    for text in ["", "ok: [askari]", "50% of a\\path\\n é \\u00", "{\"a\": [1, -2.5e3, \"x\"]}"] {
        assert!(matches!(redactor.redact(text), std::borrow::Cow::Borrowed(_)), "{text}");
        assert_eq!(redactor.redact_json(text, None), text);
    }
    assert!(Redactor::new().is_empty());
}

#[test]
fn a_mark_names_the_secret_without_containing_it() {
    let redactor = knowing("first-fake-token");
    redactor.add("vault.other", &Secret::new("second-fake-token").unwrap()).unwrap();
    redactor.add("again", &Secret::new("first-fake-token").unwrap()).unwrap();
    assert_eq!(
        redactor.redact("first-fake-token, second-fake-token"),
        "[secret vault.test], [secret vault.other]"
    );
    for own in ["secret", "vault.test", "redacted"] {
        let redacted = knowing(own).redact(&format!("a {own} b")).into_owned();
        assert!(!redacted.contains(own), "{redacted}");
    }
}

#[test]
fn redacted_json_stays_json_and_cut_strings_keep_their_end() {
    let redactor = knowing("12345678");
    let json = r#"{"pin": 12345678, "n": -1.5e3, "s": "a\t12345678\u0041", "12345678": null, "t": true}"#;
    let redacted = redactor.redact_json(json, None);
    assert_eq!(
        redacted,
        r#"{"pin": "[secret vault.test]", "n": -1.5e3, "s": "a\t[secret vault.test]A", "[secret vault.test]": null, "t": true}"#
    );
    assert!(serde_json::from_str::<serde_json::Value>(&redacted).is_ok());
    // The cut comes after: half a secret is a secret.
    let long = format!("{{\"s\": \"{} 12345678 end\"}}", "x".repeat(50));
    assert_eq!(redactor.redact_json(&long, Some(10)), "{\"s\": \"… .test] end\"}");
    assert_eq!(Redactor::new().redact_json("[\"abcdef\"]", Some(3)), "[\"… def\"]");
    assert_eq!(redactor.redact_json("not JSON: \"12345678", None), "not JSON: \"[secret vault.test]");
}

/// What a stream gives when it is written in pieces of these sizes, over and over.
fn streamed(redactor: &Redactor, text: &[u8], pieces: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Redacting::new(&mut out, redactor);
    let mut rest = text;
    for size in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        writer.write_all(piece).unwrap();
        rest = after;
    }
    writer.finish().unwrap();
    out
}

#[test]
fn without_secrets_a_stream_is_written_at_once() {
    let mut out = Vec::new();
    let mut writer = Redacting::new(&mut out, &Redactor::new());
    writer.write_all(b"line\n").unwrap();
    assert_eq!(writer.held.len(), 0);
    drop(writer);
    assert_eq!(out, b"line\n");
}

/// Searching takes memory of many times the length of the text.
#[test]
fn a_large_write_is_redacted_in_pieces() {
    struct Pieces(usize, usize);
    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            (self.0, self.1) = (self.0 + bytes.len(), self.1.max(bytes.len()));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let redactor = Redactor::new();
    redactor.add("a", &Secret::new("made-up-secret").unwrap()).unwrap();
    let mut pieces = Pieces(0, 0);
    let mut writer = Redacting::new(&mut pieces, &redactor);
    writer.write_all(&vec![b'-'; 1 << 20]).unwrap();
    writer.finish().unwrap();
    assert_eq!(pieces.0, 1 << 20);
    assert!(pieces.1 <= 32 << 10, "{} bytes in one go", pieces.1);
}

#[test]
fn a_folder_is_scrubbed_except_for_the_excluded_paths() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("keys")).unwrap();
    std::fs::create_dir_all(path("a/b")).unwrap();
    for name in ["keys/client", "a/b/log", "a/clean"] {
        let text = if name == "a/clean" { "nothing" } else { "x plain-fake-token y" };
        std::fs::write(path(name), text).unwrap();
    }
    std::fs::set_permissions(path("a/b/log"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let cleaned = scrub(folder.path(), &[path("keys")], &knowing("plain-fake-token")).unwrap();
    assert_eq!(cleaned, [path("a/b/log")]);
    assert_eq!(std::fs::read_to_string(path("a/b/log")).unwrap(), "x [secret vault.test] y");
    assert_eq!(std::fs::metadata(path("a/b/log")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_to_string(path("keys/client")).unwrap(), "x plain-fake-token y");
}

fn a_secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{6,40}",
        "[A-Za-z0-9+/=_-]{6,60}",
        "[a-zé€𝄞'\"\\\\%$ ]{6,30}",
        "[!-~]{8,30}(\n[!-~]{8,30}){1,4}",
    ]
    .prop_filter("fit", |secret| Secret::new(secret.clone()).is_ok() && secret.trim() == secret)
}

proptest! {
    // Each case builds a search of its own.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_encoding_of_any_secret_survives_in_any_text(
        secret in a_secret(), before in "[ -~\n]{0,40}", after in "[ -~\n]{0,40}", which in any::<prop::sample::Index>(),
    ) {
        let redactor = knowing(&secret);
        let all = encodings_of(&secret);
        let (what, form) = &all[which.index(all.len())];
        // A backslash or percent sign before it would make it another text.
        let before = before.replace(['\\', '%'], "/");
        let redacted = redactor.redact(&format!("{before}{form}{after}")).into_owned();
        prop_assert!(!redacted.contains(form.as_str()), "{what}: {redacted}");
        prop_assert!(!redacted.contains(&secret), "{what}: {redacted}");
    }

    #[test]
    fn a_stream_is_redacted_as_its_whole_text_is_wherever_it_is_cut(
        secret in a_secret(), gaps in prop::collection::vec("[ -~\n]{0,60}", 1..6),
        pieces in prop::collection::vec(1usize..40, 1..6), which in any::<prop::sample::Index>(),
    ) {
        let redactor = knowing(&secret);
        let all = encodings_of(&secret);
        let (what, form) = &all[which.index(all.len())];
        let text = gaps.iter().map(|gap| gap.replace(['\\', '%'], "/")).collect::<Vec<_>>().join(form);
        let out = String::from_utf8(streamed(&redactor, text.as_bytes(), &pieces)).unwrap();
        prop_assert!(!out.contains(form.as_str()), "{what}: {out}");
        prop_assert_eq!(&*redactor.redact(&text), out.as_str());
    }

    #[test]
    fn redacted_json_is_json(secret in a_secret(), value in "[ -~\n]{0,20}") {
        let json = serde_json::json!({"a": format!("{value}{secret}{value}"), "n": [1, null, -0.5], "b": secret.repeat(2)});
        for json in [json.to_string(), format!("{json:#}")] {
            let redacted = knowing(&secret).redact_json(&json, None).into_owned();
            let read: serde_json::Value = serde_json::from_str(&redacted).unwrap();
            prop_assert!(!read.to_string().contains(&secret) && !format!("{read:?}").contains(&secret), "{redacted}");
        }
    }
}
