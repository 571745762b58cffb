//! Commands as the documents show them, checked against clap, the Makefile and the cargo aliases.

use std::collections::BTreeSet;
use std::fs;

use boma_it::catalog::Project;
use boma_it::cli::args::Cli;
use boma_it::support::name::Name;
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory};

use crate::page::root;

/// The commands of a line as words, without leading assignments, `sudo` and redirections.
pub(crate) fn commands(line: &str) -> Vec<Vec<String>> {
    let spaced = line.replace(';', " ; ");
    let words = shlex::split(&spaced).unwrap_or_default();
    let parts = words.split(|word| matches!(word.as_str(), "&&" | "||" | "|" | ";"));
    let redirects = |part: &[String]| part.iter().position(|word| word == ">").unwrap_or(part.len());
    let is_before = |word: &&String| *word == "sudo" || is_assignment(word);
    parts
        .map(|part| part[..redirects(part)].iter().skip_while(is_before).cloned().collect::<Vec<_>>())
        .filter(|part| !part.is_empty())
        .collect()
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name).unwrap_or_default();
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// Every long option of a command and those below it: `--host`.
pub(crate) fn long_options(command: &clap::Command) -> BTreeSet<String> {
    let mut built = command.clone();
    built.build();
    collect(&built)
}

fn collect(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|it| it.get_long()).map(|long| format!("--{long}"));
    own.chain(command.get_subcommands().flat_map(collect)).collect()
}

/// Every command that exists in this repository.
pub(crate) struct KnownCommands {
    makefile: String,
    aliases: Vec<(String, String)>,
    manifest: String,
    project: Project,
}

type Checked = Result<(), String>;

impl KnownCommands {
    pub(crate) fn load() -> Self {
        let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
        let config = read(".cargo/config.toml");
        let alias = |line: &str| {
            let (name, words) = line.split_once(" = ")?;
            Some((name.trim().to_owned(), words.trim_matches('"').to_owned()))
        };
        Self {
            makefile: read("Makefile"),
            aliases: config.lines().filter_map(alias).collect(),
            manifest: read("Cargo.toml"),
            project: Project::load(root()).unwrap(),
        }
    }

    /// Whether the command exists. Unless it is `whole`, arguments may be missing: `boma-it down`.
    pub(crate) fn check(&self, words: &[String], whole: bool) -> Checked {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let checked = match words.as_slice() {
            ["boma-it", rest @ ..] | ["cargo", "it", rest @ ..] => self.check_driver(rest, whole),
            ["cargo", rest @ ..] => self.check_cargo(rest),
            ["make", rest @ ..] => self.check_make(rest),
            _ => Ok(()),
        };
        checked.map_err(|why| format!("`{}`: {why}", words.join(" ")))
    }

    fn check_driver(&self, words: &[&str], whole: bool) -> Checked {
        let words: Vec<_> = words.iter().map(|word| filled_in(word)).collect();
        let matches = match Cli::command().try_get_matches_from([&["boma-it"], &*words].concat()) {
            Ok(matches) => matches,
            Err(error) => {
                use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
                use ErrorKind::{MissingRequiredArgument, MissingSubcommand};
                return match error.kind() {
                    DisplayHelp | DisplayVersion => Ok(()),
                    MissingRequiredArgument
                    | MissingSubcommand
                    | DisplayHelpOnMissingArgumentOrSubcommand
                        if !whole =>
                    {
                        Ok(())
                    }
                    _ => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
                };
            }
        };
        let (_, chosen) = matches.subcommand().ok_or("no sub-command")?;
        let value = |name: &str| given(chosen, name);
        if let Some(host) = value("host") {
            self.check_trial(&host, value("scenario").as_deref())?;
        }
        Ok(())
    }

    /// The trial must exist in this project. (Placeholders in capitals do not come here.)
    fn check_trial(&self, host: &str, scenario: Option<&str>) -> Checked {
        self.project.find(host, scenario).map(|_| ()).map_err(|error| error.to_string())
    }

    fn check_cargo(&self, words: &[&str]) -> Checked {
        const BUILT_IN: [&str; 9] =
            ["build", "check", "clippy", "doc", "fmt", "install", "nextest", "run", "test"];
        let Some(sub) = words.first() else { return Ok(()) };
        if !BUILT_IN.contains(sub) && !self.aliases.iter().any(|(name, _)| name == sub) {
            return Err(format!("neither cargo nor .cargo/config.toml knows `{sub}`"));
        }
        let before = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        let targets = words[..before].windows(2).filter(|pair| pair[0] == "--test").map(|pair| pair[1]);
        for target in targets {
            let named = self.manifest.contains(&format!("[[test]]\nname = \"{target}\""));
            let files = [format!("tests/{target}.rs"), format!("tests/{target}/main.rs")];
            if !named && !files.iter().any(|file| root().join(file).exists()) {
                return Err(format!("no test target `{target}`"));
            }
        }
        Ok(())
    }

    fn check_make(&self, words: &[&str]) -> Checked {
        let mut trial = (None, None);
        for word in words {
            match word.split_once('=') {
                Some((name, value)) => {
                    let known = [format!("$({name})"), format!("$${name}")];
                    if !known.iter().any(|it| self.makefile.contains(it)) {
                        return Err(format!("the Makefile does not use {name}"));
                    }
                    match name {
                        "HOST" => trial.0 = Some(value),
                        "SCENARIO" => trial.1 = Some(value),
                        _ => {}
                    }
                }
                None if self.makefile.lines().any(|line| line.starts_with(&format!("{word}:"))) => {}
                None => return Err(format!("no make target `{word}`")),
            }
        }
        match trial {
            (Some(host), scenario) if !is_placeholder(host) => {
                self.check_trial(host, scenario.filter(|it| !is_placeholder(it) && *it != "all"))
            }
            _ => Ok(()),
        }
    }

    /// The targets that `make help` lists.
    pub(crate) fn make_targets(&self) -> Vec<&str> {
        let listed = self.makefile.lines().filter(|line| line.contains("## ") && !line.starts_with('#'));
        listed
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name)
            .filter(|it| !it.contains(' '))
            .collect()
    }
}

/// A name that is not that of a placeholder.
fn given(matches: &ArgMatches, id: &str) -> Option<String> {
    let value = matches.try_get_one::<Name>(id).ok().flatten()?;
    (value.as_str() != SOME_NAME).then(|| value.as_str().to_owned())
}

/// What stands for the placeholder `NAME` where clap wants a valid value.
const SOME_NAME: &str = "some-name";

fn filled_in(word: &str) -> &str {
    match word {
        "NAME" => SOME_NAME,
        "TIER" => "internal",
        _ => word,
    }
}

/// `NAME` or `TIER`: the reader fills it in.
fn is_placeholder(value: &str) -> bool {
    value.chars().all(|c| c.is_ascii_uppercase())
}
