//! Pebble, the ACME server of the tier of that name, and its companion that answers its DNS questions: children of
//! ours for as long as a run, or a step of one, needs them.
//!
//! Pebble makes a new issuing authority each time it starts, and forgets its accounts. A later step of a run therefore
//! has another root: `roots.pem` gathers those of all steps, and certificates of each are good.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::endpoint::Endpoint;
use super::ports::{HERE, Ports};
use super::tier::Dns;
use crate::support::deadline::{Deadline, Progress, WaitError};
use crate::support::env;
use crate::support::process::{Process, ProcessError, Service};

/// The ACME server, and the DNS server that it asks.
pub(super) const PROGRAMS: [&str; 2] = [SERVER, DNS];
const SERVER: &str = "pebble";
const DNS: &str = "pebble-challtestsrv";

/// How long a certificate lives, as Let's Encrypt's do: 90 days.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often a server that starts is looked at.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(2);
/// How many of the last lines of a log an error shows.
const SHOWN_LINES: usize = 8;

/// Where a run keeps what belongs to its ACME server.
#[derive(Clone, Debug)]
pub struct Files {
    /// Logs, certificates, settings.
    pub folder: PathBuf,
    /// The private key of the server's HTTPS.
    pub key: PathBuf,
}

/// An ACME server as the site and the guest see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Root (PEM) of the server's own HTTPS.
    pub ca: String,
    /// Roots (PEM) of what it issues; of what it issued in earlier steps of the run as well.
    pub roots: String,
    address: IpAddr,
    ports: Ports,
}

/// The servers, which run until this is stopped or dropped. The thread that starts them has to outlive them.
#[derive(Debug)]
pub struct Pebble {
    authority: Authority,
    servers: Vec<(Service, PathBuf)>,
}

/// Why there is no ACME server.
#[derive(Debug, thiserror::Error)]
pub enum PebbleError {
    /// A file of it could not be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Its certificate could not be made.
    #[error("cannot make a certificate for the ACME server")]
    Certificate(#[source] rcgen::Error),
    /// Nothing can listen where the guest would look for it.
    #[error(
        "cannot listen on {address}, where the VM reaches this machine; does the harness's network lie here?"
    )]
    Address {
        /// The address.
        address: IpAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A server could not be started.
    #[error("cannot start the ACME server")]
    Process(#[from] ProcessError),
    /// A server did not come up.
    #[error("the ACME server did not come up")]
    NotReady(#[from] WaitError),
}

impl Pebble {
    /// Starts the servers on `address` and waits until they answer.
    ///
    /// # Errors
    /// [`PebbleError`]; nothing runs then.
    pub fn start(files: &Files, address: IpAddr, deadline: &Deadline) -> Result<Self, PebbleError> {
        let folder = &files.folder;
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| PebbleError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(at(folder))?;
        let noted = folder.join("ports.json");
        let earlier = fs::read(&noted).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let ports =
            Ports::choose(address, earlier).map_err(|source| PebbleError::Address { address, source })?;
        fs::write(&noted, json!(ports).to_string()).map_err(at(&noted))?;
        let endpoint = Endpoint::ensure(folder, &files.key, &[address, HERE])?;
        let settings = folder.join("pebble.json");
        fs::write(&settings, self::settings(address, ports, &endpoint)).map_err(at(&settings))?;

        let mut dns = Server::start(companion(address, ports, deadline)?, folder.join("challtestsrv.log"))?;
        let mut acme = Server::start(acme(address, ports, &settings), folder.join("pebble.log"))?;
        let api = SocketAddr::new(address, ports.api);
        dns.wait(deadline, || Ok(TcpStream::connect_timeout(&api, LOOK).map(|_| ())?))?;
        let url = format!("https://{}/roots/0", SocketAddr::new(HERE, ports.management));
        let root = acme.wait(deadline, || get(&url, &endpoint.ca))?;
        let front = SocketAddr::new(address, ports.acme);
        acme.wait(deadline, || Ok(TcpStream::connect_timeout(&front, LOOK).map(|_| ())?))?;

        let gathered = folder.join("roots.pem");
        let mut roots = fs::read_to_string(&gathered).unwrap_or_default();
        roots.push_str(&root);
        fs::write(&gathered, &roots).map_err(at(&gathered))?;
        let authority = Authority { ca: endpoint.ca, roots, address, ports };
        let servers = vec![(acme.service, acme.log), (dns.service, dns.log)];
        Ok(Self { authority, servers })
    }

    /// What the site is told of it.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The processes, while they run.
    pub fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(|(service, _)| service.pid()).collect()
    }

    /// Stops the servers. Gives a word about each that had ended before.
    pub fn stop(mut self) -> Vec<String> {
        let ended = self.servers.iter_mut().filter_map(|(service, log)| {
            let how = service.ended()?;
            Some(format!("`{}` ended with {how} during the run; see {}", service.command(), log.display()))
        });
        let words = ended.collect();
        self.servers.iter_mut().for_each(|(service, _)| service.stop());
        words
    }
}

impl Authority {
    pub(super) fn directory(&self) -> String {
        format!("https://{}/dir", SocketAddr::new(self.address, self.ports.acme))
    }

    pub(super) fn dns(&self) -> Dns {
        Dns::Challtestsrv {
            api: format!("http://{}", SocketAddr::new(self.address, self.ports.api)),
            resolver: SocketAddr::new(self.address, self.ports.dns).to_string(),
        }
    }
}

/// One of the two while it starts.
struct Server {
    service: Service,
    log: PathBuf,
}

impl Server {
    fn start(process: Process, log: PathBuf) -> Result<Self, PebbleError> {
        Ok(Self { service: process.log_to(&log).start()?, log })
    }

    /// Waits until `look` finds what it looks for.
    fn wait<T>(
        &mut self,
        deadline: &Deadline,
        look: impl Fn() -> anyhow::Result<T>,
    ) -> Result<T, PebbleError> {
        let awaited = format!("`{}`", self.service.command());
        let waited = deadline.wait_for(&awaited, INTERVAL, || {
            if let Some(how) = self.service.ended() {
                anyhow::bail!("it ended with {how}; the last of {}:{}", self.log.display(), tail(&self.log));
            }
            Ok(look().map_or_else(|why| Progress::Pending(format!("{why:#}")), Progress::Ready))
        });
        Ok(waited?)
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(|line| format!("\n  {line}")).collect()
}

/// Pebble's configuration file. It asks for no challenge but DNS-01, so its HTTP ports are nobody's.
fn settings(address: IpAddr, ports: Ports, endpoint: &Endpoint) -> String {
    let settings = json!({"pebble": {
        "listenAddress": SocketAddr::new(address, ports.acme),
        "managementListenAddress": SocketAddr::new(HERE, ports.management),
        "certificate": endpoint.certificate,
        "privateKey": endpoint.key,
        "httpPort": 5002,
        "tlsPort": 5001,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": false,
        "certificateValidityPeriod": LIFETIME.as_secs(),
        // Pebble 2.6 and later; the one before has no such key, and does not mind it.
        "retryAfter": {"authz": 1, "order": 1},
    }});
    format!("{settings:#}\n")
}

/// Pebble itself, without its dice: no random waits, no refused nonces, no authorization that is used twice, so that
/// every issuance goes the whole way and every run the same way.
fn acme(address: IpAddr, ports: Ports, settings: &Path) -> Process {
    let mut process = Process::new(SERVER);
    // PEBBLE_VA_ALWAYS_VALID, say, would have nothing checked.
    for name in env::names_starting_with(&["PEBBLE_"]) {
        process = process.env_remove(name);
    }
    let resolver = SocketAddr::new(address, ports.dns).to_string();
    process
        .arg("-config")
        .arg(settings)
        .args(["-strict", "-dnsserver", &resolver])
        .env("PEBBLE_VA_NOSLEEP", "1")
        .env("PEBBLE_WFE_NONCEREJECT", "0")
        .env("PEBBLE_AUTHZREUSE", "0")
}

/// The DNS server with its API, and none of the other servers that it could be.
fn companion(address: IpAddr, ports: Ports, deadline: &Deadline) -> Result<Process, PebbleError> {
    let help = Process::new(DNS).arg("-help").run(deadline)?;
    let off = ["-http01", "-https01", "-tlsalpn01", "-doh"];
    // Debian 13's has a server for DNS over HTTPS as well, which Debian 12's does not know.
    let off = off.into_iter().filter(|flag| help.stderr.contains(&format!("{flag} ")));
    let dns = SocketAddr::new(address, ports.dns).to_string();
    let api = SocketAddr::new(address, ports.api).to_string();
    Ok(Process::new(DNS).args(off.flat_map(|flag| [flag, ""])).args([
        "-dns01",
        &dns,
        "-management",
        &api,
        "-defaultIPv6",
        "",
    ]))
}

/// What is at `url`, of a server whose certificate is of `ca`.
fn get(url: &str, ca: &str) -> anyhow::Result<String> {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};
    let ca = Certificate::from_pem(ca.as_bytes()).context("the authority's certificate is none")?;
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[ca])).build();
    // No proxy: it is on this machine.
    let config = ureq::Agent::config_builder().tls_config(tls).proxy(None).timeout_global(Some(LOOK));
    let mut response = ureq::Agent::new_with_config(config.build()).get(url).call()?;
    Ok(response.body_mut().read_to_string()?)
}

#[cfg(test)]
mod tests;
