//! The production inventory, as `ansible-inventory --list` tells it, and the transient inventory of one host made
//! from it.
//!
//! The one host keeps its groups, their ancestors and all its variables, flattened onto it with the precedence
//! Ansible gave them. Templates stay templates and vaulted values stay vaulted (`--list` tells both raw). The other
//! groups of production are there and empty, so that `groups['monitoring']` means what it says: nobody. What says
//! how the real host is reached ([`is_connection_var`]) is replaced by what reaches the VM.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::catalog::variables::is_connection_var;
use crate::support::name::near_miss;
use crate::support::ssh_access::SshAccess;

/// Interpreter in the guest: named, so that no discovery costs a round trip or warns.
const INTERPRETER: &str = "/usr/bin/python3";

/// The production inventory.
#[derive(Debug)]
pub(super) struct Production {
    hostvars: BTreeMap<String, Map<String, Value>>,
    groups: BTreeMap<String, Group>,
}

#[derive(Debug, Default, Deserialize)]
struct Group {
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
    /// Its variables, group variables included, without those that say how it is reached.
    pub vars: Map<String, Value>,
    /// Names of the variables that were left out as they say how the real host is reached.
    pub dropped: Vec<String>,
    /// Every group of production but `all` and `ungrouped`: its child groups, and whether the host is named in it.
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

impl Production {
    /// From the output of `ansible-inventory --list`.
    pub(super) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Meta {
            #[serde(default)]
            hostvars: BTreeMap<String, Map<String, Value>>,
        }
        let mut top: BTreeMap<String, Value> = serde_json::from_str(json)?;
        let meta = top.remove("_meta").map(serde_json::from_value::<Meta>).transpose()?;
        let groups = top.into_iter().map(|(name, group)| Ok((name, serde_json::from_value(group)?)));
        Ok(Self {
            hostvars: meta.map(|meta| meta.hostvars).unwrap_or_default(),
            groups: groups.collect::<Result<_, serde_json::Error>>()?,
        })
    }

    /// The host of this name.
    pub(super) fn host(&self, name: &str) -> Result<HostEntry, UnknownHost> {
        let listed = self.groups.values().flat_map(|group| &group.hosts);
        let hosts: BTreeSet<&str> = listed.chain(self.hostvars.keys()).map(String::as_str).collect();
        if !hosts.contains(name) {
            return Err(UnknownHost {
                host: name.to_owned(),
                near: near_miss(name, hosts.iter().copied()).map(str::to_owned),
                known: enumerate(&hosts, "no host at all"),
            });
        }
        let all = self.hostvars.get(name).cloned().unwrap_or_default();
        let (dropped, vars): (Map<_, _>, Map<_, _>) =
            all.into_iter().partition(|(key, _)| is_connection_var(key));
        let ours = self.groups.iter().filter(|(group, _)| !matches!(group.as_str(), "all" | "ungrouped"));
        let mut groups: BTreeMap<String, (BTreeSet<String>, bool)> = BTreeMap::new();
        for (group, Group { hosts, children }) in ours {
            let is_member = hosts.iter().any(|host| host == name);
            groups.insert(group.clone(), (children.iter().cloned().collect(), is_member));
        }
        Ok(HostEntry {
            host: name.to_owned(),
            vars,
            dropped: dropped.into_iter().map(|(k, _)| k).collect(),
            groups,
        })
    }
}

impl HostEntry {
    /// The transient inventory, in the JSON form of Ansible's `yaml` inventory plugin.
    pub(super) fn render(&self, target: &SshAccess) -> Value {
        let mut vars = self.vars.clone();
        let SshAccess { address, port, user, private_key, .. } = target;
        let connection = json!({
            "ansible_connection": "ssh",
            "ansible_host": address,
            "ansible_port": port,
            "ansible_user": user,
            "ansible_ssh_private_key_file": private_key,
            "ansible_python_interpreter": INTERPRETER,
        });
        if let Value::Object(connection) = connection {
            vars.extend(connection);
        }
        let empty = |names: &BTreeSet<String>| -> Map<String, Value> {
            names.iter().map(|name| (name.clone(), json!({}))).collect()
        };
        let mut children = Map::new();
        for (group, (below, is_member)) in &self.groups {
            let mut body = Map::new();
            if *is_member {
                body.insert("hosts".into(), json!({ &self.host: {} }));
            }
            if !below.is_empty() {
                body.insert("children".into(), Value::Object(empty(below)));
            }
            children.insert(group.clone(), Value::Object(body));
        }
        json!({"all": {"hosts": {&self.host: vars}, "children": children}})
    }
}

/// The first twenty of some names, for an error.
pub(super) fn enumerate<'a>(names: impl IntoIterator<Item = &'a &'a str>, none: &str) -> String {
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

    fn target() -> SshAccess {
        SshAccess {
            address: "10.213.47.10".parse().unwrap(),
            port: 22,
            user: "ansible".into(),
            private_key: "/run/key".into(),
            host_key: "ssh-ed25519 AAAA".into(),
        }
    }

    #[test]
    fn one_host_keeps_its_groups_and_variables_and_gets_the_vms_address() {
        let entry = Production::parse(LIST).unwrap().host("askari").unwrap();
        assert_eq!(entry.dropped, ["ansible_become_password", "ansible_host", "ansible_ssh_common_args"]);
        insta::assert_json_snapshot!(entry.render(&target()), @r#"
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
    fn a_host_without_variables_is_known_too() {
        assert!(Production::parse(LIST).unwrap().host("bare").unwrap().vars.is_empty());
    }

    #[test]
    fn an_unknown_host_is_told_with_the_near_miss_and_the_hosts_there_are() {
        let error = Production::parse(LIST).unwrap().host("askary").unwrap_err().to_string();
        insta::assert_snapshot!(error, @"host `askary` is not in the inventory (did you mean `askari`?); it has `askari`, `bare`, `ubongo`");
    }

    proptest::proptest! {
        #[test]
        fn no_address_of_production_survives(key in "ansible_(host|port|user|ssh_[a-z_]{1,12}|connection)") {
            let list = json!({"_meta": {"hostvars": {"h": {key: "production"}}}, "g": {"hosts": ["h"]}}).to_string();
            let rendered = Production::parse(&list).unwrap().host("h").unwrap().render(&target()).to_string();
            proptest::prop_assert!(!rendered.contains("production"), "{}", rendered);
        }
    }
}
