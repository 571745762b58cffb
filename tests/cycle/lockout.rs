//! A guest that is silent after the restart. It counts as locked out only if its boot ended; any failure that can be seen
//! sooner is reported at once.

use std::time::Duration;

use boma_it::catalog::plan::{ExpectedFailure, ExpectedFault};
use boma_it::cycle::{Job, Keep, run};
use boma_it::machine::DomainState;
use boma_it::machine::hypervisor::{PauseReason, StopReason};
use boma_it::outcome::{Outcome, Stage};
use rstest::Context;

use crate::fixture::{ASKARI, Fixture, assert_text, stage};
use crate::guest::{BEGUN, BOOTED, Guest, OnRestart};
use crate::restart::{SHORT, run_with_failing_restart};

const END: &str = "[   60.000000] systemd[1]: Startup finished in 20s (kernel) + 40s (userspace) = 1min.\n";

#[rstest::rstest]
#[case::a_prompt(OnRestart::Prints(BOOTED))]
#[case::a_journal(OnRestart::PrintsAndLogs(BEGUN, END))]
#[case::both(OnRestart::PrintsAndLogs(BOOTED, END))]
fn a_guest_that_booted_and_does_not_answer_is_locked_out(
    #[context] context: Context,
    #[case] on_restart: OnRestart,
) {
    for (declared, outcome) in [
        (Some(ExpectedFault::Unreachable), Outcome::Passed),
        (Some(ExpectedFault::Emergency), Outcome::Errored),
        (None, Outcome::Errored),
    ] {
        let report = run_with_failing_restart(on_restart.clone(), declared, SHORT);
        assert_eq!(report.outcome, outcome, "{}", report.seen);
        let error = report.error.unwrap();
        let how = match outcome {
            Outcome::Passed => ", as declared".to_owned(),
            _ => format!(": {}", error.replace("\ncaused by: ", ": ")),
        };
        assert_eq!(report.seen, format!("at reboot, the guest was unreachable{how}"));
        // The first error is still there.
        assert_text!(context, error);
    }
}

#[rstest::rstest]
#[case::never_went_down(OnRestart::Silent)]
#[case::the_old_ones_prompt(OnRestart::Prints("\r\naskari login: "))]
#[case::hangs(OnRestart::Prints(
    "BdsDxe: starting Boot0001\r\nLinux version 6.12\r\n[  ***  ] A start job is running for data.mount\r\n"
))]
#[case::hangs_behind_its_prompt(OnRestart::PrintsAndLogs(
    BOOTED,
    "[   20.000000] systemd[1]: Starting slow.service...\n"
))]
#[case::a_users_own_manager(OnRestart::PrintsAndLogs(
    BEGUN,
    "[   60.000000] systemd[718]: Startup finished in 2s.\n"
))]
#[case::again_and_again(OnRestart::Prints(
    "Linux version 6.12\r\naskari login: \r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: "
))]
#[case::panics(OnRestart::Prints("Linux version 6.12\r\nKernel panic - not syncing: VFS\r\n"))]
#[case::no_root(OnRestart::Prints("Linux version 6.12\r\n(initramfs) "))]
#[case::no_loader(OnRestart::Prints("BdsDxe: No bootable option or device was found.\r\n"))]
#[case::emergency(OnRestart::Prints("Linux version 6.12\r\nYou are in emergency mode.\r\n"))]
#[case::dead(OnRestart::ChangesState(DomainState::ShutOff(StopReason::Crashed)))]
#[case::shut_down(OnRestart::ChangesState(DomainState::ShutOff(StopReason::ByGuest)))]
fn a_vm_that_did_not_boot_is_never_the_declared_lockout(
    #[context] context: Context,
    #[case] on_restart: OnRestart,
) {
    let report = run_with_failing_restart(on_restart, Some(ExpectedFault::Unreachable), SHORT);
    assert_eq!(report.outcome, Outcome::Errored, "{}", report.seen);
    assert_text!(context, report.seen);
}

/// The old boot may still write to the journal while it ends. The journal counts from the beginning of the new boot on.
#[test]
fn the_end_of_the_old_boot_is_not_the_end_of_the_new_one() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let fake = fixture.fake.clone();
    let _guest = Guest::start(&fixture, &context, OnRestart::Prints(BEGUN));
    let mut plan = fixture.plan();
    plan.harness.timeouts.reboot = SHORT;
    plan.expect.fail = Some(ExpectedFailure { at: Stage::Reboot, what: ExpectedFault::Unreachable });
    let logged = std::thread::spawn(move || {
        let deadline =
            boma_it::support::deadline::Deadline::uninterrupted(Duration::from_secs(60), "the test");
        deadline.wait_for("the VM", Duration::from_millis(5), || {
            use boma_it::machine::fake::Verb;
            use boma_it::support::deadline::Progress;
            let runs = fake.calls().iter().any(|(verb, _)| *verb == Verb::State);
            if runs {
                fake.log(ASKARI, &format!("[    1.0] kernel: Linux version 6.12\n{END}"));
            }
            Ok(if runs { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
        })
    });
    let report = run(&context, &plan, Job::Cycle).unwrap();
    logged.join().unwrap().unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored, "{}", report.seen);
    let journal = std::fs::read_to_string(report.folder.join("journal.log")).unwrap();
    assert_eq!(journal, format!("[    1.0] kernel: Linux version 6.12\n{END}"));
}

/// The figure: within 5 s of the console or the hypervisor saying so. What is measured goes on to the very end of the run, the
/// teardown included.
#[rstest::rstest]
#[case::emergency(OnRestart::Prints("Linux version 6.12\r\nYou are in emergency mode.\r\n"))]
#[case::locked_root(OnRestart::Prints("Cannot open access to console, the root account is locked.\r\n"))]
#[case::panic(OnRestart::Prints("Linux version 6.12\r\nKernel panic - not syncing: VFS\r\n"))]
#[case::crashed(OnRestart::ChangesState(DomainState::ShutOff(StopReason::Crashed)))]
#[case::off(OnRestart::ChangesState(DomainState::ShutOff(StopReason::ByGuest)))]
#[case::frozen(OnRestart::ChangesState(DomainState::Paused(PauseReason::DiskError)))]
fn emergency_mode_and_a_dead_vm_are_reported_within_five_seconds(#[case] on_restart: OnRestart) {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let guest = Guest::start(&fixture, &context, on_restart);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    let took = guest.happened().elapsed();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored);
    assert_eq!(stage(&report, Stage::Reboot).outcome, Outcome::Errored, "{}", report.seen);
    assert!(took < Duration::from_secs(5), "told {took:?} late");
}
