//! What a real Ansible does with what we give it: a site is checked, and its playbook run.

use std::fs;
use std::time::Instant;

use boma_it::site::{Phase, TaskEvent};
use serde_json::json;

use crate::sshd::Sshd;
use crate::world::World;

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
