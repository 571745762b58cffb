//! The variables that a playbook gets beside those of the inventory: the harness's own, and those of the override file.
//!
//! The harness's are named `boma_it` or `boma_it_*`. They come last on the command line, so nothing in a playbook, an override
//! or a scenario can change them.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::certs::Acme;
use super::error::SiteError;
use super::secrets::Secrets;
use crate::catalog::plan::Tier;

/// Which playbook runs, and when in the cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The site playbook.
    Apply,
    /// `verify.yml` before the reboot.
    Before,
    /// `verify.yml` after the reboot.
    Assert,
}

impl Phase {
    /// The value of `boma_it_phase`, and the stem of its files in the run folder.
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

/// What the variables say about the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HarnessVars {
    /// Inventory name of the host under test.
    pub host: String,
    /// The scenario; `None` in the plain cycle.
    pub scenario: Option<String>,
    /// The VM's address, as seen from this machine.
    pub address: IpAddr,
    /// Certificate tier.
    pub certs: Tier,
    /// What the tier provides.
    pub acme: Acme,
    /// Whether the VM reaches anything outside the harness's network.
    pub egress: bool,
}

/// Every variable and its meaning, for the documentation.
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
        let acme = &self.acme;
        let vars = [
            ("boma_it", json!(true)),
            ("boma_it_host", json!(self.host)),
            ("boma_it_scenario", json!(self.scenario)),
            ("boma_it_phase", json!(phase.as_str())),
            ("boma_it_address", json!(self.address)),
            ("boma_it_certs", json!(self.certs)),
            ("boma_it_acme_directory", json!(acme.directory)),
            ("boma_it_acme_ca", json!(acme.ca)),
            ("boma_it_acme_root", json!(acme.root)),
            ("boma_it_dns_provider", json!(acme.dns)),
            ("boma_it_certs_domain", json!(acme.domain)),
            ("boma_it_egress", json!(self.egress)),
        ];
        vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The variables of an override file. Ansible reads the file again, with its own tags; here they are only checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides(serde_yaml::Mapping);

impl Overrides {
    pub(super) fn read(path: &Path) -> Result<Self, SiteError> {
        let invalid = |why: String| SiteError::InvalidFile { what: path.display().to_string(), why };
        let text = std::fs::read_to_string(path).map_err(SiteError::io(path))?;
        match serde_yaml::from_str(&text).map_err(|error| invalid(error.to_string()))? {
            serde_yaml::Value::Null => Ok(Self::default()),
            serde_yaml::Value::Mapping(variables) => Ok(Self(variables)),
            _ => Err(invalid("expected a mapping of Ansible variables, as `name: value`".to_owned())),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(serde_yaml::Value::as_str)
    }

    /// The variables that the override file at `path` sets and that hold `secrets` as well.
    ///
    /// # Errors
    /// When one of them has a tagged value, which would be lost.
    pub(super) fn values_for(&self, secrets: &Secrets, path: &Path) -> Result<Map<String, Value>, SiteError> {
        let mut values = Map::new();
        for (secret, _) in secrets.iter() {
            let variable = secret.split('.').next().unwrap_or(secret);
            let Some(value) = self.0.get(variable) else { continue };
            if is_tagged(value) {
                let why = format!(
                    "`{variable}` holds the secret `{secret}` and a value with a tag (`!vault`, `!unsafe`): list the tagged value under `secrets` too"
                );
                return Err(SiteError::InvalidFile { what: path.display().to_string(), why });
            }
            values.insert(variable.to_owned(), serde_json::to_value(value).unwrap_or_default());
        }
        Ok(values)
    }
}

fn is_tagged(value: &serde_yaml::Value) -> bool {
    match value {
        serde_yaml::Value::Tagged(_) => true,
        serde_yaml::Value::Mapping(map) => map.values().any(is_tagged),
        serde_yaml::Value::Sequence(list) => list.iter().any(is_tagged),
        _ => false,
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
    fn the_documented_variables_are_those_that_are_set() {
        let rendered = vars(Tier::Internal, Acme::default());
        let documented: BTreeSet<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
        assert_eq!(rendered.keys().map(String::as_str).collect::<BTreeSet<_>>(), documented);
        insta::assert_snapshot!(Value::Object(rendered));
    }

    #[test]
    fn a_tier_changes_only_its_own_variables() {
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
