//! `certs:` of `harness/harness.yml`: what the certificate tiers that speak ACME go by.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::problem::Problem;
use super::root::expand;

/// What the tiers `pebble`, `le-staging` and `le-prod-wildcard` go by. `internal` asks for none of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertsPlan {
    /// ACME directory of the Let's Encrypt tiers; none: Let's Encrypt's own.
    pub directory: Option<String>,
    /// Root certificates (a PEM file, absolute) for an authority of one's own behind `directory`: of its HTTPS and of
    /// what it issues.
    pub root: Option<PathBuf>,
    /// The name that the certificate is for, beside its wildcard; none: the site decides.
    pub domain: Option<String>,
    /// Where the Let's Encrypt tiers put DNS records.
    pub dns: DnsPlan,
}

/// Where DNS records are put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DnsPlan {
    /// Whose service it is.
    pub provider: DnsProvider,
    /// Name of the secret that opens it: the Ansible variable that the site has it in.
    pub token: String,
}

/// A DNS service that tiers know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DnsProvider {
    /// Gandi's LiveDNS.
    #[default]
    Gandi,
}

/// The key as it is written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub(super) struct CertsFile {
    /// ACME directory instead of Let's Encrypt's.
    directory: Option<String>,
    /// PEM file, relative to the root.
    root: Option<String>,
    /// Name of the certificate.
    domain: Option<String>,
    /// Where records are put.
    dns: DnsFile,
}

/// `certs.dns:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
struct DnsFile {
    /// Whose service it is.
    provider: DnsProvider,
    /// Name of its token among the secrets.
    token: String,
}

impl Default for DnsFile {
    fn default() -> Self {
        Self { provider: DnsProvider::default(), token: "vault.gandi.pat".to_owned() }
    }
}

impl CertsFile {
    /// The settings, checked.
    pub(super) fn resolve(self, root: &Path, document: &Document, problems: &mut Vec<Problem>) -> CertsPlan {
        let mut refuse = |keys: &[&str], message: String| problems.push(document.at_value(keys, message));
        if let Some(directory) = self.directory.as_deref().filter(|it| !it.starts_with("https://")) {
            let message =
                format!("`{directory}` is no ACME directory: write its URL, which begins with `https://`");
            refuse(&["certs", "directory"], message);
        }
        if self.root.is_some() && self.directory.is_none() {
            let message =
                "`certs.root` means something only with `certs.directory`: Let's Encrypt's roots are known";
            refuse(&["certs", "root"], message.to_owned());
        }
        if let Some(domain) = self.domain.as_deref().filter(|it| !is_domain(it)) {
            let message =
                format!("`{domain}` is no domain name: write one such as `trial.example.org`, without `*.`");
            refuse(&["certs", "domain"], message);
        }
        if !is_variable(&self.dns.token) {
            let message = format!(
                "`{}` is no name of a secret: expected an Ansible variable and keys in it, such as `vault.gandi.pat`",
                self.dns.token
            );
            refuse(&["certs", "dns", "token"], message);
        }
        let file = self.root.map(|file| expand(root, &file));
        if let Some(Err(message)) = &file {
            refuse(&["certs", "root"], message.clone());
        }
        CertsPlan {
            directory: self.directory,
            root: file.and_then(Result::ok),
            domain: self.domain,
            dns: DnsPlan { provider: self.dns.provider, token: self.dns.token },
        }
    }
}

/// Whether `text` is a domain name of at least two labels: letters, digits and inner hyphens (RFC 1123, 2.1).
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.contains('.') && text.split('.').all(is_label)
}

/// Whether `text` is a variable of Ansible's, or a key in one.
fn is_variable(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text.split('.').all(is_name)
}
