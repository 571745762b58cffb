//! `docs/reference.md`: options, environment, exit codes and file keys, generated from clap, `support::env` and the
//! schemas. [`PATH`] must be what [`reference`] gives; the failing test says how to regenerate it.

use std::fmt::Write as _;

use boma_it::catalog::schema::{FileKind, schema};
use boma_it::cli::args::{Cli, EXIT_CODES};
use boma_it::site::VARIABLES;
use boma_it::site::settings::{Decision, SETTINGS, Settings};
use boma_it::support::env;
use clap::{Arg, Command, CommandFactory, ValueEnum};
use serde_json::Value;

use crate::page::root;

/// Relative to the project's folder.
pub(crate) const PATH: &str = "docs/reference.md";

const HEAD: &str = "# Reference

Every option, variable, exit code and file key. Generated from the code; regenerate it with

```sh
SNAPSHOTS=overwrite cargo test --test docs reference
```

- [Sub-commands](#sub-commands) · [Environment](#environment) · [Exit codes](#exit-codes)
- [Variables for the site](#variables-for-the-site) · [Settings of Ansible](#settings-of-ansible)
- [Profile](#profile) · [Scenario](#scenario) · [Harness](#harness)
";

const SETTINGS_HEAD: &str = "
## Settings of Ansible

Every setting of ansible-core, and what a run does with the one in the site's `ansible.cfg`. What is carried over has its place
there, as `section.key`; the rest has the name that `ansible-config list` gives it. Settings of plugins that are not here are
left out. Variables of the environment (`ANSIBLE_…`) are never passed on.

";

/// A row of the table of settings.
fn setting(settings: &Settings) -> [String; 3] {
    let what = match settings.decision {
        Decision::Paths => "carried over, relative paths made absolute",
        Decision::Value => "carried over",
        Decision::ListingPaths => {
            "carried over where the inventory is listed, not into a run; relative paths made absolute"
        }
        Decision::ListingValue => "carried over where the inventory is listed, not into a run",
        Decision::Set => "set by boma-it",
        Decision::LeftOut => "left out",
    };
    let names: Vec<_> = settings.names().map(|(name, place)| code(place.unwrap_or(name))).collect();
    [what.to_owned(), settings.reason.to_owned(), names.join(", ")]
}

#[test]
fn the_reference_is_up_to_date() {
    snapbox::assert_data_eq!(reference(), snapbox::Data::read_from(&root().join(PATH), None).raw());
}

fn reference() -> String {
    let mut cli = Cli::command().disable_help_subcommand(true).disable_help_flag(true);
    cli.build();
    let mut text = HEAD.to_owned();
    text += "\n## Sub-commands\n\n`boma-it`, in a checkout of the project `cargo it`. With every sub-command:\n\n";
    text += &options(cli.get_arguments());
    for sub in cli.get_subcommands() {
        describe(sub, &mut text);
    }
    let rows = env::ALL.iter().map(|variable| [code(variable.name), variable.help.to_owned()]);
    text += &format!("\n## Environment\n\n{}", table(["variable", "meaning"], rows));
    text += "\nAn empty variable counts as unset.\n";
    let rows = EXIT_CODES.iter().map(|(code, meaning)| [(*code).to_owned(), (*meaning).to_owned()]);
    text += &format!("\n## Exit codes\n\n{}", table(["code", "meaning"], rows));
    text += "\n`boma-it ssh` ends with the exit code of the command that it ran.\n";
    let rows = VARIABLES.iter().map(|(name, meaning)| [code(name), (*meaning).to_owned()]);
    text += &format!("\n## Variables for the site\n\n{}", table(["variable", "meaning"], rows));
    text += SETTINGS_HEAD;
    text += &table(["what", "why", "settings"], SETTINGS.iter().map(setting));
    for kind in FileKind::value_variants() {
        let schema = schema(*kind);
        let mut rows = Vec::new();
        keys(&schema, "", &mut rows);
        let word = kind.to_possible_value().unwrap();
        let (head, tail) = word.get_name().split_at(1);
        let about = schema["description"].as_str().unwrap();
        let table = table(["key", "value", "meaning"], rows.into_iter());
        text += &format!("\n## {}{tail}\n\n{about}\n\n{table}", head.to_uppercase());
    }
    text
}

/// A sub-command and those below it.
fn describe(command: &Command, text: &mut String) {
    if command.is_hide_set() {
        return;
    }
    let usage = command.clone().render_usage().to_string();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(text, "\n### {}\n\n{about}.\n", command.get_bin_name().unwrap());
    if command.has_subcommands() {
        command.get_subcommands().for_each(|sub| describe(sub, text));
        return;
    }
    let _ = write!(text, "\n    {}\n", usage.trim_start_matches("Usage: "));
    let own = command.get_arguments().filter(|it| !it.is_global_set() && it.get_id() != "help");
    let table = options(own);
    if !table.is_empty() {
        let _ = write!(text, "\n{table}");
    }
}

/// Options and arguments as a table; nothing if there are none.
fn options<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let shown: Vec<_> = arguments.filter(|it| !it.is_hide_set() && it.get_id() != "version").collect();
    let row = |argument: &&Arg| {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> = argument.get_possible_values();
        let values: Vec<_> = values.iter().map(|value| code(value.get_name())).collect();
        let takes = argument.get_action().takes_values() && !values.is_empty();
        let values = if takes { format!(": {}", values.join(", ")) } else { String::new() };
        [code(&argument.to_string()), help + &values]
    };
    if shown.is_empty() { String::new() } else { table(["option", "meaning"], shown.iter().map(row)) }
}

/// Every key below an object of a schema, by its path.
fn keys(schema: &Value, prefix: &str, rows: &mut Vec<[String; 3]>) {
    let object = variants(schema).into_iter().find(|it| it["properties"].is_object());
    let Some(object) = object else { return };
    let required: Vec<_> = object["required"].as_array().into_iter().flatten().collect();
    for (name, value) in object["properties"].as_object().unwrap() {
        if name == "$schema" {
            continue;
        }
        let path = format!("{prefix}{name}");
        let needed = if required.iter().any(|it| *it == name) { "; required" } else { "" };
        let meaning = value["description"].as_str().unwrap_or_default().replace('\n', " ");
        let default = match &value["default"] {
            Value::Null | Value::Object(_) => String::new(),
            Value::Array(empty) if empty.is_empty() => String::new(),
            default => format!(" Default: `{}`.", default.to_string().trim_matches('"')),
        };
        rows.push([code(&path), format!("{}{needed}", shape(value)), meaning + &default]);
        keys(value, &format!("{path}."), rows);
        let items = value["items"].is_object().then(|| &value["items"]);
        let values = value["additionalProperties"].is_object().then(|| &value["additionalProperties"]);
        if let Some(items) = items {
            keys(items, &format!("{path}[]."), rows);
        }
        if let Some(values) = values {
            keys(values, &format!("{path}.<name>."), rows);
        }
    }
}

/// The schemas that a value may match, without `null` (a key that is left out).
fn variants(schema: &Value) -> Vec<&Value> {
    match schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        Some(all) if !schema["properties"].is_object() => {
            all.iter().filter(|it| it["type"] != "null").flat_map(variants).collect()
        }
        _ => vec![schema],
    }
}

/// What a value looks like, in a few words.
fn shape(schema: &Value) -> String {
    let variants = variants(schema);
    let words = variants.iter().filter_map(|it| it["const"].as_str()).map(code);
    let shapes = variants.iter().filter(|it| it["const"].is_null()).map(|it| one_shape(it));
    let one = variants.iter().filter_map(|it| it["const"].as_u64()).map(|it| code(&it.to_string()));
    let mut all: Vec<_> = words.chain(one).chain(shapes.filter(|it| !it.is_empty())).collect();
    all.dedup();
    all.join(", ")
}

fn one_shape(schema: &Value) -> String {
    if let Some(example) = schema["examples"][0].as_str() {
        return format!("such as {}", code(example));
    }
    let types = match &schema["type"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).find(|it| *it != "null"),
        one => one.as_str(),
    };
    match types {
        Some("string") => "text".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("array") => format!("list of {}", shape(&schema["items"])),
        Some("object") => "mapping".to_owned(),
        _ => String::new(),
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let line = |cells: [String; N]| format!("| {} |\n", cells.map(|it| it.replace('|', "\\|")).join(" | "));
    let rule = format!("|{}\n", "---|".repeat(N));
    line(head.map(str::to_owned)) + &rule + &rows.map(line).collect::<String>()
}
