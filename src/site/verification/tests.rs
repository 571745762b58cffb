use super::*;
use crate::site::record::{Declared, DeclaredKind};

fn task(name: &str, status: TaskStatus, assertion: bool) -> TaskResult {
    TaskResult {
        play: "verify".into(),
        task: name.into(),
        path: format!("harness/verify.yml:{}", name.len()),
        action: "assert".into(),
        host: "askari".into(),
        status,
        changed: false,
        ignored: false,
        assertion,
        seconds: 0.1,
        message: Some(format!("{name} said")),
    }
}

fn report(tasks: impl IntoIterator<Item = TaskResult>) -> PlaybookReport {
    PlaybookReport { tasks: tasks.into_iter().collect(), ..PlaybookReport::default() }
}

fn shown(found: &Verification) -> Vec<(&str, AssertionStatus, Option<&str>)> {
    found.assertions.iter().map(|a| (a.name.as_str(), a.status, a.message.as_deref())).collect()
}

fn declared(kind: DeclaredKind, name: &str, line: usize) -> Declared {
    Declared { kind, task: name.into(), path: format!("harness/verify.yml:{line}") }
}

use AssertionStatus::{Failed, Passed, Skipped};
use DeclaredKind::{Assertion, Include, Rescue};

#[test]
fn an_ignored_failure_of_an_assertion_is_a_failure_and_later_assertions_are_listed() {
    let mut ignored = task("ports", TaskStatus::Failed, true);
    ignored.ignored = true;
    let tasks = [task("find out", TaskStatus::Ok, false), ignored, task("sshd", TaskStatus::Ok, true)];
    let found = verification(&report(tasks), "askari").unwrap();
    assert_eq!(shown(&found), [("ports", Failed, Some("ports said")), ("sshd", Passed, None)]);
}

#[test]
fn a_failed_task_that_asserts_nothing_is_inconclusive() {
    let tasks = [task("sshd", TaskStatus::Ok, true), task("find out", TaskStatus::Failed, false)];
    insta::assert_snapshot!(verification(&report(tasks.clone()), "askari").unwrap_err(), @"verify.yml is inconclusive: task `find out` (harness/verify.yml:8) failed, and it is not an assertion: find out said");
    let mut survived = tasks.clone();
    survived[1].ignored = true;
    assert_eq!(verification(&report(survived), "askari").unwrap().inconclusive, None);
    let [_, failed] = tasks;
    let found = verification(&report([task("sshd", TaskStatus::Failed, true), failed]), "askari").unwrap();
    assert_eq!(found.inconclusive.unwrap().task, "find out");
}

#[test]
fn an_assertion_that_cannot_be_evaluated_is_inconclusive_even_if_ignored() {
    let mut undefined = task("ports", TaskStatus::Failed, true);
    undefined.ignored = true;
    let ran = |first| PlaybookReport { unevaluated: vec![1], ..report([first, undefined.clone()]) };
    let error = verification(&ran(task("sshd", TaskStatus::Ok, true)), "askari").unwrap_err();
    insta::assert_snapshot!(error, @"verify.yml is inconclusive: task `ports` (harness/verify.yml:5) failed, and it could not be evaluated: ports said");
    let found = verification(&ran(task("sshd", TaskStatus::Failed, true)), "askari").unwrap();
    assert_eq!(shown(&found), [("sshd", Failed, Some("sshd said")), ("ports", Skipped, Some("ports said"))]);
    assert_eq!(found.inconclusive.unwrap().task, "ports");
}

#[test]
fn no_assertion_and_only_skipped_assertions_are_errors() {
    let none = verification(&report([task("find out", TaskStatus::Ok, false)]), "askari").unwrap_err();
    assert_eq!(none, VerificationError::NoAssertions { host: "askari".into() });
    let skipped = verification(&report([task("sshd", TaskStatus::Skipped, true)]), "askari").unwrap_err();
    assert_eq!(skipped, VerificationError::AllSkipped { host: "askari".into(), count: 1 });
}

#[test]
fn assertions_after_the_end_are_listed_as_skipped() {
    let mut ran = report([task("ports", TaskStatus::Failed, true)]);
    ran.declared =
        [(Assertion, "{{ x }}", 5), (Rescue, "mend", 30), (Include, "more", 35), (Assertion, "later", 40)]
            .map(|(kind, name, line)| declared(kind, name, line))
            .into();
    let found = verification(&ran, "askari").unwrap();
    let not_reached = Some("not reached: the playbook or its block ended earlier");
    assert_eq!(shown(&found), [("ports", Failed, Some("ports said")), ("later", Skipped, not_reached)]);
    let ahead = ["`more` (harness/verify.yml:35)", "`later` (harness/verify.yml:40)"];
    assert_eq!(found.unreached, ahead, "the playbook ended at its failure");
    ran.tasks[0].ignored = true;
    assert_eq!(verification(&ran, "askari").unwrap().unreached, Vec::<String>::new(), "it went on");
    ran.rescued = vec![0];
    assert_eq!(verification(&ran, "askari").unwrap().unreached, ahead, "its block ended there");
}

#[test]
fn the_rest_of_an_included_file_after_a_failure_is_unknown() {
    let mut ran = report([task("ports", TaskStatus::Failed, true)]);
    ran.declared = vec![declared(Include, "more", 4)];
    ran.tasks.push(task("more", TaskStatus::Ok, false));
    let found = verification(&ran, "askari").unwrap();
    assert_eq!(found.unreached, ["the rest of the file after `ports` (harness/verify.yml:5)"]);
    ran.declared.push(declared(Rescue, "ports", 5));
    assert_eq!(verification(&ran, "askari").unwrap().unreached, Vec::<String>::new());
}

#[test]
fn two_tasks_of_one_name_are_two_assertions() {
    let mut other = task("ports", TaskStatus::Skipped, true);
    other.path = "harness/verify/askari.yml:9".into();
    let found = verification(&report([task("ports", TaskStatus::Ok, true), other]), "askari").unwrap();
    assert_eq!(shown(&found), [("ports", Passed, None), ("ports", Skipped, Some("ports said"))]);
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
    let found = verification(&report(statuses.map(|status| task("ports", status, true))), "askari").unwrap();
    assert_eq!(found.assertions.len(), 1);
    assert_eq!(found.assertions[0].status, joined);
}
