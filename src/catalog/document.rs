//! One file as it stands on disk: read, decoded, deserialised and checked. Every error has a place and says what to do.
//! YAML goes through `serde_yaml`, JSON through `serde_json` (YAML readers reject some of its escapes).

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Marker, Parser};
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny};

use super::position::{Find, Target};
use super::problem::{self, Position, Problem, ProjectError, suggestion};
use crate::support::file::read_input;

/// How deep lists and mappings may be nested. No file of ours needs a tenth of it.
const DEEPEST: usize = 100;
/// The endings of files we read.
pub(super) const ENDINGS: [&str; 3] = ["yml", "yaml", "json"];

/// The text of one file.
pub(super) struct Document {
    /// Relative to the root.
    file: PathBuf,
    text: String,
}

/// What a deserialiser reports, and where.
type DocumentError = (String, Option<Position>);

impl Document {
    /// Reads `file`, which is relative to `root`.
    pub(super) fn read(root: &Path, file: &Path) -> Result<Self, Problem> {
        let bytes = read_input(&root.join(file)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Problem::of_file(file, "no such file"),
            _ => Problem::of_file(file, format!("the file cannot be read: {error}")),
        })?;
        Self::decode(file.to_owned(), bytes)
    }

    /// Decodes the bytes of `file`.
    pub(super) fn decode(file: PathBuf, bytes: Vec<u8>) -> Result<Self, Problem> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = sound.iter().filter(|byte| **byte == b'\n').count() + 1;
            Problem {
                position: Some(Position { line, column: None }),
                ..Problem::of_file(&file, "the file is not UTF-8 from here on: save it as UTF-8")
            }
        })?;
        // Some editors begin a file with a byte order mark, which is no part of its text.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let blank = |line: &str| line.trim().is_empty() || line.starts_with('#') || line.trim_end() == "---";
        if text.lines().all(blank) {
            return Err(Problem::of_file(&file, "the file is empty: it must hold a mapping (`{}` at least)"));
        }
        let document = Self { file, text };
        match document.depth_problem() {
            Some(problem) => Err(problem),
            None => Ok(document),
        }
    }

    /// What is wrong with a YAML file of deeply nested lists and mappings in brackets. `serde_yaml` reads the whole file before
    /// it looks at the depth, in a time that grows with the square of it.
    fn depth_problem(&self) -> Option<Problem> {
        if self.is_json() || self.text.matches(['[', '{']).count() <= DEEPEST {
            return None;
        }
        let problem = |at: Marker, message: String| Problem {
            position: Some(Position { line: at.line(), column: Some(at.col() + 1) }),
            ..Problem::of_file(&self.file, message)
        };
        let mut depth = 0_usize;
        for event in Parser::new_from_str(&self.text) {
            match event {
                Ok((Event::SequenceStart(..) | Event::MappingStart(..), _)) if depth == DEEPEST => {
                    let message = format!("lists and mappings are nested more than {DEEPEST} deep here");
                    return event.ok().map(|(_, at)| problem(at.start, message));
                }
                Ok((Event::SequenceStart(..) | Event::MappingStart(..), _)) => depth += 1,
                Ok((Event::SequenceEnd | Event::MappingEnd, _)) => depth -= 1,
                Ok(_) => {}
                // The depth of what follows is not known.
                Err(error) => {
                    return Some(problem(
                        *error.marker(),
                        format!("this cannot be read as YAML: {}", error.info()),
                    ));
                }
            }
        }
        None
    }

    /// The text of the file.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Deserialises the whole file.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.parse_seed(PhantomData)
    }

    /// Deserialises the whole file with a seed.
    pub(super) fn parse_seed<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, Problem> {
        self.run(seed).map_err(|(message, position)| {
            if self.run(PhantomData::<IgnoredAny>).is_err() {
                let language = if self.is_json() { "JSON" } else { "YAML" };
                let message = if message.contains("more than one document") {
                    "the file holds more than one document: keep one, and at most one line `---`".to_owned()
                } else {
                    format!("this is not valid {language}: {message}")
                };
                return Problem { position, ..Problem::of_file(&self.file, message) };
            }
            let (path, message) = split_path(&message);
            let explained = Problem { position, ..Problem::of_file(&self.file, explain(path, message)) };
            // Serde reports a repeated key with the place of the whole mapping.
            let path: Vec<&str> =
                path.split('.').filter(|step| !step.is_empty()).chain(twice(message)).collect();
            let second = twice(message).and_then(|_| self.position(&path, Target::Key, 1));
            Problem { position: second.or(explained.position), ..explained }
        })
    }

    /// A problem with the key at `path`, whose steps are keys of mappings and indices of lists. Points at the nearest
    /// part of the path that exists.
    pub(super) fn at_key(&self, path: &[&str], message: impl Into<String>) -> Problem {
        let position = (1..=path.len()).rev().find_map(|steps| self.position(&path[..steps], Target::Key, 0));
        Problem { position, ..Problem::of_file(&self.file, message) }
    }

    /// A problem with the value at `path`.
    pub(super) fn at_value(&self, path: &[&str], message: impl Into<String>) -> Problem {
        match self.position(path, Target::Value, 0) {
            None => self.at_key(path, message),
            position => Problem { position, ..Problem::of_file(&self.file, message) },
        }
    }

    /// A problem with the value at `path` of `file`, which has been read before.
    pub(super) fn problem_in(root: &Path, file: &Path, path: &[&str], message: String) -> Problem {
        match Self::read(root, file) {
            Ok(document) => document.at_value(path, message),
            Err(_) => Problem::of_file(file, message),
        }
    }

    /// Where the value at `path` begins.
    pub(super) fn value_position(&self, path: &[&str]) -> Option<Position> {
        self.position(path, Target::Value, 0)
    }

    fn position(&self, path: &[&str], target: Target, skip: usize) -> Option<Position> {
        self.run(Find { path, target, skip }).err()?.1
    }

    /// Whether the file is JSON.
    pub(super) fn is_json(&self) -> bool {
        self.file.extension().is_some_and(|ending| ending == "json")
    }

    fn run<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, DocumentError> {
        if self.is_json() { self.run_json(seed) } else { self.run_yaml(seed) }
    }

    fn run_yaml<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, DocumentError> {
        seed.deserialize(serde_yaml::Deserializer::from_str(&self.text)).map_err(|error| {
            let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
            located(&error.to_string(), line, column, true)
        })
    }

    fn run_json<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, DocumentError> {
        let mut json = serde_json::Deserializer::from_str(&self.text);
        let value = seed.deserialize(&mut json);
        value.and_then(|value| json.end().map(|()| value)).map_err(|error| {
            // For a wrong value serde_json gives the column where the value ends, which would mislead.
            located(&error.to_string(), error.line(), error.column(), !error.is_data())
        })
    }
}

/// An error without the place in its message. Line 0 is no place.
fn located(message: &str, line: usize, column: usize, is_column_right: bool) -> DocumentError {
    let position = Position { line, column: is_column_right.then_some(column) };
    (message.replacen(&format!(" at line {line} column {column}"), "", 1), (line > 0).then_some(position))
}

/// The path that `serde_yaml` puts before a message, and the message. `serde_json` gives none.
fn split_path(message: &str) -> (&str, &str) {
    match message.split_once(": ") {
        Some((path, rest)) if !path.contains([' ', '`', '"']) => (path, rest),
        _ => ("", message),
    }
}

/// The repeated key, if that is what the message is about.
fn twice(message: &str) -> Option<&str> {
    message.strip_prefix("duplicate field `")?.strip_suffix('`')
}

/// Serde's message in our words. A message that is not recognised stays as it is: serde does not promise its wording.
fn explain(path: &str, message: &str) -> String {
    let inside = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (key, known) = rest.split_once('`').unwrap_or((rest, ""));
        return format!("unknown key `{key}`{inside}{}", suggestion(key, quoted(known)));
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (word, known) = rest.split_once('`').unwrap_or((rest, ""));
        if word == "auto" {
            return super::image::AUTO_IS_GONE.to_owned();
        }
        let of = if path.is_empty() { "here".to_owned() } else { format!("for `{path}`") };
        return format!("`{word}` is not allowed {of}{}", suggestion(word, quoted(known)));
    }
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let hint = if key == "version" { ": begin the file with `version: 1`" } else { "" };
        return format!("missing key `{key}`{inside}{hint}");
    }
    if let Some(key) = twice(message) {
        return format!("key `{key}` appears twice{inside}: keep one");
    }
    let message = match message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: ")) {
        Some(rest) => format!("found {}", in_plain_words(rest)),
        None => message.to_owned(),
    };
    if path.is_empty() { message } else { format!("`{path}`: {message}") }
}

/// Rust's names of types in the words of a person who writes YAML.
fn in_plain_words(found_and_expected: &str) -> String {
    let Some((found, expected)) = found_and_expected.rsplit_once(", expected ") else {
        return found_and_expected.to_owned();
    };
    let found = match found {
        "map" => "a mapping",
        "sequence" => "a list",
        "unit value" | "null" => "nothing",
        other => other,
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a map" => "a mapping",
        "a boolean" => "`true` or `false`",
        "a YAML tag starting with '!'" => "one word",
        "u32" | "usize" | "u64" => "a whole number",
        other => other,
    };
    format!("{found}, expected {expected}")
}

/// The words between backticks, without `$schema`, which is for editors.
fn quoted(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split('`').skip(1).step_by(2).filter(|word| !word.starts_with('$'))
}

/// A document that is being checked, and what is wrong with it so far.
pub(super) struct Check {
    pub(super) document: Document,
    problems: Vec<Problem>,
}

impl Check {
    /// Reads and deserialises `file`, which is relative to `root`.
    pub(super) fn read<T: DeserializeOwned>(root: &Path, file: &Path) -> Result<(Self, T), Problem> {
        let document = Document::read(root, file)?;
        let written = document.parse()?;
        Ok((Self { document, problems: Vec::new() }, written))
    }

    /// Reports a problem with the key at `path`.
    pub(super) fn key(&mut self, path: &[&str], message: impl Into<String>) {
        self.problems.push(self.document.at_key(path, message));
    }

    /// Reports a problem with the value at `path`.
    pub(super) fn value(&mut self, path: &[&str], message: impl Into<String>) {
        self.problems.push(self.document.at_value(path, message));
    }

    /// Reports a problem with an item of the list at `path`.
    pub(super) fn item(&mut self, path: &[&str], index: usize, message: impl Into<String>) {
        self.value(&[path, &[&index.to_string()]].concat(), message);
    }

    /// Reports items of the list at `path` that appear twice; `what` they are, in a word.
    pub(super) fn repeated<T: PartialEq + fmt::Display>(&mut self, path: &[&str], list: &[T], what: &str) {
        for (index, item) in list.iter().enumerate().filter(|(index, item)| list[..*index].contains(item)) {
            self.item(path, index, format!("{what} `{item}` appears twice: keep one"));
        }
    }

    /// The value of a part, or none with its problems reported.
    pub(super) fn collect<T>(&mut self, part: Result<T, impl Into<ProjectError>>) -> Option<T> {
        problem::collect(part, &mut self.problems)
    }

    /// `value` if nothing is wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, ProjectError> {
        ProjectError::unless(self.problems, value)
    }
}
