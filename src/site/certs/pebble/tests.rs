//! The real servers, on loopback: up, asked, stopped on every path, their logs kept.

use std::net::TcpListener;
use std::path::PathBuf;

use rstest::rstest;

use super::*;
use crate::catalog::plan::{CertsPlan, DnsPlan, DnsProvider, Tier};
use crate::site::certs::Acme;

/// A folder, an address, and what claims that.
struct Place {
    folder: tempfile::TempDir,
    address: IpAddr,
    _claim: Option<TcpListener>,
}

impl Place {
    /// At an address of loopback that is its own while the listener lives: no other has it, be it in this process or in
    /// another, as nextest has one for each test.
    fn new() -> Self {
        let claim = |last| {
            let address = IpAddr::from([127, 84, 1, last]);
            Some((address, TcpListener::bind((address, 14083)).ok()?))
        };
        let (address, claim) = (1..=254).find_map(claim).expect("an address of loopback that no test has");
        Self { folder: tempfile::tempdir().unwrap(), address, _claim: Some(claim) }
    }

    fn files(&self) -> Files {
        Files { folder: self.path("certs"), key: self.path("key") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Result<Pebble, PebbleError> {
        let deadline = Deadline::uninterrupted(Duration::from_secs(30), "the test");
        Pebble::start(&self.files(), self.address, &deadline)
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path("certs").join(name)).unwrap()
    }
}

/// Whether this machine has the programs; where CI looks it must.
fn here() -> bool {
    let here = PROGRAMS.into_iter().all(crate::support::process::is_available);
    assert!(here || !env::is_ci(), "{PROGRAMS:?} are not on PATH: `make setup` installs them");
    if !here {
        eprintln!("skipped: no {PROGRAMS:?} on PATH; `make setup` installs them");
    }
    here
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
fn what_the_site_is_told_is_what_answers() {
    if !here() {
        return;
    }
    let place = Place::new();
    let pebble = place.start().unwrap();
    let settings = CertsPlan {
        directory: Some("https://elsewhere.example.org/dir".to_owned()),
        root: None,
        domain: None,
        dns: DnsPlan { provider: DnsProvider::Gandi, token: "vault.gandi.pat".to_owned() },
    };
    let acme = Acme::of(Tier::Pebble, &settings, Some(pebble.authority()), None);
    assert_eq!(acme.directory.as_deref(), Some(&*format!("https://{}:14000/dir", place.address)));
    let (api, resolver) = (format!("http://{}:8055", place.address), format!("{}:8053", place.address));
    assert_eq!(acme.dns, Some(Dns::Challtestsrv { api, resolver: resolver.clone() }));
    // The directory answers to who trusts what the site is told to trust.
    let directory = get(&acme.directory.unwrap(), &acme.ca.unwrap()).unwrap();
    assert!(directory.contains("newOrder"), "{directory}");
    assert_eq!(acme.root.unwrap().matches("BEGIN CERTIFICATE").count(), 1);
    let pids = pebble.pids();
    assert!(pids.iter().all(|pid| lives(*pid)));
    assert_eq!(pebble.stop(), Vec::<String>::new());
    assert_gone(&pids);
    let log = place.log("pebble.log");
    let dice = ["Disabling random VA sleeps", "reject 0% of good nonces", "reuse for each identifier 0%"];
    assert!(dice.iter().all(|words| log.contains(words)), "{log}");
    assert!(log.contains("validity period of 7776000 seconds") && log.contains("/dir"), "{log}");
    assert!(place.log("challtestsrv.log").contains(&resolver));
}

#[test]
fn a_later_step_listens_where_the_first_did_and_knows_the_roots_of_both() {
    if !here() {
        return;
    }
    let place = Place::new();
    let _taken = TcpListener::bind((place.address, 14000)).unwrap();
    let first = place.start().unwrap();
    let told = first.authority().clone();
    assert_ne!(told.ports.acme, 14000);
    first.stop();
    let second = place.start().unwrap();
    let again = second.authority();
    let open = |ports: Ports| (ports.acme, ports.api, ports.dns);
    assert_eq!((open(again.ports), &again.ca), (open(told.ports), &told.ca));
    assert!(again.roots.starts_with(&told.roots) && again.roots.len() > told.roots.len());
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
fn nothing_outlives_it_on_any_path(#[case] end: fn(Pebble)) {
    if !here() {
        return;
    }
    let place = Place::new();
    let pebble = place.start().unwrap();
    let pids = pebble.pids();
    end(pebble);
    assert_gone(&pids);
    assert!(place.log("pebble.log").contains("ACME directory available"));
}

#[test]
fn one_that_dies_by_itself_is_told_with_where_its_log_is() {
    if !here() {
        return;
    }
    let place = Place::new();
    let mut pebble = place.start().unwrap();
    pebble.servers[0].0.stop();
    let words = pebble.stop();
    assert_eq!(words.len(), 1);
    assert!(
        words[0].contains("ended with signal 15 during the run; see ") && words[0].ends_with("pebble.log")
    );
}

#[test]
fn one_that_does_not_come_up_says_why_and_leaves_nothing() {
    if !here() {
        return;
    }
    let place = Place::new();
    fs::create_dir_all(place.path("certs")).unwrap();
    // Half of what an earlier step would have left: what is in the files is Pebble's to judge.
    for name in ["certs/ca.pem", "certs/endpoint.pem", "key"] {
        fs::write(place.path(name), "no certificate\n").unwrap();
    }
    let error = place.start().unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.starts_with("the ACME server did not come up: waiting for `pebble -config "), "{text}");
    assert!(
        text.contains("it ended with exit status 1; the last of ") && text.contains("pebble.log:\n"),
        "{text}"
    );
    // Where it listened nothing does.
    assert!(TcpStream::connect((place.address, 8055)).is_err());
}

#[test]
fn an_address_of_another_machine_is_refused_by_name() {
    let address = IpAddr::from([192, 0, 2, 1]);
    let elsewhere = Place { folder: tempfile::tempdir().unwrap(), address, _claim: None };
    let error = elsewhere.start().unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on 192.0.2.1, where the VM reaches this machine"), "{error}");
}
