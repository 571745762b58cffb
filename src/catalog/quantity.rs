//! Sizes and time limits with units, as the YAML files write them: `3GiB`, `512MiB`, `5m`, `90s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A number of bytes, shown in the largest binary unit that divides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String", inline, extend(
    "pattern" = r"^[0-9]+\s*(B|KiB|MiB|GiB|TiB)$",
    "examples" = ["3GiB", "512MiB"],
))]
pub struct Bytes(pub u64);

/// Units of [`Bytes`], the largest first, each in bytes.
const BYTE_UNITS: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Bytes {
    /// `n` gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&in_largest_unit(self.0, BYTE_UNITS))
    }
}

impl FromStr for Bytes {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let size = parse(text, BYTE_UNITS, |number, unit| match binary_unit(unit) {
            Some(meant) => format!("did you mean `{number}{meant}`? (units: B, KiB, MiB, GiB, TiB)"),
            None if unit.is_empty() => format!("it has no unit: write `{number}GiB` or `{number}MiB`"),
            None => format!("unknown unit `{unit}` (units: B, KiB, MiB, GiB, TiB)"),
        });
        size.map(Self).map_err(|why| InvalidQuantity { text: text.to_owned(), what: "size", why })
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a size with its unit, such as `3GiB`")
    }
}

/// A time limit of whole seconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", inline, extend(
    "pattern" = r"^0*[1-9][0-9]*\s*(s|m|h)$",
    "examples" = ["5m", "90s"],
))]
pub(crate) struct TimeLimit(pub(crate) Duration);

/// Units of [`TimeLimit`], the largest first, each in seconds.
const TIME_UNITS: &[(&str, u64)] = &[("h", 3600), ("m", 60), ("s", 1)];

impl Serialize for TimeLimit {
    /// In the largest unit that divides it: the defaults in the schemas are written so.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&in_largest_unit(self.0.as_secs(), TIME_UNITS))
    }
}

impl FromStr for TimeLimit {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let seconds = parse(text, TIME_UNITS, |number, unit| match unit {
            "" => format!("it has no unit: write `{number}s` or `{number}m`"),
            _ => format!("unknown unit `{unit}` (units: s, m, h)"),
        });
        match seconds {
            Ok(0) => Err("a limit is at least one second".to_owned()),
            seconds => seconds.map(Duration::from_secs).map(Self),
        }
        .map_err(|why| InvalidQuantity { text: text.to_owned(), what: "duration", why })
    }
}

impl<'de> Deserialize<'de> for TimeLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a duration with its unit, such as `5m`")
    }
}

/// Serialises a duration as seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

/// The text is not a quantity of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {why}")]
pub struct InvalidQuantity {
    text: String,
    what: &'static str,
    why: String,
}

/// `number` in the largest unit that divides it.
fn in_largest_unit(number: u64, units: &[(&str, u64)]) -> String {
    let divides = |scale: u64| scale == 1 || number != 0 && number.is_multiple_of(scale);
    let (unit, scale) = units.iter().find(|(_, scale)| divides(*scale)).unwrap_or(&("", 1));
    format!("{}{unit}", number / scale)
}

/// The quantity in the unit of scale 1. An error says what is wrong; `unknown` says it of a number and an unknown unit,
/// which may be empty.
fn parse(
    text: &str,
    units: &[(&str, u64)],
    unknown: impl FnOnce(u64, &str) -> String,
) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err("it does not begin with a number".to_owned());
    }
    if unit.starts_with(['.', ',']) {
        return Err("only whole numbers are accepted: use a smaller unit".to_owned());
    }
    let too_large = || "it is too large".to_owned();
    let (number, unit) = (number.parse::<u64>().map_err(|_| too_large())?, unit.trim_start());
    match units.iter().find(|(name, _)| *name == unit) {
        Some((_, scale)) => number.checked_mul(*scale).ok_or_else(too_large),
        None => Err(unknown(number, unit)),
    }
}

/// The binary unit meant by `G`, `GB` or `gib`.
fn binary_unit(unit: &str) -> Option<&'static str> {
    let (first, rest) = unit.split_at_checked(1)?;
    let first = first.to_ascii_uppercase();
    let known = matches!(rest.to_ascii_lowercase().as_str(), "" | "b" | "ib");
    let (name, _) = BYTE_UNITS.iter().find(|(name, _)| name.starts_with(&first))?;
    known.then_some(*name)
}

/// Reads a word of text and parses it; an error on any other type says that `expected` was expected. A visitor, unlike a
/// `String` converted afterwards, gets the value's own line and column into the error.
pub(super) fn from_text<'de, D, T>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    Text { expected, parse: T::from_str }.deserialize(deserializer)
}

/// A word of text for `parse`.
pub(super) struct Text<F> {
    pub(super) expected: &'static str,
    pub(super) parse: F,
}

impl<'de, T, E: fmt::Display, F: FnOnce(&str) -> Result<T, E>> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, E: fmt::Display, F: FnOnce(&str) -> Result<T, E>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<X: Error>(self, text: &str) -> Result<T, X> {
        (self.parse)(text).map_err(X::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("3GiB", Ok(3 << 30))]
    #[case("512MiB", Ok(512 << 20))]
    #[case("1 TiB", Ok(1 << 40))]
    #[case("0B", Ok(0))]
    #[case("3", Err("`3` is not a size: it has no unit: write `3GiB` or `3MiB`"))]
    #[case("3GB", Err("`3GB` is not a size: did you mean `3GiB`? (units: B, KiB, MiB, GiB, TiB)"))]
    #[case("3g", Err("`3g` is not a size: did you mean `3GiB`? (units: B, KiB, MiB, GiB, TiB)"))]
    #[case("3µB", Err("`3µB` is not a size: unknown unit `µB` (units: B, KiB, MiB, GiB, TiB)"))]
    #[case("1.5GiB", Err("`1.5GiB` is not a size: only whole numbers are accepted: use a smaller unit"))]
    #[case("-1GiB", Err("`-1GiB` is not a size: it does not begin with a number"))]
    #[case("", Err("`` is not a size: it does not begin with a number"))]
    #[case("17179869184GiB", Err("`17179869184GiB` is not a size: it is too large"))]
    #[case("99999999999999999999B", Err("`99999999999999999999B` is not a size: it is too large"))]
    fn a_size_is_read_or_the_error_says_what_to_write(
        #[case] text: &str,
        #[case] expected: Result<u64, &str>,
    ) {
        let seen = text.parse::<Bytes>().map(|bytes| bytes.0).map_err(|error| error.to_string());
        assert_eq!(seen, expected.map_err(str::to_owned));
    }

    #[rstest::rstest]
    #[case("90s", Ok(90))]
    #[case("5m", Ok(300))]
    #[case("2h", Ok(7200))]
    #[case("5", Err("`5` is not a duration: it has no unit: write `5s` or `5m`"))]
    #[case("5min", Err("`5min` is not a duration: unknown unit `min` (units: s, m, h)"))]
    #[case("0s", Err("`0s` is not a duration: a limit is at least one second"))]
    #[case("9999999999999999999h", Err("`9999999999999999999h` is not a duration: it is too large"))]
    fn a_duration_is_read_or_the_error_says_what_to_write(
        #[case] text: &str,
        #[case] expected: Result<u64, &str>,
    ) {
        let seen =
            text.parse::<TimeLimit>().map(|limit| limit.0.as_secs()).map_err(|error| error.to_string());
        assert_eq!(seen, expected.map_err(str::to_owned));
    }

    proptest::proptest! {
        #[test]
        fn a_size_shown_is_read_back(number in 0..u64::MAX, shift in 0..40_u32) {
            let bytes = Bytes(number >> shift << shift);
            proptest::prop_assert_eq!(bytes.to_string().parse::<Bytes>(), Ok(bytes));
        }

        #[test]
        fn a_time_limit_that_was_written_is_read_back(number in 1..10_000_u64, scale in 0..3_usize) {
            let limit = TimeLimit(Duration::from_secs(number * TIME_UNITS[scale].1));
            let json = serde_json::to_string(&limit).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<TimeLimit>(&json).unwrap(), limit);
        }

        #[test]
        fn no_text_panics(text in ".{0,12}") {
            let _ = text.parse::<Bytes>();
            let _ = text.parse::<TimeLimit>();
        }
    }
}
