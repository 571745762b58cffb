//! A hypervisor in memory, for tests: it keeps state, insists on the order of things as libvirt does, and fails or hangs on
//! demand. It boots no guest; what a guest would do to its domain and console, a test does with [`Fake::set_state`] and
//! [`Fake::print`].
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

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::acceleration::Accelerator;
use super::domain::DomainSpec;
use super::hypervisor::{
    DomainState, Facts, Hypervisor, HypervisorError, Machine, PauseReason, Push, Result, StopReason, Volume,
};
use super::names::MachineFiles;
use super::network::NetworkSpec;
use super::ownership::Ownership;
use crate::catalog::quantity::Bytes;
use crate::support::deadline::Deadline;

/// A verb of [`Hypervisor`], to fail at and to look for among the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named like the trait's methods, and documented there")]
pub enum Verb {
    Facts,
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
    /// Offered, and nothing ever happens.
    Stalls,
}

/// The hypervisor in memory.
#[derive(Debug)]
pub struct Fake(Mutex<World>);

#[derive(Debug)]
struct World {
    facts: Facts,
    kvm: Kvm,
    pool: bool,
    network: Option<NetworkSpec>,
    volumes: BTreeMap<String, Contents>,
    domains: BTreeMap<String, (DomainSpec, DomainState)>,
    calls: Vec<(Verb, String)>,
    faults: Vec<(Verb, usize, Fault)>,
}

#[derive(Debug)]
struct Contents {
    bytes: Vec<u8>,
    capacity: Bytes,
    backing: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
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
        Self(Mutex::new(World {
            facts: Facts {
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
        }))
    }

    /// Lets the `nth` call of `verb` from now on (1 is the next) fail, with nothing done.
    pub fn fail(&self, verb: Verb, nth: usize) {
        self.add_fault(verb, nth, Fault::Fail);
    }

    /// Lets the `nth` call of `verb` from now on end as if libvirt had hung, *with* its work done: that is the worst case.
    pub fn hang(&self, verb: Verb, nth: usize) {
        self.add_fault(verb, nth, Fault::Hang);
    }

    /// Lets the `nth` call of `verb` from now on fail for a full disk.
    pub fn fill_disk(&self, verb: Verb, nth: usize) {
        self.add_fault(verb, nth, Fault::Full);
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
        self.world().append(&MachineFiles(domain).console(), text);
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

    fn add_fault(&self, verb: Verb, nth: usize, fault: Fault) {
        let mut world = self.world();
        let before = world.count(verb);
        world.faults.push((verb, before + nth, fault));
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books the call, and does it unless a fault is due.
    fn call<T>(&self, verb: Verb, name: &str, work: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let mut world = self.world();
        world.calls.push((verb, name.to_owned()));
        let (count, object) = (world.count(verb), name.to_owned());
        let due = world.faults.iter().find(|(v, n, _)| *v == verb && *n == count).map(|(_, _, fault)| *fault);
        let source = |text: &str| text.to_owned().into();
        match due {
            None => work(&mut world),
            Some(Fault::Hang) => {
                let _ = work(&mut world);
                Err(HypervisorError::Hung { verb: "finish with", object, bound: Duration::from_secs(30) })
            }
            Some(Fault::Fail) => {
                let source = source(&format!("the fake was told to fail at {verb:?}"));
                Err(HypervisorError::Other { verb: "deal with", object, source })
            }
            Some(Fault::Full) => {
                let source = source("No space left on device");
                Err(HypervisorError::DiskFull { verb: "deal with", object, source })
            }
        }
    }
}

impl World {
    fn count(&self, verb: Verb) -> usize {
        self.calls.iter().filter(|(called, _)| *called == verb).count()
    }

    fn append(&mut self, volume: &str, text: &str) {
        let empty = Contents { bytes: Vec::new(), capacity: Bytes(0), backing: None };
        let contents = self.volumes.entry(volume.to_owned()).or_insert(empty);
        contents.bytes.extend_from_slice(text.as_bytes());
        contents.capacity = Bytes(contents.bytes.len() as u64);
    }

    fn need_pool(&self) -> Result<()> {
        if self.pool { Ok(()) } else { Err(missing("storage pool", "boma-it")) }
    }

    fn need_volume(&self, name: &str) -> Result<&Contents> {
        self.volumes.get(name).ok_or_else(|| missing("volume", name))
    }

    fn need_domain(&mut self, name: &str) -> Result<&mut (DomainSpec, DomainState)> {
        self.domains.get_mut(name).ok_or_else(|| missing("domain", name))
    }

    fn power_on(&mut self, name: &str) -> Result<()> {
        let (spec, state) = self.need_domain(name)?.clone();
        if state.is_alive() {
            return Err(wrong("start", name, "it is running already"));
        }
        self.need_volume(&MachineFiles(name).overlay())?;
        if spec.seed {
            self.need_volume(&MachineFiles(name).seed())?;
        }
        if self.network.is_none() {
            return Err(missing("network", "boma-it"));
        }
        self.append(&MachineFiles(name).journal(), "");
        self.append(&MachineFiles(name).console(), "BdsDxe: starting Boot0001\r\n");
        let mut state = DomainState::Running;
        match (spec.accelerator, self.kvm) {
            (Accelerator::Kvm, Kvm::Absent) => return Err(wrong("start", name, "KVM is not available")),
            (Accelerator::Kvm, Kvm::Lies) => state = DomainState::Paused(PauseReason::CpuError),
            (Accelerator::Kvm, Kvm::Works) => {
                self.append(&MachineFiles(name).console(), "[    1.0] systemd[1]: systemd 257 running\r\n");
            }
            (Accelerator::Kvm, Kvm::Stalls) | (Accelerator::Tcg, _) => {}
        }
        self.need_domain(name)?.1 = state;
        Ok(())
    }
}

impl Hypervisor for Fake {
    fn facts(&self) -> Result<Facts> {
        self.call(Verb::Facts, "", |world| Ok(world.facts.clone()))
    }

    fn ensure_pool(&self) -> Result<()> {
        self.call(Verb::EnsurePool, "", |world| {
            world.pool = true;
            Ok(())
        })
    }

    fn ensure_network(&self, spec: &NetworkSpec) -> Result<()> {
        self.call(Verb::EnsureNetwork, "", |world| {
            let differs = world.network.as_ref().is_some_and(|current| current != spec);
            if differs && world.domains.values().any(|(_, state)| state.is_alive()) {
                let why = "it has another subnet, and a VM is using it".to_owned();
                return Err(HypervisorError::NetworkConflict { network: "boma-it".to_owned(), why });
            }
            world.network = Some(spec.clone());
            Ok(())
        })
    }

    fn volumes(&self) -> Result<Vec<Volume>> {
        self.call(Verb::Volumes, "", |world| {
            world.need_pool()?;
            let volume = |(name, contents): (&String, &Contents)| Volume {
                name: name.clone(),
                capacity: contents.capacity,
                allocation: Bytes(contents.bytes.len() as u64),
                length: Bytes(contents.bytes.len() as u64),
                backing: contents.backing.clone(),
            };
            Ok(world.volumes.iter().map(volume).collect())
        })
    }

    fn upload(
        &self,
        volume: &str,
        file: &Path,
        deadline: &Deadline,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.call(Verb::Upload, volume, |world| {
            world.need_pool()?;
            let object = volume.to_owned();
            if world.volumes.contains_key(volume) {
                return Err(HypervisorError::Exists { object: format!("volume {volume}") });
            }
            deadline.check(volume).map_err(|source| HypervisorError::Ended {
                verb: "upload",
                object: object.clone(),
                source,
            })?;
            let bytes = std::fs::read(file).map_err(|source| HypervisorError::File {
                verb: "upload",
                object,
                source,
            })?;
            progress(bytes.len() as u64);
            let capacity = Bytes(bytes.len() as u64);
            world.volumes.insert(volume.to_owned(), Contents { bytes, capacity, backing: None });
            Ok(())
        })
    }

    fn create_overlay(&self, volume: &str, backing: &str, capacity: Bytes) -> Result<()> {
        self.call(Verb::CreateOverlay, volume, |world| {
            world.need_pool()?;
            let least = world.need_volume(backing)?.capacity;
            if world.volumes.contains_key(volume) {
                return Err(HypervisorError::Exists { object: format!("volume {volume}") });
            }
            let (backing, capacity) = (Some(format!("/fake/{backing}")), capacity.max(least));
            let contents = Contents { bytes: b"QFI\xfb".to_vec(), capacity, backing };
            world.volumes.insert(volume.to_owned(), contents);
            Ok(())
        })
    }

    fn download(&self, volume: &str, offset: u64, to: &mut dyn Write) -> Result<u64> {
        self.call(Verb::Download, volume, |world| {
            world.need_pool()?;
            let bytes = &world.need_volume(volume)?.bytes;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let rest = bytes.get(from..).unwrap_or_default();
            let object = volume.to_owned();
            to.write_all(rest).map_err(|source| HypervisorError::File {
                verb: "download",
                object,
                source,
            })?;
            Ok(rest.len() as u64)
        })
    }

    fn delete_volume(&self, volume: &str) -> Result<()> {
        self.call(Verb::DeleteVolume, volume, |world| {
            world.volumes.remove(volume);
            Ok(())
        })
    }

    fn define(&self, spec: &DomainSpec) -> Result<()> {
        self.call(Verb::Define, &spec.name, |world| {
            world.need_pool()?;
            if world.domains.contains_key(&spec.name) {
                return Err(HypervisorError::Exists { object: format!("domain {}", spec.name) });
            }
            let off = DomainState::ShutOff(StopReason::Unknown);
            world.domains.insert(spec.name.clone(), (spec.clone(), off));
            Ok(())
        })
    }

    fn start(&self, domain: &str) -> Result<()> {
        self.call(Verb::Start, domain, |world| world.power_on(domain))
    }

    fn restart(&self, domain: &str, push: Push) -> Result<()> {
        self.call(Verb::Restart, domain, |world| {
            let (_, state) = world.need_domain(domain)?;
            if *state != DomainState::Running {
                return Err(wrong("restart", domain, "it is not running"));
            }
            match push {
                Push::Acpi | Push::Reset => {}
                Push::PowerCut => {
                    *state = DomainState::ShutOff(StopReason::Destroyed);
                    world.power_on(domain)?;
                }
            }
            Ok(())
        })
    }

    fn power_off(&self, domain: &str) -> Result<()> {
        self.call(Verb::PowerOff, domain, |world| {
            if let Some((_, state)) = world.domains.get_mut(domain)
                && state.is_alive()
            {
                *state = DomainState::ShutOff(StopReason::Destroyed);
            }
            Ok(())
        })
    }

    fn undefine(&self, domain: &str) -> Result<()> {
        self.call(Verb::Undefine, domain, |world| {
            if world.domains.get(domain).is_some_and(|(_, state)| state.is_alive()) {
                return Err(wrong("undefine", domain, "it is running"));
            }
            world.domains.remove(domain);
            Ok(())
        })
    }

    fn state(&self, domain: &str) -> Result<DomainState> {
        self.call(Verb::State, domain, |world| {
            Ok(world.domains.get(domain).map_or(DomainState::Absent, |(_, state)| state.clone()))
        })
    }

    fn machines(&self) -> Result<Vec<Machine>> {
        self.call(Verb::Machines, "", |world| {
            let machine = |(spec, state): &(DomainSpec, DomainState)| Machine {
                name: spec.name.clone(),
                state: state.clone(),
                memory: spec.memory,
                ownership: Some(spec.ownership.clone()),
            };
            Ok(world.domains.values().map(machine).collect())
        })
    }

    fn set_ownership(&self, domain: &str, ownership: &Ownership) -> Result<()> {
        self.call(Verb::SetOwnership, domain, |world| {
            world.need_domain(domain)?.0.ownership = ownership.clone();
            Ok(())
        })
    }
}

fn missing(kind: &str, name: &str) -> HypervisorError {
    HypervisorError::NotFound { object: format!("{kind} {name}") }
}

fn wrong(verb: &'static str, domain: &str, why: &'static str) -> HypervisorError {
    HypervisorError::Other { verb, object: format!("domain {domain}"), source: why.into() }
}
