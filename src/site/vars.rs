//! The variables that the harness hands to the site and to `verify.yml`. All are named `boma_it_*`, and they come
//! last on the command line: nothing in a playbook, an override or a scenario replaces them.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::certs::Acme;
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
    /// What the tier gives.
    pub acme: Acme,
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
    (
        "boma_it_acme_directory",
        "URL of the ACME directory; null with the tier `internal`, as is all that follows",
    ),
    ("boma_it_acme_ca", "roots (PEM) of the directory's own HTTPS; null: those that a system trusts"),
    (
        "boma_it_acme_root",
        "roots (PEM) of the certificates that are issued; null: those that a system trusts",
    ),
    (
        "boma_it_dns_provider",
        "where DNS-01 puts its records: `{name: challtestsrv, api: URL, resolver: address:port}` or `{name: gandi}`",
    ),
    ("boma_it_certs_domain", "name that the certificate is for, from `certs.domain`; null: the site decides"),
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
            "boma_it_acme_directory": self.acme.directory,
            "boma_it_acme_ca": self.acme.ca,
            "boma_it_acme_root": self.acme.root,
            "boma_it_dns_provider": self.acme.dns,
            "boma_it_certs_domain": self.acme.domain,
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::site::certs::Dns;

    fn vars(certs: Tier, acme: Acme) -> Map<String, Value> {
        let address = [10, 213, 47, 10].into();
        let vars = HarnessVars { host: "askari".into(), scenario: None, address, certs, acme, egress: true };
        vars.render(Phase::Before)
    }

    #[test]
    fn every_variable_is_documented_and_every_documented_one_is_set() {
        let rendered = vars(Tier::Internal, Acme::default());
        let documented: BTreeSet<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
        assert_eq!(rendered.keys().map(String::as_str).collect::<BTreeSet<_>>(), documented);
        insta::assert_snapshot!(Value::Object(rendered));
    }

    #[test]
    fn a_tier_changes_its_own_variables_and_no_other() {
        let acme = Acme {
            directory: Some("https://10.213.47.1:14000/dir".to_owned()),
            ca: Some("the endpoint's root".to_owned()),
            root: Some("the issuer's root".to_owned()),
            dns: Some(Dns::Challtestsrv {
                api: "http://10.213.47.1:8055".to_owned(),
                resolver: "10.213.47.1:8053".to_owned(),
            }),
            domain: Some("trial.example.org".to_owned()),
        };
        let internal = vars(Tier::Internal, Acme::default());
        let mut pebble = vars(Tier::Pebble, acme);
        pebble.retain(|name, value| internal.get(name) != Some(value));
        insta::assert_snapshot!(format!("{:#}", Value::Object(pebble)));
        let gandi = Acme { dns: Some(Dns::Gandi), ..Acme::default() };
        let given = vars(Tier::LeStaging, gandi);
        assert_eq!(given["boma_it_dns_provider"], json!({"name": "gandi"}));
    }
}
