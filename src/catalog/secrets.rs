//! Which secrets there are and where each comes from: `secrets:` and `vault:` of `harness/harness.yml`, and the list
//! `secrets:` of a profile. Never a value: reading one touches the world, which is not done here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::problem::{Problem, suggestion};
use super::reserved::is_ours;
use super::root::expand;
use super::scenario::repeated;
use super::schema::one_of_keys;

/// A secret that a plan needs, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPlan {
    /// Its name, which is the dotted path of the Ansible variable that holds it: `vault.gandi.pat`.
    pub name: String,
    /// Where it comes from.
    pub source: SecretSource,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// This environment variable.
    Env(String),
    /// The whole of this file, line ends at its end aside: absolute.
    File(PathBuf),
    /// The value at the secret's own dotted path in a YAML file of Ansible Vault's.
    Vault {
        /// The file, vaulted as a whole or with vaulted values in it: absolute.
        file: PathBuf,
        /// The vault's password.
        password: VaultPassword,
    },
}

/// Where the password of Ansible Vault comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaultPassword {
    /// This file, or what it prints if it may be executed: absolute.
    File(PathBuf),
    /// What this command of a POSIX shell prints, run in the root.
    Command(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(variable) => write!(f, "the environment variable {variable}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Vault { file, .. } => write!(f, "the vault {}", file.display()),
        }
    }
}

impl fmt::Display for VaultPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the password of {}", path.display()),
            Self::Command(command) => write!(f, "the password that `{command}` prints"),
        }
    }
}

/// Every secret that `harness.yml` names.
pub(super) type Sources = BTreeMap<String, SecretSource>;

/// `secrets:` of `harness.yml`: by name, each name once.
#[derive(Clone, Debug, Default)]
pub(super) struct SecretsSection(BTreeMap<String, SourceFile>);

/// One of `secrets:`. A text in its place may be the secret itself, which no error repeats.
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
        Err(E::custom("found a text, expected a mapping such as `{env: NAME}`: a value never stands here"))
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

/// `vault:` of `harness.yml`; exactly one key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = one_of_keys(&["password_file", "password_command"])))]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{password_file: path}`")]
pub(super) struct VaultFile {
    /// A file, relative to the root.
    password_file: Option<String>,
    /// A command of a POSIX shell.
    password_command: Option<String>,
}

impl<'de> Deserialize<'de> for SecretsSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SecretsVisitor)
    }
}

impl JsonSchema for SecretsSection {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secrets".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let source = generator.subschema_for::<SourceFile>();
        json_schema!({"type": "object", "additionalProperties": source})
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
                return Err(A::Error::custom(format!("secret `{name}` stands twice: keep one")));
            }
            let Source(source) = map.next_value()?;
            secrets.insert(name, source);
        }
        Ok(SecretsSection(secrets))
    }
}

impl SecretsSection {
    /// The secrets with their paths absolute; `vault` says how vaults are opened.
    pub(super) fn resolve(
        self,
        vault: Option<VaultFile>,
        root: &Path,
        document: &Document,
        problems: &mut Vec<Problem>,
    ) -> Sources {
        let password = vault.and_then(|vault| collect(vault.resolve(root, document), problems));
        check_names(&self.0, document, problems);
        let mut sources = Sources::new();
        for (name, source) in self.0 {
            let resolved = source.resolve(&name, password.as_ref(), root, document);
            sources.extend(collect(resolved, problems).map(|source| (name, source)));
        }
        sources
    }
}

impl SourceFile {
    fn resolve(
        self,
        name: &str,
        password: Option<&VaultPassword>,
        root: &Path,
        document: &Document,
    ) -> Result<SecretSource, Problem> {
        let path = |key: &str, written: &str| {
            let at = ["secrets", name, key];
            expand(root, written).map_err(|message| document.at_value(&at, format!("`{key}`: {message}")))
        };
        match (self.env, self.file, self.vault) {
            (Some(variable), None, None) if is_identifier(&variable) => Ok(SecretSource::Env(variable)),
            (Some(_), None, None) => Err(document.at_value(
                &["secrets", name, "env"],
                "this is no name of an environment variable (expected letters, digits and `_`): the name goes here, never the value",
            )),
            (None, Some(file), None) => Ok(SecretSource::File(path("file", &file)?)),
            (None, None, Some(file)) => match password {
                Some(password) => {
                    Ok(SecretSource::Vault { file: path("vault", &file)?, password: password.clone() })
                }
                None => Err(document.at_value(
                    &["secrets", name, "vault"],
                    "a vault needs its password: add `vault: {password_file: <path>}` or `vault: {password_command: <command>}` to the file",
                )),
            },
            _ => Err(document.at_value(
                &["secrets", name],
                format!("secret `{name}` comes from one place: exactly one of `env`, `file` and `vault`"),
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
            _ => Err(document.at_value(
                &["vault"],
                "the vault's password comes from one place: exactly one of `password_file` and `password_command`",
            )),
        }
    }
}

/// A name is the path of an Ansible variable, and no name is inside another.
fn check_names(secrets: &BTreeMap<String, SourceFile>, document: &Document, problems: &mut Vec<Problem>) {
    for name in secrets.keys() {
        let at = |message| document.at_key(&["secrets", name], message);
        if !name.split('.').all(is_identifier) {
            problems.push(at(format!(
                "`{name}` is no path of an Ansible variable (expected names of letters, digits and `_`, with dots between them)"
            )));
        } else if is_ours(name) || name.starts_with("ansible_") {
            problems.push(at(format!(
                "`{name}` is no variable for a secret: `boma_it*` and `ansible_*` are set by boma-it and by Ansible"
            )));
        }
        let inside =
            |other: &&String| other.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if let Some(other) = secrets.keys().find(inside) {
            problems.push(at(format!(
                "`{name}` cannot be a secret and hold the secret `{other}` as well: rename one"
            )));
        }
    }
}

fn is_identifier(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The secrets that `wanted`, the list `secrets` of `document`, names.
pub(super) fn needed(
    wanted: &[String],
    known: &Sources,
    document: &Document,
    problems: &mut Vec<Problem>,
) -> Vec<SecretPlan> {
    for (index, name) in repeated(wanted) {
        let message = format!("secret `{name}` stands twice: keep one");
        problems.push(document.at_value(&["secrets", &index.to_string()], message));
    }
    let mut needed = Vec::new();
    for (index, name) in wanted.iter().enumerate() {
        match known.get(name) {
            Some(source) => needed.push(SecretPlan { name: name.clone(), source: source.clone() }),
            None => {
                let known = known.keys().map(String::as_str);
                let message = format!("harness.yml has no secret `{name}`{}", suggestion(name, known));
                problems.push(document.at_value(&["secrets", &index.to_string()], message));
            }
        }
    }
    needed
}

fn collect<T>(part: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    part.map_err(|problem| problems.push(problem)).ok()
}
