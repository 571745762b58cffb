//! JSON Schemas of the files: an editor completes and checks a file while it is written. They are generated from the
//! structs that read the files; their descriptions are those structs' comments.
//!
//! A schema accepts what the parser accepts, and refuses what can be seen without another file: unknown keys, wrong types,
//! wrong units. Only the parser checks rules across keys.

use clap::ValueEnum;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::harness_file::HarnessFile;
use super::profile::ProfileFile;
use super::scenario::ScenarioFile;

/// A kind of file that has a schema. An override has none, as Ansible reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileKind {
    /// `profiles/<host>.yml`.
    Profile,
    /// `scenarios/<name>.yml`.
    Scenario,
    /// `harness/harness.yml`.
    Harness,
}

/// The schema of a kind of file: JSON Schema draft 7, which is what editors know best, in one piece.
pub fn schema(kind: FileKind) -> Value {
    // The keys of a section have their defaults; the section needs none.
    let drop_default = RecursiveTransform(|schema: &mut Schema| {
        if schema.get("default").is_some_and(Value::is_object) {
            schema.remove("default");
        }
    });
    let mut generator = SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(drop_default)
        .into_generator();
    let schema = match kind {
        FileKind::Profile => generator.root_schema_for::<ProfileFile>(),
        FileKind::Scenario => generator.root_schema_for::<ScenarioFile>(),
        FileKind::Harness => generator.root_schema_for::<HarnessFile>(),
    };
    schema.into()
}

/// [`schema`] as text: what `boma-it schema` prints, and `schemas/` holds.
pub fn text(kind: FileKind) -> String {
    format!("{:#}\n", schema(kind))
}
