//! What a real Ansible does with what we give it.

use std::fs;
use std::net::TcpListener;
use std::time::Instant;

use boma_it::outcome::{AssertionStatus, TaskStatus};
use boma_it::site::{Phase, PlaybookError, TaskEvent, VerificationError, verification};
use serde_json::json;

use crate::sshd::Sshd;
use crate::world::{SITE, World};

#[test]
fn a_site_in_order_is_found_so_with_two_starts_of_ansible() {
    let world = World::new(&[]);
    let started = Instant::now();
    let checked = world.check("askari").unwrap();
    println!("check took {:?}", started.elapsed());
    assert!(checked.ansible.starts_with("2."), "{}", checked.ansible);
    assert_eq!(checked.entry.dropped, ["ansible_host", "ansible_ssh_common_args"]);
    // Group variables beside the playbook win over those beside the inventory, as in production.
    assert_eq!(checked.entry.vars["where"], "playbook/edge");
    assert_eq!(checked.entry.vars["url"], "https://{{ inventory_hostname }}/");
}

#[rstest::rstest]
#[case::host("askary", &[], "in the inventory ./site/production: host `askary` is not in the inventory (did you mean `askari`?); it has `askari`, `ubongo`")]
#[case::no_play("ubongo", &[], "no play of ./site/site.yml is for host `ubongo`; its plays are `edge hosts`")]
#[case::role("askari", &[("site/site.yml", "- hosts: edge\n  roles: [{role: base, tags: [bases]}]\n")], "role `base` of the profile is no tag in ./site/site.yml, in a play for host `askari` (did you mean `bases`?); the tags there are `bases`")]
#[case::verify("askari", &[("harness/verify.yml", "- hosts: ops\n  tasks: []\n")], "no play of ./harness/verify.yml is for host `askari`; its plays are `ops`")]
#[case::overrides("askari", &[("overrides/askari.yml", "- a\n")], "./overrides/askari.yml: expected a mapping of Ansible variables, as `name: value`")]
#[case::redirect("askari", &[("overrides/askari.yml", "a: !vault x\nansible_host: 203.0.113.5\n")], "./overrides/askari.yml: `ansible_host` is the harness's to set: it says what the run reaches or is; remove it")]
fn a_site_out_of_order_is_refused(
    #[case] host: &str,
    #[case] files: &[(&str, &str)],
    #[case] expected: &str,
) {
    assert_eq!(World::new(files).refusal(host), expected);
}

#[rstest::rstest]
#[case::yaml(&[("site/site.yml", "- hosts: edge\n  tasks:\n    - debug: {msg: \"a\"\n")], "site/site.yml:4:1")]
#[case::module(&[("site/roles/base/tasks/main.yml", "- name: x\n  no_such_module: {}\n")], "site/roles/base/tasks/main.yml:1:3")]
#[case::role(&[("site/site.yml", "- hosts: edge\n  roles: [nowhere]\n")], "site/site.yml:2:11")]
#[case::verify(&[("harness/verify.yml", "- hosts: all\n  tasks: {}\n  tusks: []\n")], "harness/verify.yml:3:3")]
#[case::missing_override_var_file(&[("site/site.yml", "- hosts: edge\n  tasks:\n    - import_tasks: none.yml\n")], "none.yml")]
fn a_broken_playbook_is_told_with_its_place(#[case] files: &[(&str, &str)], #[case] place: &str) {
    let refusal = World::new(files).refusal("askari");
    assert!(refusal.starts_with("the playbook cannot be loaded\n  [ERROR]: "), "{refusal}");
    assert!(refusal.contains(place), "{refusal}");
}

#[test]
fn a_broken_inventory_is_told_with_its_place() {
    let refusal = World::new(&[("site/production/hosts.yml", "all: {hosts: [\n")]).refusal("askari");
    assert!(refusal.starts_with("cannot read the inventory ./site/production\n"), "{refusal}");
    assert!(refusal.contains("site/production/hosts.yml:2:1"), "{refusal}");
}

#[test]
fn the_vm_gets_productions_variables_the_override_the_scenario_and_ours_in_that_order() {
    let sshd = Sshd::start();
    let tasks = "- name: show\n  ansible.builtin.debug:\n    msg: '{{ url }} {{ where }} {{ ports }} {{ over }} {{ scene }} {{ boma_it_phase }} {{ groups }} {{ group_names }} {{ raw }}'\n\
                 - name: a file arrives\n  ansible.builtin.copy: {content: '{{ boma_it_address }}', dest: '{{ dest }}', mode: '0600'}\n";
    let mut world = World::new(&[
        ("site/roles/base/tasks/main.yml", tasks),
        ("overrides/askari.yml", "over: override\nscene: override\n"),
    ]);
    let dest = world.dir.path().join("arrived");
    world.plan.vars = [("scene".into(), json!("scenario")), ("dest".into(), json!(dest))].into();
    world.target = sshd.target();
    let (report, events) = world.run(Phase::Apply);
    let report = report.unwrap();
    assert_eq!(
        report.tasks[0].message.as_deref(),
        Some(
            "https://askari/ playbook/edge 22:22 override scenario apply {'all': ['askari'], 'ungrouped': [], 'debian': ['askari'], 'edge': ['askari'], 'ops': []} ['debian', 'edge'] {{ raw }}"
        )
    );
    assert_eq!(fs::read_to_string(dest).unwrap(), "127.0.0.1");
    assert_eq!((report.ok, report.changed, report.failed), (2, 1, 0));
    let site = world.dir.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(report.tasks[0].path.trim_start_matches(site), "site/roles/base/tasks/main.yml:1");
    assert_eq!(events.len(), 4);
    assert_eq!(events[2], TaskEvent::Started { task: "base : a file arrives".into() });
    let log = fs::read_to_string(world.folder().join("apply.log")).unwrap();
    assert!(log.contains("TASK [base : a file arrives]") && !log.contains("WARNING"), "{log}");
    // Nothing of SSH's outlives the run: a master would hold its connection for a minute. Its title is its socket.
    let vars: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(world.folder().join("apply.vars.json")).unwrap()).unwrap();
    let control = vars["ansible_control_path_dir"].as_str().unwrap();
    let titles = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    let mut titles = titles.filter_map(|path| fs::read_to_string(path).ok());
    assert_eq!(titles.find(|title| title.contains(control)), None);
}

#[test]
fn no_other_host_is_ever_reached_whatever_a_task_says() {
    let sshd = Sshd::start();
    // Stands for a real host: it would hear any attempt.
    let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let ways = [
        format!("delegate_to: 127.0.0.2\n  vars: {{ansible_port: {port}}}"),
        format!(
            "delegate_to: ubongo\n  vars: {{ansible_host: 127.0.0.2, ansible_port: {port}, ansible_ssh_common_args: '-F none', ansible_ssh_args: '', ansible_ssh_executable: /usr/bin/ssh, ansible_host_key_checking: false}}"
        ),
    ];
    for way in ways {
        let tasks = format!("- name: stray\n  ansible.builtin.command: 'true'\n  {way}\n");
        let mut world = World::new(&[("site/roles/base/tasks/main.yml", &tasks)]);
        world.target = sshd.target();
        let error = world.run(Phase::Apply).0.unwrap_err();
        assert!(matches!(error, PlaybookError::OutOfScope { .. }), "{error}");
        assert!(error.to_string().contains("wanted to reach `127.0.0.2`, and only the VM"), "{error}");
    }
    let by_hand = format!(
        "- name: by hand\n  ansible.builtin.command: ssh -o BatchMode=yes -p {port} 127.0.0.2 true\n  delegate_to: localhost\n"
    );
    let mut world = World::new(&[("site/roles/base/tasks/main.yml", &by_hand)]);
    world.target = sshd.target();
    let error = world.run(Phase::Apply).0.unwrap_err();
    assert!(matches!(error, PlaybookError::TaskFailed { .. }), "{error}");
    assert!(error.to_string().contains("boma-it: refused to reach 127.0.0.2"), "{error}");
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "a host was reached");
}

#[test]
fn what_lies_beside_the_playbook_is_known_and_does_not_redirect_the_run() {
    let sshd = Sshd::start();
    let tasks = "- name: show\n  ansible.builtin.debug: {msg: '{{ where }}'}\n\
                 - name: over ssh\n  ansible.builtin.command: sh -c 'test -n \"$SSH_CONNECTION\"'\n";
    let vars = "ansible_connection: local\nansible_host: 203.0.113.10\nwhere: playbook/host\n";
    let mut world =
        World::new(&[("site/roles/base/tasks/main.yml", tasks), ("site/host_vars/askari.yml", vars)]);
    world.target = sshd.target();
    let report = world.run(Phase::Apply).0.unwrap();
    assert_eq!(report.tasks[0].message.as_deref(), Some("playbook/host"));
}

#[rstest::rstest]
#[case::keyword("paramiko", "connection: paramiko")]
#[case::full_name(
    "ansible.builtin.paramiko_ssh",
    "connection: ansible.builtin.paramiko_ssh\n  ignore_unreachable: true"
)]
#[case::variable("winrm", "vars: {ansible_connection: winrm}\n  ignore_errors: true")]
#[case::own("mine", "connection: mine")]
#[case::looped("paramiko", "connection: paramiko\n  loop: [1, 2]\n  ignore_errors: true")]
fn no_connection_but_ssh_is_ever_made_to_another_machine(#[case] plugin: &str, #[case] way: &str) {
    let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let tasks = format!(
        "- name: stray\n  ansible.builtin.command: 'true'\n  delegate_to: 127.0.0.2\n  {way}\n- name: next\n  ansible.builtin.debug: {{}}\n"
    );
    let world = World::new(&[
        ("site/roles/base/tasks/main.yml", &tasks),
        ("site/roles/base/vars/main.yml", &format!("ansible_port: {port}\n")),
        (
            "site/connection_plugins/mine.py",
            "from ansible.plugins.connection.local import DOCUMENTATION, Connection as Local\nclass Connection(Local):\n    transport = 'mine'\n",
        ),
    ]);
    let error = world.run(Phase::Apply).0.unwrap_err();
    assert!(matches!(error, PlaybookError::OutOfScope { .. }), "{error}");
    let error = error.to_string();
    assert!(error.starts_with("task `base : stray`"), "{error}");
    assert!(error.contains(&format!("wanted to reach `127.0.0.2 by connection plugin {plugin}`")), "{error}");
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "a host was reached");
}

#[rstest::rstest]
#[case::task("vars: {ansible_connection: local}", "")]
#[case::role("", "ansible_connection: local\n")]
#[case::pretended("delegate_to: ubongo\n  vars: {ansible_connection: local}", "")]
fn what_is_for_the_host_is_never_done_to_this_machine(#[case] way: &str, #[case] vars: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let tasks = format!("- name: stray\n  ansible.builtin.command: touch {}\n  {way}\n", mark.display());
    let files = [("site/roles/base/tasks/main.yml", tasks.as_str()), ("site/roles/base/vars/main.yml", vars)];
    let world = World::new(&files);
    let error = world.run(Phase::Apply).0.unwrap_err();
    assert!(matches!(error, PlaybookError::OutOfScope { .. }), "{error}");
    assert!(!mark.exists(), "it was done here");
    let error = error.to_string();
    assert!(error.starts_with("task `base : stray`"), "{error}");
    assert!(error.contains("wanted to reach `this machine as if it were "), "{error}");
}

#[test]
fn a_playbook_that_is_written_for_the_host_itself_goes_to_the_vm() {
    let sshd = Sshd::start();
    let task = "ansible.builtin.command: sh -c 'test -n \"$SSH_CONNECTION\"'";
    let tasks = format!("- name: of the play\n  {task}\n- name: of its own\n  {task}\n  connection: local\n");
    let playbook = SITE.iter().find(|(name, _)| *name == "site/site.yml").unwrap().1;
    let playbook = playbook.replace("hosts: edge", "hosts: edge\n  connection: local");
    let mut world = World::new(&[("site/roles/base/tasks/main.yml", &tasks), ("site/site.yml", &playbook)]);
    world.target = sshd.target();
    assert_eq!(world.run(Phase::Apply).0.unwrap().ok, 2);
}

#[test]
fn what_is_delegated_to_this_machine_is_done_here() {
    let dir = tempfile::tempdir().unwrap();
    let ways =
        ["delegate_to: localhost", "delegate_to: 127.0.0.1\n  vars: {ansible_connection: local}", "local"];
    let task = |(index, way): (usize, &str)| {
        let mark = dir.path().join(index.to_string());
        match way {
            "local" => {
                format!("- name: it\n  local_action: ansible.builtin.command touch {}\n", mark.display())
            }
            way => format!("- name: it\n  ansible.builtin.command: touch {}\n  {way}\n", mark.display()),
        }
    };
    let tasks: String = ways.into_iter().enumerate().map(task).collect();
    let report = World::new(&[("site/roles/base/tasks/main.yml", &tasks)]).run(Phase::Apply).0.unwrap();
    assert_eq!(report.ok, 3);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_failure_is_not_taken_for_rescued_as_an_always_section_rescues_one_of_its_own() {
    let tasks = "- block:
    - name: first
      ansible.builtin.command: 'false'
      delegate_to: localhost
  always:
    - block:
        - name: second
          ansible.builtin.command: 'false'
          delegate_to: localhost
      rescue:
        - name: mended
          ansible.builtin.debug: {}
";
    let error = World::new(&[("site/roles/base/tasks/main.yml", tasks)]).error(Phase::Apply);
    assert!(error.starts_with("task `base : first`"), "{error}");
}

#[test]
fn a_vm_with_another_host_key_is_not_trusted_and_one_that_does_not_answer_is_unreachable() {
    let sshd = Sshd::start();
    let tasks = "- name: first\n  ansible.builtin.command: 'true'\n";
    let mut world = World::new(&[("site/roles/base/tasks/main.yml", tasks)]);
    world.target = sshd.target();
    world.target.host_key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2xTzHqAVAMw4IfyB3mAgZ1oQ1PA8GJ0K6xPrB0gqpE".into();
    let error = world.error(Phase::Apply);
    assert!(error.starts_with("the VM was unreachable at task `base : first`"), "{error}");
    // Ansible may still be handing over the module when ssh gives up: then that is what it has to say.
    let said = ["Host key verification failed", "Data could not be sent to remote host"];
    assert!(said.iter().any(|words| error.contains(words)), "{error}");
    world.target.port = 1;
    let error = world.error(Phase::Apply);
    assert!(error.contains("Connection refused"), "{error}");
}

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

#[test]
fn a_play_of_this_machines_own_is_not_run() {
    let site = "- hosts: localhost\n  tasks: [{name: never, file: {path: '{{ dest }}', state: touch}}]\n- hosts: edge\n  gather_facts: false\n  roles: [{role: base, tags: [base, always]}]\n";
    let mut world = World::new(&[("site/site.yml", site)]);
    let dest = world.dir.path().join("touched");
    world.plan.vars = [("dest".into(), json!(dest))].into();
    world.plan.roles.clear();
    let report = world.run(Phase::Apply).0.unwrap();
    assert_eq!(report.tasks.iter().map(|task| task.task.as_str()).collect::<Vec<_>>(), ["base : say"]);
    assert!(!dest.exists());
}

#[test]
fn a_vaulted_value_stays_vaulted_and_what_lies_beside_the_inventory_is_found() {
    let vaulted = "token: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n";
    let tasks = "- name: where\n  ansible.builtin.debug: {msg: '{{ inventory_dir }}'}\n";
    let world = World::new(&[
        ("site/production/host_vars/askari.yml", vaulted),
        ("site/roles/base/tasks/main.yml", tasks),
    ]);
    let report = world.run(Phase::Apply).0.unwrap();
    assert_eq!(report.tasks[0].message.as_deref(), world.plan.inventory.to_str());
    let inventory = fs::read_to_string(world.folder().join("inventory.json")).unwrap();
    assert!(inventory.contains(r#""__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162\n""#), "{inventory}");
    assert!(!inventory.contains("203.0.113.5"), "{inventory}");
}
