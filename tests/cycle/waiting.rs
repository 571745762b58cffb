//! Waiting for a guest that never becomes ready: the failure is noticed at once and named.

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
use boma_it::support::interrupt::Interrupted;
use rstest::Context;

use crate::fixture::{ASKARI, Fixture, assert_text};
use crate::guest::STALLS;

/// The longest from an accident to the end of the run, the teardown included.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Lets something happen a moment after the VM was started. Gives when.
fn once_it_runs(fixture: &Fixture, accident: impl FnOnce() + Send + 'static) -> JoinHandle<Instant> {
    let fake = fixture.fake.clone();
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
fn run_with(fixture: &Fixture, accident: impl FnOnce() + Send + 'static) -> RunReport {
    run_expecting(fixture, None, accident)
}

fn run_expecting(
    fixture: &Fixture,
    fail: Option<ExpectedFailure>,
    accident: impl FnOnce() + Send + 'static,
) -> RunReport {
    let mut plan = fixture.plan();
    plan.expect.fail = fail;
    let happened = once_it_runs(fixture, accident);
    let report = run(&fixture.context(Keep::Never), &plan, Job::Cycle).unwrap();
    let took = happened.join().unwrap().elapsed();
    assert!(took < AT_ONCE, "noticed {took:?} late");
    fixture.assert_nothing_left(&report);
    report
}

#[rstest::rstest]
#[case::crashed(DomainState::ShutOff(StopReason::Crashed))]
#[case::off(DomainState::ShutOff(StopReason::ByGuest))]
#[case::destroyed(DomainState::ShutOff(StopReason::Destroyed))]
#[case::cpu_error(DomainState::Paused(PauseReason::CpuError))]
#[case::disk_error(DomainState::Paused(PauseReason::DiskError))]
#[case::panicked(DomainState::Panicked)]
fn a_vm_that_died_or_froze_is_reported_at_once(#[context] context: Context, #[case] state: DomainState) {
    let fixture = Fixture::new();
    let fake = fixture.fake.clone();
    let report = run_with(&fixture, move || fake.set_state(ASKARI, state));
    assert_eq!(report.outcome, Outcome::Errored);
    assert_eq!(report.seen, format!("at up: {}", report.error.unwrap().replace("\ncaused by: ", ": ")));
    assert_text!(context, report.seen);
}

#[rstest::rstest]
#[case::panic("[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n")]
#[case::firmware("BdsDxe: failed to load Boot0001: Access Denied\r\n")]
#[case::initramfs("ALERT! UUID=1 does not exist\r\n(initramfs) ")]
fn a_boot_failure_on_the_console_is_reported_at_once_and_saved(
    #[context] context: Context,
    #[case] text: &'static str,
) {
    let fixture = Fixture::new();
    let fake = fixture.fake.clone();
    let report = run_with(&fixture, move || fake.print(ASKARI, text));
    assert_eq!(report.outcome, Outcome::Errored);
    assert_text!(context, report.seen);
    let console = std::fs::read_to_string(report.folder.join("console.log")).unwrap();
    assert!(console.ends_with(text), "{console}");
}

/// The boot hangs again after every reset.
#[test]
fn a_first_boot_that_keeps_hanging_is_given_up_after_two_resets() {
    let fixture = Fixture::new();
    let fake = fixture.fake.clone();
    let report = run_with(&fixture, move || {
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
    insta::assert_snapshot!(report.seen);
    assert_eq!(resets(&fixture.fake), 2);
}

fn resets(fake: &Fake) -> usize {
    fake.calls().iter().filter(|(verb, _)| *verb == Verb::Restart).count()
}

const EMERGENCY: &str = "You are in emergency mode. OnRestart logging in, type \"journalctl -xb\"\r\n";

#[test]
fn emergency_mode_in_the_first_boot_is_an_error_as_nothing_of_the_site_has_run() {
    for declared in [None, Some((Stage::Reboot, ExpectedFault::Emergency))] {
        let fixture = Fixture::new();
        let fake = fixture.fake.clone();
        let fail = declared.clone().map(|(at, what)| ExpectedFailure { at, what });
        let report = run_expecting(&fixture, fail, move || fake.print(ASKARI, EMERGENCY));
        assert_eq!(report.outcome, Outcome::Errored, "declared {declared:?}: {}", report.seen);
        assert!(report.seen.contains("the guest is in emergency mode"), "{}", report.seen);
    }
}

#[test]
fn an_interrupt_leaves_nothing_even_where_vms_are_kept() {
    let fixture = Fixture::new();
    let interrupt = fixture.interrupt.clone();
    let happened = once_it_runs(&fixture, move || interrupt.raise(15));
    let report = run(&fixture.context(Keep::UntilDown), &fixture.plan(), Job::Cycle).unwrap();
    let took = happened.join().unwrap().elapsed();
    assert!(took < AT_ONCE, "{took:?}");
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Interrupted);
    assert_text!(format!("{}\n{}", report.seen, report.error.unwrap()));
    let down = report.stages.last().unwrap();
    assert_eq!((down.stage, down.outcome), (Stage::Down, Outcome::Passed));
}

#[test]
fn an_interrupt_before_anything_exists_creates_no_run() {
    let fixture = Fixture::new();
    fixture.interrupt.raise(2);
    let error = run(&fixture.context(Keep::UntilDown), &fixture.plan(), Job::Cycle).unwrap_err();
    assert_eq!(error.chain().find_map(|it| it.downcast_ref()), Some(&Interrupted(2)), "{error:?}");
    assert_eq!((fixture.left(), fixture.runs().len()), (vec![], 0));
}

#[test]
fn a_guest_that_never_answers_ends_the_run_at_the_deadline_with_the_last_error() {
    let fixture = Fixture::new();
    let mut plan = fixture.plan();
    plan.harness.timeouts.up = Duration::from_secs(2);
    let report = run(&fixture.context(Keep::Never), &plan, Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored);
    let error = report.error.unwrap();
    // Under TCG there is four times the patience.
    assert!(error.starts_with("timed out after 8.0s: "), "{error}");
    assert_text!(error);
    assert!(fixture.events.activities().iter().any(|doing| doing == "waiting for SSH"));
    let up = &report.stages[0];
    assert!(up.waited > Duration::from_secs(4) && up.own < Duration::from_secs(3), "{up:?}");
}

#[test]
fn a_started_vm_is_kept_with_the_commands_to_look_inside() {
    let fixture = Fixture::new();
    let mut plan = fixture.plan();
    plan.harness.timeouts.up = Duration::from_secs(2);
    let report = run(&fixture.context(Keep::UntilDown), &plan, Job::Cycle).unwrap();
    assert!(report.kept && report.outcome == Outcome::Errored);
    assert_eq!(fixture.fake.state(ASKARI).unwrap(), DomainState::Running);
    let spec = fixture.fake.spec(ASKARI).unwrap();
    assert_eq!(spec.ownership.lifetime, boma_it::machine::Lifetime::Manual);
    assert_eq!(spec.ownership.run_folder, report.folder);
    assert!(report.folder.join("keys/client").is_file(), "its keys open it");
    assert_eq!(
        fixture.events.commands(),
        [
            "boma-it ssh --host askari",
            "virsh -c fake:///system console boma-it-askari",
            "boma-it console --host askari",
            "boma-it down --host askari"
        ]
    );
    let written = crate::fixture::json(&report.folder.join("report.json"));
    assert_eq!(
        (&written["kept"], &written["commands"][3]["command"]),
        (&true.into(), &fixture.events.commands()[3].clone().into())
    );
    fixture.assert_unlocked();

    let ended = boma_it::cycle::down(&fixture.context(Keep::UntilDown), &plan.trial).unwrap();
    assert_eq!(ended.map(|it| it.folder), Some(report.folder.clone()));
    fixture.assert_nothing_left(&RunReport { kept: false, ..report });
    assert_eq!(boma_it::cycle::down(&fixture.context(Keep::UntilDown), &plan.trial).unwrap(), None);
}
