//! Assertions out of `verify.yml` as a real Ansible runs it, and when a verification is inconclusive.

use std::fs;

use boma_it::outcome::{AssertionStatus, TaskStatus};
use boma_it::site::{Gap, Phase, PlaybookError, Reason, Verification, VerificationError, verification};

use crate::fixture::AnsibleVersion::{self, Newest, Oldest, Shipped};
use crate::fixture::TestSite;
use crate::sshd::Sshd;

const VERIFY: &str = "
- name: for others
  hosts: ops
  tasks: [{name: not ours, assert: {that: false}}]
- name: verify
  hosts: all
  gather_facts: false
  tasks:
    - name: 'port {{ ports }} is {{ boma_it_phase }}'
      ansible.builtin.assert: {that: [1 == 1, 1 == 2], fail_msg: closed}
      ignore_errors: true
    - name: looped
      assert: {that: item < 2}
      loop: [1, 2]
      ignore_errors: true
    - name: secret
      assert: {that: false, fail_msg: hunter2}
      no_log: true
      ignore_errors: true
    - name: tagged
      ansible.builtin.command: 'true'
      delegate_to: localhost
      changed_when: false
      tags: [assertion]
    - name: not for this host
      assert: {that: true}
      when: inventory_hostname == 'ubongo'
    - block:
        - name: survived
          ansible.builtin.command: 'false'
          delegate_to: localhost
          ignore_errors: true
        - name: ends the block
          fail: {}
      rescue:
        - name: rescued
          assert: {that: true}
    - name: stop
      ansible.builtin.fail: {msg: enough}
    - name: later
      assert: {that: true}
- name: after
  hosts: all
  tasks: [{name: in a later play, assert: {that: true}}]
";

/// A playbook whose first assertion holds, and which goes on after failures.
fn after_an_assertion_that_holds(task: &str) -> String {
    format!(
        "- hosts: all\n  gather_facts: false\n  ignore_errors: true\n  tasks:\n    - name: holds\n      assert: {{that: true}}\n    - name: unknown\n      {task}\n"
    )
}

fn verify(site: &TestSite) -> Result<Verification, VerificationError> {
    verification(&site.run(Phase::Assert).0.unwrap(), "askari")
}

/// What was not reached, which must be the only gap.
#[track_caller]
fn not_reached(found: &Verification) -> Vec<&str> {
    match found.gaps.as_slice() {
        [] => Vec::new(),
        [Gap::NotReached(names)] => names.iter().map(String::as_str).collect(),
        other => panic!("{other:?}"),
    }
}

/// Why task `unknown` leaves the verification inconclusive, and its message.
#[track_caller]
fn inconclusive(site: &TestSite) -> (Reason, String) {
    match verify(site).unwrap_err() {
        VerificationError::Inconclusive { gap: Gap::Task { task, reason }, more: 0 } => {
            assert_eq!((task.task.as_str(), task.path.as_str()), ("unknown", "harness/verify.yml:7"));
            (reason, task.message.unwrap())
        }
        other => panic!("{other}"),
    }
}

#[rstest::rstest]
fn every_asserting_task_is_an_assertion_with_its_message(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let Some(site) = TestSite::with_ansible(version, &[("harness/verify.yml", VERIFY)]) else { return };
    let found = verify(&site).unwrap();
    let shown: Vec<String> = found
        .assertions
        .iter()
        .map(|a| format!("{:?} {} ({}) {}", a.status, a.name, a.path, a.message.as_deref().unwrap_or("-")))
        .collect();
    insta::allow_duplicates! { insta::assert_snapshot!(shown.join("\n"), @r"
    Failed port 22:22 is assert (harness/verify.yml:9) closed · did not hold: 1 == 2
    Failed looped (harness/verify.yml:12) 2: Assertion failed · did not hold: item < 2
    Failed secret (harness/verify.yml:16) -
    Passed tagged (harness/verify.yml:20) -
    Skipped not for this host (harness/verify.yml:25) Conditional result was False
    Failed ends the block (harness/verify.yml:33) Failed as requested from task
    Passed rescued (harness/verify.yml:36) -
    Failed stop (harness/verify.yml:38) enough
    Skipped later (harness/verify.yml:40) not reached: the playbook or its block ended earlier
    Skipped in a later play (harness/verify.yml:44) not reached: the playbook or its block ended earlier
    ") }
    assert_eq!(found.assertions.iter().filter(|a| a.status == AssertionStatus::Failed).count(), 5);
    assert_eq!(
        not_reached(&found),
        ["`later` (harness/verify.yml:40)", "`in a later play` (harness/verify.yml:44)"]
    );
    assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    // Only the record: ansible-core 2.19 prints the message of a failed action in its own output, with `no_log` too.
    let record = fs::read_to_string(site.folder().join("assert.tasks.jsonl")).unwrap();
    assert!(!record.contains("hunter2"), "{record}");
}

#[rstest::rstest]
fn a_failed_task_that_asserts_nothing_makes_the_verification_inconclusive(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: holds\n      assert: {that: true}\n    - name: ask\n      command: sh -c 'echo no answer >&2; exit 7'\n      delegate_to: localhost\n";
    let Some(site) = TestSite::with_ansible(version, &[("harness/verify.yml", playbook)]) else { return };
    let report = site.run(Phase::Before).0.unwrap();
    assert_eq!(report.tasks[1].status, TaskStatus::Failed);
    // Since 2.21 Ansible says it in a sentence.
    let error = verification(&report, "askari").unwrap_err().to_string();
    let error = error.replace("The command exited with a non-zero return code.", "non-zero return code");
    insta::allow_duplicates! { insta::assert_snapshot!(error, @r"
    verify.yml is inconclusive: task `ask` (harness/verify.yml:6): it is not an assertion, and it failed (`ignore_errors: true` on this very task makes that a note): on localhost: non-zero return code · exit status 7
    no answer
    ") }
}

#[rstest::rstest]
#[case::condition("ansible.builtin.assert: {that: nowhere.answers}")]
#[case::message("assert: {that: false, fail_msg: '{{ nowhere }}'}")]
#[case::one_of_a_loop("assert: {that: item.x == 1}\n      loop: [{x: 2}, {y: 1}]")]
#[case::items("assert: {that: false}\n      loop: '{{ nowhere }}'")]
#[case::guard_of_a_fail("fail: {msg: enough}\n      when: nowhere.answers")]
#[case::result_of_a_tagged(
    "command: 'true'\n      delegate_to: localhost\n      tags: [assertion]\n      failed_when: nowhere"
)]
fn an_assertion_that_cannot_be_evaluated_is_inconclusive_even_if_errors_are_ignored(
    #[case] task: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = after_an_assertion_that_holds(task);
    let Some(site) = TestSite::with_ansible(version, &[("harness/verify.yml", &playbook)]) else { return };
    assert_eq!(inconclusive(&site).0, Reason::NotEvaluated);
}

#[rstest::rstest]
#[case::condition("include_tasks: more.yml\n      when: nowhere.answers", "nowhere")]
#[case::file("ansible.builtin.include_tasks: '{{ nowhere }}.yml'", "nowhere")]
#[case::missing("include_tasks: other.yml", "other.yml")]
#[case::one_of_a_loop("include_tasks: '{{ item.file }}'\n      loop: [{file: more.yml}, {}]", "file")]
fn a_failed_include_is_inconclusive_even_if_errors_are_ignored(
    #[case] task: &str,
    #[case] cause: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = after_an_assertion_that_holds(task);
    let more = "- name: not met\n  assert: {that: true}\n";
    let files = [("harness/verify.yml", playbook.as_str()), ("harness/more.yml", more)];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let (reason, message) = inconclusive(&site);
    assert_eq!(reason, Reason::FailedInclude);
    assert!(message.contains(cause), "{message}");
}

/// Here the two versions differ: before 2.19 Ansible gives up without a result of the task.
#[rstest::rstest]
fn a_role_whose_name_is_undefined_is_never_a_verdict(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = after_an_assertion_that_holds("include_role: {name: '{{ nowhere }}'}");
    let Some(site) = TestSite::with_ansible(version, &[("harness/verify.yml", &playbook)]) else { return };
    match version {
        Shipped | Newest => assert_eq!(inconclusive(&site).0, Reason::FailedInclude),
        Oldest => {
            let error = site.run(Phase::Assert).0.unwrap_err();
            assert!(
                matches!(&error, PlaybookError::Died { task: Some(task), .. } if task == "unknown"),
                "{error}"
            );
        }
    }
}

#[rstest::rstest]
#[case::in_an_included_file("- include_tasks: a.yml", "`B` (harness/a.yml:3)")]
#[case::before_an_include(
    "- {name: A, assert: {that: false}}\n    - name: B\n      include_tasks: a.yml",
    "`B` (harness/verify.yml:7)"
)]
#[case::in_a_rescued_block(
    "- block: [{name: A, assert: {that: false}}, {name: B, assert: {that: true}}]\n      rescue: [debug: {}]",
    "`B` (harness/verify.yml:6)"
)]
#[case::all_was_reached(
    "- block: [{name: A, assert: {that: false}}]\n      rescue: [{name: B, fail: {msg: no}}]",
    ""
)]
fn the_tasks_that_a_failed_assertion_kept_from_running_are_listed(
    #[case] tasks: &str,
    #[case] unreached: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = format!(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: holds\n      assert: {{that: true}}\n    {tasks}\n"
    );
    let a = "- name: A\n  assert: {that: false}\n- name: B\n  assert: {that: true}\n";
    let files = [("harness/verify.yml", playbook.as_str()), ("harness/a.yml", a)];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let found = verify(&site).unwrap();
    assert_eq!(not_reached(&found).join(", "), unreached);
}

#[test]
fn a_failed_probe_of_the_shipped_verify_yml_is_inconclusive() {
    // Its files are not beside it here, so the probe cannot even start.
    let site = TestSite::new(&[("harness/verify.yml", include_str!("../../harness/verify.yml"))]);
    match verify(&site).unwrap_err() {
        VerificationError::Inconclusive { gap: Gap::Task { task, .. }, .. } => {
            assert_eq!(task.task, "Look from inside the VM");
        }
        other => panic!("{other}"),
    }
}

#[rstest::rstest]
fn the_tag_makes_no_assertion_of_a_module_that_asserts_nothing(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let sshd = Sshd::start();
    let playbook = "- hosts: all\n  tags: [assertion]\n  tasks:\n    - name: more\n      include_tasks: more.yml\n    - name: fact\n      set_fact: {known: 1}\n    - name: say\n      ansible.builtin.debug: {msg: x}\n";
    let more = "- name: group\n  ansible.builtin.group_by: {key: known}\n";
    let files = [("harness/verify.yml", playbook), ("harness/more.yml", more)];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let error = verify(&site.reached_by(&sshd)).unwrap_err();
    assert_eq!(error, VerificationError::NoAssertions { host: "askari".into() });
}

#[rstest::rstest]
#[case::the_vm("changed_when: false")]
#[case::another_host("delegate_to: 203.0.113.9")]
fn an_unreachable_host_is_never_a_pass_even_if_the_playbook_ignores_it(
    #[case] keyword: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let sshd = Sshd::start();
    let playbook = format!(
        "- hosts: all\n  gather_facts: false\n  ignore_unreachable: true\n  tasks:\n    - name: holds\n      assert: {{that: true}}\n    - name: works\n      command: 'true'\n      tags: [assertion]\n      {keyword}\n"
    );
    let Some(site) = TestSite::with_ansible(version, &[("harness/verify.yml", &playbook)]) else { return };
    let mut site = site.reached_by(&sshd);
    site.access.port = 1;
    match (site.run(Phase::Assert).0.unwrap_err(), keyword) {
        (PlaybookError::Unreachable(task), "changed_when: false") => assert_eq!(task.task, "works"),
        (PlaybookError::OutOfScope { wanted, .. }, _) => assert_eq!(wanted, "203.0.113.9"),
        (other, _) => panic!("{other}"),
    }
}
