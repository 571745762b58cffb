//! The wait with a scripted guest, the pace of attempts, and the script itself in a shell.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::guest::fixture::{Act, ScriptedGuest, access, id, settled};
use crate::guest::readiness::{CloudInit, SystemState};
use crate::support::process::Process;

fn seconds(seconds: u64) -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(seconds), "the test")
}

fn short() -> Deadline {
    Deadline::uninterrupted(Duration::from_millis(350), "the test")
}

/// The outcome of the wait, and the progress it showed.
fn wait(acts: Vec<Act>, deadline: &Deadline) -> (Result<BootFacts, WaitFailure>, Vec<String>) {
    let mut progress = Vec::new();
    let mut context = WaitContext::new(deadline);
    let result = settle(&mut ScriptedGuest::new(acts), None, &mut context, &mut |text| {
        progress.push(text.to_owned());
    });
    (result.map(|(_, facts)| facts), progress)
}

#[test]
fn a_guest_that_is_down_then_refuses_logins_then_is_busy_becomes_ready() {
    let busy =
        vec![format!("boot {}", id(1)), "jobs cloud-final.service".into(), "jobs docker.service".into()];
    let acts = vec![Act::Refused, Act::Refused, Act::AuthRefused, Act::Cut(busy), Act::Reports(settled(1))];
    let (facts, progress) = wait(acts, &seconds(20));
    assert_eq!(facts.unwrap().boot_id, id(1));
    assert_eq!(
        progress,
        [
            "waiting for SSH",
            "SSH answers, waiting for the system to settle",
            "SSH answers, waiting for cloud-init",
            "waiting for units: docker.service",
            "waiting for SSH again",
            "SSH answers, waiting for the system to settle",
        ]
    );
}

#[test]
fn a_system_that_is_stopping_is_asked_again() {
    let stopping = vec![format!("boot {}", id(1)), "state stopping".into()];
    let (facts, _) = wait(vec![Act::Reports(stopping), Act::Reports(settled(2))], &seconds(20));
    assert_eq!(facts.unwrap().boot_id, id(2), "cloud-init may restart the guest itself");
}

#[test]
fn a_guest_that_never_answers_is_unreachable_for_the_last_reason() {
    let (result, _) = wait(vec![Act::Refused], &short());
    let Err(WaitFailure::TimedOut(LastContact::None { last: Some(SshError::Refused { .. }), .. })) = result
    else {
        panic!("{result:?}");
    };
}

#[test]
fn a_guest_that_never_settles_is_reported_with_what_keeps_it_busy() {
    let busy = vec![format!("boot {}", id(1)), "jobs slow.service".into()];
    let (result, _) = wait(vec![Act::Hangs(busy)], &short());
    let error = result.unwrap_err().into_error(&access(), Duration::from_millis(350));
    insta::assert_snapshot!(error, @"timed out after 350ms: the guest answers (boot id 00000001-0000-4000-8000-000000000000) but has not settled: waiting for units: slow.service");
}

#[test]
fn a_wrong_host_key_ends_the_wait_at_once() {
    let started = Instant::now();
    let (result, _) = wait(vec![Act::WrongKey], &seconds(60));
    assert!(matches!(result, Err(WaitFailure::Failed(ReadyError::Ssh(SshError::HostKeyMismatch { .. })))));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_failed_health_check_ends_the_wait_within_a_second() {
    let deadline = seconds(60);
    let mut checks = 0;
    let mut health_check = || {
        checks += 1;
        if checks < 2 { Ok(()) } else { Err(anyhow::anyhow!("the kernel panicked")) }
    };
    let mut context = WaitContext::new(&deadline).with_health_check(&mut health_check);
    let started = Instant::now();
    let result = settle(&mut ScriptedGuest::new(vec![Act::Refused]), None, &mut context, &mut |_| {});
    let Err(WaitFailure::Failed(error @ ReadyError::VmFailed(_))) = result else {
        panic!("{:?}", result.err())
    };
    insta::assert_snapshot!(format!("{:#}", anyhow::Error::from(error)), @"the guest will not become ready: the kernel panicked");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn refused_logins_never_add_up_to_a_penalty_of_sshd() {
    let peer = access().peer();
    let refused = SshError::AuthRefused { peer, user: "u".into(), key: "k".into() };
    let mut pace = Pace::default();
    let mut penalty = 0.0_f64;
    for attempt in 0..50 {
        penalty += 5.0;
        assert!(penalty < 15.0, "no answer from attempt {attempt} on");
        penalty = (penalty - pace.after_failure(&refused).as_secs_f64()).max(0.0);
    }
    // A guest that is just not up yet gets ten attempts a second.
    assert_eq!(pace.after_failure(&SshError::Refused { peer }), AFTER_SYN);
    assert_eq!(pace.after_failure(&refused), AFTER_REFUSAL[0]);
}

/// Runs the script in a shell here, against the files below `root` and a fake `systemctl`.
fn run_script(root: &Path, systemctl: &str, old: Option<BootId>) -> String {
    let bin = root.join("bin");
    for folder in ["bin", "run/cloud-init", "proc/sys/kernel/random", "usr/bin"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("proc/sys/kernel/random/boot_id"), format!("{}\n", id(1))).unwrap();
    std::fs::write(bin.join("systemctl"), format!("#!/bin/sh\n{systemctl}\n")).unwrap();
    std::fs::set_permissions(bin.join("systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), crate::support::env::path().to_string_lossy());
    Process::new("sh")
        .args(["-c", &script(root.to_str().unwrap(), old)])
        .env("PATH", path)
        .run_ok(&seconds(30))
        .unwrap()
}

fn conclude(lines: &str) -> BootFacts {
    let mut report = GuestReport::default();
    for line in lines.lines() {
        report.read_line(line);
    }
    match report.conclude() {
        Conclusion::Settled(facts) => facts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_script_reports_a_running_guest_without_cloud_init() {
    let root = tempfile::tempdir().unwrap();
    let facts = conclude(&run_script(root.path(), "echo running", None));
    assert_eq!(
        facts,
        BootFacts { boot_id: id(1), system: SystemState::Running, cloud_init: CloudInit::Absent }
    );
}

#[test]
fn the_script_reports_running_jobs_while_it_waits_and_failed_units_at_the_end() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("run/cloud-init")).unwrap();
    std::fs::write(root.path().join("run/cloud-init/result.json"), "{\n \"v1\": {\"errors\": []}\n}\n")
        .unwrap();
    std::fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    std::fs::write(root.path().join("usr/bin/cloud-init"), "").unwrap();
    let systemctl = "case $1 in
        list-jobs) echo '1 a.service start waiting'; echo '2 b.service start running';;
        list-units) echo 'bad.service loaded failed failed Bad';;
        is-system-running) sleep 1.6; echo degraded; exit 1;;
    esac";
    let report = run_script(root.path(), systemctl, None);
    assert!(report.lines().any(|line| line == "jobs b.service"), "{report}");
    let facts = conclude(&report);
    assert_eq!(facts.system, SystemState::Degraded(vec!["bad.service".into()]));
    assert_eq!(facts.cloud_init, CloudInit::Done { recoverable: vec![] });
}

#[test]
fn in_the_old_boot_the_script_reports_the_boot_id_only() {
    let root = tempfile::tempdir().unwrap();
    let report = run_script(root.path(), "echo running", Some(id(1)));
    assert_eq!(report, format!("boot {}\n", id(1)));
}
