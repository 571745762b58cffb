//! The JSON Schemas: the committed ones match this version's structs; every file of the project names its schema and
//! conforms to it; and the schema refuses every structure that the parser refuses.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

use std::fs;
use std::path::{Path, PathBuf};

use boma_it::catalog::schema::{self, FileKind};
use boma_it::catalog::{Plan, Project, RunOptions};
use clap::ValueEnum;
use jsonschema::Validator;
use serde_json::Value;

#[path = "docs/page.rs"]
#[expect(dead_code, reason = "the documents' tests use the rest of it")]
mod page;

use page::{pages, root};

/// The word for a kind: `boma-it schema` accepts it, and its schema file is named by it.
fn word(kind: FileKind) -> String {
    kind.to_possible_value().unwrap().get_name().to_owned()
}

fn committed(kind: FileKind) -> PathBuf {
    root().join(format!("schemas/{}.schema.json", word(kind)))
}

fn validator(kind: FileKind) -> Validator {
    jsonschema::draft7::new(&schema::schema(kind)).unwrap()
}

/// The errors of a file by its schema.
fn schema_errors(kind: FileKind, text: &str) -> Vec<String> {
    let value: Value = serde_yaml::from_str(text).unwrap();
    validator(kind).iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The project's own files of a kind.
fn files(kind: FileKind) -> Vec<PathBuf> {
    let all = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .filter(|path| {
                path.extension().is_some_and(|it| ["yml", "yaml", "json"].iter().any(|e| it == *e))
            })
            .collect();
        files.sort();
        files
    };
    match kind {
        FileKind::Profile => all("profiles"),
        FileKind::Scenario => all("scenarios"),
        FileKind::Harness => vec![root().join("harness/harness.yml")],
    }
}

#[test]
fn the_committed_schemas_match_the_structs() {
    for kind in FileKind::value_variants().iter().copied() {
        let word = word(kind);
        let file = fs::read_to_string(committed(kind)).unwrap_or_default();
        assert!(
            file == schema::text(kind),
            "schemas/{word}.schema.json is not what this version reads: \
             cargo it schema {word} > schemas/{word}.schema.json"
        );
        jsonschema::meta::validate(&serde_json::from_str(&file).unwrap()).unwrap();
    }
}

#[test]
fn every_file_names_its_schema_in_the_first_line_and_conforms_to_it() {
    for kind in FileKind::value_variants().iter().copied() {
        let files = files(kind);
        assert!(!files.is_empty(), "no {} was found", word(kind));
        for file in files {
            let (name, text) = (file.display(), fs::read_to_string(&file).unwrap());
            let first = text.lines().next().unwrap_or_default();
            let named = first.strip_prefix("# yaml-language-server: $schema=").unwrap_or_else(|| {
                let word = word(kind);
                panic!(
                    "{name}: the first line must be `# yaml-language-server: $schema=../schemas/{word}.schema.json`"
                )
            });
            let path = file.parent().unwrap().join(named);
            assert_eq!(path.canonicalize().ok(), committed(kind).canonicalize().ok(), "{name}");
            assert_eq!(schema_errors(kind, &text), Vec::<String>::new(), "{name}");
        }
    }
}

/// Which kind of file an example is, if it is one: all of them begin with the version.
fn kind_of(example: &str) -> Option<FileKind> {
    let value: Value = serde_yaml::from_str(example).ok()?;
    value.get("version")?;
    Some(match value {
        _ if value.get("profile").is_some() => FileKind::Scenario,
        _ if value.get("roles").is_some() => FileKind::Profile,
        _ => FileKind::Harness,
    })
}

#[test]
fn the_examples_in_the_documents_match_the_schemas() {
    let mut seen = Vec::new();
    for page in pages() {
        for block in page.blocks("yaml") {
            let Some(kind) = kind_of(&block) else { continue };
            assert_eq!(schema_errors(kind, &block), Vec::<String>::new(), "{}:\n{block}", page.path);
            seen.push(kind);
        }
    }
    for kind in FileKind::value_variants().iter().copied() {
        assert!(seen.contains(&kind), "no document shows a {}", word(kind));
    }
}

/// A project whose only trials are askari's plain cycle and the scenario `twist`.
struct ProjectFolder(tempfile::TempDir);

const PROFILE: &str = "version: 1\nroles: [base]\n";
const SCENARIO: &str = "version: 1\nprofile: askari\ndescription: a twist\n";
const HARNESS: &str = "version: 1\n";

impl ProjectFolder {
    /// Valid except for this file.
    fn with(kind: FileKind, text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let mut files = vec![
            ("profiles/askari.yml", PROFILE),
            ("scenarios/twist.yml", SCENARIO),
            ("harness/harness.yml", HARNESS),
            ("overrides/askari.yml", "{}\n"),
            ("harness/verify.yml", "[]\n"),
            ("site/site.yml", "[]\n"),
            ("site/inventory/production", "[]\n"),
            ("x.qcow2", ""),
        ];
        files[kind as usize].1 = text;
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The plan of the scenario, or the parser's error.
    fn plan(&self) -> Result<Plan, String> {
        let plan = |root: &Path| {
            let project = Project::load(root)?;
            let trial = project.find("askari", Some("twist"))?;
            project.plan(&trial, &RunOptions::default())
        };
        plan(self.0.path()).map_err(|error| error.to_string())
    }
}

#[rstest::rstest]
#[case::profile(FileKind::Profile, PROFILE)]
#[case::whole_profile(
    FileKind::Profile,
    "version: 1\ndescription:\nroles: [base, a.b-c_D]\nvm: {vcpus: 4, memory: 1 GiB, disk: 4096MiB}\nimage: {source: path, path: x.qcow2}\n"
)]
#[case::nothing_under_vm(FileKind::Profile, "version: 1\nroles: [base]\nvm:\n")]
#[case::an_editors_key(
    FileKind::Profile,
    "$schema: ../schemas/profile.schema.json\nversion: 1\nroles: [base]\n"
)]
#[case::scenario(FileKind::Scenario, SCENARIO)]
#[case::whole_scenario(
    FileKind::Scenario,
    "version: 1\nprofile: askari\ndescription: x\nvars: {a: [1, {b: null}]}\ncerts: [internal, pebble]\nrestart: power-cut\n\
     egress: true\nexpect: {before_reboot: fail, fail: {at: assert, tasks: [a, b]}}\nvm: {memory: 1GiB}\n"
)]
#[case::lockout(
    FileKind::Scenario,
    "version: 1\nprofile: askari\ndescription: x\nexpect: {fail: {at: reboot, reason: unreachable}}\n"
)]
#[case::variables_like_reserved_ones(
    FileKind::Scenario,
    "version: 1\nprofile: askari\ndescription: x\nvars: {boma: 1, ansible_hostname: x, ansible_become: true}\n"
)]
#[case::an_editors_key_too(FileKind::Scenario, "$schema: x\nversion: 1\nprofile: askari\ndescription: x\n")]
#[case::harness(FileKind::Harness, HARNESS)]
#[case::whole_harness(
    FileKind::Harness,
    "version: 1\n$schema: x\nimage: {source: build}\nlibvirt: {uri: 'qemu+ssh://far/system'}\nnetwork: {subnet: 10.9.0.0/20}\n\
     runs: {dir: runs, keep: 1}\nlimits: {memory_reserve: 0B, timeouts: {up: 90s, apply: 1h}}\n"
)]
fn the_schema_accepts_what_the_parser_accepts(#[case] kind: FileKind, #[case] text: &str) {
    if let Err(error) = ProjectFolder::with(kind, text).plan() {
        panic!("the parser refuses it: {error}");
    }
    assert_eq!(schema_errors(kind, text), Vec::<String>::new());
}

const FAIL: &str = "version: 1\nprofile: askari\ndescription: x\nexpect:\n  fail: ";

#[rstest::rstest]
#[case::no_version(FileKind::Profile, "roles: [base]\n")]
#[case::another_version(FileKind::Profile, "version: 2\nroles: [base]\n")]
#[case::version_in_quotes(FileKind::Profile, "version: '1'\nroles: [base]\n")]
#[case::unknown_key(FileKind::Profile, "version: 1\nrols: [base]\nroles: [base]\n")]
#[case::another_editors_key(FileKind::Profile, "version: 1\n$id: x\nroles: [base]\n")]
#[case::schema_of_no_text(FileKind::Profile, "version: 1\n$schema: {a: b}\nroles: [base]\n")]
#[case::no_roles(FileKind::Profile, "version: 1\n")]
#[case::empty_roles(FileKind::Profile, "version: 1\nroles: []\n")]
#[case::one_role_as_text(FileKind::Profile, "version: 1\nroles: base\n")]
#[case::role_of_two_words(FileKind::Profile, "version: 1\nroles: [the base]\n")]
#[case::role_twice(FileKind::Profile, "version: 1\nroles: [base, base]\n")]
#[case::memory_without_unit(FileKind::Profile, "version: 1\nroles: [base]\nvm: {memory: 3}\n")]
#[case::memory_in_text_without_unit(FileKind::Profile, "version: 1\nroles: [base]\nvm: {memory: '3'}\n")]
#[case::wrong_unit(FileKind::Profile, "version: 1\nroles: [base]\nvm: {memory: 3GB}\n")]
#[case::a_fraction(FileKind::Profile, "version: 1\nroles: [base]\nvm: {memory: 1.5GiB}\n")]
#[case::no_vcpu(FileKind::Profile, "version: 1\nroles: [base]\nvm: {vcpus: 0}\n")]
#[case::vcpus_in_text(FileKind::Profile, "version: 1\nroles: [base]\nvm: {vcpus: '2'}\n")]
#[case::unknown_key_inside(FileKind::Profile, "version: 1\nroles: [base]\nvm: {cpus: 2}\n")]
#[case::path_of_no_path(FileKind::Profile, "version: 1\nroles: [base]\nimage: {source: path}\n")]
#[case::path_of_a_build(FileKind::Profile, "version: 1\nroles: [base]\nimage: {source: build, path: x}\n")]
#[case::unknown_source(FileKind::Profile, "version: 1\nroles: [base]\nimage: {source: web}\n")]
#[case::no_description(FileKind::Scenario, "version: 1\nprofile: askari\n")]
#[case::empty_description(FileKind::Scenario, "version: 1\nprofile: askari\ndescription: ' '\n")]
#[case::unknown_tier(FileKind::Scenario, "version: 1\nprofile: askari\ndescription: x\ncerts: [external]\n")]
#[case::no_tier(FileKind::Scenario, "version: 1\nprofile: askari\ndescription: x\ncerts: []\n")]
#[case::unknown_restart(FileKind::Scenario, "version: 1\nprofile: askari\ndescription: x\nrestart: hard\n")]
#[case::egress_in_text(FileKind::Scenario, "version: 1\nprofile: askari\ndescription: x\negress: 'no'\n")]
#[case::our_variable(
    FileKind::Scenario,
    "version: 1\nprofile: askari\ndescription: x\nvars: {boma_it_host: x}\n"
)]
#[case::our_own_word(
    FileKind::Scenario,
    "version: 1\nprofile: askari\ndescription: x\nvars: {boma_it: false}\n"
)]
#[case::another_host(
    FileKind::Scenario,
    "version: 1\nprofile: askari\ndescription: x\nvars: {ansible_host: 203.0.113.5}\n"
)]
#[case::another_way(
    FileKind::Scenario,
    "version: 1\nprofile: askari\ndescription: x\nvars: {ansible_ssh_pipelining: true}\n"
)]
#[case::no_variable(FileKind::Scenario, "version: 1\nprofile: askari\ndescription: x\nvars: {a-b: x}\n")]
#[case::fails_nowhere(FileKind::Scenario, &format!("{FAIL}{{task: a}}\n"))]
#[case::nothing_fails(FileKind::Scenario, &format!("{FAIL}{{at: assert}}\n"))]
#[case::task_and_tasks(FileKind::Scenario, &format!("{FAIL}{{at: assert, task: a, tasks: [b]}}\n"))]
#[case::task_and_reason(FileKind::Scenario, &format!("{FAIL}{{at: apply, task: a, reason: unreachable}}\n"))]
#[case::task_at_reboot(FileKind::Scenario, &format!("{FAIL}{{at: reboot, task: a}}\n"))]
#[case::reason_at_assert(FileKind::Scenario, &format!("{FAIL}{{at: assert, reason: unreachable}}\n"))]
#[case::fails_at_up(FileKind::Scenario, &format!("{FAIL}{{at: up, reason: unreachable}}\n"))]
#[case::unknown_reason(FileKind::Scenario, &format!("{FAIL}{{at: reboot, reason: gone}}\n"))]
#[case::no_limit(FileKind::Harness, "version: 1\nlimits: {timeouts: {up: 0s}}\n")]
#[case::limit_without_unit(FileKind::Harness, "version: 1\nlimits: {timeouts: {up: 90}}\n")]
#[case::limit_of_wrong_unit(FileKind::Harness, "version: 1\nlimits: {timeouts: {up: 5min}}\n")]
#[case::unknown_stage(FileKind::Harness, "version: 1\nlimits: {timeouts: {boot: 5m}}\n")]
#[case::uri_without_scheme(FileKind::Harness, "version: 1\nlibvirt: {uri: system}\n")]
#[case::public_subnet(FileKind::Harness, "version: 1\nnetwork: {subnet: 8.8.8.0/24}\n")]
#[case::wide_subnet(FileKind::Harness, "version: 1\nnetwork: {subnet: 10.0.0.0/8}\n")]
#[case::nothing_kept(FileKind::Harness, "version: 1\nruns: {keep: 0}\n")]
#[case::a_list(FileKind::Harness, "[version, 1]\n")]
fn the_schema_refuses_every_structure_that_the_parser_refuses(#[case] kind: FileKind, #[case] text: &str) {
    assert!(ProjectFolder::with(kind, text).plan().is_err(), "the parser accepts it");
    assert_ne!(schema_errors(kind, text), Vec::<String>::new(), "the schema accepts it");
}
