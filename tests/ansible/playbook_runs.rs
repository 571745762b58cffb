//! A real Ansible checks a site and runs its playbook.

use std::fs;
use std::time::Duration;

use boma_it::site::{Phase, PlaybookError, TaskEvent};
use boma_it::support::deadline::{Deadline, Progress};
use serde_json::json;

use crate::fixture::AnsibleVersion::{self, Newest, Oldest, Shipped};
use crate::fixture::{TestSite, checkout};
use crate::sshd::Sshd;

#[test]
fn a_valid_site_passes_the_check() {
    let site = TestSite::new(&[]);
    let checked = site.check("askari").unwrap();
    assert!(checked.ansible.starts_with("2."), "{}", checked.ansible);
    assert_eq!(checked.entry.dropped, ["ansible_host", "ansible_ssh_common_args"]);
    // Group variables beside the playbook win over those beside the inventory, as in production.
    assert_eq!(checked.entry.vars["where"], "playbook/edge");
    assert_eq!(checked.entry.vars["url"], "https://{{ inventory_hostname }}/");
}

#[rstest::rstest]
#[case::host("askary", &[], "in the inventory ./site/production: host `askary` is not in the inventory (did you mean `askari`?); it has `askari`, `ubongo`")]
#[case::no_play("ubongo", &[], "no play of ./site/site.yml is for host `ubongo`; its plays are `edge hosts`")]
#[case::role("askari", &[("site/site.yml", "- hosts: edge\n  roles: [{role: base, tags: [bases]}]\n")], "role `base` of the profile is not a tag in ./site/site.yml, in a play for host `askari` (did you mean `bases`?); the tags there are `bases`")]
#[case::verify("askari", &[("harness/verify.yml", "- hosts: ops\n  tasks: []\n")], "no play of ./harness/verify.yml is for host `askari`; its plays are `ops`")]
#[case::overrides("askari", &[("overrides/askari.yml", "- a\n")], "./overrides/askari.yml: expected a mapping of Ansible variables, as `name: value`")]
#[case::redirect("askari", &[("overrides/askari.yml", "a: !vault x\nansible_host: 203.0.113.5\n")], "./overrides/askari.yml: only the harness sets `ansible_host`, as it says what the run is or reaches: remove it")]
fn an_invalid_site_is_refused(#[case] host: &str, #[case] files: &[(&str, &str)], #[case] expected: &str) {
    assert_eq!(TestSite::new(files).check_error(host), expected);
}

#[rstest::rstest]
#[case::yaml(&[("site/site.yml", "- hosts: edge\n  tasks:\n    - debug: {msg: \"a\"\n")], "site/site.yml:4:1")]
#[case::module(&[("site/roles/base/tasks/main.yml", "- name: x\n  no_such_module: {}\n")], "site/roles/base/tasks/main.yml:1:3")]
#[case::role(&[("site/site.yml", "- hosts: edge\n  roles: [nowhere]\n")], "site/site.yml:2:11")]
#[case::verify(&[("harness/verify.yml", "- hosts: all\n  tasks: {}\n  tusks: []\n")], "harness/verify.yml:3:3")]
#[case::missing_override_var_file(&[("site/site.yml", "- hosts: edge\n  tasks:\n    - import_tasks: none.yml\n")], "none.yml")]
fn an_error_about_a_broken_playbook_names_file_and_line(#[case] files: &[(&str, &str)], #[case] place: &str) {
    let error = TestSite::new(files).check_error("askari");
    assert!(error.starts_with("cannot load the playbook\n  [ERROR]: "), "{error}");
    assert!(error.contains(place), "{error}");
}

#[test]
fn an_error_about_a_broken_inventory_names_file_and_line() {
    let error = TestSite::new(&[("site/production/hosts.yml", "all: {hosts: [\n")]).check_error("askari");
    assert!(error.starts_with("cannot read the inventory ./site/production\n"), "{error}");
    assert!(error.contains("site/production/hosts.yml:2:1"), "{error}");
}

#[rstest::rstest]
fn variables_of_production_override_scenario_and_harness_apply_in_that_order(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let sshd = Sshd::start();
    let tasks = "- name: show\n  ansible.builtin.debug:\n    msg: '{{ url }} {{ where }} {{ ports }} {{ over }} {{ scene }} {{ boma_it_phase }} {{ groups }} {{ group_names }} {{ raw }}'\n\
                 - name: a file arrives\n  ansible.builtin.copy: {content: '{{ boma_it_address }}', dest: '{{ dest }}', mode: '0600'}\n";
    let files = [
        ("site/roles/base/tasks/main.yml", tasks),
        ("overrides/askari.yml", "over: override\nscene: override\n"),
    ];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let mut site = site.reached_by(&sshd);
    let dest = site.dir.path().join("arrived");
    site.plan.vars = [("scene".into(), json!("scenario")), ("dest".into(), json!(dest))].into();
    let (report, events) = site.run(Phase::Apply);
    let report = report.unwrap();
    assert_eq!(
        report.tasks[0].message.as_deref(),
        Some(
            "https://askari/ playbook/edge 22:22 override scenario apply {'all': ['askari'], 'ungrouped': [], 'debian': ['askari'], 'edge': ['askari'], 'ops': []} ['debian', 'edge'] {{ raw }}"
        )
    );
    assert_eq!(fs::read_to_string(dest).unwrap(), "127.0.0.1");
    assert_eq!((report.ok, report.changed, report.failed), (2, 1, 0));
    assert_eq!(report.tasks[0].path, "site/roles/base/tasks/main.yml:1");
    assert_eq!(events.len(), 4);
    assert_eq!(events[2], TaskEvent::Started { task: "base : a file arrives".into() });
    let log = fs::read_to_string(site.folder().join("apply.log")).unwrap();
    assert!(log.contains("TASK [base : a file arrives]") && !log.contains("WARNING"), "{log}");
    // No SSH master outlives the run: one that nobody ended would stay for a minute. One that was told to exit is gone soon.
    let vars: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(site.folder().join("apply.vars.json")).unwrap()).unwrap();
    let control = vars["ansible_control_path_dir"].as_str().unwrap();
    // The title of a master is its socket.
    let master = || {
        let titles = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
        let mut titles = titles.filter_map(|path| fs::read_to_string(path).ok());
        titles.find(|title| title.contains(control))
    };
    Deadline::uninterrupted(Duration::from_secs(5), "the SSH master's exit")
        .wait_for("the SSH master", Duration::from_millis(10), || {
            Ok(master().map_or(Progress::Ready(()), Progress::Pending))
        })
        .unwrap();
}

#[rstest::rstest]
fn a_rescue_in_an_always_section_does_not_rescue_the_failure_before_it(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
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
    let files = [("site/roles/base/tasks/main.yml", tasks)];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    match site.run(Phase::Apply).0.unwrap_err() {
        PlaybookError::TaskFailed(task) => assert_eq!(task.task, "base : first"),
        other => panic!("{other}"),
    }
}

#[rstest::rstest]
#[case::no_python("vars: {ansible_python_interpreter: /nonexistent/python}", "/nonexistent/python")]
#[case::a_python_that_fails("vars: {ansible_python_interpreter: /bin/false}", "")]
#[case::no_sudo(
    "become: true\n  become_user: nobody\n  vars: {ansible_become_exe: /nonexistent/sudo}",
    "/nonexistent/sudo"
)]
fn facts_that_cannot_be_gathered_end_the_apply_with_their_cause(
    #[case] broken: &str,
    #[case] cause: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let sshd = Sshd::start();
    for ignored in ["false", "true"] {
        let play = format!(
            "- name: edge hosts\n  hosts: edge\n  ignore_errors: {ignored}\n  {broken}\n  tasks: [{{meta: noop, tags: [base]}}]\n"
        );
        let Some(site) = TestSite::with_ansible(version, &[("site/site.yml", &play)]) else { return };
        let error = site.reached_by(&sshd).run_error(Phase::Apply);
        assert!(error.contains("`Gathering Facts`") && error.contains(cause), "{error}");
        assert!(!error.contains("tags select"), "{error}");
    }
}

#[test]
fn an_apply_whose_tasks_are_all_skipped_is_an_error() {
    let tasks = "- {name: one, command: 'true', when: false}\n- {name: two, command: 'true', when: nowhere is defined}\n";
    let site = TestSite::new(&[("site/roles/base/tasks/main.yml", tasks)]);
    assert_eq!(
        site.run_error(Phase::Apply),
        "all 2 tasks were skipped on host `askari`, and that never passes (first `base : one`: do its conditions hold in a run?)"
    );
}

#[test]
fn a_vaulted_value_stays_vaulted_and_inventory_dir_is_that_of_production() {
    let vaulted = "token: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n";
    let tasks = "- name: where\n  ansible.builtin.debug: {msg: '{{ inventory_dir }}'}\n";
    let site = TestSite::new(&[
        ("site/production/host_vars/askari.yml", vaulted),
        ("site/roles/base/tasks/main.yml", tasks),
    ]);
    let report = site.run(Phase::Apply).0.unwrap();
    assert_eq!(report.tasks[0].message.as_deref(), site.plan.inventory.to_str());
    let inventory = fs::read_to_string(site.folder().join("inventory.json")).unwrap();
    assert!(inventory.contains(r#""__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162\n""#), "{inventory}");
    assert!(!inventory.contains("203.0.113.5"), "{inventory}");
}

/// The private members of Ansible that the callback reads were checked for the versions that these tests run with.
#[test]
fn callback_and_document_name_the_versions_that_are_installed() {
    let pinned = |requirements: &str| {
        let text = fs::read_to_string(checkout(requirements)).unwrap();
        let (_, pin) = text.split_once("\nansible-core==").unwrap();
        pin.split_whitespace().next().unwrap().to_owned()
    };
    let files = ["requirements-oldest.txt", "requirements.txt", "requirements-newest.txt"];
    let pins = files.map(|file| pinned(&format!("tools/{file}")));
    let versions = pins.each_ref().map(|version| format!("\"{version}\"")).join(", ");
    let callback = fs::read_to_string(checkout("src/site/callback/boma_it_private.py")).unwrap();
    let checked = callback.lines().find(|line| line.starts_with("CHECKED_AGAINST")).unwrap();
    assert_eq!(checked, format!("CHECKED_AGAINST = ({versions})"));
    let page = fs::read_to_string(checkout("docs/ansible.md")).unwrap();
    for version in pins {
        assert!(page.contains(&format!("| {version} | `.venv")), "docs/ansible.md: {version}");
    }
}
