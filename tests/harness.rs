//! The `integration` target as cargo and nextest call it: what it lists, how fast, and what it makes of a machine that can run no
//! VMs. Cargo tells a test where the binaries of its package are, but not where another test target is: it is asked, once.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use assert_cmd::Command;

/// The `integration` binary.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--test", "integration", "--no-run", "--message-format", "json", "--offline"]);
        cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let artifact = |line: &str| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            (message["target"]["name"] == "integration")
                .then(|| message["executable"].as_str().map(PathBuf::from))?
        };
        messages.lines().find_map(artifact).expect("cargo names the binary")
    })
}

/// A project that is not this one, and a machine without libvirt.
struct Project(tempfile::TempDir);

struct Told {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Project {
    /// With two hosts and a scenario.
    fn new() -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        project.write("harness/harness.yml", "version: 1\n");
        for file in ["harness/verify.yml", "site/site.yml", "site/inventory/production"] {
            project.write(file, "");
        }
        for host in ["askari", "ubongo"] {
            project.write(&format!("profiles/{host}.yml"), "version: 1\nroles: [base]\n");
            project.write(&format!("overrides/{host}.yml"), "{}\n");
        }
        project.write(
            "scenarios/incident.yml",
            "version: 1\nprofile: askari\ndescription: dead after the reboot\nexpect:\n  fail: {at: assert, task: ports answer}\n",
        );
        project
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, args: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).env_clear().env("PATH", env!("PATH")).env("HOME", self.0.path());
        command
            .env("BOMA_IT_ROOT", self.0.path())
            .env("BOMA_IT_URI", "qemu+unix:///system?socket=/nonexistent");
        command.envs(variables.iter().copied());
        command
    }

    fn run(&self, args: &[&str]) -> Told {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Told {
        let output = self.command(args, variables).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Told { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

#[test]
fn a_list_is_the_trials_and_nothing_else_however_it_is_asked_for() {
    let project = Project::new();
    let list = "askari::cycle: test\naskari::incident: test\nubongo::cycle: test\n";
    // The second is nextest's way, which it goes twice: once for the ignored ones alone.
    for args in [&["--list"][..], &["--list", "--format", "terse"]] {
        let told = project.run(args);
        assert_eq!((told.code, &*told.stdout, &*told.stderr), (Some(0), list, ""));
    }
    let told = project.run(&["--list", "--format", "terse", "--ignored"]);
    assert_eq!((told.code, &*told.stdout), (Some(0), ""));
    let told = project.run(&["--list", "askari::"]);
    assert_eq!(told.stdout, "askari::cycle: test\naskari::incident: test\n");
    let told = project.run(&["--list", "--exact", "askari::cycle"]);
    assert_eq!(told.stdout, "askari::cycle: test\n");
}

#[test]
fn a_file_that_is_no_trial_is_a_failing_trial() {
    let project = Project::new();
    project.write("scenarios/Upper Case.yml", "version: 1\nprofile: askari\ndescription: x\n");
    project.write("scenarios/orphan.yml", "version: 1\nprofil: askari\ndescription: x\n");
    let listed = project.run(&["--list"]);
    assert_eq!(listed.code, Some(0));
    let strays: Vec<_> = listed
        .stdout
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| !["askari::cycle", "askari::incident", "ubongo::cycle"].contains(name))
        .collect();
    assert_eq!(strays.len(), 2, "{}", listed.stdout);
    for stray in strays {
        let told = project.run(&["--exact", stray]);
        assert_eq!(told.code, Some(101), "{stray}: {}", told.stdout);
        assert!(told.stdout.contains("scenarios/") && told.stdout.contains("1 failed"), "{}", told.stdout);
    }
}

#[test]
fn a_broken_file_fails_its_own_trial_and_no_other() {
    let project = Project::new();
    project.write("profiles/ubongo.yml", "version: 1\nrols: [base]\n");
    let told = project.run(&["ubongo::cycle"]);
    assert_eq!(told.code, Some(101));
    assert!(told.stdout.contains("profiles/ubongo.yml:2:1: unknown key `rols`"), "{}", told.stdout);
    let told = project.run(&["askari::cycle"]);
    assert_eq!(told.code, Some(0), "{}", told.stdout);
}

#[test]
fn without_libvirt_trials_are_ignored_for_a_person_and_fail_where_ci_looks() {
    let project = Project::new();
    let words = "no libvirt daemon answers at qemu+unix:///system?socket=/nonexistent; start it with";
    let told = project.run(&[]);
    assert_eq!(told.code, Some(0), "{}", told.stdout);
    assert_eq!(told.stdout.matches("ignored").count(), 3 + 1, "{}", told.stdout);
    assert!(told.stdout.contains("3 ignored") && told.stdout.contains(words), "{}", told.stdout);

    let told = project.run_with(&[], &[("CI", "true")]);
    assert_eq!(told.code, Some(101));
    assert!(told.stdout.contains("3 failed") && told.stdout.contains(words), "{}", told.stdout);

    // nextest's way to run one.
    let told = project.run_with(&["askari::cycle", "--exact", "--nocapture"], &[("NEXTEST_RUN_ID", "x")]);
    assert_eq!(told.code, Some(0));
    assert!(told.stdout.contains("1 ignored") && told.stdout.contains(words), "{}", told.stdout);
}

#[test]
fn choices_that_are_none_fail_the_trial() {
    let told = Project::new().run_with(&["askari::cycle"], &[("BOMA_IT_CERTS", "nonsense")]);
    assert_eq!(told.code, Some(101));
    assert!(told.stdout.contains("`nonsense` is no certificate tier"), "{}", told.stdout);
}

#[test]
fn the_removed_repeat_variable_is_refused_with_its_replacement() {
    let told = Project::new().run_with(&["askari::cycle"], &[("BOMA_IT_REPEAT", "5")]);
    let error =
        "error: `BOMA_IT_REPEAT` was removed; repeat a trial with `cargo nextest run --stress-count N`\n";
    assert_eq!((told.code, told.stdout.as_str(), told.stderr.as_str()), (Some(2), "", error));
}

#[test]
fn a_trial_that_the_chosen_tier_is_not_for_is_ignored_and_the_others_are_not() {
    let project = Project::new();
    project.write(
        "scenarios/incident.yml",
        "version: 1\nprofile: askari\ndescription: dead after the reboot\ncerts: [internal]\n",
    );
    let told = project.run_with(&["askari::"], &[("BOMA_IT_CERTS", "pebble"), ("CI", "true")]);
    assert_eq!(told.code, Some(101));
    assert!(told.stdout.contains("1 failed; 1 ignored"), "{}", told.stdout);
    let why =
        "trial `askari::incident` cannot run with certificate tier `pebble` (its scenario allows: internal)";
    assert!(told.stdout.contains(why), "{}", told.stdout);
}

#[test]
fn a_folder_that_is_no_project_is_an_error_and_no_empty_list() {
    let project = Project::new();
    let told = project.run_with(&["--list"], &[("BOMA_IT_ROOT", "/nonexistent")]);
    assert_eq!((told.code, &*told.stdout), (Some(2), ""));
    assert!(told.stderr.contains("/nonexistent"), "{}", told.stderr);
}

#[test]
fn a_long_list_is_quick() {
    let project = Project::new();
    for host in 0..500 {
        project.write(&format!("profiles/host-{host}.yml"), "version: 1\nroles: [base]\n");
        project.write(&format!("overrides/host-{host}.yml"), "{}\n");
        for scenario in 0..4 {
            let mut text = format!("version: 1\nprofile: host-{host}\ndescription: scenario {scenario}\n");
            let _ = writeln!(text, "expect:\n  fail: {{at: assert, task: ports answer}}");
            project.write(&format!("scenarios/s{scenario}-of-{host}.yml"), &text);
        }
    }
    let list = || {
        let started = Instant::now();
        let told = project.run(&["--list", "--format", "terse"]);
        assert_eq!((told.code, told.stdout.lines().count()), (Some(0), 500 * 5 + 3));
        started.elapsed()
    };
    // The machine may be busy: what the harness itself takes shows in the quickest, and that may be long in coming.
    let bound = Duration::from_millis(150);
    let mut best = list();
    for _ in 0..40 {
        if best < bound {
            return;
        }
        best = best.min(list());
    }
    panic!("the quickest took {best:?}");
}
