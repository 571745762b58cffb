//! A hypervisor in memory, for tests: it keeps state, insists on the order of things as libvirt does, and fails or hangs on
//! demand. It boots no guest; what a guest would do to its domain and console, a test does with [`Fake::set_state`],
//! [`Fake::print`] and [`Fake::log`].
//!
//! ```
//! use boma_it::machine::fake::{Fake, Verb};
//! use boma_it::machine::{DomainState, Hypervisor};
//!
//! let fake = Fake::new();
//! fake.fail(Verb::Start, 1);
//! assert!(fake.start("boma-it-askari").is_err());
//! assert_eq!(fake.state("boma-it-askari").unwrap(), DomainState::Absent);
//! ```

mod verbs;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::domain::DomainSpec;
use super::hypervisor::{DomainState, HostInfo, HypervisorError, Result};
use super::names::VmVolumes;
use super::network::NetworkSpec;
use crate::catalog::quantity::Bytes;

/// A verb of [`Hypervisor`], to fail at and to look for among the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named like the trait's methods, and documented there")]
pub enum Verb {
    HostInfo,
    EnsurePool,
    EnsureNetwork,
    Volumes,
    Upload,
    CreateOverlay,
    Download,
    DeleteVolume,
    Define,
    Start,
    Restart,
    PowerOff,
    Undefine,
    State,
    Machines,
    SetOwnership,
}

/// What KVM is like on the fake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kvm {
    /// Not offered.
    Absent,
    /// Offered, and a guest gets as far as its service manager.
    Works,
    /// Offered, and the virtual CPU stops at once.
    Lies,
    /// Offered, and QEMU ends as it starts.
    Refuses,
    /// Offered, and nothing ever happens.
    Stalls,
}

/// The hypervisor in memory.
#[derive(Debug)]
pub struct Fake {
    world: Mutex<State>,
    after: Mutex<Vec<(Verb, Act)>>,
}

/// What a test does when a verb was carried out, given the name of what the call was about.
#[derive(Clone)]
struct Act(Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Act")
    }
}

#[derive(Debug)]
struct State {
    facts: HostInfo,
    kvm: Kvm,
    pool: bool,
    network: Option<NetworkSpec>,
    volumes: BTreeMap<String, Contents>,
    domains: BTreeMap<String, (DomainSpec, DomainState)>,
    calls: Vec<(Verb, String)>,
    faults: Vec<(Verb, usize, InjectedFault)>,
}

#[derive(Debug)]
struct Contents {
    bytes: Vec<u8>,
    capacity: Bytes,
    backing: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum InjectedFault {
    Fail,
    Hang,
    Full,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// An empty one, local, without KVM, with 16 GiB of memory to spare.
    pub fn new() -> Self {
        let world = State {
            facts: HostInfo {
                uri: "fake:///system".to_owned(),
                version: "QEMU 10.0.2".to_owned(),
                hostname: "here".to_owned(),
                local: true,
                available_memory: Bytes::gib(16),
                offers_kvm: false,
            },
            kvm: Kvm::Absent,
            pool: false,
            network: None,
            volumes: BTreeMap::new(),
            domains: BTreeMap::new(),
            calls: Vec::new(),
            faults: Vec::new(),
        };
        Self { world: Mutex::new(world), after: Mutex::default() }
    }

    /// Lets the `nth` call of `verb` from now on (1 is the next) fail, with nothing done.
    pub fn fail(&self, verb: Verb, nth: usize) {
        self.add_fault(verb, nth, InjectedFault::Fail);
    }

    /// Lets the `nth` call of `verb` from now on end as if libvirt had hung, *with* its work done: that is the worst case.
    pub fn hang(&self, verb: Verb, nth: usize) {
        self.add_fault(verb, nth, InjectedFault::Hang);
    }

    /// Lets the `nth` call of `verb` from now on fail for a full disk.
    pub fn fill_disk(&self, verb: Verb, nth: usize) {
        self.add_fault(verb, nth, InjectedFault::Full);
    }

    /// Does `act` at the end of every call of `verb` from now on, even of one that fails: what a domain's guest must have come
    /// to before the call returns. It may call the fake itself.
    pub fn after(&self, verb: Verb, act: impl Fn(&str) + Send + Sync + 'static) {
        self.acts().push((verb, Act(Arc::new(act))));
    }

    /// Is from now on the hypervisor of another machine, reached by this URI.
    pub fn place_elsewhere(&self, uri: &str) {
        let facts = &mut self.world().facts;
        (facts.uri, facts.local) = (uri.to_owned(), false);
    }

    /// Says how much memory is to be had.
    pub fn set_available_memory(&self, memory: Bytes) {
        self.world().facts.available_memory = memory;
    }

    /// Says what KVM is like.
    pub fn set_kvm(&self, kvm: Kvm) {
        let mut world = self.world();
        world.facts.offers_kvm = kvm != Kvm::Absent;
        world.kvm = kvm;
    }

    /// Puts a domain into a state, as its guest or an accident would.
    pub fn set_state(&self, domain: &str, state: DomainState) {
        if let Some((_, current)) = self.world().domains.get_mut(domain) {
            *current = state;
        }
    }

    /// Lets a domain print `text` on its serial console.
    pub fn print(&self, domain: &str, text: &str) {
        self.world().append(&VmVolumes(domain).console(), text);
    }

    /// Lets a domain's guest stream `text` of its journal.
    pub fn log(&self, domain: &str, text: &str) {
        self.world().append(&VmVolumes(domain).journal(), text);
    }

    /// Makes a volume out of nothing: a golden image, or something left behind.
    pub fn put_volume(&self, name: &str, bytes: &[u8]) {
        let (bytes, capacity) = (bytes.to_owned(), Bytes(bytes.len() as u64));
        let mut world = self.world();
        world.pool = true;
        world.volumes.insert(name.to_owned(), Contents { bytes, capacity, backing: None });
    }

    /// What a domain was defined with, its present owner included.
    pub fn spec(&self, domain: &str) -> Option<DomainSpec> {
        self.world().domains.get(domain).map(|(spec, _)| spec.clone())
    }

    /// Every call so far, each with the name of what it was about.
    pub fn calls(&self) -> Vec<(Verb, String)> {
        self.world().calls.clone()
    }

    fn add_fault(&self, verb: Verb, nth: usize, fault: InjectedFault) {
        let mut world = self.world();
        let before = world.count(verb);
        world.faults.push((verb, before + nth, fault));
    }

    fn world(&self) -> MutexGuard<'_, State> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acts(&self) -> MutexGuard<'_, Vec<(Verb, Act)>> {
        self.after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books the call, does it unless a fault is due, and lets happen what is to happen after it.
    fn call<T>(&self, verb: Verb, name: &str, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let result = self.carry_out(verb, name, work);
        let acts = self.acts().clone();
        for (_, Act(act)) in acts.iter().filter(|(after, _)| *after == verb) {
            act(name);
        }
        result
    }

    fn carry_out<T>(&self, verb: Verb, name: &str, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut world = self.world();
        world.calls.push((verb, name.to_owned()));
        let object = if name.is_empty() { "the hypervisor" } else { name }.to_owned();
        let count = world.count(verb);
        let due = world.faults.iter().find(|(v, n, _)| *v == verb && *n == count).map(|(_, _, fault)| *fault);
        let source = |text: &str| text.to_owned().into();
        match due {
            None => work(&mut world),
            Some(InjectedFault::Hang) => {
                let _ = work(&mut world);
                Err(HypervisorError::Hung { verb: "finish with", object, bound: Duration::from_secs(30) })
            }
            Some(InjectedFault::Fail) => {
                let source = source(&format!("the fake was told to fail at {verb:?}"));
                Err(HypervisorError::Other { verb: "deal with", object, source })
            }
            Some(InjectedFault::Full) => {
                let source = source("No space left on device");
                Err(HypervisorError::DiskFull { verb: "deal with", object, source })
            }
        }
    }
}
