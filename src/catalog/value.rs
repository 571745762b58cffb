//! Free values (the variables that Ansible is given), read strictly: a key that stands twice is refused where it
//! stands, which neither `serde_json` nor Ansible does.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// Variables of a scenario, handed to Ansible as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Vars(pub(super) BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Vars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match (Mapping { tags: Tags::Refused }).deserialize(deserializer)? {
            Value::Object(vars) => Ok(Self(vars.into_iter().collect())),
            _ => Err(D::Error::custom("expected a mapping of variables")),
        }
    }
}

/// Whether YAML tags (`!vault`, `!unsafe`) may stand before values.
#[derive(Clone, Copy)]
pub(super) enum Tags {
    /// They may. A tagged value comes out as null: it is Ansible's to read.
    Accepted,
    /// They may not.
    Refused,
}

/// A mapping of free values.
pub(super) struct Mapping {
    /// What of tags.
    pub(super) tags: Tags,
}

impl<'de> DeserializeSeed<'de> for Mapping {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(Free { tags: self.tags, expected: "a mapping of variables" })
    }
}

/// Any value.
#[derive(Clone, Copy)]
struct Free {
    tags: Tags,
    expected: &'static str,
}

impl Free {
    fn inner(self) -> Self {
        Self { expected: "a value", ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Free {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Free {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let finite = Number::from_f64(value).map(Value::Number);
        finite.ok_or_else(|| E::custom(format!("{value} cannot be given to Ansible: write a finite number")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.inner())? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key_seed(NewKey(&values))? {
            let value = map.next_value_seed(self.inner())?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (tag, value) = tagged.variant::<String>()?;
        match self.tags {
            Tags::Accepted => value.newtype_variant_seed(self).map(|_| Value::Null),
            Tags::Refused => Err(A::Error::custom(format!(
                "the tag `!{tag}` cannot be handed on from here: put the variable into overrides/, which Ansible reads itself"
            ))),
        }
    }
}

/// A key that the mapping does not have yet.
struct NewKey<'m>(&'m Map<String, Value>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is text")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if self.0.contains_key(key) {
            return Err(E::custom(format!("key `{key}` stands twice: keep one")));
        }
        Ok(key.to_owned())
    }
}
