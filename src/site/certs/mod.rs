//! Certificate tiers: what each requires before a VM is made, the variables that it gives to the site, and, for `pebble`, the
//! ACME server itself.
//!
//! A tier changes only variables: the site's role gets its certificate as it does in production.

mod endpoint;
pub mod pebble;
mod requirements;

use serde::Serialize;

use crate::catalog::plan::{CertsPlan, DnsProvider, Tier};
use pebble::Authority;

pub use pebble::{Pebble, PebbleError};
pub use requirements::{TierRequirements, UnmetRequirement};

/// Let's Encrypt's staging directory: <https://letsencrypt.org/docs/staging-environment/>.
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
/// Let's Encrypt's directory: <https://letsencrypt.org/docs/acme-protocol-updates/>.
const PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The roots of [`STAGING`], which no system trusts: <https://letsencrypt.org/docs/staging-environment/#root-certificates>.
const STAGING_ROOTS: &str = include_str!("le-staging-roots.pem");

/// The values of `boma_it_acme_*`, `boma_it_dns_provider` and `boma_it_certs_domain`. All `None` with the tier `internal`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acme {
    /// URL of the ACME directory.
    pub directory: Option<String>,
    /// Roots (PEM) of the directory's own HTTPS; `None`: those that a system trusts.
    pub ca: Option<String>,
    /// Roots (PEM) of the issued certificates; `None`: those that a system trusts.
    pub root: Option<String>,
    /// The DNS provider for DNS-01 records.
    pub dns: Option<Dns>,
    /// The name that the certificate is for; `None`: the site decides.
    pub domain: Option<String>,
}

/// A DNS provider, with what a DNS hook needs to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Dns {
    /// Pebble's companion.
    Challtestsrv {
        /// URL of its API, without a slash at the end: `POST /set-txt`, `POST /clear-txt`.
        api: String,
        /// Its DNS server, as `address:port`.
        resolver: String,
    },
    /// Gandi's LiveDNS.
    Gandi,
}

impl Acme {
    /// The values for `tier` with these settings. `authority` is the started ACME server of tier `pebble`; `roots` is the
    /// content of the file `certs.root`.
    pub fn of(tier: Tier, settings: &CertsPlan, authority: Option<&Authority>, roots: Option<&str>) -> Self {
        match tier {
            Tier::Internal => Self::default(),
            Tier::Pebble => Self {
                directory: authority.map(Authority::directory),
                ca: authority.map(|authority| authority.ca.clone()),
                root: authority.map(|authority| authority.roots.clone()),
                dns: authority.map(Authority::dns),
                domain: settings.domain.clone(),
            },
            Tier::LeStaging => Self::lets_encrypt(STAGING, Some(STAGING_ROOTS), settings, roots),
            Tier::LeProdWildcard => Self::lets_encrypt(PRODUCTION, None, settings, roots),
        }
    }

    fn lets_encrypt(usual: &str, known: Option<&str>, settings: &CertsPlan, roots: Option<&str>) -> Self {
        let (directory, ca, root) = match &settings.directory {
            None => (usual, None, known),
            Some(other) => (other.as_str(), roots, roots),
        };
        let dns = match settings.dns.provider {
            DnsProvider::Gandi => Dns::Gandi,
        };
        Self {
            directory: Some(directory.to_owned()),
            ca: ca.map(str::to_owned),
            root: root.map(str::to_owned),
            dns: Some(dns),
            domain: settings.domain.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::plan::DnsPlan;

    fn settings(directory: Option<&str>) -> CertsPlan {
        CertsPlan {
            directory: directory.map(str::to_owned),
            root: None,
            domain: Some("trial.example.org".to_owned()),
            dns: DnsPlan { provider: DnsProvider::Gandi, token: "vault.gandi.pat".to_owned() },
        }
    }

    #[test]
    fn the_default_directories_are_those_of_lets_encrypt_and_internal_has_none() {
        let of = |tier| Acme::of(tier, &settings(None), None, None);
        assert_eq!(of(Tier::Internal), Acme::default());
        let (staging, production) = (of(Tier::LeStaging), of(Tier::LeProdWildcard));
        assert_eq!(
            staging.directory.as_deref(),
            Some("https://acme-staging-v02.api.letsencrypt.org/directory")
        );
        assert_eq!(production.directory.as_deref(), Some("https://acme-v02.api.letsencrypt.org/directory"));
        // Production is what a browser trusts; of staging only the certificates need a root of their own.
        assert_eq!((production.ca, production.root, staging.ca), (None, None, None));
        assert_eq!(staging.root.unwrap().matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!((staging.dns, production.dns), (Some(Dns::Gandi), Some(Dns::Gandi)));
        assert_eq!(staging.domain.as_deref(), Some("trial.example.org"));
    }

    #[test]
    fn a_custom_directory_brings_its_roots_and_changes_nothing_else() {
        let other = settings(Some("https://ca.example.org:14000/dir"));
        for tier in [Tier::LeStaging, Tier::LeProdWildcard] {
            let acme = Acme::of(tier, &other, None, Some("the roots"));
            assert_eq!(acme.directory.as_deref(), Some("https://ca.example.org:14000/dir"));
            assert_eq!((acme.ca.as_deref(), acme.root.as_deref()), (Some("the roots"), Some("the roots")));
            assert_eq!(acme.dns, Some(Dns::Gandi));
        }
    }
}
