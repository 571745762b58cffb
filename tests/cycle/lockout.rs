//! A guest that is silent after the restart. It counts as locked out only if its boot ended. What the site did to it is a
//! failure, and what happened to the VM is an error; what can be seen sooner is reported at once.

use std::time::Duration;

use boma_it::catalog::plan::{ExpectedFailure, ExpectedFault};
use boma_it::cycle::{Job, Keep, run};
use boma_it::machine::DomainState;
use boma_it::machine::hypervisor::{PauseReason, StopReason};
use boma_it::outcome::{Outcome, Stage};
use rstest::Context;

use crate::fixture::{ASKARI, Fixture, assert_text, assert_within, stage};
use crate::guest::{BEGUN, BOOTED, END, Guest, OnRestart};
use crate::restart::{SHORT, run_with_failing_restart};

pub(crate) const NO_GROUP: &str = "AllowGroups nobody-has-this-group";

/// The figure holds after the restart, too. Diagnostics come after it, and a login that works gets them a refusal each.
#[rstest::rstest]
#[case::no_group(NO_GROUP, "not allowed because none of user", "needs to log in as")]
#[case::another_user("AllowUsers backup", "not listed in AllowUsers", "needs to log in as")]
#[case::no_keys("AuthorizedKeysFile none", " 127.0.0.1 port ", "needs its key in the authorized_keys")]
#[case::a_shell_that_refuses(
    "ForceCommand echo Password change required >&2; exit 1",
    "session",
    "needs a shell"
)]
fn a_restart_after_which_sshd_refuses_the_account_locks_it_out(
    #[case] config: &'static str,
    #[case] words: &str,
    #[case] needs: &str,
) {
    for (declared, outcome) in [
        (Some(ExpectedFault::Unreachable), Outcome::Passed),
        (Some(ExpectedFault::Emergency), Outcome::Failed),
        (None, Outcome::Failed),
    ] {
        let fixture = Fixture::new();
        let context = fixture.context(Keep::Never);
        let _guest = Guest::start_with_journal(&fixture, &context, OnRestart::LocksOut(config));
        let mut plan = fixture.plan();
        plan.expect.fail = declared.map(|what| ExpectedFailure { at: Stage::Reboot, what });
        let report = run(&context, &plan, Job::Cycle).unwrap();
        fixture.assert_nothing_left(&report);
        assert_eq!(report.outcome, outcome, "{}", report.seen);
        assert_within(Duration::from_secs(20), stage(&report, Stage::Reboot).took, &report);
        let error = report.error.unwrap();
        assert!(error.contains("is locked out: sshd says `") && error.contains(words), "{error}");
        assert!(error.contains(&format!("; boma-it {needs}")) && !error.contains("(so far)"), "{error}");
    }
}

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
        (Some(ExpectedFault::Emergency), Outcome::Failed),
        (None, Outcome::Failed),
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
#[case::panics(OnRestart::Prints(
    "Linux version 6.12\r\nKernel panic - not syncing: IO-APIC + timer doesn't work!\r\n"
))]
#[case::panics_before_a_boot(OnRestart::Prints("Kernel panic - not syncing: Attempted to kill init!\r\n"))]
#[case::no_loader(OnRestart::Prints("BdsDxe: No bootable option or device was found.\r\n"))]
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

const PANICS: &str = "Linux version 6.12\r\nKernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n";
const HANGS: &str =
    "Linux version 6.12\r\n[ *** ] A start job is running for slow.service (3min 20s / no limit)\r\n";
const EMERGENCY: &str = "Linux version 6.12\r\nYou are in emergency mode.\r\n";

/// A boot that the site broke, as the guest itself shows.
#[rstest::rstest]
#[case::emergency(EMERGENCY, ExpectedFault::Emergency, "in emergency mode")]
#[case::locked_root(
    "Linux version 6.12\r\nCannot open access to console, the root account is locked.\r\n",
    ExpectedFault::Emergency,
    "in emergency mode"
)]
#[case::no_root_fs(PANICS, ExpectedFault::Panic, "stopped by a kernel panic")]
#[case::init_died(
    "Linux version 6.12\r\nKernel panic - not syncing: Attempted to kill init! exitcode=0x100\r\n",
    ExpectedFault::Panic,
    "stopped by a kernel panic"
)]
#[case::a_module(
    "Linux version 6.12\r\n[  OK  ] Started x.\r\nKernel panic - not syncing: Fatal exception\r\n",
    ExpectedFault::Panic,
    "stopped by a kernel panic"
)]
#[case::no_root(
    "Linux version 6.12\r\nALERT! UUID=0 does not exist.\r\n(initramfs) ",
    ExpectedFault::Initramfs,
    "stuck in its initramfs"
)]
#[case::hangs(HANGS, ExpectedFault::Hung, "kept from finishing its boot")]
#[case::hangs_behind_its_prompt(
    "Linux version 6.12\r\naskari login: \r\n[ *** ] (1 of 2) A start job is running for slow.service (3min 20s / no limit)\r\n",
    ExpectedFault::Unreachable,
    "unreachable"
)]
fn a_boot_that_the_site_broke_is_a_failure_unless_declared(
    #[case] says: &'static str,
    #[case] fault: ExpectedFault,
    #[case] words: &str,
) {
    // A boot that hangs is given up at the deadline only, which must be long enough for a busy machine.
    let is_slow = matches!(fault, ExpectedFault::Hung | ExpectedFault::Unreachable);
    let patience = if is_slow { 2 * SHORT } else { Duration::from_secs(60) };
    let others = [ExpectedFault::Unreachable, ExpectedFault::Emergency];
    let others = others.into_iter().filter(|it| !is_slow && *it != fault);
    for declared in others.map(Some).chain([None, Some(fault.clone())]) {
        let outcome = if declared.as_ref() == Some(&fault) { Outcome::Passed } else { Outcome::Failed };
        let report = run_with_failing_restart(OnRestart::Prints(says), declared, patience);
        assert_eq!(report.outcome, outcome, "{}", report.seen);
        assert_eq!(stage(&report, Stage::Reboot).outcome, Outcome::Failed);
        assert!(report.seen.starts_with(&format!("at reboot, the guest was {words}")), "{}", report.seen);
    }
}

/// Over SSH, the guest itself says what it waits for.
#[rstest::rstest]
#[case::a_unit_of_the_site("slow.service", Outcome::Failed)]
#[case::two("slow.service data.mount", Outcome::Failed)]
#[case::cloud_init("cloud-final.service", Outcome::Errored)]
#[case::both("slow.service cloud-final.service", Outcome::Errored)]
#[case::nothing_in_particular("", Outcome::Errored)]
fn a_boot_that_waits_for_a_job_of_the_site_is_a_failure(
    #[case] units: &'static str,
    #[case] outcome: Outcome,
) {
    let report = run_with_failing_restart(OnRestart::BootWaitsFor(units), None, SHORT);
    assert_eq!(report.outcome, outcome, "{}", report.seen);
    assert_eq!(stage(&report, Stage::Reboot).outcome, outcome);
    let says = "at reboot, the guest was kept from finishing its boot: the boot does not end: it has waited for slow.service";
    assert_eq!(report.seen.starts_with(says), outcome == Outcome::Failed, "{}", report.seen);
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
#[case::emergency(OnRestart::Prints(EMERGENCY), Outcome::Failed)]
#[case::of_the_old_boot(
    OnRestart::Prints("Cannot open access to console, the root account is locked.\r\n"),
    Outcome::Errored
)]
#[case::panic(OnRestart::Prints(PANICS), Outcome::Failed)]
#[case::crashed(OnRestart::ChangesState(DomainState::ShutOff(StopReason::Crashed)), Outcome::Errored)]
#[case::off(OnRestart::ChangesState(DomainState::ShutOff(StopReason::ByGuest)), Outcome::Errored)]
#[case::frozen(OnRestart::ChangesState(DomainState::Paused(PauseReason::DiskError)), Outcome::Errored)]
fn emergency_mode_and_a_dead_vm_are_reported_within_five_seconds(
    #[case] on_restart: OnRestart,
    #[case] outcome: Outcome,
) {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let guest = Guest::start(&fixture, &context, on_restart);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    let took = guest.happened().elapsed();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, outcome);
    assert_eq!(stage(&report, Stage::Reboot).outcome, outcome, "{}", report.seen);
    assert_within(Duration::from_secs(5), took, &report);
}
