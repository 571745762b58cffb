//! A whole cycle, and what can go wrong from the restart on: with a real sshd in the guest's place.

use std::time::{Duration, Instant};

use boma_it::catalog::plan::{ExpectedFailure, ExpectedFault, Restart};
use boma_it::cycle::{Job, Keep, down, run};
use boma_it::event::RunReport;
use boma_it::machine::fake::Verb;
use boma_it::machine::{DomainState, Hypervisor, Lifetime};
use boma_it::outcome::{Outcome, Stage};

use crate::guest::{After, Guest, OLD};
use crate::lab::{ASKARI, Lab, json};

/// A deadline for what is told by the deadline only; four times as long under TCG. Long enough for a busy machine.
pub(crate) const SHORT: Duration = Duration::from_secs(3);

#[test]
fn a_cycle_passes_and_leaves_nothing_but_its_folder() {
    let lab = Lab::new();
    let world = lab.world(Keep::UntilDown);
    let _guest = Guest::of(&lab, &world, After::AnotherBoot);
    let report = run(&world, &lab.plan(), Job::Cycle).unwrap();
    assert_eq!((report.outcome, report.error.as_deref()), (Outcome::Passed, None), "{}", report.seen);
    lab.assert_nothing_left(&report);
    let stages: Vec<_> = report.stages.iter().map(|it| (it.stage, it.outcome)).collect();
    let passed = [Stage::Up, Stage::Apply, Stage::Reboot, Stage::Assert, Stage::Down];
    assert_eq!(stages, passed.map(|stage| (stage, Outcome::Passed)));
    assert!(report.stages[2].summary.starts_with("boot 11111111 → 22222222 in "), "{:?}", report.stages[2]);
    let mut files: Vec<_> = std::fs::read_dir(&report.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "ansible",
            "console.log",
            "events.jsonl",
            "image.json",
            "journal.log",
            "plan.json",
            "report.json",
            "seed"
        ]
    );
    let written = json(&report.folder.join("report.json"));
    assert_eq!(written["assertions"][0]["status"], "passed");
    let image = written["image"].as_str().unwrap();
    assert!(image.starts_with("golden-") && image.contains(", a file of yours, read 20"), "{image}");
}

/// A cycle whose restart goes wrong, with `declared` as what it should go like.
pub(crate) fn go_wrong(after: After, declared: Option<ExpectedFault>, patience: Duration) -> RunReport {
    let lab = Lab::new();
    let world = lab.world(Keep::Never);
    let _guest = Guest::of(&lab, &world, after);
    let mut plan = lab.plan();
    plan.harness.timeouts.reboot = patience;
    plan.expect.fail = declared.map(|what| ExpectedFailure { at: Stage::Reboot, what });
    let report = run(&world, &plan, Job::Cycle).unwrap();
    lab.assert_nothing_left(&report);
    assert!(report.assertions.is_empty(), "nothing is asserted of a VM that did not restart");
    report
}

#[rstest::rstest]
fn a_vm_that_did_not_restart_is_an_error_whatever_was_declared(
    #[values(None, Some(ExpectedFault::Unreachable))] declared: Option<ExpectedFault>,
) {
    let report = go_wrong(After::SameBoot, declared, SHORT);
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(report.seen.starts_with("at reboot: the VM did not restart"), "{}", report.seen);
    assert!(report.seen.contains("11111111-"), "{}", report.seen);
}

#[test]
fn emergency_mode_after_the_restart_is_noticed_at_once_and_judged_as_declared() {
    macro_rules! emergency {
        () => {
            "[FAILED] Failed to mount /data.\r\nYou are in emergency mode. Press Enter\r\n"
        };
    }
    let (of_the_new_boot, of_the_old_one) = (concat!("Linux version 6.12\r\n", emergency!()), emergency!());
    for (says, declared, outcome) in [
        (of_the_new_boot, None, Outcome::Errored),
        (of_the_new_boot, Some(ExpectedFault::Emergency), Outcome::Passed),
        (of_the_new_boot, Some(ExpectedFault::Unreachable), Outcome::Errored),
        (of_the_old_one, Some(ExpectedFault::Emergency), Outcome::Errored),
    ] {
        let report = go_wrong(After::Says(says), declared, Duration::from_secs(60));
        assert_eq!(report.outcome, outcome, "{}", report.seen);
        let reboot = &report.stages[2];
        assert!(reboot.stage == Stage::Reboot && reboot.took < Duration::from_secs(6), "{reboot:?}");
        assert!(report.error.unwrap().contains("before it: [FAILED] Failed to mount /data."));
    }
}

/// Nothing of the guest has run by then: it is the same reboot, begun once more, and still exactly one boot.
#[test]
fn an_emulated_kernel_that_stands_still_before_its_init_is_reset_and_told() {
    let lab = Lab::new();
    let world = lab.world(Keep::Never);
    let _guest = Guest::of(&lab, &world, After::StandsStill);
    let report = run(&world, &lab.plan(), Job::Cycle).unwrap();
    lab.assert_nothing_left(&report);
    assert_eq!((report.outcome, report.error.as_deref()), (Outcome::Passed, None), "{}", report.seen);
    assert!(report.stages[2].summary.starts_with("boot 11111111 → 22222222 in "), "{:?}", report.stages[2]);
    let resets = lab.fake.calls().iter().filter(|(verb, _)| *verb == Verb::Restart).count();
    assert_eq!(resets, 2, "the restart that was asked for, and the reset");
    let notes = lab.heard.notes();
    assert!(notes.iter().any(|note| note.contains("stood still before its init")), "{notes:?}");
}

#[rstest::rstest]
#[case::in_the_new_boot(concat!(
    "Linux version 6.12\r\nWelcome to Debian GNU/Linux 13 (trixie)!\r\n",
    "rcu: rcu_preempt kthread timer wakeup didn't happen for 5254 jiffies!\r\n",
    "rcu: rcu_preempt kthread timer wakeup didn't happen for 15758 jiffies!\r\n"
))]
#[case::in_the_old_one(concat!(
    "rcu: rcu_preempt kthread timer wakeup didn't happen for 5254 jiffies!\r\n",
    "rcu: rcu_preempt kthread timer wakeup didn't happen for 15758 jiffies!\r\n"
))]
fn a_kernel_that_stands_still_while_the_guest_runs_is_an_error_at_once(#[case] says: &'static str) {
    let report = go_wrong(After::Says(says), Some(ExpectedFault::Unreachable), Duration::from_secs(60));
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(report.seen.contains("the guest's kernel stalled"), "{}", report.seen);
    assert!(report.stages[2].took < Duration::from_secs(6), "{:?}", report.stages[2]);
}

#[rstest::rstest]
fn no_restart_is_no_reboot(
    #[values(None, Some(ExpectedFault::Unreachable), Some(ExpectedFault::Emergency))] declared: Option<
        ExpectedFault,
    >,
) {
    let lab = Lab::new();
    let world = lab.world(Keep::Never);
    let _guest = Guest::of(&lab, &world, After::AnotherBoot);
    let mut plan = lab.plan();
    plan.restart = Restart::None;
    plan.harness.timeouts.reboot = SHORT;
    plan.expect.fail = declared.map(|what| ExpectedFailure { at: Stage::Reboot, what });
    let report = run(&world, &plan, Job::Cycle).unwrap();
    lab.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(report.seen.starts_with("at reboot: the VM did not restart: "), "{}", report.seen);
    let reboot = &report.stages[2];
    assert_eq!((reboot.stage, reboot.outcome), (Stage::Reboot, Outcome::Errored));
    assert!(report.assertions.is_empty());
    assert!(!lab.fake.calls().iter().any(|(verb, _)| *verb == Verb::Restart));
}

#[test]
fn the_old_boot_that_answers_while_it_shuts_down_is_not_taken_for_the_new_one() {
    let lab = Lab::new();
    let world = lab.world(Keep::Never);
    let guest = Guest::of(&lab, &world, After::Lingers);
    let report = run(&world, &lab.plan(), Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
    let reboot = &report.stages[2];
    assert!(reboot.summary.starts_with("boot 11111111 → 22222222 in "), "{reboot:?}");
    assert!(guest.happened().elapsed() < Duration::from_secs(60));
    assert!(lab.heard.doings().iter().any(|doing| doing == OLD), "{:?}", lab.heard.doings());
}

#[test]
fn a_hypervisor_that_cannot_restart_the_vm_is_told() {
    let lab = Lab::new();
    let world = lab.world(Keep::Never);
    let _guest = Guest::of(&lab, &world, After::SameBoot);
    lab.fake.fail(Verb::Restart, 1);
    let report = run(&world, &lab.plan(), Job::Cycle).unwrap();
    lab.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(report.seen.starts_with("at reboot: the VM could not be restarted: "), "{}", report.seen);
    assert!(report.seen.contains(ASKARI), "{}", report.seen);
}

#[test]
fn a_teardown_that_fails_after_a_pass_makes_it_an_error() {
    let lab = Lab::new();
    let world = lab.world(Keep::Never);
    let _guest = Guest::of(&lab, &world, After::AnotherBoot);
    lab.fake.fail(Verb::DeleteVolume, 2);
    let report = run(&world, &lab.plan(), Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(
        report.seen.contains("; but at down: the VM boma-it-askari could not be removed"),
        "{}",
        report.seen
    );
    assert!(report.seen.contains("boma-it prune"), "{}", report.seen);
    assert_eq!(lab.left(), ["boma-it-askari.qcow2"], "every other step was done");
    assert!(!report.folder.join("keys").exists());
    lab.assert_unlocked();
}

#[test]
fn the_steps_of_separate_processes_find_the_vm_by_its_metadata() {
    let lab = Lab::new();
    let plan = lab.plan();
    // A new world each time: what one process leaves for the next is on the hypervisor and in the run folder.
    let world = |session: &str| lab.world_of(session, Keep::UntilDown);
    let _guest = Guest::of(&lab, &world("one"), After::AnotherBoot);
    let up = run(&world("one"), &plan, Job::Up).unwrap();
    assert_eq!((up.outcome, up.kept), (Outcome::Passed, false), "{}", up.seen);
    assert_eq!(lab.fake.spec(ASKARI).unwrap().ownership.lifetime, Lifetime::Manual);
    for (session, job) in [("two", Job::Apply), ("three", Job::Reboot), ("four", Job::Assert)] {
        let report = run(&world(session), &plan, job).unwrap();
        assert_eq!(report.outcome, Outcome::Passed, "{job:?}: {}", report.seen);
        assert_eq!(report.folder, up.folder);
        assert_eq!(report.stages.len(), 1);
        assert_eq!(lab.fake.state(ASKARI).unwrap(), DomainState::Running);
        lab.assert_unlocked();
    }
    let started = Instant::now();
    assert_eq!(down(&world("five"), &plan.trial).unwrap(), Some(up.folder.clone()));
    assert!(started.elapsed() < Duration::from_secs(3), "teardown took {:?}", started.elapsed());
    assert_eq!(lab.left(), Vec::<String>::new());
    assert!(!up.folder.join("keys").exists() && up.folder.join("console.log").exists());
}
