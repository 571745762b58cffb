//! Ansible variables: those of a scenario and of an override, and the names that neither may set. Read strictly: a
//! repeated key is an error at its place, which neither `serde_json` nor Ansible reports.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::document::Document;
use super::problem::Problem;
use super::quantity::Text;

/// The prefix of boma-it's own variables.
pub const OURS: &str = "boma_it";

const EXACT: &[&str] = &[
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_password",
    "ansible_connection",
    "ansible_transport",
    "ansible_private_key",
    "ansible_private_key_file",
    "ansible_private_key_passphrase",
    "ansible_host_key_checking",
    "ansible_host_key_auto_add",
    "ansible_pipelining",
    "ansible_timeout",
    "ansible_connection_timeout",
    "ansible_python_interpreter",
    "ansible_become_password",
    "ansible_become_pass",
    "ansible_sudo_pass",
    "ansible_su_pass",
];
const PREFIXES: &[&str] = &[
    "ansible_ssh_",
    "ansible_sshpass_",
    "ansible_sftp_",
    "ansible_scp_",
    "ansible_control_path",
    "ansible_paramiko_",
    "ansible_libssh_",
    "ansible_winrm_",
    "ansible_psrp_",
    "ansible_httpapi_",
];

/// Whether only boma-it sets the variable: one of its own, or one that says how the host is reached.
pub(crate) fn is_reserved(name: &str) -> bool {
    is_ours(name) || is_connection_var(name)
}

/// Whether a variable is one of boma-it's own.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

/// Whether a variable says how a host is reached or with which secret. The transient inventory omits those of the real
/// host.
pub(crate) fn is_connection_var(name: &str) -> bool {
    EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether `text` is an Ansible variable, or a key in one: `vault.gandi.pat`.
pub(super) fn is_variable_path(text: &str) -> bool {
    text.split('.').all(is_identifier)
}

/// Whether `word` is an identifier of Ansible's, or of the environment: letters, digits and `_`.
pub(super) fn is_identifier(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The names that are not reserved, as a regular expression of JSON Schema.
fn pattern() -> String {
    let (exact, prefixes) = (EXACT.join("|"), PREFIXES.join("|"));
    format!("^(?!{OURS}|(?:{exact})$|{prefixes})[A-Za-z_][A-Za-z0-9_]*$")
}

/// Variables of a scenario; Ansible gets them as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(with = "Map<String, Value>", inline, extend("propertyNames" = { "pattern": pattern() }))]
pub(super) struct Vars(pub(super) BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Vars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Free::mapping(Tags::Refused).deserialize(deserializer)? {
            Value::Object(vars) => Ok(Self(vars.into_iter().collect())),
            _ => Err(D::Error::custom("expected a mapping of variables")),
        }
    }
}

/// Checks `file`, an override: a mapping that Ansible can read. Ansible itself reads its values.
pub(super) fn check_overrides(root: &Path, file: &Path) -> Result<(), Problem> {
    Document::read(root, file)?.parse_seed(Free::mapping(Tags::Accepted)).map(|_| ())
}

/// Whether values may have YAML tags (`!vault`, `!unsafe`).
#[derive(Clone, Copy)]
enum Tags {
    /// They may; a tagged value becomes null, as only Ansible reads it.
    Accepted,
    /// They must not.
    Refused,
}

/// Any value, or a mapping of them.
#[derive(Clone, Copy)]
struct Free {
    tags: Tags,
    is_mapping: bool,
}

impl Free {
    fn mapping(tags: Tags) -> Self {
        Self { tags, is_mapping: true }
    }

    fn inner(self) -> Self {
        Self { is_mapping: false, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Free {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.is_mapping { deserializer.deserialize_map(self) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Free {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_mapping { "a mapping of variables" } else { "a value" })
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
        finite.ok_or_else(|| E::custom(format!("{value} cannot be passed to Ansible: write a finite number")))
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
        while let Some(key) =
            map.next_key_seed(Text { expected: "a key that is text", parse: new_key(&values) })?
        {
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
                "a scenario cannot pass on the tag `!{tag}`: put the variable into overrides/, which Ansible reads itself"
            ))),
        }
    }
}

/// Reads a key that the mapping does not have yet.
fn new_key(values: &Map<String, Value>) -> impl FnOnce(&str) -> Result<String, String> {
    |key| match values.contains_key(key) {
        true => Err(format!("key `{key}` appears twice: keep one")),
        false => Ok(key.to_owned()),
    }
}
