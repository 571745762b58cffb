//! A canary: secrets that every program around the cycle repeats wherever it can, in all forms. Nothing that a run says or leaves
//! may have them, however it ends, and no child has them among its arguments or in its environment.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use boma_it::cycle::{Job, Keep, Removed, down, prune, run};
use boma_it::machine::teardown::PruneScope;
use boma_it::outcome::{Outcome, error_chain};
use boma_it::report::summary::explain;
use boma_it::site::secrets::SecretError;
use boma_it::support::deadline::Deadline;

use crate::aviary::{Aviary, Moment, forms, message};
use crate::guest::{After, Guest};
use crate::lab::{ASKARI, PORTS, Task, begin, record};

const LOGS: [&str; 3] = ["ansible/apply.log", "console.log", "journal.log"];

#[test]
fn a_cycle_that_passes_keeps_its_secrets() {
    let aviary = Aviary::new(Keep::UntilDown);
    aviary.playbook("apply", &record("site", &[Task::said("base : firewall", message())]));
    let _guest = Guest::of(&aviary.lab, &aviary.world, After::AnotherBoot);
    let report = aviary.fly(Job::Cycle);
    assert_eq!(report.outcome, Outcome::Passed, "{}", explain(&report));
    aviary.assert_silent(&report, &LOGS);
    aviary.assert_silent(&report, &["ansible/apply.tasks.jsonl", "ansible/assert.log", "events.jsonl"]);
    aviary.lab.assert_nothing_left(&report);
}

#[test]
fn a_cycle_that_fails_keeps_its_secrets_and_so_do_later_steps_and_the_end_of_its_vm() {
    let aviary = Aviary::new(Keep::UntilDown);
    aviary.playbook("assert", &record("verify", &[Task::failed(PORTS, message()).asserting()]));
    let _guest = Guest::of(&aviary.lab, &aviary.world, After::AnotherBoot);
    let report = aviary.fly(Job::Cycle);
    assert_eq!((report.outcome, report.kept), (Outcome::Failed, true));
    let told = ["the terminal", "report.json", "events.jsonl", "ansible/assert.tasks.jsonl"];
    aviary.assert_silent(&report, &LOGS);
    aviary.assert_silent(&report, &told);
    aviary.assert_silent(&report, &["diagnostics/nft-list-ruleset.txt", "diagnostics/journalctl-b.txt"]);

    fs::remove_file(aviary.lab.path("seen.json")).unwrap();
    let report = aviary.fly(Job::Apply);
    assert_eq!(report.outcome, Outcome::Passed, "{}", explain(&report));
    aviary.assert_silent(&report, &LOGS);

    // Where the secrets are not to be had any more, nothing more is saved of what the VM said.
    fs::rename(aviary.lab.path("token"), aviary.lab.path("token.away")).unwrap();
    let console = report.folder.join("console.log");
    let saved = fs::read(&console).unwrap();
    aviary.lab.fake.print(ASKARI, "the last words");
    let folder = down(&aviary.world, &aviary.lab.plan().trial).unwrap();
    assert_eq!(folder.as_deref(), Some(report.folder.as_path()));
    assert_eq!(fs::read(&console).unwrap(), saved);
    let shown = aviary.shown();
    assert!(shown.contains("console.log and journal.log are left as the last step saved them"), "{shown}");
    aviary.assert_silent(&report, &LOGS);
}

#[test]
fn the_end_of_a_kept_vm_saves_its_last_words_without_the_secrets() {
    let aviary = Aviary::new(Keep::UntilDown);
    aviary.playbook("assert", &record("verify", &[Task::failed(PORTS, message()).asserting()]));
    let _guest = Guest::of(&aviary.lab, &aviary.world, After::AnotherBoot);
    let report = aviary.fly(Job::Cycle);
    aviary.lab.fake.print(ASKARI, &format!("{}\nthe last words", forms().join(" ")));
    down(&aviary.world, &aviary.lab.plan().trial).unwrap();
    assert!(fs::read_to_string(report.folder.join("console.log")).unwrap().ends_with("the last words"));
    aviary.assert_silent(&report, &LOGS);
}

#[test]
fn a_cycle_that_errs_keeps_its_secrets() {
    let aviary = Aviary::new(Keep::Never);
    let mut script = format!("{}EOF\n", begin("site"));
    let _ = writeln!(
        script,
        "echo '[ERROR]: Unexpected' >&2; cat {} >&2; exit 250",
        aviary.lab.path("words").display()
    );
    aviary.playbook("apply", &script);
    let _guest = Guest::of(&aviary.lab, &aviary.world, After::AnotherBoot);
    let report = aviary.fly(Job::Cycle);
    assert_eq!(report.outcome, Outcome::Errored);
    aviary.assert_silent(&report, &LOGS);
    aviary
        .assert_silent(&report, &["the terminal", "report.json", "events.jsonl", "diagnostics/ss-tlnp.txt"]);
    aviary.lab.assert_nothing_left(&report);
}

#[test]
fn a_cycle_that_is_interrupted_keeps_its_secrets() {
    let aviary = Aviary::new(Keep::UntilDown);
    // Everybody has spoken by then, the guest as well.
    let spoken = aviary.lab.path("spoken");
    aviary.playbook("apply", &format!("{}EOF\ntouch {}\nsleep 600\n", begin("site"), spoken.display()));
    let _guest = Guest::of(&aviary.lab, &aviary.world, After::AnotherBoot);
    let interrupt = aviary.lab.interrupt.clone();
    let raised = std::thread::spawn(move || {
        while !spoken.exists() {
            Deadline::uninterrupted(Duration::from_millis(10), "the playbook").wait_a_moment();
        }
        interrupt.raise(2);
    });
    let report = aviary.fly(Job::Cycle);
    raised.join().unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    aviary.assert_silent(&report, &LOGS);
    aviary.lab.assert_nothing_left(&report);
}

#[test]
fn what_comes_into_the_run_folder_past_us_is_cleaned_and_told() {
    let aviary = Aviary::new(Keep::Never);
    let words = aviary.lab.path("words");
    // As a task that is delegated to this machine might do.
    let script = format!("sleep 0.5; cp {} \"$(dirname \"$ANSIBLE_CONFIG\")/fetched\"\n", words.display());
    aviary.playbook("assert", &(script + &record("verify", &[Task::ok(PORTS).asserting()])));
    let _guest = Guest::of(&aviary.lab, &aviary.world, After::AnotherBoot);
    let report = run(&aviary.world, &aviary.lab.plan(), Job::Cycle).unwrap();
    aviary.assert_silent(&report, &["ansible/fetched"]);
    let shown = aviary.shown();
    assert!(shown.contains("a secret was taken out of ansible/fetched in the run folder"), "{shown}");
}

#[test]
fn what_a_killed_run_left_of_its_secrets_is_removed_by_the_next() {
    let aviary = Aviary::new(Keep::Never);
    let left = aviary.lab.path("runs/20260101T000000-askari/ansible/secrets.vars.json");
    aviary.lab.write("runs/20260101T000000-askari/plan.json", "{}");
    aviary.lab.write("runs/20260101T000000-askari/ansible/secrets.vars.json", "{}");
    let mut plan = aviary.lab.plan();
    plan.harness.timeouts.up = Duration::from_millis(100);
    run(&aviary.world, &plan, Job::Cycle).unwrap();
    assert!(!left.exists());
    aviary.lab.write("runs/20260101T000000-askari/ansible/secrets.vars.json", "{}");
    let (removed, done) = prune(&aviary.world, &plan.harness.runs, PruneScope::Orphans);
    done.unwrap();
    assert_eq!(removed, Removed { secrets: vec![left], ..Removed::default() });
}

#[test]
fn a_secret_that_is_missing_is_refused_before_anything_is_asked() {
    let aviary = Aviary::new(Keep::Never);
    fs::remove_file(aviary.lab.path("token")).unwrap();
    let error = run(&aviary.world, &aviary.lab.plan(), Job::Cycle).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(SecretError::Refused(_))), "{error:?}");
    let told = aviary.lab.plain(&error_chain(&error));
    assert!(
        told.starts_with("cannot read the secret `vault.canary.token` from the file [lab]/token"),
        "{told}"
    );
    assert!(told.contains("integration-testing.md, Secrets"), "{told}");
    assert_eq!(aviary.lab.fake.calls(), []);
    assert!(aviary.lab.runs().is_empty());
}
