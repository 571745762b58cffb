//! The table of settings against what each supported Ansible has, and a site that relies on its own `ansible.cfg`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use boma_it::site::Phase;
use boma_it::site::settings::SETTINGS;
use boma_it::support::process::Process;
use serde_json::Value;

use crate::fixture::AnsibleVersion::{self, Newest, Oldest, Shipped};
use crate::fixture::{TestSite, patient};
use crate::sshd::Sshd;

/// The settings that `ansible-config list` has, each with its places in `ansible.cfg`.
fn listed(site: &TestSite) -> BTreeMap<String, BTreeSet<String>> {
    let config = site.plan.ansible.as_ref().unwrap().join("ansible-config");
    let list =
        Process::new(config).args(["list", "--type", "all", "--format", "json"]).run_ok(&patient()).unwrap();
    let mut list: BTreeMap<String, Value> = serde_json::from_str(&list).unwrap();
    let plugins = list.remove("PLUGINS").unwrap();
    let of_plugin = |kind: &str, name: &str| {
        let options = plugins[kind][name].as_object().unwrap().clone();
        let name = name.to_owned();
        options.into_iter().map(move |(option, value)| (format!("{name}.{option}"), value))
    };
    let plugins =
        of_plugin("BECOME", "sudo").chain(of_plugin("BECOME", "su")).chain(of_plugin("SHELL", "sh"));
    let places = |value: &Value| {
        let places = value["ini"].as_array().cloned().unwrap_or_default();
        let place =
            |it: &Value| format!("{}.{}", it["section"].as_str().unwrap(), it["key"].as_str().unwrap());
        places.iter().map(place).collect()
    };
    list.into_iter().chain(plugins).map(|(name, value)| (name, places(&value))).collect()
}

#[test]
fn the_table_decides_every_setting_of_every_supported_ansible() {
    let decided: BTreeSet<_> = SETTINGS.iter().flat_map(|it| it.names()).map(|(name, _)| name).collect();
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for version in [Oldest, Shipped, Newest] {
        let Some(site) = TestSite::with_ansible(version, &[]) else { return };
        for (name, places) in listed(&site) {
            // Of plugins, only some settings are carried over; docs/reference.md says so.
            let is_decided = decided.contains(name.as_str()) || name.contains('.');
            assert!(is_decided, "{name} of {version:?} is not in the table");
            known.entry(name).or_default().extend(places);
        }
    }
    let unknown: Vec<_> = decided.iter().filter(|name| !known.contains_key(**name)).collect();
    assert!(unknown.is_empty(), "no supported Ansible has these settings: {unknown:?}");
    for (name, place) in
        SETTINGS.iter().flat_map(|it| it.names()).filter_map(|(name, place)| Some((name, place?)))
    {
        assert!(known[name].contains(place), "{name} is not `{place}` in ansible.cfg, but {:?}", known[name]);
    }
}

#[test]
fn a_setting_that_is_carried_over_is_in_every_place_that_ansible_reads() {
    let Some(site) = TestSite::with_ansible(Oldest, &[]) else { return };
    let known = listed(&site);
    let mut carried: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, place) in
        SETTINGS.iter().flat_map(|it| it.names()).filter_map(|(name, place)| Some((name, place?)))
    {
        carried.entry(name).or_default().insert(place.to_owned());
    }
    // An option of a become plugin is also one of all of them.
    let whole = carried.iter().filter(|(name, _)| known.contains_key(**name) && !name.contains('.'));
    for (name, places) in whole {
        assert_eq!(places, &known[*name], "{name}");
    }
}

/// A site as it is written for its own settings. Without each of them, one of the versions fails the play.
#[rstest::rstest]
fn a_site_that_relies_on_its_own_settings_is_applied(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let sshd = Sshd::start();
    let config = "[defaults]
allow_broken_conditionals = True
module_strict_utf8_response = False
error_on_missing_handler = False
ansible_managed = ours
executable = /bin/bash
remote_tmp = /tmp/boma-it-test-${USER}
inject_facts_as_vars = False
lookup_plugins = plugins/lookup
duplicate_dict_key = ignore
yaml_valid_extensions = .yml, .conf
";
    let lookup = "from ansible.plugins.lookup import LookupBase
class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        return ['looked up']
";
    let tasks = "- {name: text as a condition, debug: {msg: ran}, when: \"'text'\"}
- name: bytes that are no text
  shell: printf '\\377'
- {name: a handler that is missing, command: 'true', notify: nobody}
- {name: what is managed, debug: {msg: \"{{ lookup('template', 'managed.j2') }}\"}}
- {name: only bash has it, shell: '[[ -n $BASH_VERSION ]]'}
- {name: a lookup of the site, debug: {msg: \"{{ lookup('ours') }}\"}}
- {name: a key twice, debug: {msg: first, msg: second}}
- {name: variables from a file with an unusual name, debug: {msg: '{{ unusual }}'}}
";
    let files = [
        ("site/ansible.cfg", config),
        ("site/plugins/lookup/ours.py", lookup),
        ("site/roles/base/templates/managed.j2", "{{ ansible_managed }}"),
        ("site/group_vars/debian.conf", "unusual: yes it is\n"),
        ("site/roles/base/tasks/main.yml", tasks),
    ];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let site = site.reached_by(&sshd);
    let report = site.run(Phase::Apply).0.unwrap();
    let messages: Vec<_> = report.tasks.iter().filter_map(|task| task.message.as_deref()).collect();
    for message in ["ours", "looked up", "second", "yes it is"] {
        assert!(messages.contains(&message), "{message}: {messages:?}");
    }
    let config = fs::read_to_string(site.folder().join("ansible.cfg")).unwrap();
    assert!(config.contains("allow_broken_conditionals = True\n"), "{config}");
}
