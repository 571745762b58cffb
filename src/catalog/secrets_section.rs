//! `secrets:` and `vault:` of `harness/harness.yml`: where each secret comes from. Reading the secrets themselves is not
//! done here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Value, json};

use super::document::{Check, Document};
use super::problem::Problem;
use super::root::expand;
use super::secrets::{SecretSource, VaultPassword};
use super::variables::{is_identifier, is_ours, is_variable_path};

/// Where each secret comes from, by its name.
pub(super) type Sources = BTreeMap<String, SecretSource>;

/// `secrets:`, by name; each name once.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(inline)]
pub(super) struct SecretsSection(BTreeMap<String, SourceFile>);

/// Where a secret comes from, as it is written; exactly one key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = one_of_keys(&["env", "file", "vault"])))]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{env: NAME}`")]
struct SourceFile {
    /// An environment variable.
    env: Option<String>,
    /// A file, relative to the root.
    file: Option<String>,
    /// A file of Ansible Vault's, relative to the root.
    vault: Option<String>,
}

/// `vault:`; exactly one key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = one_of_keys(&["password_file", "password_command"])))]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{password_file: path}`")]
pub(super) struct VaultFile {
    /// A file, relative to the root.
    password_file: Option<String>,
    /// A command of a POSIX shell.
    password_command: Option<String>,
}

/// What has exactly one of these keys, each a text.
fn one_of_keys(keys: &[&str]) -> Value {
    let only =
        |key: &&str| json!({"required": [key], "properties": {*key: {"type": "string"}}, "maxProperties": 1});
    keys.iter().map(only).collect()
}

impl<'de> Deserialize<'de> for SecretsSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SecretsVisitor)
    }
}

struct SecretsVisitor;

impl<'de> Visitor<'de> for SecretsVisitor {
    type Value = SecretsSection;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of secrets, such as `vault.gandi.pat: {env: GANDI_PAT}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretsSection, A::Error> {
        let mut secrets = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if secrets.contains_key(&name) {
                return Err(A::Error::custom(format!("secret `{name}` appears twice: keep one")));
            }
            let Source(source) = map.next_value()?;
            secrets.insert(name, source);
        }
        Ok(SecretsSection(secrets))
    }
}

/// One of `secrets:`. A text or a number in its place may be the secret itself, so no error repeats it.
struct Source(SourceFile);

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping such as `{env: NAME}`")
    }

    fn visit_str<E: Error>(self, _text: &str) -> Result<Source, E> {
        Err(E::custom(
            "found a text, expected a mapping such as `{env: NAME}`: never write the secret itself here",
        ))
    }

    fn visit_u64<E: Error>(self, _number: u64) -> Result<Source, E> {
        self.visit_str("")
    }

    fn visit_f64<E: Error>(self, _number: f64) -> Result<Source, E> {
        self.visit_str("")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
        SourceFile::deserialize(MapAccessDeserializer::new(map)).map(Source)
    }
}

impl SecretsSection {
    /// The secrets with their paths absolute; `vault` says how vaults are opened.
    pub(super) fn resolve(self, vault: Option<VaultFile>, root: &Path, check: &mut Check) -> Sources {
        let password = vault.and_then(|vault| check.collect(vault.resolve(root, &check.document)));
        check_names(&self.0, check);
        let mut sources = Sources::new();
        for (name, source) in self.0 {
            let resolved = source.resolve(&name, password.as_ref(), root, &check.document);
            sources.extend(check.collect(resolved).map(|source| (name, source)));
        }
        sources
    }
}

const NOT_A_VARIABLE: &str = "this is not the name of an environment variable (expected letters, digits and `_`): write \
                              the name here, never the value";
const NO_PASSWORD: &str = "a vault needs its password: add `vault: {password_file: <path>}` or `vault: {password_command: \
                           <command>}` to the file";

impl SourceFile {
    fn resolve(
        self,
        name: &str,
        password: Option<&VaultPassword>,
        root: &Path,
        document: &Document,
    ) -> Result<SecretSource, Problem> {
        let wrong = |key: &str, message: String| document.at_value(&["secrets", name, key], message);
        let path = |key: &str, written: &str| {
            expand(root, written).map_err(|message| wrong(key, format!("`{key}`: {message}")))
        };
        match (self.env, self.file, self.vault) {
            (Some(variable), None, None) if is_identifier(&variable) => Ok(SecretSource::Env(variable)),
            (Some(_), None, None) => Err(wrong("env", NOT_A_VARIABLE.to_owned())),
            (None, Some(file), None) => path("file", &file).map(SecretSource::File),
            (None, None, Some(file)) => {
                let password = password.cloned().ok_or_else(|| wrong("vault", NO_PASSWORD.to_owned()))?;
                Ok(SecretSource::Vault { file: path("vault", &file)?, password })
            }
            _ => Err(document.at_value(
                &["secrets", name],
                format!("secret `{name}` needs exactly one of `env`, `file` and `vault`"),
            )),
        }
    }
}

impl VaultFile {
    fn resolve(self, root: &Path, document: &Document) -> Result<VaultPassword, Problem> {
        match (self.password_file, self.password_command) {
            (Some(file), None) => expand(root, &file).map(VaultPassword::File).map_err(|message| {
                document.at_value(&["vault", "password_file"], format!("`vault.password_file`: {message}"))
            }),
            (None, Some(command)) if !command.trim().is_empty() => Ok(VaultPassword::Command(command)),
            (None, Some(_)) => Err(document.at_value(
                &["vault", "password_command"],
                "`vault.password_command` is empty: write the command that prints the password",
            )),
            _ => Err(document
                .at_value(&["vault"], "`vault` needs exactly one of `password_file` and `password_command`")),
        }
    }
}

/// A name is the path of an Ansible variable, and no name is a part of another.
fn check_names(secrets: &BTreeMap<String, SourceFile>, check: &mut Check) {
    for name in secrets.keys() {
        let path = ["secrets", name.as_str()];
        if !is_variable_path(name) {
            check.key(&path, format!(
                "`{name}` is not the path of an Ansible variable (expected names of letters, digits and `_`, joined by dots)"
            ));
        } else if is_ours(name) || name.starts_with("ansible_") {
            check.key(&path, format!(
                "`{name}` cannot be a secret: boma-it and Ansible set the variables `boma_it*` and `ansible_*` themselves"
            ));
        }
        let inside =
            |other: &&String| other.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if let Some(other) = secrets.keys().find(inside) {
            check.key(
                &path,
                format!("`{name}` cannot be a secret and contain the secret `{other}`: rename one"),
            );
        }
    }
}
