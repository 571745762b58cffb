//! Sizes and durations with units, as the YAML files write them: `3GiB`, `512MiB`, `5m`, `90s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::text::from_text;

/// A number of bytes, shown in the largest binary unit that divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Units of [`Bytes`], the largest first, each with its power of two.
const BYTE_UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

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
        let fits = |shift: u32| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match BYTE_UNITS.iter().find(|(_, shift)| fits(*shift)) {
            Some((unit, shift)) => f.pad(&format!("{}{unit}", self.0 >> shift)),
            None => f.pad("0B"),
        }
    }
}

impl FromStr for Bytes {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = |why: String| InvalidQuantity { text: text.to_owned(), what: "size", why };
        let (number, unit) = split(text).map_err(invalid)?;
        let Some((_, shift)) = BYTE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(invalid(match binary_unit(unit) {
                Some(meant) => format!("did you mean `{number}{meant}`? (units: B, KiB, MiB, GiB, TiB)"),
                None if unit.is_empty() => format!("it has no unit: write `{number}GiB` or `{number}MiB`"),
                None => format!("`{unit}` is no unit of ours (units: B, KiB, MiB, GiB, TiB)"),
            }));
        };
        let scale = 1_u64 << shift;
        number.checked_mul(scale).map(Self).ok_or_else(|| invalid("it is too large".to_owned()))
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a size with its unit, such as `3GiB`")
    }
}

/// A time limit of whole seconds, at least one, shown in the largest unit that divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeLimit(pub Duration);

/// Units of [`TimeLimit`], the largest first, each in seconds.
const TIME_UNITS: [(&str, u64); 3] = [("h", 3600), ("m", 60), ("s", 1)];

impl TimeLimit {
    /// `n` minutes.
    pub const fn minutes(n: u64) -> Self {
        Self(Duration::from_secs(n * 60))
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let fits = |scale: u64| seconds != 0 && seconds.is_multiple_of(scale);
        match TIME_UNITS.iter().find(|(_, scale)| fits(*scale)) {
            Some((unit, scale)) => f.pad(&format!("{}{unit}", seconds / scale)),
            None => f.pad("0s"),
        }
    }
}

impl FromStr for TimeLimit {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = |why: String| InvalidQuantity { text: text.to_owned(), what: "duration", why };
        let (number, unit) = split(text).map_err(invalid)?;
        let Some((_, scale)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(invalid(match unit {
                "" => format!("it has no unit: write `{number}s` or `{number}m`"),
                _ => format!("`{unit}` is no unit of ours (units: s, m, h)"),
            }));
        };
        match number.checked_mul(*scale) {
            Some(0) => Err(invalid("a limit is at least one second".to_owned())),
            Some(seconds) => Ok(Self(Duration::from_secs(seconds))),
            None => Err(invalid("it is too large".to_owned())),
        }
    }
}

impl Serialize for TimeLimit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a duration with its unit, such as `5m`")
    }
}

/// The text is no quantity of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: {why}")]
pub struct InvalidQuantity {
    text: String,
    what: &'static str,
    why: String,
}

/// Number and unit of a quantity; the unit may be empty. An error says what is wrong with the number.
fn split(text: &str) -> Result<(u64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err("it does not begin with a number".to_owned());
    }
    if unit.starts_with(['.', ',']) {
        return Err("only whole numbers are taken: use a smaller unit".to_owned());
    }
    let number = number.parse().map_err(|_| "it is too large".to_owned())?;
    Ok((number, unit.trim_start()))
}

/// The binary unit that somebody meant by `G`, `GB` or `gib`.
fn binary_unit(unit: &str) -> Option<&'static str> {
    let (first, rest) = unit.split_at_checked(1)?;
    let first = first.to_ascii_uppercase();
    let known = matches!(rest.to_ascii_lowercase().as_str(), "" | "b" | "ib");
    let (name, _) = BYTE_UNITS.iter().find(|(name, _)| name.starts_with(&first))?;
    known.then_some(*name)
}

/// Serialises a duration as seconds.
pub(crate) fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("3GiB", Ok(3 << 30))]
    #[case("512MiB", Ok(512 << 20))]
    #[case("1 TiB", Ok(1 << 40))]
    #[case("0B", Ok(0))]
    #[case("3", Err("`3` is no size: it has no unit: write `3GiB` or `3MiB`"))]
    #[case("3GB", Err("`3GB` is no size: did you mean `3GiB`? (units: B, KiB, MiB, GiB, TiB)"))]
    #[case("3g", Err("`3g` is no size: did you mean `3GiB`? (units: B, KiB, MiB, GiB, TiB)"))]
    #[case("3µB", Err("`3µB` is no size: `µB` is no unit of ours (units: B, KiB, MiB, GiB, TiB)"))]
    #[case("1.5GiB", Err("`1.5GiB` is no size: only whole numbers are taken: use a smaller unit"))]
    #[case("-1GiB", Err("`-1GiB` is no size: it does not begin with a number"))]
    #[case("", Err("`` is no size: it does not begin with a number"))]
    #[case("17179869184GiB", Err("`17179869184GiB` is no size: it is too large"))]
    #[case("99999999999999999999B", Err("`99999999999999999999B` is no size: it is too large"))]
    fn sizes(#[case] text: &str, #[case] expected: Result<u64, &str>) {
        let seen = text.parse::<Bytes>().map(|bytes| bytes.0).map_err(|error| error.to_string());
        assert_eq!(seen, expected.map_err(str::to_owned));
    }

    #[rstest::rstest]
    #[case("90s", Ok(90))]
    #[case("5m", Ok(300))]
    #[case("2h", Ok(7200))]
    #[case("5", Err("`5` is no duration: it has no unit: write `5s` or `5m`"))]
    #[case("5min", Err("`5min` is no duration: `min` is no unit of ours (units: s, m, h)"))]
    #[case("0s", Err("`0s` is no duration: a limit is at least one second"))]
    #[case("9999999999999999999h", Err("`9999999999999999999h` is no duration: it is too large"))]
    fn durations(#[case] text: &str, #[case] expected: Result<u64, &str>) {
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
        fn a_duration_shown_is_read_back(number in 1..10_000_u64, scale in 0..3_usize) {
            let limit = TimeLimit(Duration::from_secs(number * TIME_UNITS[scale].1));
            proptest::prop_assert_eq!(limit.to_string().parse::<TimeLimit>(), Ok(limit));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,12}") {
            let _ = text.parse::<Bytes>();
            let _ = text.parse::<TimeLimit>();
        }
    }
}
