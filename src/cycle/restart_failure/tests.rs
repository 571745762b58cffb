use super::*;
use crate::guest::fixture::id;
use crate::guest::{BootFault, BootFaultKind, RunningJobs};
use crate::machine::VmVolumes;
use crate::machine::fake::Fake;

const VM: &str = "boma-it-askari";
const PATIENCE: Duration = Duration::from_secs(30);
const BOOT: &str = "BdsDxe: starting Boot0001\r\nLinux version 6.12\r\n";
const UP: &str = "[  OK  ] Reached target multi-user.target - Multi-User System.\r\n";
const JOB: &str = "[ *** ] A start job is running for data.mount - /data (30s / no limit)\r\n";

fn unreachable() -> RebootError {
    let peer = "10.213.47.10:22".parse().unwrap();
    RebootError::Unreachable { peer, old: id(1), silent: PATIENCE, last: None }
}

fn not_settled(jobs: Option<RunningJobs>) -> RebootError {
    let (budget, last) = (PATIENCE * 10, "waiting".to_owned());
    RebootError::NotReady(ReadyError::NotSettled { boot_id: id(2), budget, last, jobs })
}

fn waits_for(units: &[&str], unchanged_for: Duration) -> RebootError {
    let units = units.iter().map(ToString::to_string).collect();
    not_settled(Some(RunningJobs { units, unchanged_for }))
}

fn console(kind: BootFaultKind, is_own_doing: bool) -> RebootError {
    let fault = BootFault { kind, line: "sign".into(), causes: Vec::new(), is_own_doing };
    let failure = VmFailure::Console { machine: VM.into(), fault };
    RebootError::NotReady(ReadyError::VmFailed(failure.into()))
}

fn died() -> RebootError {
    let failure = VmFailure::State { machine: VM.into(), why: "it is off" };
    RebootError::NotReady(ReadyError::VmFailed(failure.into()))
}

fn proven() -> Option<Closed> {
    Some(Closed::Proven("`not allowed`".into()))
}

fn key_type() -> Option<Closed> {
    Some(Closed::KeyType("`not in PubkeyAcceptedAlgorithms`".into()))
}

/// What a restart that failed so means, with this on the console since: the fault, and everything that the error says.
fn meaning(error: RebootError, closed: Option<Closed>, prints: &str) -> (Option<ExpectedFault>, String) {
    let fake = Fake::new();
    fake.put_volume(&VmVolumes(VM).console(), b"Linux version 6.12\r\naskari login: ");
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    fake.print(VM, prints);
    match classify(error, closed, PATIENCE, "ansible", &mut monitor) {
        StageError::Fault(fault, error) => (Some(fault), format!("{error:#}")),
        StageError::Error(error) => (None, format!("{error:#}")),
        other => panic!("{other:?}"),
    }
}

#[rstest::rstest]
#[case::a_boot_that_ended(
    unreachable(),
    None,
    UP,
    Some(ExpectedFault::Unreachable),
    "but SSH does not answer"
)]
#[case::proven_by_sshd(
    unreachable(),
    proven(),
    UP,
    Some(ExpectedFault::Unreachable),
    "`ansible` is locked out: sshd says `not allowed`"
)]
#[case::only_silent(unreachable(), Some(Closed::Silent("its journal goes on".into())), UP, Some(ExpectedFault::Unreachable), "but SSH does not answer")]
#[case::another_kind_of_key(
    unreachable(),
    key_type(),
    UP,
    None,
    "sshd does not take our kind of key: `not in"
)]
#[case::a_boot_that_did_not_end(unreachable(), proven(), "", None, "does not count as a lockout")]
#[case::a_boot_that_waits(
    unreachable(),
    None,
    JOB,
    Some(ExpectedFault::Hung),
    "it has waited for `data.mount - /data` for 30s"
)]
#[case::a_boot_that_did_not_wait_for_long(
    unreachable(),
    None,
    "[ *** ] A start job is running for data.mount (29s / no limit)\r\n",
    None,
    "does not count as a lockout"
)]
#[case::emergency_mode(
    console(BootFaultKind::Emergency, true),
    None,
    "",
    Some(ExpectedFault::Emergency),
    "emergency mode"
)]
#[case::a_panic(console(BootFaultKind::Panic, true), None, "", Some(ExpectedFault::Panic), "panicked")]
#[case::a_panic_that_may_be_the_emulator_s(console(BootFaultKind::Panic, false), None, UP, None, "panicked")]
#[case::a_vm_that_died(died(), proven(), UP, None, "it is off")]
#[case::an_old_boot_that_answers(RebootError::DidNotRestart { boot_id: id(1), waited: PATIENCE }, proven(), UP, None, "did not restart")]
#[case::a_job_for_long_enough(waits_for(&["slow.service"], PATIENCE), None, "", Some(ExpectedFault::Hung), "it has waited for slow.service for 30s")]
#[case::two_jobs(waits_for(&["a.service", "b.mount"], PATIENCE), None, "", Some(ExpectedFault::Hung), "it has waited for a.service, b.mount for 30s")]
#[case::a_job_for_a_moment(waits_for(&["slow.service"], PATIENCE - Duration::from_millis(1)), None, UP, None, "has not settled")]
#[case::a_job_of_the_harness(waits_for(&["cloud-final.service", "slow.service"], PATIENCE), None, UP, None, "has not settled")]
#[case::no_job(waits_for(&[], PATIENCE), None, UP, None, "has not settled")]
#[case::jobs_unknown(not_settled(None), None, UP, None, "has not settled")]
fn a_failed_restart_is_the_site_s_fault_only_where_the_guest_proves_it(
    #[case] error: RebootError,
    #[case] closed: Option<Closed>,
    #[case] prints: &str,
    #[case] fault: Option<ExpectedFault>,
    #[case] says: &str,
) {
    let (found, said) = meaning(error, closed, &format!("\r\n{BOOT}{prints}"));
    assert_eq!(found, fault, "{said}");
    assert!(said.contains(says), "{said}");
}

/// The console may still show the boot before, or a guest that restarts by itself.
#[rstest::rstest]
#[case::none("", "did not boot")]
#[case::two(
    "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\nLinux version 6.12\r\n",
    "restarts by itself"
)]
fn a_fault_counts_only_in_the_one_new_boot(#[case] prints: &str, #[case] says: &str) {
    for error in [console(BootFaultKind::Emergency, true), unreachable()] {
        let (fault, said) = meaning(error, proven(), prints);
        assert_eq!(fault, None, "{said}");
        assert!(said.contains(says), "{said}");
    }
}
