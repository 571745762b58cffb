use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;
use crate::site::inventory::ProductionInventory;

/// A site in `root/site`, with `files` in `root`, and what a search finds in it.
struct Tree {
    root: tempfile::TempDir,
    cfg: String,
    hostvars: serde_json::Value,
    vars: BTreeMap<String, serde_json::Value>,
}

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let usual =
            [("site/site.yml", "- hosts: all\n"), ("harness/verify.yml", "- hosts: all\n"), ("o.yml", "")];
        for (name, text) in usual.iter().chain(files) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { root, cfg: String::new(), hostvars: json!({}), vars: BTreeMap::new() }
    }

    fn obstacle(&self) -> Option<String> {
        self.with_sources(obstacle)
    }

    fn digest(&self) -> Result<String, String> {
        self.with_sources(digest_of)
    }

    fn with_sources<T>(&self, search: impl FnOnce(&Sources<'_>) -> T) -> T {
        let at = |name: &str| self.root.path().join(name);
        let site = SitePlan {
            dir: at("site"),
            playbook: at("site/site.yml"),
            inventory: at("site/inventory"),
            verify: at("harness/verify.yml"),
            overrides: at("o.yml"),
            vars: self.vars.clone(),
            ..SitePlan::default()
        };
        let config = SiteConfig::parse(&format!("[defaults]\n{}", self.cfg), &site.dir).unwrap();
        let list = json!({"_meta": {"hostvars": {"askari": self.hostvars}}, "all": {"hosts": ["askari"]}});
        let entry = ProductionInventory::parse(&list.to_string()).unwrap().host("askari").unwrap();
        let collections = [at("installed")];
        search(&Sources { site: &site, config: &config, entry: &entry, collections: Some(&collections) })
    }
}

/// The only obstacle in a site with one more file.
fn obstacle_in(file: &str, text: &str) -> Option<String> {
    Tree::new(&[(file, text)]).obstacle()
}

#[test]
fn a_site_without_the_name_has_no_obstacle() {
    assert_eq!(Tree::new(&[("site/roles/r/tasks/main.yml", "- apt: {name: python3}\n")]).obstacle(), None);
}

#[rstest::rstest]
#[case::template("site/roles/r/templates/job.j2", "ExecStart={{ ansible_python_interpreter }} /x\n", 1)]
#[case::discovered("site/roles/r/tasks/main.yml", "\n- x: '{{ discovered_interpreter_python }}'\n", 2)]
#[case::fact("site/site.yml", "- x: '{{ ansible_facts.discovered_interpreter_python }}'\n", 1)]
#[case::quoted_key("harness/verify.yml", "- that: hostvars.askari['ansible_python_interpreter'] == 1\n", 1)]
#[case::made_from_parts("site/x.yml", "- x: \"{{ vars['ansible_' ~ 'python_interpreter'] }}\"\n", 1)]
#[case::override_("o.yml", "cron: '{{ ansible_python_interpreter }}'\n", 1)]
#[case::plugin("site/filter_plugins/x.py", "x = v.get('ansible_python_interpreter')\n", 1)]
#[case::group_vars("site/group_vars/all.yml", "ansible_python_interpreter: /opt/python\n", 1)]
#[case::play("site/site.yml", "- vars: {ansible_python_interpreter: /usr/bin/python3}\n", 1)]
#[case::not_only_a_setting(
    "site/group_vars/all.yml",
    "ansible_python_interpreter: /usr/bin/python3\nx: '{{ ansible_python_interpreter }}'\n",
    2
)]
#[case::both_on_a_line(
    "site/a.yml",
    "- {ansible_python_interpreter: '{{ ansible_playbook_python }}', x: '{{ ansible_python_interpreter }}'}\n",
    1
)]

fn a_file_that_may_read_the_variable_is_named(#[case] file: &str, #[case] text: &str, #[case] line: usize) {
    let said = obstacle_in(file, text).expect("an obstacle");
    assert!(said.starts_with(&format!("{file}:{line} has `")), "{said}");
    assert!(said.contains("interpreter"), "{said}");
}

#[rstest::rstest]
#[case::play_for_localhost(
    "harness/verify.yml",
    "  ansible_python_interpreter: \"{{ ansible_playbook_python }}\"\n"
)]
#[case::in_flow_style(
    "site/x.yml",
    "- vars: {a: 1, 'ansible_python_interpreter': '{{ansible_playbook_python}}'}\n"
)]
#[case::same_python("site/group_vars/all.yml", "ansible_python_interpreter: /usr/bin/python3 # Debian's\n")]
#[case::left_open("site/host_vars/askari/main.yml", "ansible_python_interpreter: auto_silent\n")]
#[case::ini("site/inventory/hosts", "askari ansible_python_interpreter=/usr/bin/python3 a=b\n")]
#[case::own_configuration("site/ansible.cfg", "interpreter_python = auto\n")]
#[case::history("site/.git/x", "ansible_python_interpreter\n")]
fn a_setting_that_changes_nothing_on_the_host_is_no_obstacle(#[case] file: &str, #[case] text: &str) {
    assert_eq!(obstacle_in(file, text), None);
}

#[test]
fn folders_that_are_no_part_of_the_site_are_passed_over() {
    let name = "ansible_python_interpreter\n";
    for marker in ["pyvenv.cfg", "CACHEDIR.TAG"] {
        let marker = format!("site/d/{marker}");
        assert_eq!(Tree::new(&[("site/d/x.yml", name), (&marker, "")]).obstacle(), None, "{marker}");
    }
    let run =
        [("site/runs/1/ansible/x", name), ("site/runs/1/plan.json", ""), ("site/runs/1/events.jsonl", "")];
    assert_eq!(Tree::new(&run).obstacle(), None);
    assert!(Tree::new(&run[..2]).obstacle().is_some(), "one file more makes a run folder of it");
}

#[test]
fn an_interpreter_of_the_sites_own_wins() {
    let mut tree = Tree::new(&[]);
    tree.hostvars = json!({"ansible_python_interpreter": "/opt/python"});
    assert_eq!(
        tree.obstacle().unwrap(),
        "the inventory has its own `ansible_python_interpreter`, `/opt/python`"
    );
    let mut tree = Tree::new(&[]);
    tree.cfg = "interpreter_python = /opt/python\n".into();
    assert_eq!(tree.obstacle().unwrap(), "ansible.cfg has its own `interpreter_python`, `/opt/python`");
    tree.cfg = "interpreter_python = /usr/bin/python3\n".into();
    assert_eq!(tree.obstacle(), None);
}

#[test]
fn variables_that_come_from_no_file_are_searched_too() {
    let mut tree = Tree::new(&[]);
    tree.hostvars = json!({"job": {"command": "{{ ansible_python_interpreter }} -m x"}});
    assert_eq!(tree.obstacle().unwrap(), "a variable of the inventory has `python_interpreter`");
    let mut tree = Tree::new(&[]);
    tree.vars = [("job".to_owned(), json!(["{{ discovered_interpreter_python }}"]))].into();
    assert_eq!(tree.obstacle().unwrap(), "a variable of the scenario has `interpreter_python`");
}

#[test]
fn a_link_out_of_the_site_is_followed_and_a_loop_ends() {
    let tree = Tree::new(&[("elsewhere/x.yml", "x: '{{ ansible_python_interpreter }}'\n")]);
    let at = |name: &str| tree.root.path().join(name);
    symlink(at("site"), at("site/loop")).unwrap();
    symlink(at("nowhere"), at("site/dangling")).unwrap();
    assert_eq!(tree.obstacle(), None);
    symlink(at("elsewhere"), at("site/linked")).unwrap();
    assert_eq!(tree.obstacle().unwrap(), "site/linked/x.yml:1 has `ansible_python_interpreter`");
}

const READS: &str = "x: '{{ ansible_python_interpreter }}'\n";

#[test]
fn a_role_outside_the_site_counts_if_a_file_names_it() {
    let role = ("roles/acme.job/tasks/main.yml", READS);
    let mut tree = Tree::new(&[role]);
    tree.cfg = "roles_path = ../roles\n".into();
    assert_eq!(tree.obstacle(), None);
    let mut tree = Tree::new(&[role, ("site/site.yml", "- roles: [acme.job]\n")]);
    tree.cfg = "roles_path = ../roles\n".into();
    // Ansible resolves `..` too.
    assert!(
        tree.obstacle()
            .unwrap()
            .ends_with("roles/acme.job/tasks/main.yml:1 has `ansible_python_interpreter`")
    );
}

#[rstest::rstest]
#[case::unused("- ansible.builtin.debug: {}\n", "plugins/action/x.py", false)]
#[case::action("- acme.tools.x: {}\n", "plugins/action/x.py", true)]
#[case::role("- include_role: {name: acme.tools.job}\n", "roles/job/defaults/main.yml", true)]
#[case::listed("- collections: [acme.tools]\n", "playbooks/x.yml", true)]
#[case::module("- acme.tools.x: {}\n", "plugins/modules/x.py", false)]
#[case::document("- acme.tools.x: {}\n", "docs/x.rst", false)]
#[case::own_test("- acme.tools.x: {}\n", "tests/x.yml", false)]
fn a_collection_counts_if_a_file_names_it_and_only_what_runs_on_this_machine(
    #[case] task: &str,
    #[case] file: &str,
    #[case] counts: bool,
    #[values("installed", "site/vendored")] place: &str,
) {
    let file = format!("{place}/ansible_collections/acme/tools/{file}");
    let tree = Tree::new(&[(&file, READS), ("site/roles/r/tasks/main.yml", task)]);
    assert_eq!(tree.obstacle().is_some(), counts, "{:?}", tree.obstacle());
}

#[test]
fn a_collection_that_another_one_uses_counts() {
    let other = ("installed/ansible_collections/acme/base/roles/x/tasks/main.yml", READS);
    let one = ("installed/ansible_collections/acme/tools/roles/job/tasks/main.yml", "- acme.base.x: {}\n");
    let site = ("site/site.yml", "- roles: [acme.tools.job]\n");
    assert!(Tree::new(&[other, one, site]).obstacle().is_some());
    assert_eq!(Tree::new(&[other, site]).obstacle(), None);
}

#[test]
fn a_large_file_is_searched_across_its_parts() {
    let mut text = "x".repeat(WHOLE as usize + CHUNK - 10);
    text.push_str(" ansible_python_interpreter ");
    text.push_str(&"x".repeat(CHUNK));
    let said = obstacle_in("site/roles/r/files/large", &text);
    assert_eq!(said.unwrap(), "site/roles/r/files/large has `python_interpreter`");
    assert_eq!(obstacle_in("site/roles/r/files/large", &text.replace('_', "-")), None);
}

#[test]
fn what_cannot_be_searched_is_an_obstacle() {
    let mut tree = Tree::new(&[]);
    tree.cfg = "library = $MODULES\n".into();
    assert_eq!(tree.obstacle().unwrap(), "`library` of ansible.cfg has `$MODULES`");
    let tree = Tree::new(&[("site/x.yml", "")]);
    let (site, config) =
        (SitePlan { dir: tree.root.path().join("site"), ..SitePlan::default() }, SiteConfig::default());
    let list = json!({"all": {"hosts": ["askari"]}}).to_string();
    let entry = ProductionInventory::parse(&list).unwrap().host("askari").unwrap();
    let sources = Sources { site: &site, config: &config, entry: &entry, collections: None };
    assert_eq!(obstacle(&sources).unwrap(), "Ansible does not say where its collections are");
}

#[rstest::rstest]
#[case::a_role("site/roles/r/tasks/main.yml", true)]
#[case::a_template("site/roles/r/templates/x.j2", true)]
#[case::the_inventory("site/inventory/hosts", true)]
#[case::the_settings("site/ansible.cfg", true)]
#[case::a_module_of_a_collection("installed/ansible_collections/a/b/plugins/modules/m.py", true)]
#[case::verify("harness/verify.yml", false)]
#[case::a_file_beside_verify("harness/tasks/more.yml", false)]
#[case::an_unused_collection("installed/ansible_collections/c/d/roles/r/tasks/main.yml", false)]
#[case::the_history("site/.git/HEAD", false)]
fn the_digest_depends_on_every_file_that_the_playbook_can_use(#[case] file: &str, #[case] counts: bool) {
    let uses = ("site/site.yml", "- hosts: all\n  tasks: [{a.b.m: {}}]\n");
    let digest = |text| Tree::new(&[uses, (file, text)]).digest().unwrap();
    assert_eq!(digest("one") != digest("two"), counts);
    assert_eq!(digest("one"), digest("one"));
}

#[test]
fn a_file_that_moves_is_another_site() {
    let digest = |file| Tree::new(&[(file, "x")]).digest().unwrap();
    assert_ne!(digest("site/a"), digest("site/b"));
}

#[test]
fn an_encrypted_file_or_value_has_no_digest() {
    for (file, text) in [
        ("site/a.yml", "$ANSIBLE_VAULT;1.1;AES256\n30"),
        ("site/b.yml", "x: !vault |\n  $ANSIBLE_VAULT;1.2;AES256;x\n"),
    ] {
        let why = Tree::new(&[(file, text)]).digest().unwrap_err();
        assert_eq!(why, format!("{file} is encrypted, and the guest's memory would have it"));
    }
}
