//! The wait for a guest that will not come: noticed at once, named, and judged as what it is.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boma_it::catalog::plan::{ExpectedFailure, ExpectedFault};
use boma_it::cycle::{Job, Keep, run};
use boma_it::event::RunReport;
use boma_it::machine::fake::{Fake, Verb};
use boma_it::machine::hypervisor::{PauseReason, StopReason};
use boma_it::machine::{DomainState, Hypervisor};
use boma_it::outcome::{Outcome, Stage};
use boma_it::support::deadline::{Deadline, Progress};

use crate::guest::STALLS;
use crate::lab::{ASKARI, Lab};

/// The longest from an accident to the end of the run, the teardown included.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Lets something happen a moment after the VM was started. Gives when.
fn once_it_runs(lab: &Lab, accident: impl FnOnce() + Send + 'static) -> JoinHandle<Instant> {
    let fake = lab.fake.clone();
    std::thread::spawn(move || {
        let deadline = Deadline::uninterrupted(Duration::from_secs(60), "the test");
        deadline
            .wait_for("the first look at the VM", Duration::from_millis(5), || {
                let looked = fake.calls().iter().any(|(verb, _)| *verb == Verb::State);
                Ok(if looked { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
            })
            .unwrap();
        accident();
        Instant::now()
    })
}

/// Runs a cycle in which `accident` befalls the VM while SSH is waited for; nothing may be left of it.
fn run_with(lab: &Lab, accident: impl FnOnce() + Send + 'static) -> RunReport {
    run_expecting(lab, None, accident)
}

fn run_expecting(
    lab: &Lab,
    fail: Option<ExpectedFailure>,
    accident: impl FnOnce() + Send + 'static,
) -> RunReport {
    let mut plan = lab.plan();
    plan.expect.fail = fail;
    let happened = once_it_runs(lab, accident);
    let report = run(&lab.world(Keep::Never), &plan, Job::Cycle).unwrap();
    let took = happened.join().unwrap().elapsed();
    assert!(took < AT_ONCE, "noticed {took:?} late");
    lab.assert_nothing_left(&report);
    report
}

#[rstest::rstest]
#[case(DomainState::ShutOff(StopReason::Crashed), "QEMU crashed")]
#[case(DomainState::ShutOff(StopReason::ByGuest), "the guest shut itself down")]
#[case(DomainState::ShutOff(StopReason::Destroyed), "the domain was destroyed from outside")]
#[case(DomainState::Paused(PauseReason::CpuError), "set BOMA_IT_ACCEL=tcg to run without KVM")]
#[case(DomainState::Paused(PauseReason::DiskError), "is the hypervisor's disk full?")]
#[case(DomainState::Panicked, "the guest's kernel panicked")]
fn a_vm_that_died_or_froze_is_noticed_at_once_and_named(#[case] state: DomainState, #[case] words: &str) {
    let lab = Lab::new();
    let fake = lab.fake.clone();
    let report = run_with(&lab, move || fake.set_state(ASKARI, state));
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(report.seen.starts_with("at up: ") && report.seen.contains(words), "{}", report.seen);
    assert!(report.error.unwrap().contains(ASKARI));
}

#[rstest::rstest]
#[case("[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n", "the kernel panicked")]
#[case("BdsDxe: failed to load Boot0001: Access Denied\r\n", "the firmware cannot boot the disk")]
#[case("ALERT! UUID=1 does not exist\r\n(initramfs) ", "the initramfs gave up")]
fn what_the_console_gives_away_is_noticed_at_once_and_saved(#[case] text: &'static str, #[case] words: &str) {
    let lab = Lab::new();
    let fake = lab.fake.clone();
    let report = run_with(&lab, move || fake.print(ASKARI, text));
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(report.seen.contains(words), "{}", report.seen);
    let console = std::fs::read_to_string(report.folder.join("console.log")).unwrap();
    assert!(console.ends_with(text), "{console}");
}

/// Whoever printed it last, it stands still again after every reset.
#[test]
fn a_first_boot_that_stands_still_again_and_again_is_given_up() {
    let lab = Lab::new();
    let fake = lab.fake.clone();
    let report = run_with(&lab, move || {
        let deadline = Deadline::uninterrupted(Duration::from_secs(60), "the test");
        for reset in 1..=3 {
            fake.print(ASKARI, STALLS);
            let noticed = deadline.wait_for("the reset", Duration::from_millis(5), || {
                let there = resets(&fake) == reset || reset == 3;
                Ok(if there { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
            });
            noticed.unwrap();
        }
    });
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(report.seen.contains("the guest's kernel stalled"), "{}", report.seen);
    assert_eq!(resets(&lab.fake), 2);
}

fn resets(fake: &Fake) -> usize {
    fake.calls().iter().filter(|(verb, _)| *verb == Verb::Restart).count()
}

const EMERGENCY: &str = "You are in emergency mode. After logging in, type \"journalctl -xb\"\r\n";

#[test]
fn emergency_mode_is_an_error_unless_it_was_declared_for_this_very_stage() {
    for (declared, outcome) in [
        (None, Outcome::Errored),
        (Some((Stage::Up, ExpectedFault::Emergency)), Outcome::Passed),
        (Some((Stage::Reboot, ExpectedFault::Emergency)), Outcome::Errored),
        (Some((Stage::Up, ExpectedFault::Unreachable)), Outcome::Errored),
    ] {
        let lab = Lab::new();
        let fake = lab.fake.clone();
        let fail = declared.clone().map(|(at, what)| ExpectedFailure { at, what });
        let report = run_expecting(&lab, fail, move || fake.print(ASKARI, EMERGENCY));
        assert_eq!(report.outcome, outcome, "declared {declared:?}: {}", report.seen);
        assert!(report.seen.starts_with("at up, the guest was in emergency mode"), "{}", report.seen);
    }
}

#[test]
fn an_interrupt_in_the_middle_leaves_nothing_even_where_vms_are_kept() {
    let lab = Lab::new();
    let interrupt = lab.interrupt.clone();
    let happened = once_it_runs(&lab, move || interrupt.raise(15));
    let report = run(&lab.world(Keep::UntilDown), &lab.plan(), Job::Cycle).unwrap();
    let took = happened.join().unwrap().elapsed();
    assert!(took < AT_ONCE, "{took:?}");
    lab.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Interrupted);
    assert!(report.seen.starts_with("interrupted at up: "), "{}", report.seen);
    assert!(report.error.unwrap().contains("signal 15"));
    let down = report.stages.last().unwrap();
    assert_eq!((down.stage, down.outcome), (Stage::Down, Outcome::Passed));
}

#[test]
fn an_interrupt_before_anything_exists_makes_no_run() {
    let lab = Lab::new();
    lab.interrupt.raise(2);
    let error = run(&lab.world(Keep::UntilDown), &lab.plan(), Job::Cycle).unwrap_err();
    assert!(format!("{error:#}").contains("signal 2"), "{error:#}");
    assert_eq!((lab.left(), lab.runs().len()), (vec![], 0));
}

#[test]
fn a_guest_that_never_answers_is_given_up_at_the_deadline_with_the_last_reason() {
    let lab = Lab::new();
    let mut plan = lab.plan();
    plan.harness.timeouts.up = Duration::from_secs(2);
    let report = run(&lab.world(Keep::Never), &plan, Job::Cycle).unwrap();
    lab.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored);
    let error = report.error.unwrap();
    // Under TCG there is four times the patience.
    assert!(error.starts_with("timed out after 8.0s: no SSH session with 127.83."), "{error}");
    assert!(error.contains("refused"), "{error}");
    assert!(lab.heard.doings().iter().any(|doing| doing == "waiting for SSH"));
    let up = &report.stages[0];
    assert!(up.waited > Duration::from_secs(4) && up.own < Duration::from_secs(3), "{up:?}");
}

#[test]
fn a_started_vm_is_kept_for_a_person_with_the_commands_that_lead_to_it() {
    let lab = Lab::new();
    let mut plan = lab.plan();
    plan.harness.timeouts.up = Duration::from_secs(2);
    let report = run(&lab.world(Keep::UntilDown), &plan, Job::Cycle).unwrap();
    assert!(report.kept && report.outcome == Outcome::Errored);
    assert_eq!(lab.fake.state(ASKARI).unwrap(), DomainState::Running);
    let spec = lab.fake.spec(ASKARI).unwrap();
    assert_eq!(spec.ownership.lifetime, boma_it::machine::Lifetime::Manual);
    assert_eq!(spec.ownership.run_folder, report.folder);
    assert!(report.folder.join("keys/client").is_file(), "its keys open it");
    assert_eq!(
        lab.heard.commands(),
        [
            "boma-it ssh --host askari",
            "virsh -c fake:///system console boma-it-askari",
            "boma-it console --host askari",
            "boma-it down --host askari"
        ]
    );
    let written = crate::lab::json(&report.folder.join("report.json"));
    assert_eq!(
        (&written["kept"], &written["commands"][3]["command"]),
        (&true.into(), &lab.heard.commands()[3].clone().into())
    );
    lab.assert_unlocked();

    let folder = boma_it::cycle::down(&lab.world(Keep::UntilDown), &plan.trial).unwrap();
    assert_eq!(folder.as_ref(), Some(&report.folder));
    lab.assert_nothing_left(&RunReport { kept: false, ..report });
    assert_eq!(boma_it::cycle::down(&lab.world(Keep::UntilDown), &plan.trial).unwrap(), None);
}
