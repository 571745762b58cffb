//! The addresses, keys and certificates of the ACME server's own HTTPS. Later steps of a run use the same ones again, because
//! the guest's settings name these ports and the guest trusts this authority by then.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

use super::pebble::PebbleError;
use crate::support::file;

/// A port for each listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    /// ACME, for the guest.
    pub(super) acme: u16,
    /// The API that sets DNS records, for the guest.
    pub(super) api: u16,
    /// DNS, for the guest and for the ACME server.
    pub(super) dns: u16,
    /// The ACME server's management, for boma-it, on loopback: any port, because runs share that address.
    pub(super) management: u16,
}

/// The ports in the documentation of Pebble and its DNS server, which a firewall may know.
const USUAL: Ports = Ports { acme: 14000, api: 8055, dns: 8053, management: 0 };

/// Where management listens: only for boma-it.
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Ports {
    /// Free ports on `address`: `earlier` if they are free, else the usual ones, else any.
    ///
    /// # Errors
    /// When nothing can listen on `address`: it may not belong to this machine.
    pub(super) fn choose(address: IpAddr, earlier: Option<Self>) -> io::Result<Self> {
        let pick = |port: fn(&Self) -> u16| {
            let mut wanted = earlier.iter().chain([&USUAL]).map(port);
            let free_one = wanted.find_map(|port| free(SocketAddr::new(address, port)).ok());
            free_one.map_or_else(|| free(SocketAddr::new(address, 0)), Ok)
        };
        Ok(Self {
            acme: pick(|ports| ports.acme)?,
            api: pick(|ports| ports.api)?,
            dns: pick(|ports| ports.dns)?,
            management: free(SocketAddr::new(LOOPBACK, 0))?,
        })
    }
}

/// The port, if it is free for both TCP and UDP; for 0, any free one.
fn free(address: SocketAddr) -> io::Result<u16> {
    let listener = TcpListener::bind(address)?;
    let port = listener.local_addr()?.port();
    UdpSocket::bind(SocketAddr::new(address.ip(), port))?;
    Ok(port)
}

/// Files of the server's HTTPS, and the authority that the guest must trust.
pub(super) struct Endpoint {
    /// The server's certificate.
    pub(super) certificate: PathBuf,
    /// Its private key.
    pub(super) key: PathBuf,
    /// The authority's certificate, as PEM.
    pub(super) ca: String,
}

impl Endpoint {
    /// That of an earlier step, or a new one: certificates in `folder`, the server's private key in the file `key`.
    ///
    /// # Errors
    /// When the files can be neither read nor made.
    pub(super) fn ensure(folder: &Path, key: &Path, addresses: &[IpAddr]) -> Result<Self, PebbleError> {
        let [ca, certificate] = ["ca.pem", "endpoint.pem"].map(|name| folder.join(name));
        if ![key, &ca, &certificate].iter().all(|path| path.is_file()) {
            let (authority, server, pair) = generate(addresses).map_err(PebbleError::Certificate)?;
            file::replace(key, 0o600, |file| file.write_all(pair.serialize_pem().as_bytes()))
                .map_err(PebbleError::io(key))?;
            fs::write(&certificate, server.pem()).map_err(PebbleError::io(&certificate))?;
            fs::write(&ca, authority.pem()).map_err(PebbleError::io(&ca))?;
        }
        let text = fs::read_to_string(&ca).map_err(PebbleError::io(&ca))?;
        Ok(Self { certificate, key: key.to_owned(), ca: text })
    }
}

/// A new authority, and the server's certificate and key. Nothing writes the authority's own key down.
fn generate(
    addresses: &[IpAddr],
) -> Result<(CertifiedIssuer<'static, KeyPair>, Certificate, KeyPair), rcgen::Error> {
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
    Ok((authority, certificate, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_an_earlier_step_are_used_again_unless_they_are_taken() {
        let address = IpAddr::from([127, 84, 0, 1]);
        let first = Ports::choose(address, None).unwrap();
        assert_eq!((first.acme, first.api, first.dns), (14000, 8055, 8053));
        let other = Ports { acme: free((address, 0).into()).unwrap(), ..first };
        assert_eq!(Ports::choose(address, Some(other)).unwrap().acme, other.acme);
        let _taken = TcpListener::bind((address, other.acme)).unwrap();
        assert_eq!(Ports::choose(address, Some(other)).unwrap().acme, 14000);
        let _usual = TcpListener::bind((address, 14000)).unwrap();
        let last = Ports::choose(address, Some(other)).unwrap().acme;
        assert!(last != 14000 && last != other.acme, "{last}");
    }

    #[test]
    fn an_address_of_another_machine_is_an_error() {
        let error = Ports::choose(IpAddr::from([192, 0, 2, 1]), None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
