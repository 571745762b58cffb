//! A hypervisor in memory, for tests. It keeps state, insists on the same order of calls as libvirt, and fails or hangs on
//! demand. It boots no guest: a test plays the guest with [`Fake::set_state`], [`Fake::print`] and [`Fake::log`].
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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::domain::DomainSpec;
use super::hypervisor::{DomainState, HostInfo, HypervisorError, Result};
use super::names::VmVolumes;
use super::network::NetworkSpec;
use crate::catalog::quantity::Bytes;

/// A verb of [`Hypervisor`](super::Hypervisor), to make it fail and to look for it among the calls.
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
    Save,
    DefineSaved,
    Restore,
    Start,
    Restart,
    PowerOff,
    Undefine,
    State,
    Machines,
    SetOwnership,
}

/// How KVM behaves on the fake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kvm {
    /// Not offered.
    Absent,
    /// Offered, and a guest reaches its service manager.
    Works,
    /// Offered, but the virtual CPU stops at once.
    Broken,
    /// Offered, but QEMU exits at the start.
    Crashes,
    /// Offered, but the guest never prints anything.
    Stalls,
}

/// The hypervisor in memory.
pub struct Fake(Mutex<State>);

struct State {
    host: HostInfo,
    kvm: Kvm,
    pool: bool,
    network: Option<NetworkSpec>,
    volumes: BTreeMap<String, Contents>,
    domains: BTreeMap<String, (DomainSpec, DomainState)>,
    damaged: BTreeSet<String>,
    resident: BTreeMap<String, Bytes>,
    calls: Vec<(Verb, String)>,
    faults: Vec<(Verb, usize, Fault)>,
    hooks: Vec<(Verb, Hook)>,
}

/// What a test does after a verb, given the name of the object.
type Hook = Arc<dyn Fn(&str) + Send + Sync>;

struct Contents {
    bytes: Vec<u8>,
    capacity: Bytes,
    backing: Option<String>,
}

#[derive(Clone, Copy)]
enum Fault {
    Fail,
    Hang,
    DiskFull,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// An empty local hypervisor without KVM, with 16 GiB of free memory.
    pub fn new() -> Self {
        Self(Mutex::new(State {
            host: HostInfo {
                uri: "fake:///system".to_owned(),
                version: "QEMU 10.0.2".to_owned(),
                libvirt: "9.0.0".to_owned(),
                cpu: "<cpu> <model>EPYC</model> </cpu>".to_owned(),
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
            damaged: BTreeSet::new(),
            resident: BTreeMap::new(),
            calls: Vec::new(),
            faults: Vec::new(),
            hooks: Vec::new(),
        }))
    }

    /// Makes the `nth` call of `verb` from now on (1 is the next) fail without doing anything.
    pub fn fail(&self, verb: Verb, nth: usize) {
        self.add_fault(verb, nth, Fault::Fail);
    }

    /// Makes the `nth` call of `verb` from now on end as if libvirt had hung, *with* its work done: the worst case.
    pub fn hang(&self, verb: Verb, nth: usize) {
        self.add_fault(verb, nth, Fault::Hang);
    }

    /// Makes the `nth` call of `verb` from now on fail with a full disk.
    pub fn fill_disk(&self, verb: Verb, nth: usize) {
        self.add_fault(verb, nth, Fault::DiskFull);
    }

    /// Runs `hook` at the end of every call of `verb` from now on, even of one that fails. It may call the fake itself.
    pub fn after(&self, verb: Verb, hook: impl Fn(&str) + Send + Sync + 'static) {
        self.state().hooks.push((verb, Arc::new(hook)));
    }

    /// Makes it the hypervisor of another machine, reached by this URI.
    pub fn place_elsewhere(&self, uri: &str) {
        let host = &mut self.state().host;
        (host.uri, host.local) = (uri.to_owned(), false);
    }

    /// Sets the free memory.
    pub fn set_available_memory(&self, memory: Bytes) {
        self.state().host.available_memory = memory;
    }

    /// Sets how KVM behaves.
    pub fn set_kvm(&self, kvm: Kvm) {
        let mut state = self.state();
        state.host.offers_kvm = kvm != Kvm::Absent;
        state.kvm = kvm;
    }

    /// Puts a domain into a state, as its guest or an accident would.
    pub fn set_state(&self, domain: &str, new: DomainState) {
        if let Some((_, state)) = self.state().domains.get_mut(domain) {
            *state = new;
        }
    }

    /// Lets a domain hold this much memory; a domain holds none before.
    pub fn set_resident(&self, domain: &str, memory: Bytes) {
        self.state().resident.insert(domain.to_owned(), memory);
    }

    /// Damages a domain's metadata: nobody knows any more whose it is.
    pub fn damage_metadata(&self, domain: &str) {
        self.state().damaged.insert(domain.to_owned());
    }

    /// Prints `text` on a domain's serial console.
    pub fn print(&self, domain: &str, text: &str) {
        self.state().append(VmVolumes(domain).console(), text);
    }

    /// Streams `text` to a domain's journal.
    pub fn log(&self, domain: &str, text: &str) {
        self.state().append(VmVolumes(domain).journal(), text);
    }

    /// Creates a volume: a golden image, or a leftover.
    pub fn put_volume(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        state.pool = true;
        state.volumes.insert(name.to_owned(), Contents::new(bytes.to_owned()));
    }

    /// What a domain was defined with, and its present ownership.
    pub fn spec(&self, domain: &str) -> Option<DomainSpec> {
        self.state().domains.get(domain).map(|(spec, _)| spec.clone())
    }

    /// Every call so far, with the name of its object.
    pub fn calls(&self) -> Vec<(Verb, String)> {
        self.state().calls.clone()
    }

    fn add_fault(&self, verb: Verb, nth: usize, fault: Fault) {
        let mut state = self.state();
        let before = state.count(verb);
        state.faults.push((verb, before + nth, fault));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the call, does its work unless a fault is due, and then runs the hooks.
    fn call<T>(&self, verb: Verb, name: &str, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let result = self.state().perform(verb, name, work);
        let hooks = self.state().hooks.clone();
        for (_, hook) in hooks.iter().filter(|(after, _)| *after == verb) {
            hook(name);
        }
        result
    }
}

impl State {
    fn perform<T>(&mut self, verb: Verb, name: &str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.calls.push((verb, name.to_owned()));
        let count = self.count(verb);
        let due = self.faults.iter().find(|(v, n, _)| *v == verb && *n == count).map(|(_, _, fault)| *fault);
        let object = if name.is_empty() { "the hypervisor" } else { name }.to_owned();
        Err(match due {
            None => return work(self),
            Some(Fault::Hang) => {
                let _ = work(self);
                HypervisorError::Hung { verb: "finish with", object, bound: Duration::from_secs(30) }
            }
            Some(Fault::Fail) => {
                let source = format!("the fake was told to fail at {verb:?}").into();
                HypervisorError::Other { verb: "deal with", object, source }
            }
            Some(Fault::DiskFull) => {
                let source = "No space left on device".into();
                HypervisorError::DiskFull { verb: "deal with", object, source }
            }
        })
    }

    fn count(&self, verb: Verb) -> usize {
        self.calls.iter().filter(|(called, _)| *called == verb).count()
    }

    fn append(&mut self, volume: String, text: &str) {
        let contents = self.volumes.entry(volume).or_insert_with(|| Contents::new(Vec::new()));
        contents.bytes.extend_from_slice(text.as_bytes());
        contents.capacity = Bytes(contents.bytes.len() as u64);
    }
}

impl Contents {
    fn new(bytes: Vec<u8>) -> Self {
        Self { capacity: Bytes(bytes.len() as u64), bytes, backing: None }
    }
}
