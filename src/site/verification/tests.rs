use super::*;
use crate::site::record::UnknownPlay;
use crate::site::verdict::{Action, Evidence, Returned, Round, TaskKind};

fn task(name: &str, status: TaskStatus) -> TaskResult {
    TaskResult {
        play: "verify".into(),
        task: name.into(),
        role: None,
        path: format!("harness/verify.yml:{}", name.len()),
        action: "assert".into(),
        host: "askari".into(),
        status,
        changed: false,
        ignored: false,
        assertion: false,
        seconds: 0.1,
        message: Some(format!("{name} said")),
    }
}

/// What is seen of a task that ended so; its identity is its name. A `fail` stands for an assertion that failed.
fn evidence(name: &str, kind: TaskKind, status: TaskStatus) -> Evidence {
    let failed = status == TaskStatus::Failed;
    let skipped = status == TaskStatus::Skipped;
    let round = Round {
        action: if skipped { Action::None } else { Action::Returned },
        is_complete: true,
        held: u32::from(!failed),
        broke: u32::from(failed),
        odd: 0,
        refused: u32::from(skipped),
        errors: 0,
        parsed: 1,
        garbled: 0,
        commands: 0,
        becomes: false,
        returned: Returned { failed, own: true, ..Returned::default() },
        failed,
        changed: false,
        skipped,
    };
    Evidence { uuid: name.into(), kind, rounds: vec![round], ..Evidence::default() }
}

/// A report of these tasks; `true` is an assertion, `false` a probe.
fn report(tasks: &[(&str, TaskStatus, bool)]) -> PlaybookReport {
    let kind = |is_assertion| if is_assertion { TaskKind::Assert } else { TaskKind::Probe };
    PlaybookReport {
        tasks: tasks.iter().map(|(name, status, _)| task(name, *status)).collect(),
        evidence: tasks.iter().map(|(name, status, is)| evidence(name, kind(*is), *status)).collect(),
        ..PlaybookReport::default()
    }
}

fn shown(found: &Verification) -> Vec<(&str, AssertionStatus, Option<&str>)> {
    found.assertions.iter().map(|a| (a.name.as_str(), a.status, a.message.as_deref())).collect()
}

fn declared(kind: DeclaredKind, name: &str, line: usize) -> Declared {
    let path = format!("harness/verify.yml:{line}");
    Declared { uuid: name.into(), kind, task: name.into(), path, column: None }
}

fn gaps(found: &Verification) -> String {
    found.gaps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

use AssertionStatus::{Failed, Passed, Skipped};
use DeclaredKind::{Assertion, Handler, Include, Notifier, Rescue};

#[test]
fn an_ignored_failure_of_an_assertion_is_a_failure_and_later_assertions_are_listed() {
    let mut ran = report(&[
        ("find out", TaskStatus::Ok, false),
        ("ports", TaskStatus::Failed, true),
        ("sshd", TaskStatus::Ok, true),
    ]);
    ran.tasks[1].ignored = true;
    let found = verification(&ran, "askari").unwrap();
    assert_eq!(shown(&found), [("ports", Failed, Some("ports said")), ("sshd", Passed, None)]);
    assert_eq!((found.gaps.len(), found.notes.len()), (0, 0));
}

#[test]
fn a_failed_probe_is_inconclusive_unless_its_own_task_ignores_that() {
    let mut ran = report(&[("sshd", TaskStatus::Ok, true), ("find out", TaskStatus::Failed, false)]);
    ran.tasks[1].ignored = true;
    insta::assert_snapshot!(verification(&ran, "askari").unwrap_err(), @"verify.yml is inconclusive: task `find out` (harness/verify.yml:8): it is not an assertion, and it failed (`ignore_errors: true` on this very task makes that a note): find out said");
    ran.evidence[1].ignores_itself = true;
    let found = verification(&ran, "askari").unwrap();
    assert_eq!(found.gaps, []);
    insta::assert_snapshot!(found.notes.join("\n"), @"verify.yml: `find out` (harness/verify.yml:8) failed, and may, as it has `ignore_errors`: find out said");
    let mut beside = report(&[("sshd", TaskStatus::Failed, true), ("find out", TaskStatus::Failed, false)]);
    beside.tasks[0].ignored = true;
    assert!(gaps(&verification(&beside, "askari").unwrap()).starts_with("task `find out`"));
}

#[test]
fn an_assertion_that_cannot_be_evaluated_is_inconclusive_even_if_ignored() {
    let mut ran = report(&[("sshd", TaskStatus::Ok, true), ("ports", TaskStatus::Failed, true)]);
    ran.tasks[1].ignored = true;
    ran.evidence[1].rounds[0].errors = 1;
    let error = verification(&ran, "askari").unwrap_err();
    insta::assert_snapshot!(error, @"verify.yml is inconclusive: task `ports` (harness/verify.yml:5): it could not be evaluated: its condition, its arguments, its loop or another keyword: ports said");
    ran.tasks[0] = TaskResult { ignored: true, ..task("sshd", TaskStatus::Failed) };
    ran.evidence[0] = evidence("sshd", TaskKind::Assert, TaskStatus::Failed);
    let found = verification(&ran, "askari").unwrap();
    assert_eq!(shown(&found), [("sshd", Failed, Some("sshd said")), ("ports", Skipped, Some("ports said"))]);
    assert_eq!(found.gaps.len(), 1);
}

#[test]
fn no_assertion_and_only_skipped_assertions_are_errors() {
    let none = verification(&report(&[("find out", TaskStatus::Ok, false)]), "askari").unwrap_err();
    assert_eq!(none, VerificationError::NoAssertions { host: "askari".into() });
    let skipped = verification(&report(&[("sshd", TaskStatus::Skipped, true)]), "askari").unwrap_err();
    assert_eq!(skipped, VerificationError::AllSkipped { host: "askari".into(), count: 1 });
}

#[test]
fn what_is_declared_and_has_no_result_is_a_gap_by_its_identity() {
    let mut ran = report(&[("ports", TaskStatus::Failed, true)]);
    ran.declared =
        [(Assertion, "ports", 5), (Rescue, "mend", 30), (Include, "more", 35), (Assertion, "later", 40)]
            .map(|(kind, name, line)| declared(kind, name, line))
            .into();
    let found = verification(&ran, "askari").unwrap();
    let not_reached = Some("not reached: the playbook or its block ended earlier");
    assert_eq!(shown(&found), [("ports", Failed, Some("ports said")), ("later", Skipped, not_reached)]);
    insta::assert_snapshot!(gaps(&found), @"it ended before `more` (harness/verify.yml:35) and 1 more; set `ignore_errors: true` on what fails before to go on");
    // The same name on the same line is another task.
    let other = Declared { uuid: "other".into(), ..declared(Assertion, "ports", 5) };
    ran.declared = vec![declared(Assertion, "ports", 5), other];
    assert_eq!(verification(&ran, "askari").unwrap().gaps.len(), 1);
    ran.waived = ["other".to_owned()].into();
    assert_eq!(verification(&ran, "askari").unwrap().gaps, []);
}

#[test]
fn what_was_not_reached_is_inconclusive_if_nothing_failed() {
    let mut ran = report(&[("ports", TaskStatus::Ok, true)]);
    ran.declared = vec![declared(Assertion, "later", 40)];
    insta::assert_snapshot!(verification(&ran, "askari").unwrap_err(), @"verify.yml is inconclusive: it ended before `later` (harness/verify.yml:40) without a failure (`meta: end_host`, `end_play`); `when` on these tasks, or on a block of them, says for which hosts they are");
    ran.declared.clear();
    ran.unknown_plays = vec![UnknownPlay { play: "last".into(), hosts: vec!["{{ x }}".into()] }];
    insta::assert_snapshot!(verification(&ran, "askari").unwrap_err(), @"verify.yml is inconclusive: it ended before play `last`, and whether that is for this host depends on `hosts: {{ x }}`; set `ignore_errors: true` on what fails before to go on");
}

#[rstest::rstest]
#[case::nobody_notified_it("sshd", Notifier, &[], 0)]
#[case::it_was_notified("sshd", Notifier, &["handler"], 1)]
#[case::what_would_notify_it_was_not_reached("later", Notifier, &[], 1)]
#[case::an_assertion_was_not_reached("later", Assertion, &[], 2)]
#[case::an_include_was_not_reached("later", Include, &[], 2)]
#[case::a_rescue_was_not_needed("later", Rescue, &[], 0)]
fn a_handler_is_due_if_it_was_notified_or_may_have_been(
    #[case] name: &str,
    #[case] kind: DeclaredKind,
    #[case] notified: &[&str],
    #[case] expected: usize,
) {
    let mut ran = report(&[("ports", TaskStatus::Failed, true), ("sshd", TaskStatus::Ok, true)]);
    ran.declared =
        vec![declared(Handler, "handler", 50), declared(Assertion, "ports", 5), declared(kind, name, 9)];
    ran.notified = notified.iter().map(|it| (*it).to_owned()).collect();
    let missing = verification(&ran, "askari").unwrap().gaps.into_iter().map(|gap| match gap {
        Gap::NotReached(names) => names.len(),
        other => panic!("{other}"),
    });
    assert_eq!(missing.sum::<usize>(), expected);
}

#[test]
fn the_rest_of_an_included_file_after_a_failure_is_unknown() {
    let mut ran = report(&[("ports", TaskStatus::Failed, true)]);
    assert!(gaps(&verification(&ran, "askari").unwrap()).contains("the rest of the file after `ports`"));
    ran.declared = vec![declared(Rescue, "ports", 5)];
    assert_eq!(verification(&ran, "askari").unwrap().gaps, []);
    ran.declared.clear();
    ran.tasks[0].ignored = true;
    assert_eq!(verification(&ran, "askari").unwrap().gaps, []);
    ran.evidence[0].rescued = true;
    assert_eq!(verification(&ran, "askari").unwrap().gaps.len(), 1, "its block ended there");
}

#[test]
fn two_tasks_of_one_name_are_two_assertions() {
    let mut ran = report(&[("ports", TaskStatus::Ok, true), ("ports", TaskStatus::Skipped, true)]);
    ran.tasks[1].path = "harness/verify/askari.yml:9".into();
    let found = verification(&ran, "askari").unwrap();
    assert_eq!(shown(&found), [("ports", Passed, None), ("ports", Skipped, Some("ports said"))]);
    // On one line too, reached or not.
    let mut ran = report(&[("ports", TaskStatus::Failed, true), ("ports", TaskStatus::Ok, true)]);
    ran.evidence.iter_mut().zip([7, 40]).for_each(|(it, column)| it.column = Some(column));
    let other =
        |column| Declared { uuid: "x".into(), column: Some(column), ..declared(Assertion, "ports", 5) };
    ran.declared = vec![other(80), other(40)];
    let found = verification(&ran, "askari").unwrap();
    let statuses: Vec<_> = found.assertions.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [Failed, Passed, Skipped]);
}

#[rstest::rstest]
#[case([TaskStatus::Ok, TaskStatus::Failed], Failed)]
#[case([TaskStatus::Failed, TaskStatus::Ok], Failed)]
#[case([TaskStatus::Skipped, TaskStatus::Ok], Passed)]
#[case([TaskStatus::Ok, TaskStatus::Skipped], Passed)]
fn results_of_one_task_are_merged_into_one_assertion(
    #[case] statuses: [TaskStatus; 2],
    #[case] joined: AssertionStatus,
) {
    let found = verification(&report(&statuses.map(|status| ("ports", status, true))), "askari").unwrap();
    assert_eq!(found.assertions.len(), 1);
    assert_eq!(found.assertions[0].status, joined);
}

#[test]
fn an_assertion_that_failed_twice_has_both_messages() {
    let mut ran = report(&[("ports", TaskStatus::Failed, true), ("ports", TaskStatus::Failed, true)]);
    ran.tasks[1].message = Some("once more".into());
    assert_eq!(
        shown(&verification(&ran, "askari").unwrap()),
        [("ports", Failed, Some("ports said\nonce more"))]
    );
    ran.tasks.iter_mut().for_each(|task| task.message = None);
    assert_eq!(shown(&verification(&ran, "askari").unwrap()), [("ports", Failed, None)]);
}

#[test]
fn the_first_of_several_gaps_is_shown_with_how_many_there_are() {
    let tasks = ["one", "two", "three"].map(|name| (name, TaskStatus::Failed, false));
    let error = verification(&report(&tasks), "askari").unwrap_err().to_string();
    assert!(error.contains("task `one`") && error.contains(" (and 2 more)"), "{error}");
}
