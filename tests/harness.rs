//! The `integration` target as cargo and nextest call it: what it lists, how fast, and what it does on a machine that cannot
//! run VMs. Cargo tells a test where the binaries of its package are, but not where another test target is, so this file
//! asks it once.
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

/// A small project, on a machine without libvirt.
struct Project(tempfile::TempDir);

struct Transcript {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl std::fmt::Display for Transcript {
    /// Without the time that it took.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (head, tail) = self.stdout.split_once("; finished in ").unwrap_or((&self.stdout, ""));
        let tail = tail.split_once('\n').map(|(_, rest)| rest).unwrap_or_default();
        write!(
            f,
            "{}\n{}{}[exit status {:?}]",
            head.trim(),
            tail.trim(),
            self.stderr,
            self.code.unwrap_or(-1)
        )
    }
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

    fn run(&self, args: &[&str]) -> Transcript {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Transcript {
        let output = self.command(args, variables).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Transcript { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

#[test]
fn a_list_is_the_trials_and_nothing_else() {
    let project = Project::new();
    let list = "askari::cycle: test\naskari::incident: test\nubongo::cycle: test\n";
    // The second is nextest's way. nextest asks twice, once for the ignored ones alone.
    for args in [&["--list"][..], &["--list", "--format", "terse"]] {
        let listed = project.run(args);
        assert_eq!((listed.code, &*listed.stdout, &*listed.stderr), (Some(0), list, ""));
    }
    let ignored = project.run(&["--list", "--format", "terse", "--ignored"]);
    assert_eq!((ignored.code, &*ignored.stdout), (Some(0), ""));
    let filtered = project.run(&["--list", "askari::"]);
    assert_eq!(filtered.stdout, "askari::cycle: test\naskari::incident: test\n");
    let exact = project.run(&["--list", "--exact", "askari::cycle"]);
    assert_eq!(exact.stdout, "askari::cycle: test\n");
}

#[test]
fn a_file_that_is_not_a_trial_is_a_failing_trial() {
    let project = Project::new();
    project.write("scenarios/Upper Case.yml", "version: 1\nprofile: askari\ndescription: x\n");
    project.write("scenarios/orphan.yml", "version: 1\nprofil: askari\ndescription: x\n");
    let listed = project.run(&["--list"]);
    assert_eq!(listed.code, Some(0));
    let invalid: Vec<_> = listed
        .stdout
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| !["askari::cycle", "askari::incident", "ubongo::cycle"].contains(name))
        .collect();
    assert_eq!(invalid.len(), 2, "{listed}");
    for (number, name) in invalid.into_iter().enumerate() {
        let transcript = project.run(&["--exact", name]);
        assert_eq!(transcript.code, Some(101));
        insta::assert_snapshot!(format!("invalid_file_{number}"), transcript);
    }
}

#[test]
fn a_broken_file_fails_its_own_trial_and_no_other() {
    let project = Project::new();
    project.write("profiles/ubongo.yml", "version: 1\nrols: [base]\n");
    let broken = project.run(&["ubongo::cycle"]);
    assert_eq!(broken.code, Some(101));
    insta::assert_snapshot!(broken);
    let other = project.run(&["askari::cycle"]);
    assert_eq!(other.code, Some(0), "{other}");
}

#[test]
fn without_libvirt_trials_are_ignored_locally_and_fail_in_ci() {
    let project = Project::new();
    let local = project.run(&[]);
    assert_eq!(local.code, Some(0));
    insta::assert_snapshot!("without_libvirt_locally", local);
    let ci = project.run_with(&[], &[("CI", "true")]);
    assert_eq!(ci.code, Some(101));
    insta::assert_snapshot!("without_libvirt_in_ci", ci);
    // nextest's way to run one trial.
    let nextest = project.run_with(&["askari::cycle", "--exact", "--nocapture"], &[("NEXTEST_RUN_ID", "x")]);
    assert_eq!(nextest.code, Some(0));
    insta::assert_snapshot!("without_libvirt_under_nextest", nextest);
}

/// Both would queue for the same place otherwise, or leave one empty.
#[test]
fn nextest_starts_as_many_trials_as_vms_may_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let nextest = fs::read_to_string(root.join(".config/nextest.toml")).unwrap();
    let group = nextest.split("[test-groups.vm]\n").nth(1).expect("the group `vm`");
    let threads = group.lines().find_map(|line| line.strip_prefix("max-threads = ")).unwrap();
    let trial = "askari::cycle".parse().unwrap();
    let plan = boma_it::catalog::Project::load(root).unwrap().plan(&trial, &Default::default()).unwrap();
    assert_eq!(threads.parse(), Ok(plan.harness.vms));
}

#[test]
fn with_several_vms_trials_run_side_by_side_and_a_trial_alone_as_before() {
    let project = Project::new();
    project.write("harness/harness.yml", "version: 1\nlimits: {vms: 2}\n");
    let both = project.run(&["cycle"]);
    assert_eq!(both.code, Some(0), "{both}");
    let mut lines: Vec<_> = both.stdout.lines().filter(|line| line.contains("::cycle ... ")).collect();
    lines.sort_unstable();
    let expected = ["test askari::cycle ... ignored", "test ubongo::cycle ... ignored"];
    assert!(
        lines.len() == 2 && lines.iter().zip(expected).all(|(line, name)| line.starts_with(name)),
        "{both}"
    );
    let alone = project.run(&["ubongo::cycle"]);
    let in_order = Project::new().run(&["ubongo::cycle"]);
    assert_eq!(alone.to_string(), in_order.to_string());
}

#[test]
fn an_invalid_variable_fails_the_trial() {
    let transcript = Project::new().run_with(&["askari::cycle"], &[("BOMA_IT_CERTS", "nonsense")]);
    assert_eq!(transcript.code, Some(101));
    insta::assert_snapshot!(transcript);
}

#[test]
fn the_removed_repeat_variable_is_refused_with_its_replacement() {
    let transcript = Project::new().run_with(&["askari::cycle"], &[("BOMA_IT_REPEAT", "5")]);
    assert_eq!(transcript.code, Some(2));
    insta::assert_snapshot!(transcript);
}

#[test]
fn a_trial_that_does_not_allow_the_chosen_tier_is_ignored_and_no_other() {
    let project = Project::new();
    project.write(
        "scenarios/incident.yml",
        "version: 1\nprofile: askari\ndescription: dead after the reboot\ncerts: [internal]\n",
    );
    let transcript = project.run_with(&["askari::"], &[("BOMA_IT_CERTS", "pebble"), ("CI", "true")]);
    assert_eq!(transcript.code, Some(101));
    insta::assert_snapshot!(transcript);
}

#[test]
fn a_folder_that_is_not_a_project_is_an_error_and_not_an_empty_list() {
    let project = Project::new();
    let transcript = project.run_with(&["--list"], &[("BOMA_IT_ROOT", "/nonexistent")]);
    assert_eq!((transcript.code, &*transcript.stdout), (Some(2), ""));
    insta::assert_snapshot!(transcript);
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
        let transcript = project.run(&["--list", "--format", "terse"]);
        assert_eq!((transcript.code, transcript.stdout.lines().count()), (Some(0), 500 * 5 + 3));
        started.elapsed()
    };
    // On a busy machine only the quickest of many shows what the harness itself takes.
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

/// `.ci/run` takes a share of these trials and leaves out the others by name, so a wrong name would run or leave out nothing.
#[test]
fn every_slow_trial_exists() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    for line in fs::read_to_string(checkout.join(".ci/slow")).unwrap().lines() {
        let (trial, root) = line.split_once(' ').unwrap_or((line, "."));
        let output =
            Command::new(binary()).arg("--list").env("BOMA_IT_ROOT", checkout.join(root)).output().unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        assert!(listed.lines().any(|line| line == format!("{trial}: test")), "{line}: {listed}");
    }
}
