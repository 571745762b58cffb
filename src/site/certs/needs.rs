//! What a tier cannot do without. Looked at before anything exists, and told all at once: what is missing, how to have
//! it, and where that is written.

use std::fs;

use super::pebble;
use crate::catalog::plan::{CertsPlan, Risk, Tier};
use crate::support::process::is_available;

/// Where the tiers are documented.
const TIERS: &str = "docs/runbooks/integration-testing.md#certificate-tiers";
/// Where the risks are.
const RISKS: &str = "docs/security/accepted-risks.md";

/// What there is to run a tier with.
pub struct TierRequirements<'a> {
    /// The tier's settings.
    pub settings: &'a CertsPlan,
    /// Whether the VM reaches the internet.
    pub egress: bool,
    /// The risks that are taken for this run.
    pub accepted: &'a [Risk],
    /// Whether there is a secret of this name.
    pub has_secret: &'a dyn Fn(&str) -> bool,
}

/// Why a tier is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnmetRequirement {
    /// A program is not installed here.
    #[error(
        "the certificate tier `pebble` runs an ACME server on this machine, and `{program}` is not on PATH: `make setup` \
         installs it ({TIERS})"
    )]
    Program {
        /// Its name.
        program: &'static str,
    },
    /// The VM runs on another machine, which has no ACME server of ours.
    #[error(
        "the certificate tier `pebble` runs an ACME server on this machine, where a VM of {uri} cannot reach it: use a \
         hypervisor of this machine's ({TIERS})"
    )]
    Remote {
        /// The hypervisor's URI.
        uri: String,
    },
    /// Something of what a tier of Let's Encrypt's needs is not there.
    #[error("the certificate tier `{tier}` is refused, as {}", list(missing))]
    Missing {
        /// The tier.
        tier: Tier,
        /// Each thing that is missing, with what to do.
        missing: Vec<String>,
    },
}

fn list(missing: &[String]) -> String {
    missing.join("; and ")
}

impl TierRequirements<'_> {
    /// Whether `tier` can run: gives what `certs.root` holds, where that is set and the tier goes by it.
    ///
    /// # Errors
    /// [`UnmetRequirement`], with everything that is missing.
    pub fn check(&self, tier: Tier) -> Result<Option<String>, UnmetRequirement> {
        match tier {
            Tier::Internal => Ok(None),
            Tier::Pebble => match pebble::PROGRAMS.into_iter().find(|program| !is_available(program)) {
                Some(program) => Err(UnmetRequirement::Program { program }),
                None => Ok(None),
            },
            Tier::LeStaging | Tier::LeProdWildcard => self.lets_encrypt(tier),
        }
    }

    fn lets_encrypt(&self, tier: Tier) -> Result<Option<String>, UnmetRequirement> {
        let mut missing = Vec::new();
        if !self.egress {
            missing.push(format!("its VM has no egress, which ACME needs ({TIERS})"));
        }
        let token = &self.settings.dns.token;
        if !(self.has_secret)(token) {
            missing.push(format!(
                "there is no token for the DNS provider: name the source of `{token}` under `secrets` of \
                 harness/harness.yml ({TIERS})"
            ));
        }
        if tier == Tier::LeProdWildcard && !self.accepted.contains(&Risk::R6) {
            missing.push(format!(
                "nobody has accepted risk R6 for this run: read {RISKS}, then say `--accept-risk R6` or \
                 BOMA_IT_ACCEPT_RISK=R6"
            ));
        }
        let roots = self.settings.root.as_deref().map(|path| {
            let error = |why: String| format!("the file {} of `certs.root` {why}", path.display());
            match fs::read_to_string(path) {
                Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Ok(text),
                Ok(_) => Err(error("holds no certificate: expected PEM".to_owned())),
                Err(source) => Err(error(format!("cannot be read ({source})"))),
            }
        });
        let roots = roots.transpose().unwrap_or_else(|why| {
            missing.push(why);
            None
        });
        if missing.is_empty() { Ok(roots) } else { Err(UnmetRequirement::Missing { tier, missing }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::plan::{DnsPlan, DnsProvider};

    fn settings() -> CertsPlan {
        CertsPlan {
            directory: None,
            root: None,
            domain: None,
            dns: DnsPlan { provider: DnsProvider::Gandi, token: "vault.gandi.pat".to_owned() },
        }
    }

    fn told(tier: Tier, egress: bool, accepted: &[Risk], token: bool) -> Result<(), String> {
        let has_secret = |name: &str| token && name == "vault.gandi.pat";
        let settings = settings();
        let needs = TierRequirements { settings: &settings, egress, accepted, has_secret: &has_secret };
        needs.check(tier).map(|_| ()).map_err(|unmet| unmet.to_string())
    }

    #[test]
    fn a_tier_that_lacks_nothing_is_let_in() {
        assert_eq!(told(Tier::Internal, false, &[], false), Ok(()));
        assert_eq!(told(Tier::LeStaging, true, &[], true), Ok(()));
        assert_eq!(told(Tier::LeProdWildcard, true, &[Risk::R6], true), Ok(()));
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once_with_where_it_is_written() {
        insta::assert_snapshot!(told(Tier::LeProdWildcard, false, &[], false).unwrap_err());
        let one = told(Tier::LeProdWildcard, true, &[], true).unwrap_err();
        assert!(one.contains("R6") && !one.contains("token") && !one.contains("egress"), "{one}");
        let one = told(Tier::LeStaging, true, &[], false).unwrap_err();
        assert!(one.contains("`vault.gandi.pat`") && !one.contains("R6"), "{one}");
        assert!(told(Tier::LeStaging, false, &[], true).unwrap_err().contains("egress"));
    }

    #[test]
    fn the_file_of_roots_has_to_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("roots.pem");
        let settings = CertsPlan { root: Some(file.clone()), ..settings() };
        let check = || {
            let needs =
                TierRequirements { settings: &settings, egress: true, accepted: &[], has_secret: &|_| true };
            needs.check(Tier::LeStaging).map_err(|unmet| unmet.to_string())
        };
        assert!(check().unwrap_err().contains("roots.pem of `certs.root` cannot be read"));
        fs::write(&file, "no certificate").unwrap();
        assert!(check().unwrap_err().contains("expected PEM"));
        fs::write(&file, "-----BEGIN CERTIFICATE-----").unwrap();
        assert_eq!(check().unwrap().as_deref(), Some("-----BEGIN CERTIFICATE-----"));
    }
}
