//! The real servers on loopback: they start, answer and stop on every path, and their logs are kept.

use std::net::TcpListener;
use std::path::PathBuf;

use rstest::rstest;

use super::*;
use crate::catalog::plan::{CertsPlan, DnsPlan, DnsProvider, Tier};
use crate::site::certs::Acme;

/// A folder and an address of loopback for one test.
struct ServerFixture {
    folder: tempfile::TempDir,
    address: IpAddr,
    _claim: Option<TcpListener>,
}

impl ServerFixture {
    /// Claims an address for as long as its listener lives, against tests in this process and in others: nextest runs each test
    /// in a process of its own.
    fn new() -> Self {
        let claim = |last| {
            let address = IpAddr::from([127, 84, 1, last]);
            Some((address, TcpListener::bind((address, 14083)).ok()?))
        };
        let (address, claim) = (1..=254).find_map(claim).expect("a free address of loopback");
        Self { folder: tempfile::tempdir().unwrap(), address, _claim: Some(claim) }
    }

    fn files(&self) -> PebbleFiles {
        PebbleFiles { folder: self.path("certs"), key: self.path("key") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Result<Pebble, PebbleError> {
        let deadline = Deadline::uninterrupted(Duration::from_secs(30), "the test");
        Pebble::start(&self.files(), self.address, &deadline)
    }

    /// `text` without this test's folder and address.
    fn plain(&self, text: &str) -> String {
        let text = text.replace(self.folder.path().to_str().unwrap(), "[folder]");
        text.replace(&self.address.to_string(), "[address]")
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path("certs").join(name)).unwrap()
    }
}

/// Whether this machine has the programs. Under CI it must.
fn is_installed() -> bool {
    let installed = PROGRAMS.into_iter().all(crate::support::process::is_available);
    assert!(installed || !env::is_ci(), "{PROGRAMS:?} are not on PATH: `make setup` installs them");
    if !installed {
        eprintln!("skipped: no {PROGRAMS:?} on PATH; `make setup` installs them");
    }
    installed
}

fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[track_caller]
fn assert_gone(pids: &[u32]) {
    assert_eq!(pids.len(), 2);
    assert!(!pids.iter().any(|pid| lives(*pid)), "a server outlived its run: {pids:?}");
}

#[test]
fn the_servers_answer_at_the_addresses_given_to_the_site() {
    if !is_installed() {
        return;
    }
    let fixture = ServerFixture::new();
    let pebble = fixture.start().unwrap();
    let settings = CertsPlan {
        directory: Some("https://elsewhere.example.org/dir".to_owned()),
        root: None,
        domain: None,
        dns: DnsPlan { provider: DnsProvider::Gandi, token: "vault.gandi.pat".to_owned() },
    };
    let acme = Acme::of(Tier::Pebble, &settings, Some(pebble.authority()), None);
    assert_eq!(acme.directory.as_deref(), Some(&*format!("https://{}:14000/dir", fixture.address)));
    let (api, resolver) = (format!("http://{}:8055", fixture.address), format!("{}:8053", fixture.address));
    assert_eq!(acme.dns, Some(Dns::Challtestsrv { api, resolver: resolver.clone() }));
    // The directory's certificate is valid for a client that trusts the given authority.
    let directory = get(&acme.directory.unwrap(), &acme.ca.unwrap()).unwrap();
    assert!(directory.contains("newOrder"), "{directory}");
    assert_eq!(acme.root.unwrap().matches("BEGIN CERTIFICATE").count(), 1);
    let pids = pebble.pids();
    assert!(pids.iter().all(|pid| lives(*pid)));
    assert_eq!(pebble.stop(), Vec::<String>::new());
    assert_gone(&pids);
    let log = fixture.log("pebble.log");
    let settings = ["Disabling random VA sleeps", "reject 0% of good nonces", "reuse for each identifier 0%"];
    assert!(settings.iter().all(|words| log.contains(words)), "{log}");
    assert!(log.contains("validity period of 7776000 seconds") && log.contains("/dir"), "{log}");
    assert!(fixture.log("challtestsrv.log").contains(&resolver));
}

#[test]
fn a_later_step_uses_the_same_ports_and_has_the_roots_of_both() {
    if !is_installed() {
        return;
    }
    let fixture = ServerFixture::new();
    let _taken = TcpListener::bind((fixture.address, 14000)).unwrap();
    let first = fixture.start().unwrap();
    let earlier = first.authority().clone();
    assert_ne!(earlier.ports.acme, 14000);
    first.stop();
    let second = fixture.start().unwrap();
    let again = second.authority();
    let open = |ports: Ports| (ports.acme, ports.api, ports.dns);
    assert_eq!((open(again.ports), &again.ca), (open(earlier.ports), &earlier.ca));
    assert!(again.roots.starts_with(&earlier.roots) && again.roots.len() > earlier.roots.len());
    assert_eq!(again.roots.matches("BEGIN CERTIFICATE").count(), 2);
}

#[rstest]
#[case::dropped(|pebble: Pebble| drop(pebble))]
#[case::a_panic(|pebble: Pebble| {
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _pebble = pebble;
        panic!("in the middle of a stage");
    }));
    assert!(panicked.is_err());
})]
fn the_servers_end_with_their_handle(#[case] end: fn(Pebble)) {
    if !is_installed() {
        return;
    }
    let fixture = ServerFixture::new();
    let pebble = fixture.start().unwrap();
    let pids = pebble.pids();
    end(pebble);
    assert_gone(&pids);
    assert!(fixture.log("pebble.log").contains("ACME directory available"));
}

#[test]
fn a_server_that_died_is_noted_with_its_log() {
    if !is_installed() {
        return;
    }
    let fixture = ServerFixture::new();
    let mut pebble = fixture.start().unwrap();
    pebble.servers[0].service.stop();
    let notes = pebble.stop();
    insta::assert_snapshot!(fixture.plain(&notes.join("\n")), @"`pebble -config [folder]/certs/pebble.json -strict -dnsserver [address]:8053` ended with signal 15 during the run; see [folder]/certs/pebble.log");
}

#[test]
fn a_server_that_does_not_start_is_an_error_with_its_log_and_nothing_is_left() {
    if !is_installed() {
        return;
    }
    let fixture = ServerFixture::new();
    fs::create_dir_all(fixture.path("certs")).unwrap();
    // Files of an earlier step, but invalid: only Pebble reads them.
    for name in ["certs/ca.pem", "certs/endpoint.pem", "key"] {
        fs::write(fixture.path(name), "no certificate\n").unwrap();
    }
    let error = fixture.start().unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(error));
    let (ours, log) = text.split_once('\n').unwrap_or_else(|| panic!("no log: {text}"));
    insta::assert_snapshot!(fixture.plain(ours), @"the ACME server did not come up: waiting for `pebble -config [folder]/certs/pebble.json -strict -dnsserver [address]:8053`: it ended with exit status 1; the end of [folder]/certs/pebble.log:");
    assert!(log.lines().all(|line| line.starts_with("  ")), "{text}");
    // Nothing listens there any more.
    assert!(TcpStream::connect((fixture.address, 8055)).is_err());
}

#[test]
fn an_error_about_an_address_of_another_machine_names_it() {
    let address = IpAddr::from([192, 0, 2, 1]);
    let fixture = ServerFixture { folder: tempfile::tempdir().unwrap(), address, _claim: None };
    insta::assert_snapshot!(fixture.start().unwrap_err(), @"cannot listen on 192.0.2.1, where the VM reaches this machine: is the harness's network on another machine?");
}
