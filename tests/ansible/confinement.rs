//! With a real Ansible nothing reaches a host but the VM, and what is for the VM is done to nothing else.

use std::fs;
use std::net::TcpListener;

use boma_it::site::{Phase, PlaybookError};
use serde_json::json;

use crate::sshd::Sshd;
use crate::world::{SITE, World};

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
fn a_vm_with_another_host_key_is_not_trusted_and_one_that_does_not_answer_is_unreachable() {
    let sshd = Sshd::start();
    let tasks = "- name: first\n  ansible.builtin.command: 'true'\n";
    let mut world = World::new(&[("site/roles/base/tasks/main.yml", tasks)]);
    world.target = sshd.target();
    world.target.host_key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2xTzHqAVAMw4IfyB3mAgZ1oQ1PA8GJ0K6xPrB0gqpE".into();
    // Ansible may still be handing over the module when ssh gives up: then that is what it has to say.
    let is_unreachable = |error: String, said: &str| {
        assert!(error.starts_with("the VM was unreachable at task `base : first`"), "{error}");
        let said = [said, "Data could not be sent to remote host"];
        assert!(said.iter().any(|words| error.contains(words)), "{error}");
    };
    is_unreachable(world.error(Phase::Apply), "Host key verification failed");
    world.target.port = 1;
    is_unreachable(world.error(Phase::Apply), "Connection refused");
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
