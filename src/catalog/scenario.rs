//! `scenarios/<name>.yml`: a profile with a twist and an expected outcome.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::document::Document;
use super::expect::ExpectFile;
use super::parts::{ImageFile, Version, VmFile};
use super::plan::{Expectation, ImageSource, Restart, Tier};
use super::problem::{Problem, ProjectError};
use super::profile::one_line;
use super::reserved::{OURS, is_connection_var, is_ours};
use super::value::Vars;

/// The file as it is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ScenarioFile {
    #[expect(dead_code, reason = "reading it is the check")]
    /// Version of the file's format.
    version: Version,
    /// The host it is a twist of.
    profile: String,
    /// What it shows, in a line.
    #[schemars(regex(pattern = r"\S"))]
    description: String,
    /// Variables laid over the override.
    vars: Option<Vars>,
    /// Certificate tiers it may run with; the first is its default. Left out: all of them, or with `egress: false` only
    /// `internal`.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    certs: Option<Vec<Tier>>,
    /// How the VM is restarted; `graceful` if it is left out.
    restart: Option<Restart>,
    /// Whether the guest reaches anything beyond the harness's network; it does if this is left out.
    egress: Option<bool>,
    /// What is declared to happen.
    expect: Option<ExpectFile>,
    /// Size of the VM, where it differs from the profile's.
    vm: Option<VmFile>,
    /// Its own golden image, instead of the profile's or the harness's.
    image: Option<ImageFile>,
    /// Where the schema of the file is: for editors.
    #[serde(rename = "$schema")]
    #[expect(dead_code, reason = "an editor's, not ours")]
    schema: Option<String>,
}

/// A scenario, checked.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// The host it is a twist of, as written.
    pub(super) profile: String,
    /// What it shows.
    pub(super) description: String,
    /// Variables laid over the override.
    pub(super) vars: BTreeMap<String, Value>,
    /// Certificate tiers it may run with, in the order of the file. At least one.
    pub(super) certs: Vec<Tier>,
    /// How the VM is restarted.
    pub(super) restart: Restart,
    /// Whether the guest reaches anything beyond the harness's network.
    pub(super) egress: bool,
    /// What is declared to happen.
    pub(super) expect: Expectation,
    /// Size of the VM, where it differs from the profile's.
    pub(super) vm: VmFile,
    /// Its own golden image.
    pub(super) image: Option<ImageSource>,
}

/// Reads a scenario.
pub(super) fn read(root: &Path, file: &Path) -> Result<Scenario, ProjectError> {
    let document = Document::read(root, file)?;
    let written: ScenarioFile = document.parse()?;
    let mut problems = Vec::new();
    let description = one_line(&written.description);
    if description.is_empty() {
        problems
            .push(document.at_value(&["description"], "`description` is empty: say what the scenario shows"));
    }
    let vars = written.vars.unwrap_or_default().0;
    check_vars(&vars, &document, &mut problems);
    let egress = written.egress.unwrap_or(true);
    let certs =
        written.certs.unwrap_or_else(|| if egress { Tier::ALL.to_vec() } else { vec![Tier::Internal] });
    check_certs(&certs, egress, &document, &mut problems);
    let vm = written.vm.unwrap_or_default();
    vm.check(&document, &mut problems);
    let image = written.image.map(|image| image.resolve(root, &document)).transpose();
    let image = image.map_err(|problem| problems.push(problem)).unwrap_or_default();
    let expect = written.expect.unwrap_or_default().resolve(&document, &mut problems);
    let restart = written.restart.unwrap_or_default();
    let profile = written.profile;
    ProjectError::unless(
        problems,
        Scenario { profile, description, vars, certs, restart, egress, expect, vm, image },
    )
}

fn check_certs(certs: &[Tier], egress: bool, document: &Document, problems: &mut Vec<Problem>) {
    if certs.is_empty() {
        let message = "`certs` is empty: name the tiers it may run with, or remove the key to allow all";
        problems.push(document.at_key(&["certs"], message));
    }
    for (index, tier) in repeated(certs) {
        let message = format!("tier `{tier}` stands twice: keep one");
        problems.push(document.at_value(&["certs", &index.to_string()], message));
    }
    if egress {
        return;
    }
    if let Some(index) = certs.iter().position(|tier| *tier != Tier::Internal) {
        let message = format!(
            "tier `{}` needs egress, which `egress: false` cuts: only `certs: [internal]` goes with it",
            certs[index]
        );
        problems.push(document.at_value(&["certs", &index.to_string()], message));
    }
}

fn check_vars(vars: &BTreeMap<String, Value>, document: &Document, problems: &mut Vec<Problem>) {
    for (name, value) in vars {
        let path = ["vars", name.as_str()];
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let message =
                format!("`{name}` is no name of an Ansible variable (expected letters, digits and `_`)");
            problems.push(document.at_key(&path, message));
        } else if is_ours(name) {
            let message =
                format!("`{name}` is not yours to set: variables named `{OURS}*` come from boma-it");
            problems.push(document.at_key(&path, message));
        } else if is_connection_var(name) {
            let message =
                format!("`{name}` is not yours to set: boma-it says how the VM is reached; remove it");
            problems.push(document.at_key(&path, message));
        }
        check_booleans(value, &path, document, problems);
    }
}

/// Ansible reads YAML 1.1, where a bare `no` is false. We read YAML 1.2, where it is a text, and a text that is not
/// empty would count as true: so a bare one is refused rather than turned into its opposite.
fn check_booleans(value: &Value, path: &[&str], document: &Document, problems: &mut Vec<Problem>) {
    let inner = |step: &str, value: &Value, problems: &mut Vec<Problem>| {
        let path: Vec<&str> = path.iter().copied().chain([step]).collect();
        check_booleans(value, &path, document, problems);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| inner(key, value, problems)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| inner(&index.to_string(), value, problems));
        }
        Value::String(text) => {
            let means = match text.to_ascii_lowercase().as_str() {
                "yes" | "on" => true,
                "no" | "off" => false,
                _ => return,
            };
            if is_bare(text, path, document) {
                let message = format!(
                    "a bare `{text}` is {means} to Ansible but text here: write `{means}`, or `\"{text}\"` for the text"
                );
                problems.push(document.at_value(path, message));
            }
        }
        _ => {}
    }
}

/// Whether `text`, the value at `path`, stands there without quotes.
fn is_bare(text: &str, path: &[&str], document: &Document) -> bool {
    let Some(position) = document.value_position(path) else { return false };
    let Some(column) = position.column else { return false };
    let line = document.text().lines().nth(position.line - 1).unwrap_or_default();
    line.chars().skip(column - 1).collect::<String>().starts_with(text)
}

/// What stands in `list` a second time, and where.
pub(super) fn repeated<T: PartialEq>(list: &[T]) -> impl Iterator<Item = (usize, &T)> {
    list.iter().enumerate().filter(|(index, item)| list[..*index].contains(item))
}
