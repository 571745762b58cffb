//! The variables that the harness hands to the site and to `verify.yml`. All are named `boma_it_*`, and they come
//! last on the command line: nothing in a playbook, an override or a scenario replaces them.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::catalog::plan::Tier;

/// Which playbook is run, and when in the cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The site playbook.
    Apply,
    /// `verify.yml` before the restart.
    Before,
    /// `verify.yml` after the reboot.
    Assert,
}

impl Phase {
    /// The word for it: the value of `boma_it_phase`, and the stem of its files in the run folder.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Before => "before",
            Self::Assert => "assert",
        }
    }

    /// Whether the playbook is `verify.yml`.
    pub fn is_verify(self) -> bool {
        self != Self::Apply
    }
}

/// What the harness says about the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HarnessVars {
    /// Inventory name of the host under test.
    pub host: String,
    /// The scenario; none for the plain cycle.
    pub scenario: Option<String>,
    /// The VM's address, as this machine reaches it.
    pub address: IpAddr,
    /// Certificate tier.
    pub certs: Tier,
    /// Whether the VM reaches anything beyond the harness's network.
    pub egress: bool,
}

/// Every variable with its meaning, for the documents.
pub const VARIABLES: &[(&str, &str)] = &[
    ("boma_it", "always true: the host is a VM of boma-it's; use `boma_it | default(false)` in a role"),
    ("boma_it_host", "inventory name of the host under test"),
    ("boma_it_scenario", "name of the scenario, null in the plain cycle"),
    ("boma_it_phase", "`apply`; or, in verify.yml, `before` (the restart) or `assert` (after the reboot)"),
    ("boma_it_address", "the VM's address as the machine that runs boma-it reaches it"),
    ("boma_it_certs", "certificate tier: `internal`, `pebble`, `le-staging` or `le-prod-wildcard`"),
    ("boma_it_egress", "whether the VM reaches anything beyond the harness's network"),
];

impl HarnessVars {
    pub(super) fn render(&self, phase: Phase) -> Map<String, Value> {
        let rendered = json!({
            "boma_it": true,
            "boma_it_host": self.host,
            "boma_it_scenario": self.scenario,
            "boma_it_phase": phase.as_str(),
            "boma_it_address": self.address,
            "boma_it_certs": self.certs,
            "boma_it_egress": self.egress,
        });
        match rendered {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_documented_and_every_documented_one_is_set() {
        let vars = HarnessVars {
            host: "askari".into(),
            scenario: None,
            address: "10.213.47.10".parse().unwrap(),
            certs: Tier::LeStaging,
            egress: true,
        };
        let rendered = vars.render(Phase::Before);
        let documented: std::collections::BTreeSet<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            rendered.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
            documented
        );
        insta::assert_snapshot!(Value::Object(rendered), @r#"{"boma_it":true,"boma_it_address":"10.213.47.10","boma_it_certs":"le-staging","boma_it_egress":true,"boma_it_host":"askari","boma_it_phase":"before","boma_it_scenario":null}"#);
    }
}
