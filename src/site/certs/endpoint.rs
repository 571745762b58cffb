//! Keys and certificates of our ACME server's own HTTPS: an authority made for the run, of which the private key is
//! forgotten at once, and one certificate of it for the addresses that the server listens on. Later steps of a run
//! find them again, as the guest trusts this very authority by then.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::pebble::PebbleError;

/// The files, and what the guest has to trust.
pub(super) struct Endpoint {
    /// The server's certificate.
    pub(super) certificate: PathBuf,
    /// Its private key.
    pub(super) key: PathBuf,
    /// The authority's certificate, as PEM.
    pub(super) ca: String,
}

impl Endpoint {
    /// Those of an earlier step, or new ones: certificates in `folder`, the server's private key in the file `key`.
    ///
    /// # Errors
    /// When they can be neither read nor made.
    pub(super) fn ensure(folder: &Path, key: &Path, addresses: &[IpAddr]) -> Result<Self, PebbleError> {
        let [ca, certificate] = ["ca.pem", "endpoint.pem"].map(|name| folder.join(name));
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| PebbleError::Io { path, source }
        };
        if ![key, &ca, &certificate].iter().all(|path| path.is_file()) {
            let made = make(addresses).map_err(PebbleError::Certificate)?;
            write_private(key, &made.key).map_err(at(key))?;
            fs::write(&certificate, &made.certificate).map_err(at(&certificate))?;
            fs::write(&ca, &made.ca).map_err(at(&ca))?;
        }
        let text = fs::read_to_string(&ca).map_err(at(&ca))?;
        Ok(Self { certificate, key: key.to_owned(), ca: text })
    }
}

/// Everything as PEM.
struct Made {
    ca: String,
    certificate: String,
    key: String,
}

fn make(addresses: &[IpAddr]) -> Result<Made, rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "boma-it, ACME server of one run");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "boma-it, ACME server");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &authority)?;
    Ok(Made { ca: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
