//! `ansible:` of `harness/harness.yml`: how Ansible's modules run in the guest, and what a playbook may do.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `ansible:`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub(super) struct AnsibleFile {
    /// Whether the guest keeps the byte-code of Ansible's modules between tasks: `on`, `off`, or `auto`, which is on where
    /// the VM is emulated.
    pub(super) bytecode_cache: BytecodeCache,
    /// What it means if a play of the site's playbook selects no host of the production inventory: `note` or `error`. In
    /// `verify.yml` it always is an error.
    pub(super) plays_for_nobody: PlaysForNobody,
}

/// What it means if a play of the site's playbook selects no host of the production inventory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlaysForNobody {
    /// A note names the play.
    #[default]
    Note,
    /// The run is refused.
    Error,
}

/// When the guest keeps the byte-code of Ansible's modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "Value", inline, extend("oneOf" = words()))]
#[serde(rename_all = "kebab-case")]
pub enum BytecodeCache {
    /// Where the VM is emulated (TCG).
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What `bytecode_cache` can be.
fn words() -> Value {
    json!([{"const": "auto"}, {"const": "on"}, {"const": "off"}, {"type": "boolean"}])
}

/// To YAML 1.1, `on` and `off` are booleans; to YAML 1.2, which boma-it reads, they are words. A person may write either.
impl<'de> Deserialize<'de> for BytecodeCache {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Word)
    }
}

struct Word;

impl Visitor<'_> for Word {
    type Value = BytecodeCache;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`auto`, `on` or `off`")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<BytecodeCache, E> {
        Ok(if on { BytecodeCache::On } else { BytecodeCache::Off })
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<BytecodeCache, E> {
        match word {
            "auto" => Ok(BytecodeCache::Auto),
            "on" => Ok(BytecodeCache::On),
            "off" => Ok(BytecodeCache::Off),
            other => Err(E::custom(format!("unknown value `{other}`: expected `auto`, `on` or `off`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("auto", BytecodeCache::Auto)]
    #[case("on", BytecodeCache::On)]
    #[case("'on'", BytecodeCache::On)]
    #[case("true", BytecodeCache::On)]
    #[case("off", BytecodeCache::Off)]
    #[case("false", BytecodeCache::Off)]
    fn a_word_and_a_boolean_mean_the_same(#[case] written: &str, #[case] meant: BytecodeCache) {
        let file: AnsibleFile = serde_yaml::from_str(&format!("bytecode_cache: {written}\n")).unwrap();
        assert_eq!(file.bytecode_cache, meant);
    }
}
