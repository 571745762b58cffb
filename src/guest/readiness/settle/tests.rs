//! The wait played through with a scripted guest, the pace of attempts, and the script itself in a shell.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::guest::readiness::{CloudInit, SystemState};
use crate::guest::scripted::{Act, Scripted, id, settled};
use crate::support::deadline::Deadline;
use crate::support::process::Process;

fn seconds(seconds: u64) -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(seconds), "the test")
}

fn wait(acts: Vec<Act>, deadline: &Deadline) -> (Result<BootFacts, WaitFailure>, Vec<String>) {
    let mut said = Vec::new();
    let result = settle(&mut Scripted::new(acts), None, &mut WaitContext::over(deadline), &mut |text| {
        said.push(text.to_owned())
    });
    (result.map(|(_, facts)| facts), said)
}

#[test]
fn a_guest_that_is_not_there_yet_then_bars_logins_then_is_busy_becomes_ready() {
    let busy =
        vec![format!("boot {}", id(1)), "jobs cloud-final.service".into(), "jobs docker.service".into()];
    let acts = vec![Act::Refused, Act::Refused, Act::AuthRefused, Act::Cut(busy), Act::Says(settled(1))];
    let (facts, said) = wait(acts, &seconds(20));
    assert_eq!(facts.unwrap().boot_id, id(1));
    assert_eq!(
        said,
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
    let (facts, _) = wait(vec![Act::Says(stopping), Act::Says(settled(2))], &seconds(20));
    assert_eq!(facts.unwrap().boot_id, id(2), "cloud-init may restart the guest itself");
}

#[test]
fn a_guest_that_never_answers_is_unreachable_with_the_last_reason() {
    let (result, _) = wait(vec![Act::Refused], &Deadline::uninterrupted(Duration::from_millis(350), "x"));
    let Err(WaitFailure::TimedOut(LastContact::None { last: Some(SshError::Refused { .. }), .. })) = result
    else {
        panic!("{result:?}");
    };
}

#[test]
fn a_guest_that_never_settles_is_told_with_what_it_was_busy_with() {
    let busy = vec![format!("boot {}", id(1)), "jobs slow.service".into()];
    let deadline = Deadline::uninterrupted(Duration::from_millis(350), "x");
    let (result, _) = wait(vec![Act::Hangs(busy)], &deadline);
    let error = result.unwrap_err().into_error(([192, 0, 2, 1], 22).into(), Duration::from_millis(350));
    assert_eq!(
        error.to_string(),
        format!(
            "gave up after 350ms: the guest answers (boot id {}) and does not settle: waiting for units: slow.service",
            id(1)
        )
    );
}

#[test]
fn a_wrong_host_key_or_a_dead_vm_ends_the_wait_at_once() {
    let started = Instant::now();
    let (result, _) = wait(vec![Act::WrongKey], &seconds(60));
    assert!(matches!(result, Err(WaitFailure::Failed(ReadyError::Ssh(SshError::HostKeyMismatch { .. })))));
    let deadline = seconds(60);
    let mut asked = 0;
    let mut health_check = || {
        asked += 1;
        if asked < 2 { Ok(()) } else { Err(anyhow::anyhow!("the kernel panicked")) }
    };
    let mut watch = WaitContext::with_alive(&deadline, &mut health_check);
    let result = settle(&mut Scripted::new(vec![Act::Refused]), None, &mut watch, &mut |_| {});
    let Err(WaitFailure::Failed(error @ ReadyError::Dead(_))) = result else { panic!("{:?}", result.err()) };
    let shown = format!("{:#}", anyhow::Error::from(error));
    assert_eq!(shown, "the guest will not become ready: the kernel panicked");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn refused_logins_never_add_up_to_a_penalty() {
    let peer = ([192, 0, 2, 1], 22).into();
    let refused = SshError::AuthRefused { peer, user: "u".into(), key: "k".into() };
    let mut pace = Pace::default();
    let mut penalty = 0.0_f64;
    for attempt in 0..50 {
        penalty += 5.0;
        assert!(penalty < 15.0, "shut out at attempt {attempt}");
        penalty = (penalty - pace.after_failure(&refused).as_secs_f64()).max(0.0);
    }
    // A guest that is merely not up yet is looked for ten times a second.
    assert_eq!(pace.after_failure(&SshError::Refused { peer }), CHEAP);
    assert_eq!(pace.after_failure(&refused), REFUSED[0]);
}

/// Runs the script in a shell here, against the files below `root` and a `systemctl` of three lines.
fn run_script(root: &Path, systemctl: &str, old: Option<&BootId>) -> String {
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
    let mut account = GuestReport::default();
    for line in lines.lines() {
        account.hear(line);
    }
    account.conclude().unwrap().unwrap()
}

#[test]
fn the_script_tells_of_a_fine_guest() {
    let root = tempfile::tempdir().unwrap();
    let facts = conclude(&run_script(root.path(), "echo running", None));
    assert_eq!(
        facts,
        BootFacts { boot_id: id(1), system: SystemState::Running, cloud_init: CloudInit::Absent }
    );
}

#[test]
fn the_script_tells_jobs_while_it_waits_and_what_failed() {
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
    let told = run_script(root.path(), systemctl, None);
    assert!(told.contains("\njobs b.service\n"), "{told}");
    let facts = conclude(&told);
    assert_eq!(facts.system, SystemState::Degraded(vec!["bad.service".into()]));
    assert_eq!(facts.cloud_init, CloudInit::Done { recoverable: vec![] });
}

#[test]
fn the_script_says_no_more_than_its_name_in_the_old_boot() {
    let root = tempfile::tempdir().unwrap();
    let told = run_script(root.path(), "echo running", Some(&id(1)));
    assert_eq!(told, format!("boot {}\n", id(1)));
}
