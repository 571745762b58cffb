//! Every way in which Ansible can end, with scripts for its programs: a failure of the site, a failed assertion, or an error.

use std::time::{Duration, Instant};

use boma_it::catalog::plan::{ExpectedFailure, ExpectedFault, ExpectedResult};
use boma_it::cycle::{Job, Keep, run};
use boma_it::event::RunReport;
use boma_it::guest::diagnostics::REQUIRED;
use boma_it::machine::hypervisor::StopReason;
use boma_it::machine::{DomainState, Hypervisor};
use boma_it::outcome::{AssertionStatus, Outcome, Stage};
use rstest::Context;

use crate::fixture::{ASKARI, Fixture, PORTS, Task, assert_text, assert_within, begin, json, record};
use crate::guest::{Guest, OnRestart};
use crate::side_by_side::wait_until;

/// A cycle in which `ansible-playbook` does `script` in `phase`. Nothing may be left.
fn cycle_with(phase: &str, script: &str) -> (Fixture, RunReport) {
    let fixture = Fixture::new();
    fixture.playbook(phase, script);
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    (fixture, report)
}

fn last_before_down(report: &RunReport) -> (Stage, Outcome) {
    let last = report.stages.iter().rev().find(|it| it.stage != Stage::Down).unwrap();
    (last.stage, last.outcome)
}

#[test]
fn a_failed_task_of_the_site_fails_the_cycle_and_ends_it() {
    let script =
        record("site", &[Task::ok("base : packages"), Task::failed("base : firewall", "no such table")]);
    let (_fixture, report) = cycle_with("apply", &script);
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.seen, "at apply, `base : firewall` failed: no such table");
    assert_eq!(last_before_down(&report), (Stage::Apply, Outcome::Failed));
    let files = std::fs::read_dir(report.folder.join("diagnostics")).unwrap().count();
    assert!(files > 5, "diagnostics were collected while the VM lived: {files} files");
}

/// A busy emulated guest needs more than half a minute for sudo, and Ansible would call it unreachable.
#[test]
fn ansible_waits_longer_for_an_emulated_guest() {
    let (_fixture, report) = cycle_with("apply", &record("site", &[Task::ok("base : packages")]));
    let settings = std::fs::read_to_string(report.folder.join("ansible/ansible.cfg")).unwrap();
    assert!(settings.lines().any(|line| line == "timeout = 120"), "{settings}");
}

fn no_stats(play: &str) -> String {
    format!("{}EOF\n", begin(play))
}

#[rstest::rstest]
#[case::killed(no_stats("site") + "kill -9 $$\n")]
#[case::died(no_stats("site") + "echo '[ERROR]: Unexpected' >&2; exit 250\n")]
#[case::no_host(
    r#"printf '%s\n' '{"event": "ansible", "version": "2.19.4"}' '{"event": "play", "play": "site"}' '{"event": "no_hosts_matched", "play": "site"}' '{"event": "stats", "hosts": {}}' >"$BOMA_IT_RECORD"; exit 0"#.to_owned()
)]
#[case::no_record("exit 0".to_owned())]
#[case::nothing_ran(record("site", &[]))]
fn a_playbook_that_does_not_reach_its_end_is_an_error(#[context] context: Context, #[case] script: String) {
    let (_fixture, report) = cycle_with("apply", &script);
    assert_eq!(report.outcome, Outcome::Errored);
    assert_text!(context, report.seen);
    assert_eq!(last_before_down(&report), (Stage::Apply, Outcome::Errored));
    assert!(report.assertions.is_empty());
}

#[test]
fn a_lockout_during_apply_is_a_failure_unless_declared_at_apply() {
    let said = record("site", &[Task::unreachable("base : firewall", "Connection timed out")]);
    let unreachable = |at| Some(ExpectedFailure { at, what: ExpectedFault::Unreachable });
    for (declared, outcome) in [
        (None, Outcome::Failed),
        (unreachable(Stage::Apply), Outcome::Passed),
        (unreachable(Stage::Reboot), Outcome::Failed),
    ] {
        let fixture = Fixture::new();
        // From then on sshd knows no key that would let anybody in.
        fixture.playbook("apply", &format!("rm {}\n{said}", fixture.path("guest/authorized").display()));
        let context = fixture.context(Keep::Never);
        let _guest = Guest::start_with_journal(&fixture, &context, OnRestart::AnotherBoot);
        let mut plan = fixture.plan();
        plan.expect.fail = declared;
        let report = run(&context, &plan, Job::Cycle).unwrap();
        fixture.assert_nothing_left(&report);
        assert_eq!(report.outcome, outcome, "{}", report.seen);
        let (error, start) = (report.error.unwrap(), "the apply locked out the account `");
        assert!(error.starts_with(start), "{error}");
        let ansible =
            "the VM was unreachable at task `base : firewall` (/p/site.yml:7): Connection timed out";
        assert!(error.contains(ansible), "{error}");
        let how = if outcome == Outcome::Passed { ", as declared".to_owned() } else { format!(": {start}") };
        assert!(
            report.seen.starts_with(&format!("at apply, the guest was unreachable{how}")),
            "{}",
            report.seen
        );
    }
}

#[test]
fn a_guest_that_answers_ssh_is_not_locked_out_though_ansible_did_not_reach_it() {
    let fixture = Fixture::new();
    fixture.playbook("apply", &record("site", &[Task::unreachable("base : firewall", "Connection refused")]));
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = fixture.plan();
    plan.expect.fail = Some(ExpectedFailure { at: Stage::Apply, what: ExpectedFault::Unreachable });
    let report = run(&context, &plan, Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored, "{}", report.seen);
    assert_text!(report.seen);
}

/// Ansible would notice a dead VM by SSH's timeouts only. The figure: within 5 s.
#[rstest::rstest]
#[case::apply("apply", Stage::Apply, true)]
#[case::verify("assert", Stage::Assert, true)]
#[case::a_panic("apply", Stage::Apply, false)]
fn a_vm_that_fails_during_a_playbook_ends_it_at_once(
    #[context] case: Context,
    #[case] phase: &str,
    #[case] stage: Stage,
    #[case] domain: bool,
) {
    let fixture = Fixture::new();
    let pid = fixture.path("pid");
    fixture.playbook(phase, &format!("{}echo $$ >{}\nsleep 600\n", no_stats("site"), pid.display()));
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let (fake, watched) = (fixture.fake.clone(), pid.clone());
    let died = std::thread::spawn(move || {
        wait_until("the playbook", || {
            std::fs::read_to_string(&watched).is_ok_and(|text| text.ends_with('\n'))
        });
        match domain {
            true => fake.set_state(ASKARI, DomainState::ShutOff(StopReason::Crashed)),
            false => fake.print(ASKARI, "Kernel panic - not syncing: Fatal exception\r\n"),
        }
        Instant::now()
    });
    // Declared or not: a VM that is dead has locked nobody out.
    let mut plan = fixture.plan();
    plan.expect.fail = Some(ExpectedFailure { at: stage, what: ExpectedFault::Unreachable });
    let report = run(&context, &plan, Job::Cycle).unwrap();
    let took = died.join().unwrap().elapsed();
    assert_within(Duration::from_secs(5), took, &report);
    fixture.assert_nothing_left(&report);
    assert_eq!((report.outcome, last_before_down(&report)), (Outcome::Errored, (stage, Outcome::Errored)));
    assert_text!(case, report.seen);
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "ansible-playbook still runs");
}

#[test]
fn a_playbook_without_end_is_ended_at_its_deadline_and_the_error_names_its_task() {
    let fixture = Fixture::new();
    fixture.playbook("apply", &(no_stats("site") + "sleep 600\n"));
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = fixture.plan();
    plan.harness.timeouts.apply = Duration::from_millis(250);
    let report = run(&context, &plan, Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Errored);
    let command = [(r"waiting for .* \(", "waiting for [command] (")];
    insta::with_settings!({filters => command}, { insta::assert_snapshot!(report.seen) });
}

#[test]
fn an_interrupt_ends_the_playbook_and_leaves_nothing() {
    let fixture = Fixture::new();
    let pid = fixture.path("pid");
    fixture.playbook("apply", &format!("{}echo $$ >{}\nsleep 600\n", no_stats("site"), pid.display()));
    let context = fixture.context(Keep::UntilDown);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let interrupt = fixture.interrupt.clone();
    let watched = pid.clone();
    let raised = std::thread::spawn(move || {
        wait_until("the playbook", || {
            std::fs::read_to_string(&watched).is_ok_and(|text| text.ends_with('\n'))
        });
        interrupt.raise(2);
        Instant::now()
    });
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    let took = raised.join().unwrap().elapsed();
    assert_within(Duration::from_secs(3), took, &report);
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Interrupted);
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "ansible-playbook still runs");
}

#[test]
fn a_failed_assertion_is_explained_and_the_vm_is_kept() {
    let fixture = Fixture::new();
    let tasks = [
        Task::failed(PORTS, "8080/tcp: refused").asserting(),
        Task::ok("sshd refuses passwords").asserting(),
    ];
    fixture.playbook("assert", &record("verify", &tasks));
    let context = fixture.context(Keep::UntilDown);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let report = run(&context, &fixture.plan(), Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.seen, "`published ports answer` failed after the reboot (1 of 2 assertions passed)");
    assert!(report.kept && fixture.fake.state(ASKARI).unwrap() == DomainState::Running);
    let written = json(&report.folder.join("report.json"));
    assert_eq!(written["assertions"][0]["name"], PORTS);
    assert_eq!(written["assertions"][0]["message"], "8080/tcp: refused");
    assert_eq!(written["commands"][0]["command"], "boma-it ssh --host askari");
    for command in REQUIRED {
        let name = command.replace([' ', '-'], "-").replace("--", "-");
        let text = std::fs::read_to_string(report.folder.join(format!("diagnostics/{name}.txt"))).unwrap();
        assert_eq!(text, format!("$ {command}\nas a guest would say\n\n# exit status 0\n"));
    }
}

#[rstest::rstest]
#[case::empty(record("verify", &[Task::ok("look around")]))]
#[case::could_not_look(
    record("verify", &[Task::ok(PORTS).asserting(), Task::failed("ask the firewall", "no nft")])
)]
#[case::died(no_stats("verify") + "kill -9 $$\n")]
fn a_verification_without_a_result_is_an_error(#[context] context: Context, #[case] script: String) {
    let (_fixture, report) = cycle_with("assert", &script);
    assert_eq!(report.outcome, Outcome::Errored);
    assert_text!(context, report.seen);
}

#[test]
fn a_skipped_assertion_is_reported_as_skipped_and_never_counts_as_passed() {
    let tasks = [Task::ok(PORTS).asserting(), Task::skipped("the mesh server answers").asserting()];
    let (_fixture, report) = cycle_with("assert", &record("verify", &tasks));
    assert_eq!(report.outcome, Outcome::Passed);
    assert_eq!(report.seen, "1 of 2 assertions passed, 1 skipped");
    let written = json(&report.folder.join("report.json"));
    assert_eq!(written["assertions"][1]["name"], "the mesh server answers");
    assert_eq!(written["assertions"][1]["status"], "skipped");
    assert_eq!(written["compared"][0]["seen"], "1 passed, 1 skipped");

    let tasks = [Task::skipped(PORTS).asserting(), Task::skipped("the mesh server answers").asserting()];
    let (_fixture, report) = cycle_with("assert", &record("verify", &tasks));
    assert_eq!(report.outcome, Outcome::Errored, "{}", report.seen);
    insta::assert_snapshot!(report.seen);
}

/// The scenario of the incident: a failure is declared after the reboot, and none before.
fn incident(before: &[Task], after: &[Task]) -> (Fixture, RunReport) {
    let fixture = Fixture::new();
    fixture.playbook("before", &record("verify", before));
    fixture.playbook("assert", &record("verify", after));
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = fixture.plan();
    plan.expect.before_reboot = Some(ExpectedResult::Pass);
    let what = ExpectedFault::Tasks(vec![PORTS.to_owned()]);
    plan.expect.fail = Some(ExpectedFailure { at: Stage::Assert, what });
    let report = run(&context, &plan, Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    (fixture, report)
}

#[test]
fn a_declared_failure_passes_only_where_it_was_declared() {
    let holds = || Task::ok(PORTS).asserting();
    let fails = || Task::failed(PORTS, "refused").asserting();
    let other = || Task::failed("sshd answers", "refused").asserting();

    let (_fixture, report) = incident(&[holds()], &[fails()]);
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
    assert_eq!(report.before[0].status, AssertionStatus::Passed);
    assert!(report.compared.iter().all(|line| line.holds), "{:?}", report.compared);
    let declared = &json(&report.folder.join("report.json"))["compared"][1];
    assert_eq!((&declared["expected"], &declared["seen"]), (&"fails".into(), &"failed".into()));
    assert!(report.folder.join("diagnostics").exists(), "a declared failure is explained as well");

    let (_fixture, report) = incident(&[holds()], &[holds()]);
    assert_eq!(report.outcome, Outcome::Failed);
    assert_text!(report.seen);

    let (_fixture, report) = incident(&[holds()], &[fails(), other()]);
    assert_eq!(report.outcome, Outcome::Failed);
    insta::assert_snapshot!(report.seen);

    let (_fixture, report) = incident(&[fails()], &[fails()]);
    assert_eq!(report.outcome, Outcome::Failed);
    assert_text!(report.seen);
    assert_eq!(last_before_down(&report).0, Stage::Before, "the trial stops there");

    let probe = || Task::failed("ask the firewall", "no nft");
    let (_fixture, report) = incident(&[holds()], &[fails(), probe()]);
    assert_eq!(report.outcome, Outcome::Errored, "an assertion that was not evaluated may have failed too");
    assert_text!(report.seen);
    assert!(report.compared.iter().any(|line| !line.holds), "{:?}", report.compared);
}

#[test]
fn a_declared_failure_before_the_reboot_does_not_count_if_other_assertions_were_not_evaluated() {
    let fails = || Task::failed(PORTS, "refused").asserting();
    for (probe, outcome) in [(None, Outcome::Passed), (Some("ask the firewall"), Outcome::Errored)] {
        let fixture = Fixture::new();
        let tasks: Vec<_> =
            std::iter::once(fails()).chain(probe.map(|name| Task::failed(name, "no nft"))).collect();
        fixture.playbook("before", &record("verify", &tasks));
        let context = fixture.context(Keep::Never);
        let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
        let mut plan = fixture.plan();
        plan.expect.before_reboot = Some(ExpectedResult::Fail);
        let report = run(&context, &plan, Job::Cycle).unwrap();
        fixture.assert_nothing_left(&report);
        assert_eq!(report.outcome, outcome, "{}", report.seen);
    }
}
