//! Canary secrets that every program around the cycle prints wherever it can, in every encoding. However a run ends, its
//! output and its folder must not contain them, and no child has them in its arguments or environment.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use boma_it::cycle::{Job, Keep, Removed, down, prune, run};
use boma_it::machine::teardown::PruneScope;
use boma_it::outcome::{Outcome, error_chain};
use boma_it::report::summary::explain;
use boma_it::site::secrets::SecretError;
use boma_it::support::deadline::Deadline;

use crate::fixture::{ASKARI, PORTS, Task, begin, record};
use crate::guest::{Guest, OnRestart};
use crate::secrets_fixture::{Moment, SecretsFixture, encodings, message};

const LOGS: [&str; 3] = ["ansible/apply.log", "console.log", "journal.log"];

/// The last note on the terminal.
fn last_note(secrets: &SecretsFixture) -> String {
    let shown = secrets.shown();
    let note = shown.lines().rev().find_map(|line| line.strip_prefix("        note  "));
    secrets.fixture.plain(note.unwrap_or_else(|| panic!("no note: {shown}")))
}

#[test]
fn a_passed_cycle_keeps_its_secrets() {
    let secrets = SecretsFixture::new(Keep::UntilDown);
    secrets.playbook("apply", &record("site", &[Task::with_message("base : firewall", message())]));
    let _guest = Guest::start(&secrets.fixture, &secrets.context, OnRestart::AnotherBoot);
    let report = secrets.run(Job::Cycle);
    assert_eq!(report.outcome, Outcome::Passed, "{}", explain(&report));
    secrets.assert_no_leak(&report, &LOGS);
    secrets.assert_no_leak(&report, &["ansible/apply.tasks.jsonl", "ansible/assert.log", "events.jsonl"]);
    secrets.fixture.assert_nothing_left(&report);
}

#[test]
fn a_failed_cycle_the_later_steps_and_down_keep_their_secrets() {
    let secrets = SecretsFixture::new(Keep::UntilDown);
    secrets.playbook("assert", &record("verify", &[Task::failed(PORTS, message()).asserting()]));
    let _guest = Guest::start(&secrets.fixture, &secrets.context, OnRestart::AnotherBoot);
    let report = secrets.run(Job::Cycle);
    assert_eq!((report.outcome, report.kept), (Outcome::Failed, true));
    let told = ["the terminal", "report.json", "events.jsonl", "ansible/assert.tasks.jsonl"];
    secrets.assert_no_leak(&report, &LOGS);
    secrets.assert_no_leak(&report, &told);
    secrets.assert_no_leak(&report, &["diagnostics/nft-list-ruleset.txt", "diagnostics/journalctl-b.txt"]);

    fs::remove_file(secrets.fixture.path("seen.json")).unwrap();
    let report = secrets.run(Job::Apply);
    assert_eq!(report.outcome, Outcome::Passed, "{}", explain(&report));
    secrets.assert_no_leak(&report, &LOGS);

    // Where the secrets are not to be had any more, nothing more is saved of what the VM said.
    fs::rename(secrets.fixture.path("token"), secrets.fixture.path("token.away")).unwrap();
    let console = report.folder.join("console.log");
    let saved = fs::read(&console).unwrap();
    secrets.fixture.fake.print(ASKARI, "the last words");
    let ended = down(&secrets.context, &secrets.fixture.plan().trial).unwrap();
    assert_eq!(ended.map(|it| it.folder), Some(report.folder.clone()));
    assert_eq!(fs::read(&console).unwrap(), saved);
    insta::assert_snapshot!(last_note(&secrets));
    secrets.assert_no_leak(&report, &LOGS);
}

#[test]
fn down_saves_the_last_console_output_without_the_secrets() {
    let secrets = SecretsFixture::new(Keep::UntilDown);
    secrets.playbook("assert", &record("verify", &[Task::failed(PORTS, message()).asserting()]));
    let _guest = Guest::start(&secrets.fixture, &secrets.context, OnRestart::AnotherBoot);
    let report = secrets.run(Job::Cycle);
    secrets.fixture.fake.print(ASKARI, &format!("{}\nthe last words", encodings().join(" ")));
    down(&secrets.context, &secrets.fixture.plan().trial).unwrap();
    assert!(fs::read_to_string(report.folder.join("console.log")).unwrap().ends_with("the last words"));
    secrets.assert_no_leak(&report, &LOGS);
}

#[test]
fn an_errored_cycle_keeps_its_secrets() {
    let secrets = SecretsFixture::new(Keep::Never);
    let mut script = format!("{}EOF\n", begin("site"));
    let _ = writeln!(
        script,
        "echo '[ERROR]: Unexpected' >&2; cat {} >&2; exit 250",
        secrets.fixture.path("words").display()
    );
    secrets.playbook("apply", &script);
    let _guest = Guest::start(&secrets.fixture, &secrets.context, OnRestart::AnotherBoot);
    let report = secrets.run(Job::Cycle);
    assert_eq!(report.outcome, Outcome::Errored);
    secrets.assert_no_leak(&report, &LOGS);
    secrets
        .assert_no_leak(&report, &["the terminal", "report.json", "events.jsonl", "diagnostics/ss-tlnp.txt"]);
    secrets.fixture.assert_nothing_left(&report);
}

#[test]
fn an_interrupted_cycle_keeps_its_secrets() {
    let secrets = SecretsFixture::new(Keep::UntilDown);
    // Everybody has spoken by then, the guest as well.
    let spoken = secrets.fixture.path("spoken");
    secrets.playbook("apply", &format!("{}EOF\ntouch {}\nsleep 600\n", begin("site"), spoken.display()));
    let _guest = Guest::start(&secrets.fixture, &secrets.context, OnRestart::AnotherBoot);
    let interrupt = secrets.fixture.interrupt.clone();
    let raised = std::thread::spawn(move || {
        while !spoken.exists() {
            Deadline::uninterrupted(Duration::from_millis(10), "the playbook").wait_a_moment();
        }
        interrupt.raise(2);
    });
    let report = secrets.run(Job::Cycle);
    raised.join().unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    secrets.assert_no_leak(&report, &LOGS);
    secrets.fixture.assert_nothing_left(&report);
}

#[test]
fn a_secret_that_a_task_copies_into_the_run_folder_is_removed_with_a_note() {
    let secrets = SecretsFixture::new(Keep::Never);
    let words = secrets.fixture.path("words");
    // As a task that is delegated to this machine might do.
    let script = format!("sleep 0.5; cp {} \"$(dirname \"$ANSIBLE_CONFIG\")/fetched\"\n", words.display());
    secrets.playbook("assert", &(script + &record("verify", &[Task::ok(PORTS).asserting()])));
    let _guest = Guest::start(&secrets.fixture, &secrets.context, OnRestart::AnotherBoot);
    let report = run(&secrets.context, &secrets.fixture.plan(), Job::Cycle).unwrap();
    secrets.assert_no_leak(&report, &["ansible/fetched"]);
    assert_eq!(last_note(&secrets), "removed a secret from ansible/fetched in the run folder");
}

#[test]
fn secrets_of_a_killed_run_are_removed_by_the_next_run_and_by_prune() {
    let secrets = SecretsFixture::new(Keep::Never);
    let left = secrets.fixture.path("runs/20260101T000000-askari/ansible/secrets.vars.json");
    secrets.fixture.write("runs/20260101T000000-askari/plan.json", "{}");
    secrets.fixture.write("runs/20260101T000000-askari/ansible/secrets.vars.json", "{}");
    let mut plan = secrets.fixture.plan();
    plan.harness.timeouts.up = Duration::from_millis(100);
    run(&secrets.context, &plan, Job::Cycle).unwrap();
    assert!(!left.exists());
    secrets.fixture.write("runs/20260101T000000-askari/ansible/secrets.vars.json", "{}");
    let (removed, done) = prune(&secrets.context, &plan.harness.runs, PruneScope::Orphans);
    done.unwrap();
    assert_eq!(removed, Removed { secrets: vec![left], ..Removed::default() });
}

#[test]
fn a_missing_secret_is_refused_before_the_hypervisor_is_asked() {
    let secrets = SecretsFixture::new(Keep::Never);
    fs::remove_file(secrets.fixture.path("token")).unwrap();
    let error = run(&secrets.context, &secrets.fixture.plan(), Job::Cycle).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(SecretError::Refused(_))), "{error:?}");
    let told = secrets.fixture.plain(&error_chain(&error));
    insta::assert_snapshot!(told);
    assert_eq!(secrets.fixture.fake.calls(), []);
    assert!(secrets.fixture.runs().is_empty());
}
