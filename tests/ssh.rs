//! Sessions with a real sshd on loopback: what works, and each way in which it does not. Readiness and restarts are played by
//! an sshd whose every command is a script that answers for the guest.

#[path = "ssh/sshd.rs"]
mod sshd;

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use boma_it::guest::CommandStatus;
use boma_it::guest::{
    ReadyError, RebootError, Session, SshError, SystemState, diagnostics, prove_reboot, wait_ready,
};
use boma_it::support::deadline::{Deadline, WaitError, Waited};
use boma_it::support::interrupt::Interrupt;
use sshd::{Sshd, free_port};

fn seconds(seconds: u64) -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(seconds), "the test")
}

/// Raises `interrupt` a moment from now.
fn raise_soon(interrupt: &Interrupt, after: Duration) {
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        let _ = Deadline::uninterrupted(after, "a moment").wait_for("it to pass", after, || {
            Ok(boma_it::support::deadline::Progress::<()>::Pending(String::new()))
        });
        interrupt.raise(2);
    });
}

#[test]
fn a_command_gives_its_status_and_both_streams() {
    let sshd = Sshd::start("");
    let mut session = Session::connect(&sshd.access(), &seconds(20)).unwrap();
    let output = session.exec("echo out; echo err >&2; exit 7", &seconds(20)).unwrap();
    assert_eq!(
        (output.status, &*output.stdout, &*output.stderr),
        (CommandStatus::Exited(7), "out\n", "err\n")
    );
    // A second command on the same session, and one that reads its standard input to the end.
    assert_eq!(session.exec_ok("cat; echo done", &seconds(20)).unwrap(), "done\n");
    let killed = session.exec("kill -9 $$", &seconds(20)).unwrap();
    assert_eq!(killed.status, CommandStatus::Signal("KILL".into()));
}

#[test]
fn a_failing_command_is_an_error_that_shows_what_it_said() {
    let sshd = Sshd::start("");
    let mut session = Session::connect(&sshd.access(), &seconds(20)).unwrap();
    let error = session.exec_ok("echo no such table >&2; exit 3", &seconds(20)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`echo no such table >&2; exit 3` in the guest ended with exit status 3: no such table"
    );
}

#[test]
fn big_output_on_both_streams_comes_whole() {
    let sshd = Sshd::start("");
    let mut session = Session::connect(&sshd.access(), &seconds(20)).unwrap();
    let waited = Waited::default();
    let deadline = Deadline::after(Duration::from_secs(60), "the test", Interrupt::never(), waited.clone());
    // One after the other, larger than any window: a reader of one stream only would hang here.
    let command =
        "head -c 3145728 /dev/zero | tr '\\0' e >&2; head -c 3145728 /dev/zero | tr '\\0' o; echo .; exit 5";
    let output = session.exec(command, &deadline).unwrap();
    assert_eq!(output.status, CommandStatus::Exited(5));
    assert_eq!((output.stdout.len(), output.stderr.len()), (3 << 20 | 2, 3 << 20));
    assert!(output.stdout.ends_with("o.\n") && output.stderr.bytes().all(|byte| byte == b'e'));
    assert!(!waited.total().is_zero());
}

#[test]
fn another_host_key_is_refused_before_anything_is_sent() {
    let sshd = Sshd::start("");
    let mut access = sshd.access();
    access.host_key = std::fs::read_to_string(sshd.path("stranger.pub")).unwrap();
    let error = Session::connect(&access, &seconds(20)).unwrap_err();
    let SshError::HostKeyMismatch { expected, presented, .. } = &error else { panic!("{error:?}") };
    assert!(expected.starts_with("SHA256:") && presented.starts_with("SHA256:") && expected != presented);
    assert!(error.is_final());
    assert!(error.to_string().contains("another machine answers at this address"), "{error}");
}

#[test]
fn a_key_that_is_not_authorised_is_refused() {
    let sshd = Sshd::start("");
    let mut access = sshd.access();
    access.private_key = sshd.path("stranger");
    let error = Session::connect(&access, &seconds(20)).unwrap_err();
    assert!(matches!(error, SshError::AuthRefused { .. }), "{error:?}");
    assert!(!error.is_final(), "logins are barred while a system starts: the wait goes on");
}

#[test]
fn a_private_key_that_is_none_is_our_fault_and_named() {
    let sshd = Sshd::start("");
    let mut access = sshd.access();
    access.private_key = sshd.path("absent");
    let error = Session::connect(&access, &seconds(20)).unwrap_err();
    assert!(
        matches!(error, SshError::PrivateKey { .. }) && error.to_string().contains("absent"),
        "{error:?}"
    );
    std::fs::write(sshd.path("absent"), "-----BEGIN OPENSSH PRIVATE KEY-----\nno\n").unwrap();
    let error = Session::connect(&access, &seconds(20)).unwrap_err();
    assert!(matches!(error, SshError::PrivateKey { .. }), "{error:?}");
}

#[test]
fn nobody_listening_is_a_refused_connection() {
    let sshd = Sshd::start("");
    let mut access = sshd.access();
    access.port = free_port();
    let error = Session::connect(&access, &seconds(20)).unwrap_err();
    assert!(matches!(error, SshError::Refused { .. }), "{error:?}");
}

#[test]
fn a_server_that_never_speaks_costs_no_more_than_the_deadline() {
    let sshd = Sshd::start("");
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut access = sshd.access();
    access.port = silent.local_addr().unwrap().port();
    let started = Instant::now();
    let error = Session::connect(&access, &seconds(1)).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(error.to_string(), "gave up after 1.0s waiting for the SSH handshake (deadline of the test)");
}

#[test]
fn a_server_that_hangs_up_at_once_closed_the_connection() {
    let sshd = Sshd::start("");
    let rude = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut access = sshd.access();
    access.port = rude.local_addr().unwrap().port();
    let server = std::thread::spawn(move || drop(rude.accept()));
    let error = Session::connect(&access, &seconds(10)).unwrap_err();
    assert!(matches!(error, SshError::Closed { .. }), "{error:?}");
    server.join().unwrap();
}

#[test]
fn a_command_that_does_not_end_is_given_up_at_the_deadline() {
    let sshd = Sshd::start("");
    let mut session = Session::connect(&sshd.access(), &seconds(20)).unwrap();
    let started = Instant::now();
    let error = session.exec("sleep 30", &seconds(1)).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(matches!(error, SshError::Wait(WaitError::TimedOut { .. })), "{error:?}");
    // One that writes without end is no different.
    let mut session = Session::connect(&sshd.access(), &seconds(20)).unwrap();
    let started = Instant::now();
    let error = session.exec("yes", &seconds(1)).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(matches!(error, SshError::Wait(WaitError::TimedOut { .. })), "{error:?}");
}

#[test]
fn an_interrupt_ends_a_command_within_a_second() {
    let sshd = Sshd::start("");
    let mut session = Session::connect(&sshd.access(), &seconds(20)).unwrap();
    let interrupt = Interrupt::never();
    let deadline = Deadline::after(Duration::from_secs(60), "the test", interrupt.clone(), Waited::default());
    raise_soon(&interrupt, Duration::from_millis(300));
    let started = Instant::now();
    let error = session.exec("sleep 30", &deadline).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(matches!(error, SshError::Wait(WaitError::Interrupted(_))), "{error:?}");
}

#[test]
fn a_server_that_dies_amid_a_command_closed_the_connection() {
    let sshd = Sshd::start("");
    let mut session = Session::connect(&sshd.access(), &seconds(20)).unwrap();
    let started = Instant::now();
    // The shell's parent is the sshd process that serves this very connection.
    let error = session.exec("echo half; kill -9 $PPID; sleep 30", &seconds(20)).unwrap_err();
    assert!(matches!(error, SshError::Closed { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(session.exec("true", &seconds(5)).is_err(), "the session is of no use any more");
}

const OLD: &str =
    "boot 11111111-0000-4000-8000-000000000000\nfailed x.service\ncloud-init absent\nstate degraded\n";
const NEW: &str = "boot 22222222-0000-4000-8000-000000000000\ncloud-init absent\nstate running\n";

fn fine() -> anyhow::Result<()> {
    Ok(())
}

#[test]
fn a_guest_that_settled_is_ready_and_its_troubles_are_noted() {
    let sshd = Sshd::answering(OLD);
    let mut said = Vec::new();
    let ready =
        wait_ready(&sshd.access(), &seconds(20), &mut fine, &mut |text| said.push(text.to_owned())).unwrap();
    assert_eq!(ready.facts.boot_id.short(), "11111111");
    assert_eq!(ready.facts.system, SystemState::Degraded(vec!["x.service".into()]));
    assert_eq!(
        ready.facts.notes(),
        ["the system is degraded; failed units: x.service", "the guest has no cloud-init"]
    );
    assert_eq!(said, ["waiting for SSH", "SSH answers, waiting for the system to settle"]);
}

#[test]
fn a_restart_is_proven_by_another_boot_id_and_by_nothing_else() {
    let sshd = Sshd::answering(OLD);
    let access = sshd.access();
    let ready = wait_ready(&access, &seconds(20), &mut fine, &mut |_| {}).unwrap();
    let error =
        prove_reboot(ready.into_baseline(), &access, &seconds(6), &mut fine, &mut |_| false, &mut |_| {})
            .unwrap_err();
    assert!(matches!(error, RebootError::DidNotRestart { .. }), "{error:?}");

    let ready = wait_ready(&access, &seconds(20), &mut fine, &mut |_| {}).unwrap();
    let mut said = Vec::new();
    let (path, mut asked) = (sshd.path("guest"), 0);
    let mut restarts = || {
        asked += 1;
        if asked == 3 {
            std::fs::write(&path, NEW)?;
        }
        Ok(())
    };
    let (ready, proof) = prove_reboot(
        ready.into_baseline(),
        &access,
        &seconds(20),
        &mut restarts,
        &mut |_| false,
        &mut |text| said.push(text.to_owned()),
    )
    .unwrap();
    assert_eq!([proof.old, proof.new].map(|id| id.short()), ["11111111", "22222222"]);
    assert_eq!(ready.facts.boot_id, proof.new);
    assert_eq!(
        said,
        ["waiting for SSH", "still the old boot 11111111", "SSH answers, waiting for the system to settle"]
    );
}

#[test]
fn a_guest_that_died_ends_the_wait_within_a_moment() {
    let sshd = Sshd::answering("boot 11111111-0000-4000-8000-000000000000\n");
    let mut access = sshd.access();
    access.port = free_port();
    let started = Instant::now();
    let mut dead = || anyhow::bail!("the kernel panicked");
    let error = wait_ready(&access, &seconds(60), &mut dead, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ReadyError::VmFailed(_)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn diagnostics_are_a_file_for_each_command_whatever_became_of_it() {
    let sshd = Sshd::start("");
    let mut session = Session::connect(&sshd.access(), &seconds(20)).unwrap();
    let into = sshd.path("diagnostics");
    let mut begun = Vec::new();
    let collected = diagnostics::collect(&mut session, &into, &seconds(120), &mut |command| {
        begun.push(command.to_owned())
    });
    assert_eq!(begun.len(), collected.len());
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
