//! The wait with a scripted guest, the pace of attempts, and the script itself in a shell.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::guest::fixture::{Act, ScriptedGuest, access, id, settled};
use crate::guest::prober::script;
use crate::guest::readiness::{BootFacts, CloudInit, SystemState};
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
    let result = settle(
        &mut ScriptedGuest::new(acts),
        Awaited::Settled,
        &mut context,
        &mut |text| progress.push(text.to_owned()),
        GuestReport::conclude,
    );
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

/// The error of the present attempt, not of one that is long past.
#[rstest::rstest]
#[case::an_account_that_runs_nothing(
    Act::NoShell,
    "192.0.2.1:22 accepted the login of user u, but runs no command for it: exit status 1: Password change required"
)]
#[case::a_shell_that_hangs(
    Act::Mute,
    "192.0.2.1:22 accepted the login, but the shell of user u has not answered"
)]
fn what_failed_before_a_login_worked_is_forgotten(#[case] then: Act, #[case] last: &str) {
    let (result, _) = wait(vec![Act::Refused, Act::Refused, then], &short());
    let error = anyhow::Error::from(result.unwrap_err().into_error(&access(), Duration::ZERO));
    assert_eq!(error.chain().last().unwrap().to_string(), last, "{error:#}");
}

#[test]
fn an_attempt_that_the_deadline_cuts_short_replaces_the_error_of_the_one_before() {
    let (result, _) = wait(vec![Act::Refused, Act::HangsInHandshake], &short());
    let error = anyhow::Error::from(result.unwrap_err().into_error(&access(), Duration::ZERO));
    let last = error.chain().last().unwrap().to_string();
    assert_eq!(last, "the last attempt had come to the SSH handshake", "{error:#}");
}

#[test]
fn a_login_is_enough_where_only_a_login_is_awaited() {
    let deadline = seconds(20);
    let mut context = WaitContext::new(&deadline);
    let busy = vec![format!("boot {}", id(1)), "jobs slow.service".into()];
    let mut guest = ScriptedGuest::new(vec![Act::AuthRefused, Act::NoShell, Act::Reports(busy)]);
    let result = settle(&mut guest, Awaited::Login, &mut context, &mut |_| {}, GuestReport::boot);
    assert_eq!(result.unwrap().1, id(1));
}

/// What a caller that may give up learns of every failed attempt.
#[test]
fn a_silence_lists_the_connections_that_sshd_refused_and_whether_the_guest_answers() {
    let deadline = seconds(20);
    let mut seen = Vec::new();
    let mut give_up = |silence: &crate::guest::Silence<'_>| {
        seen.push((silence.refused.len(), silence.answered));
        seen.len() == 4
    };
    let mut context = WaitContext::new(&deadline).with_give_up(&mut give_up);
    let mut guest =
        ScriptedGuest::new(vec![Act::Unanswered, Act::Refused, Act::AuthRefused, Act::AuthRefused]);
    let result = settle(&mut guest, Awaited::Login, &mut context, &mut |_| {}, GuestReport::boot);
    assert!(matches!(result, Err(WaitFailure::TimedOut(LastContact::None { .. }))));
    assert_eq!(seen, [(0, false), (0, true), (1, true), (2, true)]);
}

#[test]
fn jobs_that_stay_the_same_are_timed() {
    let jobs = |units: &str| format!("jobs {units}");
    let lines = vec![format!("boot {}", id(1)), jobs("a.service"), jobs("b.service"), jobs("b.service")];
    let (result, _) = wait(vec![Act::Hangs(lines)], &short());
    let error = result.unwrap_err().into_error(&access(), Duration::ZERO);
    let ReadyError::NotSettled { jobs: Some(jobs), .. } = error else { panic!("{error:?}") };
    assert_eq!(jobs.units, ["b.service"]);
    assert!(jobs.unchanged_for >= Duration::from_millis(200), "{jobs:?}");
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
    let mut guest = ScriptedGuest::new(vec![Act::Refused]);
    let result = settle(&mut guest, Awaited::Settled, &mut context, &mut |_| {}, GuestReport::conclude);
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

#[rstest::rstest]
#[case("", "waiting for the boot to finish")]
#[case("docker.service caddy.service", "waiting for units: docker.service, caddy.service")]
#[case("a b c d e f", "waiting for units: a, b, c, d and 2 more")]
#[case("cloud-final.service x.service", "SSH answers, waiting for cloud-init")]
fn the_running_jobs_are_put_into_words(#[case] units: &str, #[case] words: &str) {
    let units: Vec<_> = units.split_whitespace().map(str::to_owned).collect();
    assert_eq!(busy_with(&units), words);
}

/// Runs the script in a shell here, against the files below `root` and a fake `systemctl`.
fn run_script(root: &Path, systemctl: &str, awaited: Awaited) -> String {
    let bin = root.join("bin");
    for folder in ["bin", "run/cloud-init", "proc/sys/kernel/random", "usr/bin"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("proc/sys/kernel/random/boot_id"), format!("{}\n", id(1))).unwrap();
    std::fs::write(bin.join("systemctl"), format!("#!/bin/sh\n{systemctl}\n")).unwrap();
    std::fs::set_permissions(bin.join("systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), crate::support::env::path().to_string_lossy());
    Process::new("sh")
        .args(["-c", &script(root.to_str().unwrap(), awaited)])
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
    let facts = conclude(&run_script(root.path(), "echo running", Awaited::Settled));
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
    let report = run_script(root.path(), systemctl, Awaited::Settled);
    assert!(report.lines().any(|line| line == "jobs b.service"), "{report}");
    let facts = conclude(&report);
    assert_eq!(facts.system, SystemState::Degraded(vec!["bad.service".into()]));
    assert_eq!(facts.cloud_init, CloudInit::Done { recoverable: vec![] });
}

/// cloud-init as Debian 13 has it. Its state files are in `/run`, so a boot in which it did not start has none.
fn with_cloud_init(root: &Path, status: Option<&str>) {
    std::fs::create_dir_all(root.join("usr/bin")).unwrap();
    std::fs::create_dir_all(root.join("run/cloud-init")).unwrap();
    std::fs::write(root.join("usr/bin/cloud-init"), "").unwrap();
    if let Some(status) = status {
        std::fs::write(root.join("run/cloud-init/status.json"), status).unwrap();
    }
}

#[rstest::rstest]
#[case::masked(None, "masked", true)]
#[case::enabled(None, "enabled", false)]
#[case::masked_with_an_error(Some(r#"{"v1": {"init": {"errors": ["no"]}}}"#), "masked", false)]
#[case::masked_after_its_first_stages(Some(r#"{"v1": {"init": {"errors": []}}}"#), "masked", true)]
fn the_script_lists_the_units_of_a_cloud_init_that_did_not_finish(
    #[case] status: Option<&str>,
    #[case] state: &str,
    #[case] is_off: bool,
) {
    let root = tempfile::tempdir().unwrap();
    with_cloud_init(root.path(), status);
    let systemctl = format!(
        "case $1 in
        is-system-running) echo running;;
        list-unit-files) echo 'cloud-final.service {state} enabled'; echo 'cloud-hotplugd.socket masked enabled';;
    esac"
    );
    let mut report = GuestReport::default();
    for line in run_script(root.path(), &systemctl, Awaited::Settled).lines() {
        report.read_line(line);
    }
    match report.conclude() {
        Conclusion::Settled(facts) => {
            assert!(is_off, "{facts:?}");
            assert_eq!(
                facts.cloud_init,
                CloudInit::Off { units: vec!["cloud-final.service is masked".into()] }
            );
        }
        Conclusion::Failed(error @ ReadyError::CloudInit { .. }) => assert!(!is_off, "{error:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn where_only_a_login_is_awaited_the_script_reports_the_boot_id_only() {
    let root = tempfile::tempdir().unwrap();
    let report = run_script(root.path(), "echo running", Awaited::Login);
    assert_eq!(report, format!("boot {}\n", id(1)));
}

#[test]
fn in_the_old_boot_the_script_reports_the_boot_id_only() {
    let root = tempfile::tempdir().unwrap();
    let report = run_script(root.path(), "echo running", Awaited::SettledAfter(id(1)));
    assert_eq!(report, format!("boot {}\n", id(1)));
}
