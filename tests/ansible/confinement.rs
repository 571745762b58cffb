//! With a real Ansible no task reaches a host other than the VM, and no task meant for the VM runs elsewhere.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use boma_it::outcome::TaskResult;
use boma_it::site::{Phase, PlaybookError};
use serde_json::json;

use crate::fixture::AnsibleVersion::{self, Newest, Oldest, Shipped};
use crate::fixture::{SITE, TestSite};
use crate::sshd::Sshd;

/// A host other than the VM, which notices every attempt to connect.
struct OtherHost(TcpListener);

impl OtherHost {
    const ADDRESS: &str = "127.0.0.2";

    fn listen() -> Self {
        let listener = TcpListener::bind((Self::ADDRESS, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    #[track_caller]
    fn assert_never_reached(&self) {
        assert_eq!(self.0.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it was reached");
    }
}

/// The task that was refused, and what it wanted to reach.
#[track_caller]
fn refused(site: &TestSite) -> (Box<TaskResult>, String) {
    match site.run(Phase::Apply).0.unwrap_err() {
        PlaybookError::OutOfScope { task, wanted } => (task, wanted),
        other => panic!("{other}"),
    }
}

#[rstest::rstest]
fn ssh_to_another_host_is_refused_whatever_a_task_says(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
    #[values(
        "delegate_to: 127.0.0.2\n  vars: {ansible_port: PORT}",
        "delegate_to: ubongo\n  vars: {ansible_host: 127.0.0.2, ansible_port: PORT, ansible_ssh_common_args: '-F none', ansible_ssh_args: '', ansible_ssh_executable: /usr/bin/ssh, ansible_host_key_checking: false}"
    )]
    delegation: &str,
) {
    let sshd = Sshd::start();
    let other = OtherHost::listen();
    let delegation = delegation.replace("PORT", &other.port().to_string());
    let tasks = format!("- name: stray\n  ansible.builtin.command: 'true'\n  {delegation}\n");
    let files = [("site/roles/base/tasks/main.yml", tasks.as_str())];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    assert_eq!(refused(&site.reached_by(&sshd)).1, OtherHost::ADDRESS);
    other.assert_never_reached();
}

/// A loop variable wins over the extra variables that pin all of this.
#[rstest::rstest]
#[case("ansible_ssh_args", "-F none", "ssh with the option -F none")]
#[case("ansible_ssh_args", "-o ProxyCommand=none", "ssh with the option ProxyCommand=none")]
#[case("ansible_ssh_args", "-oProxyCommand=none", "ssh with the option -oProxyCommand=none")]
#[case("ansible_ssh_common_args", "-J 127.0.0.2", "ssh with the option -J")]
#[case("ansible_ssh_common_args", "-S /tmp/other", "ssh with the option -S")]
#[case("ansible_ssh_extra_args", "-o HostName=127.0.0.2", "ssh with the option HostName=127.0.0.2")]
#[case("ansible_ssh_extra_args", "203.0.113.7", "ssh to 203.0.113.7")]
#[case("ansible_ssh_executable", "/usr/bin/ssh", "the program /usr/bin/ssh")]
#[case("ansible_ssh_executable", "/usr/bin/env", "the program /usr/bin/env")]
#[case("ansible_control_path", "/tmp/%%h", "ssh with the option ControlPath=/tmp/%h")]
#[case("ansible_control_path", "%(directory)s/../%%h", "ssh with the option ControlPath=[sockets]/../%h")]
#[case("ansible_control_path_dir", "/tmp", "ssh with the option ControlPath=/tmp/")]
#[case("ansible_ssh_host_key_checking", "no", "ssh with the option StrictHostKeyChecking=no")]
fn a_loop_variable_does_not_replace_the_arguments_of_ssh(
    #[case] name: &str,
    #[case] value: &str,
    #[case] what: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let sshd = Sshd::start();
    let other = OtherHost::listen();
    let tasks = format!(
        "- name: stray\n  ansible.builtin.command: 'true'\n  vars: {{ansible_host: 127.0.0.2, ansible_port: {}}}\n  loop: ['{value}']\n  loop_control: {{loop_var: {name}}}\n",
        other.port()
    );
    let files = [("site/roles/base/tasks/main.yml", tasks.as_str())];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let (_, wanted) = refused(&site.reached_by(&sshd));
    let (head, tail) = what.split_once("[sockets]").unwrap_or((what, ""));
    assert!(wanted.starts_with(&format!("127.0.0.2 by {head}")) && wanted.ends_with(tail), "{wanted}");
    other.assert_never_reached();
}

#[rstest::rstest]
fn an_open_control_socket_of_the_operators_is_not_used(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
    #[values("", "delegate_to: ubongo")] host: &str,
    #[values("", "loop: [SOCKET]\n  loop_control: {loop_var: ansible_control_path}")] looped: &str,
) {
    let sshd = Sshd::start();
    let other = OtherHost::listen();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("master");
    let master = UnixListener::bind(&socket).unwrap();
    master.set_nonblocking(true).unwrap();
    let tasks = format!(
        "- name: stray\n  ansible.builtin.command: 'true'\n  {host}\n  vars: {{ansible_host: 127.0.0.2, ansible_port: {}, ansible_control_path: SOCKET}}\n  {looped}\n",
        other.port()
    );
    let tasks = tasks.replace("SOCKET", socket.to_str().unwrap());
    let files = [("site/roles/base/tasks/main.yml", tasks.as_str())];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    assert!(refused(&site.reached_by(&sshd)).1.starts_with(OtherHost::ADDRESS));
    assert_eq!(master.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the socket was used");
    other.assert_never_reached();
}

#[test]
fn a_task_that_starts_ssh_itself_reaches_no_other_host() {
    let sshd = Sshd::start();
    let other = OtherHost::listen();
    let tasks = format!(
        "- name: by hand\n  ansible.builtin.command: ssh -o BatchMode=yes -p {} 127.0.0.2 true\n  delegate_to: localhost\n",
        other.port()
    );
    let site = TestSite::new(&[("site/roles/base/tasks/main.yml", &tasks)]).reached_by(&sshd);
    match site.run(Phase::Apply).0.unwrap_err() {
        PlaybookError::TaskFailed(task) => {
            // The client quotes our whole refusal, at the end of its own words.
            let message = task.message.unwrap();
            let refusal = "'SSH-boma-it: refused to reach 127.0.0.2 (only the VM of askari is in scope)'";
            assert!(message.ends_with(refusal), "{message}");
        }
        other => panic!("{other}"),
    }
    other.assert_never_reached();
}

#[test]
fn variables_beside_the_playbook_are_used_and_do_not_redirect_the_run() {
    let sshd = Sshd::start();
    let tasks = "- name: show\n  ansible.builtin.debug: {msg: '{{ where }}'}\n\
                 - name: over ssh\n  ansible.builtin.command: sh -c 'test -n \"$SSH_CONNECTION\"'\n";
    let vars = "ansible_connection: local\nansible_host: 203.0.113.10\nwhere: playbook/host\n";
    let files = [("site/roles/base/tasks/main.yml", tasks), ("site/host_vars/askari.yml", vars)];
    let site = TestSite::new(&files).reached_by(&sshd);
    let report = site.run(Phase::Apply).0.unwrap();
    assert_eq!(report.tasks[0].message.as_deref(), Some("playbook/host"));
}

#[rstest::rstest]
#[case::keyword("paramiko", "connection: paramiko")]
#[case::full_name(
    "ansible.builtin.paramiko_ssh",
    "connection: ansible.builtin.paramiko_ssh\n  ignore_unreachable: true"
)]
#[case::variable("winrm", "vars: {ansible_connection: winrm}\n  ignore_errors: true")]
#[case::plugin_of_the_site("mine", "connection: mine")]
#[case::looped("paramiko", "connection: paramiko\n  loop: [1, 2]\n  ignore_errors: true")]
fn every_connection_plugin_but_ssh_is_refused(
    #[case] plugin: &str,
    #[case] keywords: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let other = OtherHost::listen();
    let tasks = format!(
        "- name: stray\n  ansible.builtin.command: 'true'\n  delegate_to: 127.0.0.2\n  {keywords}\n- name: next\n  ansible.builtin.debug: {{}}\n"
    );
    let files = [
        ("site/roles/base/tasks/main.yml", tasks.as_str()),
        ("site/roles/base/vars/main.yml", &format!("ansible_port: {}\n", other.port())),
        (
            "site/connection_plugins/mine.py",
            "from ansible.plugins.connection.local import DOCUMENTATION, Connection as Local\nclass Connection(Local):\n    transport = 'mine'\n",
        ),
    ];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let (task, wanted) = refused(&site);
    assert_eq!(task.task, "base : stray");
    assert_eq!(wanted, format!("127.0.0.2 by connection plugin {plugin}"));
    other.assert_never_reached();
}

#[rstest::rstest]
#[case::task("vars: {ansible_connection: local}", "", "askari")]
#[case::role("", "ansible_connection: local\n", "askari")]
#[case::another_address("", "ansible_connection: local\nansible_host: localhost\n", "askari")]
#[case::another_address_of_a_task("vars: {ansible_connection: local, ansible_host: 127.0.0.1}", "", "askari")]
#[case::loop_variable(
    "loop: [local]\n  loop_control: {loop_var: ansible_connection}\n  vars: {ansible_host: '::1'}",
    "",
    "askari"
)]
#[case::delegated_elsewhere(
    "delegate_to: ubongo\n  vars: {ansible_connection: local, ansible_host: localhost}",
    "",
    "ubongo"
)]
#[case::pretended("delegate_to: ubongo\n  vars: {ansible_connection: local}", "", "ubongo")]
fn a_task_for_the_host_never_runs_on_this_machine(
    #[case] keywords: &str,
    #[case] vars: &str,
    #[case] host: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let tasks = format!("- name: stray\n  ansible.builtin.command: touch {}\n  {keywords}\n", mark.display());
    let files = [("site/roles/base/tasks/main.yml", tasks.as_str()), ("site/roles/base/vars/main.yml", vars)];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let (task, wanted) = refused(&site);
    assert!(!mark.exists(), "it ran here");
    assert_eq!(task.task, "base : stray");
    let expected = format!(
        "this machine as if it were {host}, by connection plugin local (use `delegate_to: localhost`)"
    );
    assert_eq!(wanted, expected);
}

#[rstest::rstest]
fn a_play_with_a_local_connection_reaches_the_vm(#[values(Oldest, Shipped, Newest)] version: AnsibleVersion) {
    let sshd = Sshd::start();
    let task = "ansible.builtin.command: sh -c 'test -n \"$SSH_CONNECTION\"'";
    let tasks =
        format!("- name: in the play\n  {task}\n- name: with its own\n  {task}\n  connection: local\n");
    let playbook = SITE.iter().find(|(name, _)| *name == "site/site.yml").unwrap().1;
    let playbook = playbook.replace("hosts: edge", "hosts: edge\n  connection: local");
    let files = [("site/roles/base/tasks/main.yml", tasks.as_str()), ("site/site.yml", &playbook)];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    assert_eq!(site.reached_by(&sshd).run(Phase::Apply).0.unwrap().ok, 2);
}

#[rstest::rstest]
fn a_task_delegated_to_localhost_runs_on_this_machine(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let dir = tempfile::tempdir().unwrap();
    let touch = |name: &str| format!("ansible.builtin.command: touch {}", dir.path().join(name).display());
    let touch_here = format!("ansible.builtin.command touch {}", dir.path().join("c").display());
    let tasks = format!(
        "- name: by name\n  {}\n  delegate_to: localhost\n\
         - name: by address\n  {}\n  delegate_to: 127.0.0.1\n  vars: {{ansible_connection: local}}\n\
         - name: as an action\n  local_action: {touch_here}\n",
        touch("a"),
        touch("b"),
    );
    let files = [("site/roles/base/tasks/main.yml", tasks.as_str())];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    assert_eq!(site.run(Phase::Apply).0.unwrap().ok, 3);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_vm_with_another_host_key_or_without_an_answer_is_unreachable() {
    let sshd = Sshd::start();
    let tasks = "- name: first\n  ansible.builtin.command: 'true'\n";
    let mut site = TestSite::new(&[("site/roles/base/tasks/main.yml", tasks)]).reached_by(&sshd);
    site.access.host_key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2xTzHqAVAMw4IfyB3mAgZ1oQ1PA8GJ0K6xPrB0gqpE".into();
    let assert_unreachable = |site: &TestSite, reason: &str| match site.run(Phase::Apply).0.unwrap_err() {
        PlaybookError::Unreachable(task) => {
            assert_eq!(task.task, "base : first");
            // If ssh gives up while Ansible still sends the module, Ansible reports that instead.
            let message = task.message.unwrap();
            let reasons = [reason, "Data could not be sent to remote host"];
            assert!(reasons.iter().any(|reason| message.contains(reason)), "{message}");
        }
        other => panic!("{other}"),
    };
    assert_unreachable(&site, "Host key verification failed");
    site.access.port = 1;
    assert_unreachable(&site, "Connection refused");
}

#[test]
fn a_play_for_localhost_does_not_run() {
    let playbook = "- hosts: localhost\n  tasks: [{name: never, file: {path: '{{ dest }}', state: touch}}]\n- hosts: edge\n  gather_facts: false\n  roles: [{role: base, tags: [base, always]}]\n";
    let mut site = TestSite::new(&[("site/site.yml", playbook)]);
    let dest = site.dir.path().join("touched");
    site.plan.vars = [("dest".into(), json!(dest))].into();
    site.plan.roles.clear();
    let report = site.run(Phase::Apply).0.unwrap();
    assert_eq!(report.tasks.iter().map(|task| task.task.as_str()).collect::<Vec<_>>(), ["base : say"]);
    assert!(!dest.exists());
}
