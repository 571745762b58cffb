//! The production inventory, as `ansible-inventory --list` prints it, and the transient inventory of one host made from it.
//!
//! The one host keeps its groups, their ancestors and all its variables, flattened onto it with Ansible's precedence.
//! Templates stay templates and vaulted values stay vaulted (`--list` prints both raw). The other groups of production exist
//! and are empty, so `groups['monitoring']` is an empty list and not an error. Variables about the connection to the real host
//! ([`is_connection_var`]) are replaced by those for the VM.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::catalog::variables::is_connection_var;
use crate::support::name::near_miss;
use crate::support::ssh_access::SshAccess;

/// Python in the guest. Without this Ansible looks for it, which takes a round trip and prints a warning.
pub(super) const INTERPRETER: &str = "/usr/bin/python3";
/// The variable that names it. As an inventory variable of the host it leaves localhost alone.
pub(super) const INTERPRETER_VARIABLE: &str = "ansible_python_interpreter";

/// The production inventory.
#[derive(Debug)]
pub(super) struct ProductionInventory {
    hostvars: BTreeMap<String, Map<String, Value>>,
    groups: BTreeMap<String, Group>,
}

/// A group: the hosts that it lists itself, and its child groups.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Group {
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    children: Vec<String>,
}

/// A host as production has it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostEntry {
    /// Its inventory name.
    pub host: String,
    /// Its variables and those of its groups, without those about the connection.
    pub vars: Map<String, Value>,
    /// Names of the variables about the connection to the real host, which are left out.
    pub dropped: Vec<String>,
    /// Python on the host, if production names one.
    pub(super) interpreter: Option<String>,
    /// Every group of production but `all` and `ungrouped`: its child groups, and whether it lists the host itself.
    groups: BTreeMap<String, (BTreeSet<String>, bool)>,
}

/// No such host in the inventory.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "host `{host}` is not in the inventory{}; it has {known}",
    .near.as_deref().map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
)]
pub struct UnknownHost {
    host: String,
    near: Option<String>,
    known: String,
}

impl ProductionInventory {
    /// From the output of `ansible-inventory --list`.
    pub(super) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        #[derive(Default, Deserialize)]
        struct Meta {
            #[serde(default)]
            hostvars: BTreeMap<String, Map<String, Value>>,
        }
        #[derive(Deserialize)]
        struct List {
            #[serde(default, rename = "_meta")]
            meta: Meta,
            #[serde(flatten)]
            groups: BTreeMap<String, Group>,
        }
        let List { meta, groups } = serde_json::from_str(json)?;
        Ok(Self { hostvars: meta.hostvars, groups })
    }

    /// Its groups, without variables.
    pub(super) fn groups(&self) -> &BTreeMap<String, Group> {
        &self.groups
    }

    /// The names of its groups and hosts.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        // An empty group is in the list only as the child of another.
        let children = self.groups.values().flat_map(|group| &group.children);
        self.groups.keys().chain(children).map(String::as_str).chain(self.hosts()).collect()
    }

    fn hosts(&self) -> BTreeSet<&str> {
        let listed = self.groups.values().flat_map(|group| &group.hosts);
        listed.chain(self.hostvars.keys()).map(String::as_str).collect()
    }

    /// The host of this name.
    pub(super) fn host(&self, name: &str) -> Result<HostEntry, UnknownHost> {
        let hosts = self.hosts();
        if !hosts.contains(name) {
            return Err(UnknownHost {
                host: name.to_owned(),
                near: near_miss(name, hosts.iter().copied()).map(str::to_owned),
                known: enumerate(hosts, "no host at all"),
            });
        }
        let all = self.hostvars.get(name).cloned().unwrap_or_default();
        let (dropped, vars): (Map<_, _>, Map<_, _>) =
            all.into_iter().partition(|(key, _)| is_connection_var(key));
        let interpreter = dropped.get(INTERPRETER_VARIABLE).map(|value| match value {
            Value::String(path) => path.clone(),
            other => other.to_string(),
        });
        let dropped = dropped.into_iter().map(|(key, _)| key);
        let dropped = dropped.filter(|key| key != INTERPRETER_VARIABLE).collect();
        let groups = self.groups.iter().filter(|(group, _)| !matches!(group.as_str(), "all" | "ungrouped"));
        let groups = groups.map(|(group, Group { hosts, children })| {
            (group.clone(), (children.iter().cloned().collect(), hosts.iter().any(|host| host == name)))
        });
        Ok(HostEntry { host: name.to_owned(), vars, dropped, interpreter, groups: groups.collect() })
    }
}

impl HostEntry {
    /// The transient inventory, in the JSON form of Ansible's `yaml` inventory plugin. `interpreter` is Python on the host.
    pub(super) fn render(&self, access: &SshAccess, interpreter: &str) -> Value {
        let mut vars = self.vars.clone();
        let connection = [
            ("ansible_connection", json!("ssh")),
            ("ansible_host", json!(access.address)),
            ("ansible_port", json!(access.port)),
            ("ansible_user", json!(access.user)),
            ("ansible_ssh_private_key_file", json!(access.private_key)),
            (INTERPRETER_VARIABLE, json!(interpreter)),
        ];
        vars.extend(connection.map(|(name, value)| (name.to_owned(), value)));
        let group = |(child_groups, is_member): &(BTreeSet<String>, bool)| {
            let mut group = Map::new();
            if *is_member {
                group.insert("hosts".to_owned(), json!({ &self.host: {} }));
            }
            if !child_groups.is_empty() {
                let children: Map<_, _> = child_groups.iter().map(|name| (name.clone(), json!({}))).collect();
                group.insert("children".to_owned(), children.into());
            }
            Value::Object(group)
        };
        let groups: Map<_, _> = self.groups.iter().map(|(name, it)| (name.clone(), group(it))).collect();
        json!({"all": {"hosts": {&self.host: vars}, "children": groups}})
    }
}

/// Up to twenty names, for an error.
pub(super) fn enumerate<'a>(names: impl IntoIterator<Item = &'a str>, none: &str) -> String {
    const SHOWN: usize = 20;
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => none.to_owned(),
        n if n > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{
        "_meta": {"hostvars": {
            "askari": {
                "ansible_host": "203.0.113.5", "ansible_ssh_common_args": "-J bastion", "ansible_become": true,
                "ansible_become_password": "x", "url": "https://{{ inventory_hostname }}/",
                "token": {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162"}, "ports": "22:22"
            },
            "ubongo": {"other": 1}
        }},
        "all": {"children": ["ungrouped", "debian", "edge", "ops"]},
        "debian": {"children": ["edge", "ops"]},
        "edge": {"hosts": ["askari"]},
        "ops": {"hosts": ["ubongo", "bare"]}
    }"#;

    fn access() -> SshAccess {
        SshAccess {
            address: "10.213.47.10".parse().unwrap(),
            port: 22,
            user: "ansible".into(),
            private_key: "/run/key".into(),
            host_key: "ssh-ed25519 AAAA".into(),
        }
    }

    #[test]
    fn the_host_keeps_its_groups_and_variables_and_gets_the_address_of_the_vm() {
        let entry = ProductionInventory::parse(LIST).unwrap().host("askari").unwrap();
        assert_eq!(entry.dropped, ["ansible_become_password", "ansible_host", "ansible_ssh_common_args"]);
        insta::assert_json_snapshot!(entry.render(&access(), INTERPRETER), @r#"
        {
          "all": {
            "children": {
              "debian": {
                "children": {
                  "edge": {},
                  "ops": {}
                }
              },
              "edge": {
                "hosts": {
                  "askari": {}
                }
              },
              "ops": {}
            },
            "hosts": {
              "askari": {
                "ansible_become": true,
                "ansible_connection": "ssh",
                "ansible_host": "10.213.47.10",
                "ansible_port": 22,
                "ansible_python_interpreter": "/usr/bin/python3",
                "ansible_ssh_private_key_file": "/run/key",
                "ansible_user": "ansible",
                "ports": "22:22",
                "token": {
                  "__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162"
                },
                "url": "https://{{ inventory_hostname }}/"
              }
            }
          }
        }
        "#);
    }

    #[test]
    fn a_host_without_variables_is_found() {
        assert!(ProductionInventory::parse(LIST).unwrap().host("bare").unwrap().vars.is_empty());
    }

    #[test]
    fn an_error_about_an_unknown_host_names_a_similar_one_and_all_hosts() {
        let error = ProductionInventory::parse(LIST).unwrap().host("askary").unwrap_err().to_string();
        insta::assert_snapshot!(error, @"host `askary` is not in the inventory (did you mean `askari`?); it has `askari`, `bare`, `ubongo`");
    }

    proptest::proptest! {
        #[test]
        fn no_connection_variable_of_production_is_kept(key in "ansible_(host|port|user|ssh_[a-z_]{1,12}|connection)") {
            let list = json!({"_meta": {"hostvars": {"h": {key: "production"}}}, "g": {"hosts": ["h"]}}).to_string();
            let rendered = ProductionInventory::parse(&list).unwrap().host("h").unwrap().render(&access(), INTERPRETER).to_string();
            proptest::prop_assert!(!rendered.contains("production"), "{}", rendered);
        }
    }
}
