//! The download of Debian's image trusts the certificate store of the machine, and nothing else.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::project::Project;

/// An HTTPS server on loopback that answers 404 to every request, and its authority as PEM.
fn https_server(name: &str) -> (String, String) {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
            // A client that does not trust the certificate hangs up here.
            if stream.read(&mut [0; 1024]).is_ok() {
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        }
    });
    (url, authority.pem())
}

#[rstest::rstest]
#[case::the_authority_of_the_server(true)]
#[case::another_authority(false)]
fn the_image_server_is_trusted_if_the_store_has(#[case] its_authority: bool) {
    let (project, (url, authority)) = (Project::with_hypervisor(), https_server("an authority"));
    let image = format!("  source: official\n  release: 20251117-2299\n  url: {url}");
    project.replace("harness/harness.yml", "  source: build", &image);
    project.write("store.pem", &if its_authority { authority } else { https_server("another authority").1 });
    let store = project.path("store.pem");
    let transcript = project.run_with(&["image", "build"], &[("SSL_CERT_FILE", store.to_str().unwrap())]);
    assert_eq!(transcript.code, Some(3));
    let name = if its_authority { "trusted" } else { "not_trusted" };
    insta::assert_snapshot!(name, transcript.to_string().replace(&url, "[server]"));
}
