//! The requirements of a tier, checked before anything exists. The error lists everything that is missing, with what to do and
//! where that is documented.

use std::fs;

use super::pebble;
use crate::catalog::plan::{CertsPlan, Risk, Tier};
use crate::support::process::is_available;

/// Where the tiers are documented.
const TIERS: &str = "docs/certificates-and-secrets.md#certificate-tiers";
/// Where the risks are documented.
const RISKS: &str = "docs/security/accepted-risks.md";

/// What a tier's requirements are checked against.
pub struct TierRequirements<'a> {
    /// The tier's settings.
    pub settings: &'a CertsPlan,
    /// Whether the VM reaches the internet.
    pub egress: bool,
    /// The risks that are accepted for this run.
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
    /// The VM runs on another machine, which cannot reach an ACME server here.
    #[error(
        "the certificate tier `pebble` runs an ACME server on this machine, where a VM of {uri} cannot reach it: use a \
         hypervisor on this machine ({TIERS})"
    )]
    Remote {
        /// The hypervisor's URI.
        uri: String,
    },
    /// A tier of Let's Encrypt lacks something.
    #[error("the certificate tier `{tier}` is refused: {}", missing.join("; and "))]
    Missing {
        /// The tier.
        tier: Tier,
        /// Each thing that is missing, with what to do.
        missing: Vec<String>,
    },
}

impl TierRequirements<'_> {
    /// Checks whether `tier` can run. Returns the content of the file `certs.root`, if it is set and the tier uses it.
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
            missing.push(format!("the VM has no egress, which ACME needs ({TIERS})"));
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
                "risk R6 is not accepted for this run: read {RISKS}, then pass `--accept-risk R6` or set \
                 BOMA_IT_ACCEPT_RISK=R6"
            ));
        }
        let roots = self.settings.root.as_deref().map(|path| {
            let error = |why: String| format!("the file {} of `certs.root` {why}", path.display());
            match fs::read_to_string(path) {
                Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Ok(text),
                Ok(_) => Err(error("has no certificate: expected PEM".to_owned())),
                Err(source) => Err(error(format!("cannot be read ({source})"))),
            }
        });
        let roots = roots.transpose().map_err(|why| missing.push(why)).ok().flatten();
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

    fn check(tier: Tier, egress: bool, accepted: &[Risk], token: bool) -> Result<(), String> {
        let has_secret = |name: &str| token && name == "vault.gandi.pat";
        let settings = settings();
        let requirements =
            TierRequirements { settings: &settings, egress, accepted, has_secret: &has_secret };
        requirements.check(tier).map(|_| ()).map_err(|unmet| unmet.to_string())
    }

    #[test]
    fn a_tier_with_everything_it_requires_passes() {
        assert_eq!(check(Tier::Internal, false, &[], false), Ok(()));
        assert_eq!(check(Tier::LeStaging, true, &[], true), Ok(()));
        assert_eq!(check(Tier::LeProdWildcard, true, &[Risk::R6], true), Ok(()));
    }

    #[rstest::rstest]
    #[case::all(Tier::LeProdWildcard, false, &[], false)]
    #[case::risk(Tier::LeProdWildcard, true, &[], true)]
    #[case::token(Tier::LeStaging, true, &[], false)]
    #[case::egress(Tier::LeStaging, false, &[], true)]
    fn the_error_lists_everything_that_is_missing(
        #[case] tier: Tier,
        #[case] egress: bool,
        #[case] accepted: &[Risk],
        #[case] token: bool,
    ) {
        let name = format!("missing_{tier}_egress_{egress}_token_{token}");
        insta::assert_snapshot!(name, check(tier, egress, accepted, token).unwrap_err());
    }

    #[test]
    fn the_file_of_roots_must_have_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("roots.pem");
        let settings = CertsPlan { root: Some(file.clone()), ..settings() };
        let roots = || {
            let requirements =
                TierRequirements { settings: &settings, egress: true, accepted: &[], has_secret: &|_| true };
            requirements.check(Tier::LeStaging).map_err(|unmet| unmet.to_string())
        };
        let missing = roots().unwrap_err();
        fs::write(&file, "no certificate").unwrap();
        let errors = format!("{missing}\n{}", roots().unwrap_err());
        insta::assert_snapshot!(errors.replace(folder.path().to_str().unwrap(), "[folder]"));
        fs::write(&file, "-----BEGIN CERTIFICATE-----").unwrap();
        assert_eq!(roots().unwrap().as_deref(), Some("-----BEGIN CERTIFICATE-----"));
    }
}
