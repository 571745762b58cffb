//! Finds the place of a key or value in a file, for errors found after deserialising. A seed walks to the wanted place and
//! fails there, and the deserialiser adds line and column to that failure. So one parser decides where things are; the
//! price is a second parse, only when there is an error.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::quantity::Text;

/// Which part of a `key: value` to find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The key (for an item of a list, the item).
    Key,
    /// The value.
    Value,
}

/// Fails at the target if it is there, and succeeds if it is not.
#[derive(Clone, Copy)]
pub(super) struct Find<'p> {
    /// Keys of mappings and indices of lists, from the top.
    pub(super) path: &'p [&'p str],
    /// What to fail at.
    pub(super) target: Target,
    /// How many of the same key to skip in the last mapping: 1 finds the repeated one.
    pub(super) skip: usize,
}

impl Find<'_> {
    /// Whether a key is `wanted`. Fails at it if it is the `last` of the path, and keys are the target.
    fn key(self, wanted: &str, last: bool) -> Text<impl FnOnce(&str) -> Result<bool, &'static str>> {
        let parse = move |key: &str| match key == wanted {
            true if last && self.target == Target::Key => Err("here"),
            found => Ok(found),
        };
        Text { expected: "a key", parse }
    }
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path {
            [] => deserializer.deserialize_any(Here),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else { return Ok(()) };
        let is_last = rest.is_empty();
        let mut skip = if is_last { self.skip } else { 0 };
        while let Some(found) = map.next_key_seed(self.key(wanted, is_last && skip == 0))? {
            if found && skip == 0 {
                map.next_value_seed(Find { path: rest, ..self })?;
            } else {
                skip -= usize::from(found);
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else { return Ok(()) };
        for _ in 0..wanted.parse().unwrap_or(0) {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        list.next_element_seed(Find { path: rest, ..self })?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Fails at any value: a visitor that accepts nothing.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("to stop here")
    }
}
