//! The documents must be true and complete. Commands, options, make targets, variables, files and examples that they show
//! must exist; and every sub-command, option and variable must be documented.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod command;
mod page;
mod reference;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use boma_it::catalog::plan::Tier;
use boma_it::catalog::{Plan, Project, RunOptions};
use boma_it::cli::args::Cli;
use boma_it::guest::diagnostics::REQUIRED;
use boma_it::site::VARIABLES;
use boma_it::support::env;
use clap::{CommandFactory, ValueEnum};
use command::{KnownCommands, commands};
use page::{Page, Snippet, pages, root};

/// Paths with one of these stand for a file that the reader creates.
const PLACEHOLDERS: [&str; 4] = ["NAME", "<", "*", "…"];

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// What a user reads, without the generated reference: that one has everything.
fn handwritten() -> Vec<Page> {
    let for_users = |path: &str| path == "README.md" || path.starts_with("docs/");
    pages().into_iter().filter(|page| for_users(&page.path) && page.path != reference::PATH).collect()
}

/// What `check` finds wrong with each snippet, with its place.
fn complaints(check: impl Fn(&Snippet) -> Vec<String>) -> Vec<String> {
    let at = |page: &Page, snippet: &Snippet| {
        let place = format!("{}:{}", page.path, snippet.line);
        check(snippet).into_iter().map(move |what| format!("{place}: {what}")).collect::<Vec<_>>()
    };
    let of_page = |page: Page| page.snippets().iter().flat_map(|it| at(&page, it)).collect::<Vec<_>>();
    pages().into_iter().flat_map(of_page).collect()
}

#[test]
fn every_command_in_the_documents_exists() {
    let known = KnownCommands::load();
    let checked: usize =
        pages().iter().flat_map(|page| page.snippets()).map(|it| commands(&it.text).len()).sum();
    assert!(checked > 100, "only {checked} commands were found: does `page` still read the Markdown?");
    assert_none(&complaints(|snippet| {
        let words = commands(&snippet.text).into_iter();
        words.filter_map(|words| known.check(&words, snippet.fenced).err()).collect()
    }));
}

#[test]
fn every_option_in_the_documents_exists() {
    /// Options of other programs.
    const FOREIGN: [&str; 4] = ["--lib", "--limit", "--list", "--test"];
    let ours = command::long_options(&Cli::command());
    assert_none(&complaints(|snippet| {
        let Some(word) = snippet.text.split([' ', '=']).next().filter(|it| it.starts_with("--")) else {
            return Vec::new();
        };
        let known = word == "--" || ours.contains(word) || FOREIGN.contains(&word);
        if known { Vec::new() } else { vec![format!("no option {word}")] }
    }));
}

#[test]
fn every_variable_in_the_documents_exists() {
    /// Refused with their replacement, which the documents may say.
    const REMOVED: [&str; 1] = ["BOMA_IT_REPEAT"];
    let environment: BTreeSet<_> = env::ALL.iter().map(|variable| variable.name).chain(REMOVED).collect();
    let site: BTreeSet<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
    let mut unknown = Vec::new();
    for page in pages() {
        let words = page.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words {
            // A trailing `_` is the head of a pattern: `BOMA_IT_*`.
            let whole = word.trim_end_matches('_');
            let ours = whole.starts_with("BOMA_IT_") && whole == word && !environment.contains(word);
            let theirs = whole.starts_with("boma_it_") && whole == word && !site.contains(word);
            if ours || theirs {
                unknown.push(format!("{}: no variable {word}", page.path));
            }
        }
    }
    assert_none(&unknown);
}

#[test]
fn every_link_has_a_target() {
    let mut dead = Vec::new();
    let mut seen = 0;
    for page in pages() {
        for (line, target) in page.links() {
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = match file {
                "" => root().join(&page.path),
                _ => root().join(&page.path).with_file_name("").join(file),
            };
            let headed = || Page::at(&path).headings().iter().any(|heading| heading == anchor);
            if !path.exists() || (!anchor.is_empty() && !headed()) {
                dead.push(format!("{}:{line}: {target} has no target", page.path));
            }
        }
    }
    assert!(seen > 20, "only {seen} links were found: does `page` still read the Markdown?");
    assert_none(&dead);
}

#[test]
fn every_file_in_the_documents_exists() {
    let folders = ["src/", "tests/", "harness/", "profiles/", "overrides/", "scenarios/", "tools/", "bench/"];
    assert_none(&complaints(|snippet| {
        let named = |word: &&str| folders.iter().any(|folder| word.starts_with(folder));
        let real = |word: &&str| !PLACEHOLDERS.iter().any(|it| word.contains(it));
        let words = snippet.text.split_whitespace().filter(named).filter(real);
        let absent = words.filter(|word| !snippet.fenced && !root().join(word).exists());
        absent.map(|word| format!("no file {word}")).collect()
    }));
}

#[test]
fn everything_a_user_can_set_is_documented() {
    let pages = handwritten();
    let code: BTreeSet<String> = pages.iter().flat_map(Page::snippets).map(|it| it.text).collect();
    let mut missing = Vec::new();
    let mut need = |what: &str, found: bool| {
        if !found {
            missing.push(format!("no page under docs/ documents {what}"));
        }
    };
    let row = |name: &str| pages.iter().any(|page| page.text.contains(&format!("\n| `{name}` |")));
    let word = |wanted: &str| code.iter().any(|it| it.split([' ', '=']).any(|word| word == wanted));
    env::ALL.iter().for_each(|variable| need(variable.name, word(variable.name)));
    VARIABLES.iter().for_each(|(name, _)| need(name, row(name)));
    Tier::value_variants().iter().for_each(|tier| need(&format!("the tier {tier}"), row(&tier.to_string())));
    REQUIRED.iter().for_each(|it| need(&format!("the diagnostic `{it}`"), code.contains(*it)));
    let cli = Cli::command();
    for sub in cli.get_subcommands() {
        let words = [format!("boma-it {}", sub.get_name()), format!("cargo it {}", sub.get_name())];
        let shown = |text: &str| words.iter().any(|it| text == it || text.starts_with(&format!("{it} ")));
        need(&words[0], code.iter().any(|text| shown(text)));
    }
    for option in command::long_options(&cli) {
        need(&option, word(&option) || ["--help", "--version"].contains(&option.as_str()));
    }
    for target in KnownCommands::load().make_targets() {
        let shown = pages.iter().any(|page| page.text.contains(&format!("make {target}")));
        need(&format!("make {target}"), shown || ["help", "bench", "lint"].contains(&target));
    }
    assert_none(&missing);
}

#[test]
fn ci_runs_the_test_command_that_the_readme_names() {
    let readme = Page::read("README.md");
    assert!(readme.snippets().iter().any(|it| it.fenced && it.text == "make test"));
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(runs_the_tests(&ci));
    assert!(
        !runs_the_tests("step make test\n# make test\necho make test; true\n"),
        "it must be run, not mentioned"
    );
}

/// Whether a line of a script runs `make test`, with or without `timeout`.
fn runs_the_tests(script: &str) -> bool {
    let runs = |words: &Vec<String>| {
        ["make", "timeout"].contains(&words[0].as_str())
            && words.windows(2).any(|pair| pair == ["make", "test"])
    };
    script.lines().any(|line| commands(line).iter().any(runs))
}

/// The examples, saved where the pages say, give the plans that the pages promise.
#[test]
fn the_examples_in_the_documents_are_valid_files() {
    let pages = handwritten();
    let docs = || pages.iter().filter(|page| page.path.starts_with("docs/"));
    let block = |with: &str| {
        let mut blocks = docs().flat_map(|page| page.blocks("yaml")).filter(|block| block.contains(with));
        let found = blocks.next().unwrap_or_else(|| panic!("no example under docs/ has `{with}`"));
        assert_eq!(blocks.next(), None, "more than one example has `{with}`");
        found
    };
    let project = tempfile::tempdir().unwrap();
    let at = |name: &str| project.path().join(name);
    for folder in ["profiles", "overrides", "scenarios"] {
        fs::create_dir(at(folder)).unwrap();
    }
    for shared in ["site", "harness", "profiles/askari.yml", "overrides/askari.yml"] {
        symlink(root().join(shared), at(shared)).unwrap();
    }
    fs::write(at("scenarios/incident-2026-06-17.yml"), block("before_reboot")).unwrap();
    fs::write(at("profiles/new.yml"), block("what the host is")).unwrap();
    fs::write(at("overrides/new.yml"), "{}\n").unwrap();

    let shipped = plan(root(), "askari", Some("incident-2026-06-17"));
    let shown = plan(project.path(), "askari", Some("incident-2026-06-17"));
    assert_eq!((shown.expect, shown.site.vars), (shipped.expect, shipped.site.vars));
    let new = plan(project.path(), "new", None);
    // The page says that these are the defaults.
    fs::write(at("profiles/new.yml"), "version: 1\nroles: [base]\n").unwrap();
    assert_eq!(new.vm, plan(project.path(), "new", None).vm);

    let other = tempfile::tempdir().unwrap();
    for folder in ["harness", "profiles", "overrides", "inventory/production"] {
        fs::create_dir_all(other.path().join(folder)).unwrap();
    }
    let files = [
        ("harness/harness.yml", block("site: {dir: .").as_str()),
        ("harness/verify.yml", "[]\n"),
        ("site.yml", "[]\n"),
        ("profiles/new.yml", "version: 1\nroles: [base]\n"),
        ("overrides/new.yml", "{}\n"),
    ]
    .map(|(name, text)| (name, text.to_owned()));
    for (name, text) in files {
        fs::write(other.path().join(name), text).unwrap();
    }
    assert_eq!(plan(other.path(), "new", None).site.playbook, other.path().join("site.yml"));
}

fn plan(root: &Path, host: &str, scenario: Option<&str>) -> Plan {
    let project = Project::load(root).unwrap();
    let trial = project.find(host, scenario).unwrap();
    project.plan(&trial, &RunOptions::default()).unwrap()
}
