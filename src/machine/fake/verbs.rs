//! What the fake does at each verb.

use std::io::Write;
use std::path::Path;

use super::{Contents, Fake, Kvm, State, Verb};
use crate::catalog::quantity::Bytes;
use crate::machine::acceleration::Accelerator;
use crate::machine::domain::DomainSpec;
use crate::machine::hypervisor::{
    DomainState, HostInfo, Hypervisor, HypervisorError, Machine, PauseReason, RestartMethod, Result,
    StopReason, Volume,
};
use crate::machine::names::VmVolumes;
use crate::machine::network::NetworkSpec;
use crate::machine::ownership::Ownership;
use crate::support::deadline::Deadline;

/// What libvirt hands on of a QEMU that ends as it starts.
const REFUSED: &str = "internal error: qemu unexpectedly closed the monitor: 2026-11-23T09:41:54.833002Z \
    qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc000069\n\
    qemu-system-x86_64: target/i386/kvm/kvm.c:3849: kvm_buf_set_msrs: Assertion failed.";

impl Hypervisor for Fake {
    fn facts(&self) -> Result<HostInfo> {
        self.call(Verb::HostInfo, "", |world| Ok(world.facts.clone()))
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
            let what = format!("upload volume {volume}");
            deadline.check(&what).map_err(|source| HypervisorError::Ended { what, source })?;
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

    fn restart(&self, domain: &str, push: RestartMethod) -> Result<()> {
        self.call(Verb::Restart, domain, |world| {
            let (_, state) = world.need_domain(domain)?;
            if *state != DomainState::Running {
                return Err(wrong("restart", domain, "it is not running"));
            }
            match push {
                RestartMethod::Acpi | RestartMethod::Reset => {}
                RestartMethod::PowerCut => {
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

impl State {
    pub(super) fn count(&self, verb: Verb) -> usize {
        self.calls.iter().filter(|(called, _)| *called == verb).count()
    }

    pub(super) fn append(&mut self, volume: &str, text: &str) {
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
        self.need_volume(&VmVolumes(name).overlay())?;
        if spec.seed {
            self.need_volume(&VmVolumes(name).seed())?;
        }
        if self.network.is_none() {
            return Err(missing("network", "boma-it"));
        }
        if spec.accelerator == Accelerator::Kvm && self.kvm == Kvm::Refuses {
            return Err(wrong("start", name, REFUSED));
        }
        self.append(&VmVolumes(name).journal(), "");
        self.append(&VmVolumes(name).console(), "BdsDxe: starting Boot0001\r\n");
        let mut state = DomainState::Running;
        match (spec.accelerator, self.kvm) {
            (Accelerator::Kvm, Kvm::Absent) => return Err(wrong("start", name, "KVM is not available")),
            (Accelerator::Kvm, Kvm::Lies) => state = DomainState::Paused(PauseReason::CpuError),
            (Accelerator::Kvm, Kvm::Works) => {
                self.append(&VmVolumes(name).console(), "[    1.0] systemd[1]: systemd 257 running\r\n");
            }
            (Accelerator::Kvm, Kvm::Stalls | Kvm::Refuses) | (Accelerator::Tcg, _) => {}
        }
        self.need_domain(name)?.1 = state;
        Ok(())
    }
}

fn missing(kind: &str, name: &str) -> HypervisorError {
    HypervisorError::NotFound { object: format!("{kind} {name}") }
}

fn wrong(verb: &'static str, domain: &str, why: &'static str) -> HypervisorError {
    HypervisorError::Other { verb, object: format!("domain {domain}"), source: why.into() }
}
