//! A tier as the site sees it: the values of `boma_it_acme_*`, `boma_it_dns_provider` and `boma_it_certs_domain`.

use serde::Serialize;

use super::pebble::Authority;
use crate::catalog::plan::{CertsPlan, DnsProvider, Tier};

/// Let's Encrypt's directory for trying things out: <https://letsencrypt.org/docs/staging-environment/>.
pub const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
/// Let's Encrypt's directory: <https://letsencrypt.org/docs/acme-protocol-updates/>.
pub const PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The roots behind [`STAGING`], which no system trusts: <https://letsencrypt.org/docs/staging-environment/#root-certificates>.
const STAGING_ROOTS: &str = include_str!("le-staging-roots.pem");

/// What a role that speaks ACME is told. Nothing of it with the tier `internal`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acme {
    /// URL of the ACME directory.
    pub directory: Option<String>,
    /// Roots (PEM) of the directory's own HTTPS; none: those that a system trusts.
    pub ca: Option<String>,
    /// Roots (PEM) of the certificates that are issued; none: those that a system trusts.
    pub root: Option<String>,
    /// Where the records for DNS-01 are put.
    pub dns: Option<Dns>,
    /// The name the certificate is for; none: the site decides.
    pub domain: Option<String>,
}

/// Where DNS records are put, with what a DNS hook has to know of it.
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
    /// What `tier` gives, by these settings. `authority` is the ACME server of ours, which `pebble` needs to have been
    /// started; `roots` is what `certs.root` holds.
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
    fn without_acme_nothing_is_given_and_without_a_setting_the_directories_are_the_real_ones() {
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
    fn a_directory_of_ones_own_brings_its_roots_and_changes_nothing_else() {
        let other = settings(Some("https://ca.example.org:14000/dir"));
        for tier in [Tier::LeStaging, Tier::LeProdWildcard] {
            let acme = Acme::of(tier, &other, None, Some("the roots"));
            assert_eq!(acme.directory.as_deref(), Some("https://ca.example.org:14000/dir"));
            assert_eq!((acme.ca.as_deref(), acme.root.as_deref()), (Some("the roots"), Some("the roots")));
            assert_eq!(acme.dns, Some(Dns::Gandi));
        }
    }
}
