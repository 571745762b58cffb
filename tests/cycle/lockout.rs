//! A guest that is silent after the restart: a lockout only if it is known to have come up, and whatever can be told sooner is
//! told at once.

use std::time::Duration;

use boma_it::catalog::plan::{ExpectedFailure, ExpectedFault};
use boma_it::cycle::{Job, Keep, run};
use boma_it::machine::DomainState;
use boma_it::machine::hypervisor::{PauseReason, StopReason};
use boma_it::outcome::{Outcome, Stage};

use crate::guest::{After, BEGUN, BOOTED, Guest};
use crate::lab::{ASKARI, Lab};
use crate::restart::{SHORT, go_wrong};

const END: &str = "[   60.000000] systemd[1]: Startup finished in 20s (kernel) + 40s (userspace) = 1min.\n";

#[rstest::rstest]
#[case::a_prompt(After::Says(BOOTED), "askari login:")]
#[case::a_journal(After::Streams(BEGUN, END), "systemd[1]: Startup finished in 20s")]
#[case::both(After::Streams(BOOTED, END), "askari login:")]
fn a_guest_that_came_up_and_lets_nobody_in_is_a_lockout(#[case] after: After, #[case] sign: &str) {
    for (declared, outcome) in [
        (Some(ExpectedFault::Unreachable), Outcome::Passed),
        (Some(ExpectedFault::Emergency), Outcome::Errored),
        (None, Outcome::Errored),
    ] {
        let report = go_wrong(after.clone(), declared, SHORT);
        assert_eq!(report.outcome, outcome, "{}", report.seen);
        assert!(report.seen.starts_with("at reboot, the guest was unreachable"), "{}", report.seen);
        let error = report.error.unwrap();
        assert!(error.contains(sign) && error.contains("SSH does not answer"), "{error}");
        assert!(error.contains("unreachable after the restart"), "the first error is still there: {error}");
    }
}

#[rstest::rstest]
#[case::never_went_down(
    After::Silence,
    "boma-it-askari did not boot: neither its firmware nor a kernel spoke"
)]
#[case::the_old_ones_prompt(After::Says("\r\naskari login: "), "boma-it-askari did not boot: neither")]
#[case::hangs(
    After::Says(
        "BdsDxe: starting Boot0001\r\nLinux version 6.12\r\n[  ***  ] A start job is running for data.mount\r\n"
    ),
    "did not boot to its end: no login prompt on its console, no end of the boot in its journal, so this is no lockout; \
     the last that its console said is `[  ***  ] A start job is running for data.mount`"
)]
#[case::hangs_behind_its_prompt(
    After::Streams(BOOTED, "[   20.000000] systemd[1]: Starting slow.service...\n"),
    "did not boot to its end: its console says `askari login:`, but its journal, which came in, has no end of the boot, so \
     this is no lockout; the last that its journal said is `[   20.000000] systemd[1]: Starting slow.service...`"
)]
#[case::a_users_own_manager(
    After::Streams(BEGUN, "[   60.000000] systemd[718]: Startup finished in 2s.\n"),
    "did not boot to its end"
)]
#[case::again_and_again(
    After::Says(
        "Linux version 6.12\r\naskari login: \r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: "
    ),
    "restarts by itself: 2 boots began"
)]
#[case::panics(
    After::Says("Linux version 6.12\r\nKernel panic - not syncing: VFS\r\n"),
    "the kernel panicked"
)]
#[case::no_root(After::Says("Linux version 6.12\r\n(initramfs) "), "the initramfs gave up")]
#[case::no_loader(
    After::Says("BdsDxe: No bootable option or device was found.\r\n"),
    "the firmware cannot boot"
)]
#[case::emergency(After::Says("Linux version 6.12\r\nYou are in emergency mode.\r\n"), "in emergency mode")]
#[case::dead(After::Ends(DomainState::ShutOff(StopReason::Crashed)), "QEMU crashed")]
#[case::shut_down(After::Ends(DomainState::ShutOff(StopReason::ByGuest)), "the guest shut itself down")]
fn a_vm_that_did_not_boot_is_never_the_declared_lockout(#[case] after: After, #[case] words: &str) {
    let report = go_wrong(after, Some(ExpectedFault::Unreachable), SHORT);
    assert_eq!(report.outcome, Outcome::Errored, "{}", report.seen);
    assert!(report.seen.starts_with("at reboot") && report.seen.contains(words), "{}", report.seen);
}

/// The journal may repeat itself while the old boot ends: what it says counts from the new boot's beginning on.
#[test]
fn the_end_of_the_old_boot_is_not_the_end_of_the_new_one() {
    let lab = Lab::new();
    let world = lab.world(Keep::Never);
    let fake = lab.fake.clone();
    let _guest = Guest::of(&lab, &world, After::Says(BEGUN));
    let mut plan = lab.plan();
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
    let report = run(&world, &plan, Job::Cycle).unwrap();
    logged.join().unwrap().unwrap();
    lab.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored, "{}", report.seen);
    let journal = std::fs::read_to_string(report.folder.join("journal.log")).unwrap();
    assert!(journal.contains("Startup finished"), "{journal}");
}

/// The figure: within 5 s of the console or the hypervisor saying so. What is measured goes on to the very end of the run, the
/// teardown included.
#[rstest::rstest]
#[case::emergency(After::Says("Linux version 6.12\r\nYou are in emergency mode.\r\n"))]
#[case::locked_root(After::Says("Cannot open access to console, the root account is locked.\r\n"))]
#[case::panic(After::Says("Linux version 6.12\r\nKernel panic - not syncing: VFS\r\n"))]
#[case::crashed(After::Ends(DomainState::ShutOff(StopReason::Crashed)))]
#[case::off(After::Ends(DomainState::ShutOff(StopReason::ByGuest)))]
#[case::frozen(After::Ends(DomainState::Paused(PauseReason::DiskError)))]
fn emergency_mode_and_a_dead_vm_are_reported_within_five_seconds(#[case] after: After) {
    let lab = Lab::new();
    let world = lab.world(Keep::Never);
    let guest = Guest::of(&lab, &world, after);
    let report = run(&world, &lab.plan(), Job::Cycle).unwrap();
    let took = guest.happened().elapsed();
    lab.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(report.seen.starts_with("at reboot"), "{}", report.seen);
    assert!(took < Duration::from_secs(5), "told {took:?} late");
}
