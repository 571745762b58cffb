//! A whole cycle, and everything that can go wrong from the restart on, with a real sshd as guest.

use std::time::{Duration, Instant};

use boma_it::catalog::plan::{ExpectedFailure, ExpectedFault, Restart};
use boma_it::cycle::{Ended, Job, Keep, down, run};
use boma_it::event::RunReport;
use boma_it::machine::fake::Verb;
use boma_it::machine::{DomainState, Hypervisor, Lifetime};
use boma_it::outcome::{Outcome, Stage};
use rstest::Context;

use crate::fixture::{ASKARI, Fixture, Task, assert_text, assert_within, json, record, stage};
use crate::guest::{Guest, OLD, OnRestart};

/// A deadline for what only a deadline can show, four times as long under TCG. Long enough for a busy machine.
pub(crate) const SHORT: Duration = Duration::from_secs(3);

#[test]
fn a_cycle_passes_and_leaves_only_its_run_folder() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    assert_eq!((report.outcome, report.error.as_deref()), (Outcome::Passed, None), "{}", report.seen);
    fixture.assert_nothing_left(&report);
    let stages: Vec<_> = report.stages.iter().map(|it| (it.stage, it.outcome)).collect();
    let passed = [Stage::Up, Stage::Apply, Stage::Reboot, Stage::Assert, Stage::Down];
    assert_eq!(stages, passed.map(|stage| (stage, Outcome::Passed)));
    assert!(
        stage(&report, Stage::Reboot).summary.starts_with("boot 11111111 → 22222222 in "),
        "{:?}",
        stage(&report, Stage::Reboot)
    );
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
            "lock",
            "plan.json",
            "report.json",
            "seed"
        ]
    );
    let written = json(&report.folder.join("report.json"));
    assert_eq!(written["assertions"][0]["status"], "passed");
    insta::with_settings!({filters => [("-[0-9a-f]{12}", "-[digest]"), (r"\d{4}-[^Z]+Z", "[time]")]}, {
        insta::assert_snapshot!(written["image"].as_str().unwrap(), @"golden-[digest], a file of yours, read [time]");
    });
}

/// A cycle whose restart goes wrong. `declared` is the fault that the scenario expects.
pub(crate) fn run_with_failing_restart(
    on_restart: OnRestart,
    declared: Option<ExpectedFault>,
    patience: Duration,
) -> RunReport {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, on_restart);
    let mut plan = fixture.plan();
    plan.harness.timeouts.reboot = patience;
    plan.expect.fail = declared.map(|what| ExpectedFailure { at: Stage::Reboot, what });
    let report = run(&context, &plan, Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert!(report.assertions.is_empty(), "nothing is asserted of a VM that did not restart");
    report
}

#[rstest::rstest]
fn a_vm_that_did_not_restart_is_an_error_whatever_was_declared(
    #[context] context: Context,
    #[values(None, Some(ExpectedFault::Unreachable))] declared: Option<ExpectedFault>,
) {
    let report = run_with_failing_restart(OnRestart::SameBoot, declared, SHORT);
    assert_eq!(report.outcome, Outcome::Errored);
    assert_text!(context, report.seen);
}

#[test]
fn emergency_mode_after_the_restart_is_noticed_at_once_and_passes_only_if_declared() {
    macro_rules! emergency {
        () => {
            "[FAILED] Failed to mount /data.\r\nYou are in emergency mode. Press Enter\r\n"
        };
    }
    let (of_the_new_boot, of_the_old_one) = (concat!("Linux version 6.12\r\n", emergency!()), emergency!());
    let mut told = String::new();
    for (says, declared, outcome) in [
        (of_the_new_boot, None, Outcome::Failed),
        (of_the_new_boot, Some(ExpectedFault::Emergency), Outcome::Passed),
        (of_the_new_boot, Some(ExpectedFault::Unreachable), Outcome::Failed),
        (of_the_old_one, Some(ExpectedFault::Emergency), Outcome::Errored),
    ] {
        let case = format!("{says:?}, declared {declared:?}");
        let report = run_with_failing_restart(OnRestart::Prints(says), declared, Duration::from_secs(60));
        assert_eq!(report.outcome, outcome, "{}", report.seen);
        let reboot = &stage(&report, Stage::Reboot);
        assert_within(Duration::from_secs(6), reboot.took, &report);
        told += &format!("{case}:\n{}\n{}\n\n", report.seen, report.error.unwrap());
    }
    assert_text!(told);
}

const TWO_BOOTS: &str = concat!(
    "BdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: \r\n",
    "BdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: "
);
const ONE_BOOT: &str = "BdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ";
const ONE_KERNEL: &str = "[   30.000000] kernel: Linux version 6.12\n";
const TWO_KERNELS: &str = concat!(
    "[   30.000000] kernel: Linux version 6.12\n",
    "[   60.000000] systemd[1]: Startup finished in 1min.\n",
    "[   31.000000] kernel: Linux version 6.12\n"
);

/// The guest's own journal counts one boot each time, as far as it reaches.
#[rstest::rstest]
#[case::one(ONE_BOOT, ONE_KERNEL, None)]
#[case::one_streamed_twice(ONE_BOOT, concat!("[   30.000000] kernel: Linux version 6.12\n", "[   30.000000] kernel: Linux version 6.12\n"), None)]
#[case::a_silent_console("", ONE_KERNEL, None)]
#[case::no_stream(ONE_BOOT, "", None)]
#[case::two_on_the_console(TWO_BOOTS, ONE_KERNEL, Some("the console shows 2"))]
#[case::two_on_the_console_only(TWO_BOOTS, "", Some("the console shows 2"))]
#[case::two_in_the_stream(ONE_BOOT, TWO_KERNELS, Some("the streamed journal shows 2"))]
#[case::two_in_the_stream_only("", TWO_KERNELS, Some("the streamed journal shows 2"))]
#[case::two_in_both(TWO_BOOTS, TWO_KERNELS, Some("the console shows 2, the streamed journal shows 2"))]
fn a_guest_that_boots_once_more_is_never_taken_for_one_that_booted_once(
    #[case] console: &'static str,
    #[case] journal: &'static str,
    #[case] two: Option<&str>,
) {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBootThatLogs(console, journal));
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    let reboot = stage(&report, Stage::Reboot);
    match two {
        None => {
            assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
            assert!(reboot.summary.contains("; once, by the guest's journal"), "{reboot:?}");
            let notes = fixture.events.notes();
            let is_noted = |witness: &str| {
                notes.iter().any(|note| note.starts_with(&format!("{witness} cannot confirm")))
            };
            assert_eq!(is_noted("the console"), console.is_empty(), "{notes:?}");
            assert_eq!(is_noted("the streamed journal"), journal.is_empty(), "{notes:?}");
        }
        Some(who) => {
            assert_eq!(
                (report.outcome, reboot.outcome),
                (Outcome::Errored, Outcome::Errored),
                "{}",
                report.seen
            );
            assert!(
                report.seen.contains("booted more than once") && report.seen.contains(who),
                "{}",
                report.seen
            );
        }
    }
}

const MASKED: &str = "cloud-init-unit cloud-init-local.service masked enabled\ncloud-init-unit cloud-final.service masked enabled";
const BROKEN: &str = "cloud-init-status {\"v1\": {\"init\": {\"errors\": [\"no datasource\"]}}}\ncloud-init-unit cloud-final.service masked enabled";

/// In the first boot the seed must have been read, so there cloud-init must run.
#[rstest::rstest]
#[case::masked_by_the_playbook(MASKED, false, Outcome::Passed)]
#[case::masked_from_the_start(MASKED, true, Outcome::Errored)]
#[case::failed(BROKEN, false, Outcome::Errored)]
#[case::neither("cloud-init-unit cloud-final.service enabled enabled", false, Outcome::Errored)]
fn a_cloud_init_that_the_site_switched_off_is_a_note_after_the_reboot(
    #[case] says: &str,
    #[case] from_the_start: bool,
    #[case] outcome: Outcome,
) {
    let fixture = Fixture::new();
    let masks = format!("printf '%s\\n' '{says}' >{}\n", fixture.path("guest/cloud-init").display());
    fixture.playbook("apply", &(masks + &record("site", &[Task::ok("base : cloud-init")])));
    if from_the_start {
        fixture.write("guest/cloud-init", says);
    }
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, outcome, "{}", report.seen);
    let note = "cloud-init did not run in this boot: cloud-init-local.service is masked, cloud-final.service is masked";
    assert_eq!(fixture.events.notes().iter().any(|it| it == note), outcome == Outcome::Passed);
    if outcome == Outcome::Errored {
        let at = if from_the_start { Stage::Up } else { Stage::Reboot };
        assert_eq!(stage(&report, at).outcome, Outcome::Errored);
        assert!(report.seen.contains("cloud-init failed in the guest"), "{}", report.seen);
    }
}

/// Init has not started by then: a reset repeats the same reboot, and it still counts as one boot.
#[test]
fn an_emulated_kernel_that_hangs_before_its_init_is_reset_with_a_note() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::BootHangs);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!((report.outcome, report.error.as_deref()), (Outcome::Passed, None), "{}", report.seen);
    assert!(
        stage(&report, Stage::Reboot).summary.starts_with("boot 11111111 → 22222222 in "),
        "{:?}",
        stage(&report, Stage::Reboot)
    );
    let resets = fixture.fake.calls().iter().filter(|(verb, _)| *verb == Verb::Restart).count();
    assert_eq!(resets, 2, "the restart that was asked for, and the reset");
    let notes = fixture.events.notes();
    let note = "boma-it-askari's emulated kernel hung before its init (a vCPU stopped receiving timer interrupts); reset to \
                boot again";
    assert!(notes.iter().any(|it| it == note), "{notes:?}");
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
fn a_kernel_that_hangs_after_its_init_started_is_an_error_at_once(
    #[context] context: Context,
    #[case] says: &'static str,
) {
    let report = run_with_failing_restart(
        OnRestart::Prints(says),
        Some(ExpectedFault::Unreachable),
        Duration::from_secs(60),
    );
    assert_eq!(report.outcome, Outcome::Errored);
    assert_text!(context, report.seen);
    assert_within(Duration::from_secs(6), stage(&report, Stage::Reboot).took, &report);
}

#[rstest::rstest]
fn without_a_restart_the_reboot_stage_fails(
    #[context] case: Context,
    #[values(None, Some(ExpectedFault::Unreachable), Some(ExpectedFault::Emergency))] declared: Option<
        ExpectedFault,
    >,
) {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = fixture.plan();
    plan.restart = Restart::None;
    plan.harness.timeouts.reboot = SHORT;
    plan.expect.fail = declared.map(|what| ExpectedFailure { at: Stage::Reboot, what });
    let report = run(&context, &plan, Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored);
    assert_text!(case, report.seen);
    let reboot = &stage(&report, Stage::Reboot);
    assert_eq!((reboot.stage, reboot.outcome), (Stage::Reboot, Outcome::Errored));
    assert!(report.assertions.is_empty());
    assert!(!fixture.fake.calls().iter().any(|(verb, _)| *verb == Verb::Restart));
}

#[test]
fn an_old_boot_that_still_answers_is_not_taken_for_the_new_one() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let guest = Guest::start(&fixture, &context, OnRestart::OldBootLingers);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
    let reboot = &stage(&report, Stage::Reboot);
    assert!(reboot.summary.starts_with("boot 11111111 → 22222222 in "), "{reboot:?}");
    assert!(guest.happened().elapsed() < Duration::from_secs(60));
    assert!(
        fixture.events.activities().iter().any(|doing| doing == OLD),
        "{:?}",
        fixture.events.activities()
    );
}

#[test]
fn a_hypervisor_that_cannot_restart_the_vm_is_an_error() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::SameBoot);
    fixture.fake.fail(Verb::Restart, 1);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored);
    insta::assert_snapshot!(report.seen);
}

#[test]
fn a_teardown_that_fails_after_a_pass_makes_it_an_error() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    fixture.fake.fail(Verb::DeleteVolume, 2);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Errored);
    insta::assert_snapshot!(report.seen);
    assert_eq!(fixture.left(), ["boma-it-askari.qcow2"], "every other step was done");
    assert!(!report.folder.join("keys").exists());
    fixture.assert_unlocked();
}

#[test]
fn the_steps_of_separate_processes_find_the_vm_by_its_metadata() {
    let fixture = Fixture::new();
    let plan = fixture.plan();
    // A new context each time: a process finds what an earlier one left on the hypervisor and in the run folder.
    let context = |session: &str| fixture.context_of(session, Keep::UntilDown);
    let _guest = Guest::start(&fixture, &context("one"), OnRestart::AnotherBoot);
    let up = run(&context("one"), &plan, Job::Up).unwrap();
    assert_eq!((up.outcome, up.kept), (Outcome::Passed, false), "{}", up.seen);
    assert_eq!(fixture.fake.spec(ASKARI).unwrap().ownership.lifetime, Lifetime::Manual);
    for (session, job) in [("two", Job::Apply), ("three", Job::Reboot), ("four", Job::Assert)] {
        let report = run(&context(session), &plan, job).unwrap();
        assert_eq!(report.outcome, Outcome::Passed, "{job:?}: {}", report.seen);
        assert_eq!(report.folder, up.folder);
        assert_eq!(report.stages.len(), 1);
        assert_eq!(fixture.fake.state(ASKARI).unwrap(), DomainState::Running);
        fixture.assert_unlocked();
    }
    let started = Instant::now();
    let ended = Ended { machine: ASKARI.to_owned(), folder: up.folder.clone() };
    assert_eq!(down(&context("five"), &plan.trial).unwrap(), Some(ended));
    assert_within(Duration::from_secs(3), started.elapsed(), &up);
    assert_eq!(fixture.left(), Vec::<String>::new());
    assert!(!up.folder.join("keys").exists() && up.folder.join("console.log").exists());
}
