//! Pebble, the ACME server of the tier of that name, and `pebble-challtestsrv`, the DNS server that it asks: child processes
//! for as long as a run, or a step of one, needs them.
//!
//! Pebble makes a new issuing authority each time it starts, and forgets its accounts. So each step of a run has another root.
//! `roots.pem` collects those of all steps, and certificates of each are valid.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::Dns;
use super::endpoint::{Endpoint, LOOPBACK, Ports};
use crate::support::deadline::{Deadline, Progress, WaitError};
use crate::support::env;
use crate::support::process::{Process, ProcessError, Service};

/// The ACME server, and the DNS server that it asks.
pub(super) const PROGRAMS: [&str; 2] = [SERVER, DNS];
const SERVER: &str = "pebble";
const DNS: &str = "pebble-challtestsrv";

/// How long a certificate lives, as Let's Encrypt's do: 90 days.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often a starting server is probed.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long one probe can take.
const PROBE: Duration = Duration::from_secs(2);
/// How many lines from the end of a log an error shows.
const SHOWN_LINES: usize = 8;

/// Where a run keeps the files of its ACME server.
#[derive(Clone, Debug)]
pub struct PebbleFiles {
    /// Logs, certificates, settings.
    pub folder: PathBuf,
    /// The private key of the server's HTTPS.
    pub key: PathBuf,
}

/// An ACME server as seen by the site and the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Root (PEM) of the server's own HTTPS.
    pub ca: String,
    /// Roots (PEM) of the certificates that it issues, and of those that it issued in earlier steps of the run.
    pub roots: String,
    address: IpAddr,
    ports: Ports,
}

/// The servers, which run until this is stopped or dropped. The thread that starts them must outlive them.
#[derive(Debug)]
pub struct Pebble {
    authority: Authority,
    servers: Vec<Server>,
}

/// Why the ACME server did not start.
#[derive(Debug, thiserror::Error)]
pub enum PebbleError {
    /// One of its files could not be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Its certificate could not be made.
    #[error("cannot make a certificate for the ACME server")]
    Certificate(#[source] rcgen::Error),
    /// The address that the guest uses cannot be listened on.
    #[error(
        "cannot listen on {address}, where the VM reaches this machine: is the harness's network on another machine?"
    )]
    Address {
        /// The address.
        address: IpAddr,
        /// The system's error.
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

impl PebbleError {
    /// For an operation on the file at `path`.
    pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path: path.clone(), source }
    }
}

impl Pebble {
    /// Starts the servers on `address` and waits until they answer.
    ///
    /// # Errors
    /// [`PebbleError`]; nothing runs then.
    pub fn start(files: &PebbleFiles, address: IpAddr, deadline: &Deadline) -> Result<Self, PebbleError> {
        let folder = &files.folder;
        fs::create_dir_all(folder).map_err(PebbleError::io(folder))?;
        let ports_file = folder.join("ports.json");
        let earlier = fs::read(&ports_file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let ports =
            Ports::choose(address, earlier).map_err(|source| PebbleError::Address { address, source })?;
        fs::write(&ports_file, json!(ports).to_string()).map_err(PebbleError::io(&ports_file))?;
        let endpoint = Endpoint::ensure(folder, &files.key, &[address, LOOPBACK])?;
        let settings = folder.join("pebble.json");
        fs::write(&settings, self::settings(address, ports, &endpoint))
            .map_err(PebbleError::io(&settings))?;

        let mut dns =
            Server::start(challtestsrv(address, ports, deadline)?, folder.join("challtestsrv.log"))?;
        let mut acme = Server::start(acme(address, ports, &settings), folder.join("pebble.log"))?;
        dns.wait(deadline, || connect(address, ports.api))?;
        let url = format!("https://{}/roots/0", SocketAddr::new(LOOPBACK, ports.management));
        let root = acme.wait(deadline, || get(&url, &endpoint.ca))?;
        acme.wait(deadline, || connect(address, ports.acme))?;

        let roots_file = folder.join("roots.pem");
        let mut roots = fs::read_to_string(&roots_file).unwrap_or_default();
        roots.push_str(&root);
        fs::write(&roots_file, &roots).map_err(PebbleError::io(&roots_file))?;
        let authority = Authority { ca: endpoint.ca, roots, address, ports };
        Ok(Self { authority, servers: vec![acme, dns] })
    }

    /// Its values for the site.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The processes, while they run.
    pub fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(|server| server.service.pid()).collect()
    }

    /// Stops the servers. Returns a note about each that had already ended.
    pub fn stop(mut self) -> Vec<String> {
        let ended = self.servers.iter_mut().filter_map(|Server { service, log }| {
            let how = service.ended()?;
            Some(format!("`{}` ended with {how} during the run; see {}", service.command(), log.display()))
        });
        let notes = ended.collect();
        self.servers.iter_mut().for_each(|server| server.service.stop());
        notes
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

/// One of the two servers.
#[derive(Debug)]
struct Server {
    service: Service,
    log: PathBuf,
}

impl Server {
    fn start(process: Process, log: PathBuf) -> Result<Self, PebbleError> {
        Ok(Self { service: process.log_to(&log).start()?, log })
    }

    /// Waits until `probe` succeeds.
    fn wait<T>(
        &mut self,
        deadline: &Deadline,
        probe: impl Fn() -> anyhow::Result<T>,
    ) -> Result<T, PebbleError> {
        let awaited = format!("`{}`", self.service.command());
        let waited = deadline.wait_for(&awaited, INTERVAL, || {
            if let Some(how) = self.service.ended() {
                anyhow::bail!("it ended with {how}; the end of {}:{}", self.log.display(), tail(&self.log));
            }
            Ok(probe().map_or_else(|why| Progress::Pending(format!("{why:#}")), Progress::Ready))
        });
        Ok(waited?)
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(|line| format!("\n  {line}")).collect()
}

/// Pebble's configuration file. DNS-01 is the only challenge in use, so nothing listens on its HTTP ports.
fn settings(address: IpAddr, ports: Ports, endpoint: &Endpoint) -> String {
    let settings = json!({"pebble": {
        "listenAddress": SocketAddr::new(address, ports.acme),
        "managementListenAddress": SocketAddr::new(LOOPBACK, ports.management),
        "certificate": endpoint.certificate,
        "privateKey": endpoint.key,
        "httpPort": 5002,
        "tlsPort": 5001,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": false,
        "certificateValidityPeriod": LIFETIME.as_secs(),
        // Pebble 2.6 and later; older versions ignore it.
        "retryAfter": {"authz": 1, "order": 1},
    }});
    format!("{settings:#}\n")
}

/// Pebble without its random delays and rejections and without reused authorizations, so that every issuance takes all steps
/// and every run is the same.
fn acme(address: IpAddr, ports: Ports, settings: &Path) -> Process {
    let mut process = Process::new(SERVER);
    // PEBBLE_VA_ALWAYS_VALID, for example, would turn every check off.
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

/// The DNS server with its API, and without its other servers.
fn challtestsrv(address: IpAddr, ports: Ports, deadline: &Deadline) -> Result<Process, PebbleError> {
    let help = Process::new(DNS).arg("-help").run(deadline)?;
    let off = ["-http01", "-https01", "-tlsalpn01", "-doh"];
    // In Debian 13 it also serves DNS over HTTPS, for which Debian 12's has no flag.
    let off = off.into_iter().filter(|flag| help.stderr.contains(&format!("{flag} ")));
    let dns = SocketAddr::new(address, ports.dns).to_string();
    let api = SocketAddr::new(address, ports.api).to_string();
    let on = ["-dns01", &dns, "-management", &api, "-defaultIPv6", ""];
    Ok(Process::new(DNS).args(off.flat_map(|flag| [flag, ""])).args(on))
}

/// Connects to a port and closes the connection.
fn connect(address: IpAddr, port: u16) -> anyhow::Result<()> {
    Ok(TcpStream::connect_timeout(&SocketAddr::new(address, port), PROBE).map(drop)?)
}

/// Fetches `url` from a server with a certificate issued by `ca`.
fn get(url: &str, ca: &str) -> anyhow::Result<String> {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};
    let ca = Certificate::from_pem(ca.as_bytes()).context("the authority's certificate is invalid")?;
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[ca])).build();
    // No proxy: the server is on this machine.
    let config = ureq::Agent::config_builder().tls_config(tls).proxy(None).timeout_global(Some(PROBE));
    let mut response = ureq::Agent::new_with_config(config.build()).get(url).call()?;
    Ok(response.body_mut().read_to_string()?)
}

#[cfg(test)]
mod tests;
