//! Sessions with a real sshd on loopback: what works, and each way in which it fails. For readiness and restarts, sshd answers
//! every command with the content of a file, as a guest would.

#[path = "ssh/sshd.rs"]
mod sshd;

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use boma_it::guest::{
    CommandStatus, ReadyError, RebootError, Session, SshError, SystemState, diagnostics, prove_reboot,
    wait_ready,
};
use boma_it::support::deadline::{Deadline, Progress, WaitError, Waited};
use boma_it::support::interrupt::Interrupt;
use sshd::{Sshd, free_port};

fn seconds(seconds: u64) -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(seconds), "the test")
}

fn raise_later(interrupt: &Interrupt, after: Duration) {
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        let _ = Deadline::uninterrupted(after, "the delay")
            .wait_for("it to pass", after, || Ok(Progress::<()>::Pending(String::new())));
        interrupt.raise(2);
    });
}

#[test]
fn a_command_returns_its_status_and_both_streams() {
    let sshd = Sshd::start();
    let mut session = sshd.connect();
    let output = session.exec("echo out; echo err >&2; exit 7", &seconds(20)).unwrap();
    let (stdout, stderr) = (output.stdout.as_str(), output.stderr.as_str());
    assert_eq!((output.status, stdout, stderr), (CommandStatus::Exited(7), "out\n", "err\n"));
    // A second command on the same session, which reads its empty standard input to the end.
    assert_eq!(session.exec_ok("cat; echo done", &seconds(20)).unwrap(), "done\n");
    let killed = session.exec("kill -9 $$", &seconds(20)).unwrap();
    assert_eq!(killed.status, CommandStatus::Signal("KILL".into()));
}

#[test]
fn a_failing_command_is_an_error_that_shows_its_standard_error() {
    let sshd = Sshd::start();
    let error = sshd.connect().exec_ok("echo no such table >&2; exit 3", &seconds(20)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`echo no such table >&2; exit 3` in the guest ended with exit status 3: no such table"
    );
}

#[test]
fn large_output_on_both_streams_arrives_whole() {
    let sshd = Sshd::start();
    let mut session = sshd.connect();
    let waited = Waited::default();
    let deadline = Deadline::after(Duration::from_secs(60), "the test", Interrupt::never(), waited.clone());
    // One stream after the other, each larger than any window: a reader of one stream only would hang here.
    let command =
        "head -c 3145728 /dev/zero | tr '\\0' e >&2; head -c 3145728 /dev/zero | tr '\\0' o; echo .; exit 5";
    let output = session.exec(command, &deadline).unwrap();
    assert_eq!(output.status, CommandStatus::Exited(5));
    assert_eq!((output.stdout.len(), output.stderr.len()), (3 << 20 | 2, 3 << 20));
    assert!(output.stdout.ends_with("o.\n") && output.stderr.bytes().all(|byte| byte == b'e'));
    assert!(!waited.total().is_zero());
}

#[test]
fn a_wrong_host_key_is_rejected_before_the_login() {
    let sshd = Sshd::start();
    let mut access = sshd.access();
    access.host_key = std::fs::read_to_string(sshd.path("stranger.pub")).unwrap();
    let error = Session::connect(&access, &seconds(20)).unwrap_err();
    let SshError::HostKeyMismatch { expected, presented, .. } = &error else { panic!("{error:?}") };
    assert_eq!([expected, presented], [sshd.fingerprint("stranger"), sshd.fingerprint("host")].each_ref());
    assert!(error.is_final());
}

#[test]
fn a_key_that_is_not_authorised_is_refused_but_may_be_accepted_later() {
    let sshd = Sshd::start();
    let mut access = sshd.access();
    access.private_key = sshd.path("stranger");
    let error = Session::connect(&access, &seconds(20)).unwrap_err();
    assert!(matches!(error, SshError::AuthRefused { .. }), "{error:?}");
    assert!(!error.is_final(), "logins are blocked while a system starts, so the wait goes on");
}

#[test]
fn a_missing_or_invalid_private_key_is_an_error_that_names_the_file() {
    let sshd = Sshd::start();
    let mut access = sshd.access();
    access.private_key = sshd.path("absent");
    let failing_file = || match Session::connect(&access, &seconds(20)).unwrap_err() {
        SshError::PrivateKey { path, .. } => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(failing_file(), access.private_key);
    std::fs::write(&access.private_key, "-----BEGIN OPENSSH PRIVATE KEY-----\nno\n").unwrap();
    assert_eq!(failing_file(), access.private_key);
}

#[test]
fn a_port_without_a_listener_is_a_refused_connection() {
    let sshd = Sshd::start();
    let mut access = sshd.access();
    access.port = free_port();
    let error = Session::connect(&access, &seconds(20)).unwrap_err();
    assert!(matches!(error, SshError::Refused { .. }), "{error:?}");
}

#[test]
fn a_silent_server_takes_no_longer_than_the_deadline() {
    let sshd = Sshd::start();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut access = sshd.access();
    access.port = silent.local_addr().unwrap().port();
    let started = Instant::now();
    let error = Session::connect(&access, &seconds(1)).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let SshError::Wait(WaitError::TimedOut { awaited, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(awaited, "the SSH handshake");
}

#[test]
fn a_server_that_hangs_up_at_once_is_a_closed_connection() {
    let sshd = Sshd::start();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut access = sshd.access();
    access.port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || drop(listener.accept()));
    let error = Session::connect(&access, &seconds(10)).unwrap_err();
    assert!(matches!(error, SshError::Closed { .. }), "{error:?}");
    server.join().unwrap();
}

#[rstest::rstest]
#[case::silent("sleep 30")]
#[case::with_endless_output("yes")]
fn a_command_that_does_not_end_is_given_up_at_the_deadline(#[case] command: &str) {
    let sshd = Sshd::start();
    let mut session = sshd.connect();
    let started = Instant::now();
    let error = session.exec(command, &seconds(1)).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(matches!(error, SshError::Wait(WaitError::TimedOut { .. })), "{error:?}");
}

#[test]
fn an_interrupt_ends_a_command_within_two_seconds() {
    let sshd = Sshd::start();
    let mut session = sshd.connect();
    let interrupt = Interrupt::never();
    let deadline = Deadline::after(Duration::from_secs(60), "the test", interrupt.clone(), Waited::default());
    raise_later(&interrupt, Duration::from_millis(300));
    let started = Instant::now();
    let error = session.exec("sleep 30", &deadline).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(matches!(error, SshError::Wait(WaitError::Interrupted(_))), "{error:?}");
}

#[test]
fn a_server_that_dies_during_a_command_is_a_closed_connection() {
    let sshd = Sshd::start();
    let mut session = sshd.connect();
    let started = Instant::now();
    // The shell's parent is the sshd process that serves this very connection.
    let error = session.exec("echo half; kill -9 $PPID; sleep 30", &seconds(20)).unwrap_err();
    assert!(matches!(error, SshError::Closed { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(session.exec("true", &seconds(5)).is_err(), "the session is lost");
}

const OLD: &str =
    "boot 11111111-0000-4000-8000-000000000000\nfailed x.service\ncloud-init absent\nstate degraded\n";
const NEW: &str = "boot 22222222-0000-4000-8000-000000000000\ncloud-init absent\nstate running\n";

fn healthy() -> anyhow::Result<()> {
    Ok(())
}

#[test]
fn a_settled_guest_is_ready_and_its_notes_list_what_is_wrong_with_it() {
    let sshd = Sshd::answering(OLD);
    let mut progress = Vec::new();
    let mut on_progress = |text: &str| progress.push(text.to_owned());
    let ready = wait_ready(&sshd.access(), &seconds(20), &mut healthy, &mut on_progress).unwrap();
    assert_eq!(ready.facts.boot_id.short(), "11111111");
    assert_eq!(ready.facts.system, SystemState::Degraded(vec!["x.service".into()]));
    assert_eq!(
        ready.facts.notes(),
        ["the system is degraded; failed units: x.service", "the guest has no cloud-init"]
    );
    assert_eq!(progress, ["waiting for SSH", "SSH answers, waiting for the system to settle"]);
}

#[test]
fn an_unchanged_boot_id_proves_no_restart() {
    let sshd = Sshd::answering(OLD);
    let access = sshd.access();
    let old =
        wait_ready(&access, &seconds(20), &mut healthy, &mut |_| {}).unwrap().into_baseline(&seconds(20));
    let proven = prove_reboot(old, &access, &seconds(6), &mut healthy, &mut |_| false, &mut |_| {});
    let error = proven.unwrap_err();
    assert!(matches!(error, RebootError::DidNotRestart { .. }), "{error:?}");
}

#[test]
fn another_boot_id_proves_a_restart() {
    let sshd = Sshd::answering(OLD);
    let access = sshd.access();
    let old =
        wait_ready(&access, &seconds(20), &mut healthy, &mut |_| {}).unwrap().into_baseline(&seconds(20));
    let mut progress = Vec::new();
    // The guest restarts once its old boot has answered.
    let mut on_progress = |text: &str| {
        if text.starts_with("still the old boot") {
            std::fs::write(sshd.path("guest"), NEW).unwrap();
        }
        progress.push(text.to_owned());
    };
    let proven = prove_reboot(old, &access, &seconds(60), &mut healthy, &mut |_| false, &mut on_progress);
    let (ready, proof) = proven.unwrap();
    assert_eq!([proof.old, proof.new].map(|id| id.short()), ["11111111", "22222222"]);
    assert_eq!(ready.facts.boot_id, proof.new);
    assert_eq!(
        progress,
        ["waiting for SSH", "still the old boot 11111111", "SSH answers, waiting for the system to settle"]
    );
    // This sshd answers `journalctl` too with the content of the file, so the boots cannot be counted.
    assert_eq!(proof.confirmed_by(), "nobody", "{proof:?}");
}

#[test]
fn a_failed_health_check_ends_the_wait_within_two_seconds() {
    let sshd = Sshd::answering("boot 11111111-0000-4000-8000-000000000000\n");
    let mut access = sshd.access();
    access.port = free_port();
    let started = Instant::now();
    let mut panicked = || anyhow::bail!("the kernel panicked");
    let error = wait_ready(&access, &seconds(60), &mut panicked, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ReadyError::VmFailed(_)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn diagnostics_write_a_file_for_each_command_even_when_the_session_is_lost() {
    let sshd = Sshd::start();
    let mut session = sshd.connect();
    let into = sshd.path("diagnostics");
    let mut begun = Vec::new();
    let collected = diagnostics::collect(&mut session, &into, &seconds(120), &mut |command| {
        begun.push(command.to_owned());
    });
    assert_eq!(begun, collected.iter().map(|one| one.command).collect::<Vec<_>>());
    for one in &collected {
        let text = std::fs::read_to_string(&one.file).unwrap();
        assert!(text.starts_with(&format!("$ {}\n", one.command)), "{text}");
        assert!(text.lines().last().unwrap().starts_with("# "), "{text}");
    }
    // The guest goes away: every file says so, quickly.
    let _ = session.exec("kill -9 $PPID", &seconds(20));
    let started = Instant::now();
    let collected = diagnostics::collect(&mut session, &into, &seconds(60), &mut |_| {});
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(collected.iter().all(|one| one.result.is_err()));
    let text = std::fs::read_to_string(&collected[3].file).unwrap();
    assert!(text.starts_with("$ journalctl -b\n\n# not collected: "), "{text}");
}
