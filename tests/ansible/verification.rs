//! What a real Ansible says of `verify.yml`: what is an assertion, and what is no verdict.

use std::fs;

use boma_it::outcome::{AssertionStatus, TaskStatus};
use boma_it::site::{Phase, PlaybookError, VerificationError, verification};

use crate::sshd::Sshd;
use crate::world::World;

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

#[test]
fn every_asserting_task_is_an_assertion_with_what_it_said() {
    let world = World::new(&[("harness/verify.yml", VERIFY)]);
    let (report, _) = world.run(Phase::Assert);
    let found = verification(&report.unwrap(), "askari").unwrap();
    let shown: Vec<String> = found
        .assertions
        .iter()
        .map(|a| format!("{:?} {} ({}) {}", a.status, a.name, a.path, a.message.as_deref().unwrap_or("-")))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    Failed port 22:22 is assert (harness/verify.yml:9) closed · did not hold: 1 == 2
    Failed looped (harness/verify.yml:12) 2: Assertion failed · did not hold: item < 2
    Failed secret (harness/verify.yml:16) -
    Passed tagged (harness/verify.yml:20) -
    Skipped not for this host (harness/verify.yml:25) Conditional result was False
    Passed rescued (harness/verify.yml:33) -
    Failed stop (harness/verify.yml:35) enough
    Skipped later (harness/verify.yml:37) not reached: the playbook, or a block of it, ended before it
    Skipped in a later play (harness/verify.yml:41) not reached: the playbook, or a block of it, ended before it
    ");
    assert_eq!(found.trouble, None);
    assert_eq!(found.assertions.iter().filter(|a| a.status == AssertionStatus::Failed).count(), 4);
    // Of the record only: ansible-core 2.19 prints the message of a failed action in its own output, `no_log` or not.
    let record = fs::read_to_string(world.folder().join("assert.tasks.jsonl")).unwrap();
    assert!(!record.contains("hunter2"), "{record}");
}

#[test]
fn a_task_of_verify_that_only_finds_out_and_fails_is_no_verdict() {
    let verify = "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: holds\n      assert: {that: true}\n    - name: ask\n      command: sh -c 'echo no answer >&2; exit 7'\n      delegate_to: localhost\n";
    let world = World::new(&[("harness/verify.yml", verify)]);
    let report = world.run(Phase::Before).0.unwrap();
    assert_eq!(report.tasks[1].status, TaskStatus::Failed);
    insta::assert_snapshot!(verification(&report, "askari").unwrap_err(), @r"
    could not find out: task `ask` of verify.yml (harness/verify.yml:6) failed, and it is no assertion: on localhost: non-zero return code · exit status 7
    no answer
    ");
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
fn an_assertion_that_cannot_be_evaluated_is_no_verdict_though_failures_are_ignored(#[case] task: &str) {
    let verify = format!(
        "- hosts: all\n  gather_facts: false\n  ignore_errors: true\n  tasks:\n    - name: holds\n      assert: {{that: true}}\n    - name: unknown\n      {task}\n"
    );
    let world = World::new(&[("harness/verify.yml", &verify)]);
    let error = verification(&world.run(Phase::Assert).0.unwrap(), "askari").unwrap_err().to_string();
    let said = "could not find out: task `unknown` of verify.yml (harness/verify.yml:7) failed, and it could not be evaluated: ";
    assert!(error.starts_with(said), "{error}");
}

#[rstest::rstest]
#[case::condition("include_tasks: more.yml\n      when: nowhere.answers", "nowhere")]
#[case::file("ansible.builtin.include_tasks: '{{ nowhere }}.yml'", "nowhere")]
#[case::missing("include_tasks: other.yml", "other.yml")]
#[case::role("include_role: {name: '{{ nowhere }}'}", "nowhere")]
#[case::one_of_a_loop("include_tasks: '{{ item.file }}'\n      loop: [{file: more.yml}, {}]", "file")]
fn an_include_that_fails_is_no_verdict_though_failures_are_ignored(#[case] task: &str, #[case] why: &str) {
    let verify = format!(
        "- hosts: all\n  gather_facts: false\n  ignore_errors: true\n  tasks:\n    - name: holds\n      assert: {{that: true}}\n    - name: more\n      {task}\n"
    );
    let more = "- name: not met\n  assert: {that: true}\n";
    let world = World::new(&[("harness/verify.yml", &verify), ("harness/more.yml", more)]);
    let error = verification(&world.run(Phase::Assert).0.unwrap(), "askari").unwrap_err().to_string();
    let said = "could not find out: task `more` of verify.yml (harness/verify.yml:7) failed, and it may have assertions that nobody saw: ";
    assert!(error.starts_with(said) && error.contains(why), "{error}");
}

#[rstest::rstest]
#[case::in_an_included_file("- include_tasks: a.yml", "what comes after “A” (harness/a.yml:1) in its file")]
#[case::before_an_include(
    "- {name: A, assert: {that: false}}\n    - name: B\n      include_tasks: a.yml",
    "“B” (harness/verify.yml:7)"
)]
#[case::in_a_rescued_block(
    "- block: [{name: A, assert: {that: false}}, {name: B, assert: {that: true}}]\n      rescue: [debug: {}]",
    "“B” (harness/verify.yml:6)"
)]
#[case::all_was_reached(
    "- block: [{name: A, assert: {that: false}}]\n      rescue: [{name: B, fail: {msg: no}}]",
    ""
)]
fn what_a_failed_assertion_kept_the_playbook_from_is_known(#[case] tasks: &str, #[case] unreached: &str) {
    let verify = format!(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: holds\n      assert: {{that: true}}\n    {tasks}\n"
    );
    let a = "- name: A\n  assert: {that: false}\n- name: B\n  assert: {that: true}\n";
    let world = World::new(&[("harness/verify.yml", &verify), ("harness/a.yml", a)]);
    let found = verification(&world.run(Phase::Assert).0.unwrap(), "askari").unwrap();
    assert_eq!(found.unreached.join(", "), unreached);
    assert_eq!(found.trouble, None);
}

#[test]
fn a_probe_of_the_shipped_verification_that_fails_is_no_verdict() {
    // Nothing lies beside it here, so that the probe cannot even begin.
    let world = World::new(&[("harness/verify.yml", include_str!("../../harness/verify.yml"))]);
    let error = verification(&world.run(Phase::Assert).0.unwrap(), "askari").unwrap_err().to_string();
    assert!(error.starts_with("could not find out: task `Look from inside the VM` of verify.yml"), "{error}");
}

#[test]
fn a_tag_makes_no_assertion_of_what_asserts_nothing() {
    let sshd = Sshd::start();
    let verify = "- hosts: all\n  tags: [assertion]\n  tasks:\n    - name: more\n      include_tasks: more.yml\n    - name: fact\n      set_fact: {known: 1}\n    - name: say\n      ansible.builtin.debug: {msg: x}\n";
    let more = "- name: group\n  ansible.builtin.group_by: {key: known}\n";
    let mut world = World::new(&[("harness/verify.yml", verify), ("harness/more.yml", more)]);
    world.target = sshd.target();
    let found = verification(&world.run(Phase::Assert).0.unwrap(), "askari");
    assert_eq!(found.unwrap_err(), VerificationError::NoAssertions { host: "askari".into() });
}

#[test]
fn what_was_not_reached_is_never_a_pass_though_the_playbook_ignores_it() {
    let verify = |target: &str| {
        format!(
            "- hosts: all\n  gather_facts: false\n  ignore_unreachable: true\n  tasks:\n    - name: holds\n      assert: {{that: true}}\n    - name: works\n      command: 'true'\n      tags: [assertion]\n      {target}\n"
        )
    };
    let sshd = Sshd::start();
    let run = |target: &str| {
        let mut world = World::new(&[("harness/verify.yml", &verify(target))]);
        world.target = sshd.target();
        world.target.port = 1;
        world.run(Phase::Assert).0.unwrap_err()
    };
    let error = run("changed_when: false");
    assert!(matches!(error, PlaybookError::Unreachable { .. }), "{error}");
    let error = run("delegate_to: 203.0.113.9");
    assert!(matches!(error, PlaybookError::OutOfScope { .. }), "{error}");
}
