//! JSON Schemas of the files, so that an editor completes and checks them while they are written. They are made from the
//! very structs that read the files, and their descriptions are those structs' comments; what a struct says in Rust
//! (a quantity, the version) is said here as a pattern.
//!
//! A schema takes what the parser takes, and refuses what can be told without another file: unknown keys, wrong types,
//! wrong units. What hangs together across keys stays the parser's.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::harness_file::HarnessFile;
use super::parts::{VERSION, Version};
use super::plan::Subnet;
use super::profile::ProfileFile;
use super::quantity::{Bytes, TimeLimit};
use super::reserved;
use super::scenario::ScenarioFile;
use super::value::Vars;

/// A kind of file that has a schema. An override has none: it is Ansible's to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileKind {
    /// `profiles/<host>.yml`.
    Profile,
    /// `scenarios/<name>.yml`.
    Scenario,
    /// `harness/harness.yml`.
    Harness,
}

impl FileKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Profile, Self::Scenario, Self::Harness];

    /// The word for it, as `boma-it schema` takes it and `schemas/<word>.schema.json` is named.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Scenario => "scenario",
            Self::Harness => "harness",
        }
    }

    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Profile => ("Profile of boma-it", "profiles/<host>.yml: a host as the harness knows it."),
            Self::Scenario => (
                "Scenario of boma-it",
                "scenarios/<name>.yml: a profile with a twist and an expected outcome.",
            ),
            Self::Harness => (
                "Harness of boma-it",
                "harness/harness.yml: where the site is, which image, the hypervisor, limits. Every key but `version` has a default.",
            ),
        }
    }
}

/// The schema of a kind of file: JSON Schema draft 7, which is what editors know best, in one piece.
pub fn schema(kind: FileKind) -> Value {
    let mut generator =
        SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).into_generator();
    let mut schema = match kind {
        FileKind::Profile => generator.root_schema_for::<ProfileFile>(),
        FileKind::Scenario => generator.root_schema_for::<ScenarioFile>(),
        FileKind::Harness => generator.root_schema_for::<HarnessFile>(),
    };
    let (title, description) = kind.told();
    schema.insert("title".to_owned(), title.into());
    schema.insert("description".to_owned(), description.into());
    schema.into()
}

/// [`schema`] as text: what `boma-it schema` prints, and `schemas/` holds.
pub fn text(kind: FileKind) -> String {
    format!("{:#}\n", schema(kind))
}

/// What `expect.fail` can be: where tasks fail they are named, and what becomes of a machine is a reason.
pub(super) fn fault_schemas() -> Value {
    json!([
        {"required": ["task"], "properties": {"at": {"enum": ["apply", "assert"]}, "task": {"type": "string"}}},
        {"required": ["tasks"], "properties": {"at": {"enum": ["apply", "assert"]}, "tasks": {"type": "array"}}},
        {"required": ["reason"], "properties": {"at": {"enum": ["apply", "reboot"]}, "reason": {"type": "string"}}},
    ])
}

/// What `image` can be: each source with the keys that mean something to it.
pub(super) fn source_schemas() -> Value {
    let none = json!({"type": "null"});
    json!([
        {"properties": {"source": {"const": "auto"}, "path": none}},
        {"required": ["source"], "properties": {"source": {"const": "official"}, "path": none, "packages": none}},
        {"required": ["source"], "properties": {"source": {"const": "build"}, "path": none, "release": none, "url": none}},
        {
            "required": ["source", "path"],
            "properties": {
                "source": {"const": "path"}, "path": {"type": "string"}, "release": none, "url": none, "packages": none,
            },
        },
    ])
}

/// What has exactly one of these keys, each a text.
pub(super) fn one_of_keys(keys: &[&str]) -> Value {
    let only =
        |key: &&str| json!({"required": [key], "properties": {*key: {"type": "string"}}, "maxProperties": 1});
    keys.iter().map(only).collect()
}

/// Says how a type is written that reads itself from a scalar.
macro_rules! written {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

written!(Version, "Version", { "const": VERSION });
written!(Bytes, "Size", {
    "type": "string", "pattern": r"^[0-9]+\s*(B|KiB|MiB|GiB|TiB)$", "examples": ["3GiB", "512MiB"],
});
written!(TimeLimit, "Duration", {
    "type": "string", "pattern": r"^0*[1-9][0-9]*\s*(s|m|h)$", "examples": ["5m", "90s"],
});
written!(Subnet, "Subnet", {
    "type": "string",
    "pattern": r"^(10|172|192)(\.[0-9]{1,3}){3}/(1[6-9]|2[0-8])$",
    "examples": ["10.213.47.0/24"],
});
// The names' rule is `check_vars`'s.
written!(Vars, "Variables", { "type": "object", "propertyNames": { "pattern": reserved::pattern() } });
