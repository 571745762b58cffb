//! What the fake does for each verb.

use std::io::Write;
use std::path::Path;

use super::{Contents, Fake, Kvm, State, Verb};
use crate::catalog::quantity::Bytes;
use crate::machine::accelerator::Accelerator;
use crate::machine::domain::DomainSpec;
use crate::machine::hypervisor::{
    DomainState, HostInfo, Hypervisor, HypervisorError, Machine, PauseReason, RestartMethod, Result,
    StopReason, Volume,
};
use crate::machine::names::VmVolumes;
use crate::machine::network::NetworkSpec;
use crate::machine::ownership::Ownership;
use crate::support::deadline::Deadline;

/// Libvirt's error when QEMU exits at the start.
const QEMU_EXITED: &str = "internal error: qemu unexpectedly closed the monitor: 2026-11-23T09:41:54.833002Z \
    qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc000069\n\
    qemu-system-x86_64: target/i386/kvm/kvm.c:3849: kvm_buf_set_msrs: Assertion failed.";

impl Hypervisor for Fake {
    fn host_info(&self) -> Result<HostInfo> {
        self.call(Verb::HostInfo, "", |state| Ok(state.host.clone()))
    }

    fn ensure_pool(&self) -> Result<()> {
        self.call(Verb::EnsurePool, "", |state| {
            state.pool = true;
            Ok(())
        })
    }

    fn ensure_network(&self, spec: &NetworkSpec) -> Result<()> {
        self.call(Verb::EnsureNetwork, "", |state| {
            let differs = state.network.as_ref().is_some_and(|current| current != spec);
            if differs && state.domains.values().any(|(_, state)| state.is_alive()) {
                let why = "it has another subnet, and a VM is using it".to_owned();
                return Err(HypervisorError::NetworkConflict { network: "boma-it".to_owned(), why });
            }
            state.network = Some(spec.clone());
            Ok(())
        })
    }

    fn volumes(&self) -> Result<Vec<Volume>> {
        self.call(Verb::Volumes, "", |state| {
            state.require_pool()?;
            let volume = |(name, contents): (&String, &Contents)| Volume {
                name: name.clone(),
                capacity: contents.capacity,
                allocation: Bytes(contents.bytes.len() as u64),
                length: Bytes(contents.bytes.len() as u64),
                backing: contents.backing.clone(),
            };
            Ok(state.volumes.iter().map(volume).collect())
        })
    }

    fn upload(
        &self,
        volume: &str,
        file: &Path,
        deadline: &Deadline,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.call(Verb::Upload, volume, |state| {
            state.require_pool()?;
            let what = format!("upload volume {volume}");
            deadline.check(&what).map_err(|source| HypervisorError::GaveUp { what, source })?;
            let bytes = std::fs::read(file).map_err(file_error("upload", volume))?;
            progress(bytes.len() as u64);
            state.create_volume(volume, Contents::new(bytes))
        })
    }

    fn create_overlay(&self, volume: &str, backing: &str, capacity: Bytes) -> Result<()> {
        self.call(Verb::CreateOverlay, volume, |state| {
            state.require_pool()?;
            let least = state.require_volume(backing)?.capacity;
            let (backing, capacity) = (Some(format!("/fake/{backing}")), capacity.max(least));
            state.create_volume(volume, Contents { bytes: b"QFI\xfb".to_vec(), capacity, backing })
        })
    }

    fn download(&self, volume: &str, offset: u64, to: &mut dyn Write) -> Result<u64> {
        self.call(Verb::Download, volume, |state| {
            state.require_pool()?;
            let bytes = &state.require_volume(volume)?.bytes;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let rest = bytes.get(from..).unwrap_or_default();
            to.write_all(rest).map_err(file_error("download", volume))?;
            Ok(rest.len() as u64)
        })
    }

    fn delete_volume(&self, volume: &str) -> Result<()> {
        self.call(Verb::DeleteVolume, volume, |state| {
            state.volumes.remove(volume);
            Ok(())
        })
    }

    fn define(&self, spec: &DomainSpec) -> Result<()> {
        self.call(Verb::Define, &spec.name, |state| {
            state.require_pool()?;
            state.define(spec)
        })
    }

    fn save(&self, domain: &str, memory: &str, overlay: &str) -> Result<()> {
        self.call(Verb::Save, domain, |state| {
            let (spec, now) = state.require_domain(domain)?.clone();
            if now != DomainState::Running {
                return Err(wrong("save", domain, "it is not running"));
            }
            let capacity = state.require_volume(&spec.overlay)?.capacity;
            state.create_volume(memory, Contents::new(format!("state of {domain}").into_bytes()))?;
            let backing = Some(format!("/fake/{}", spec.overlay));
            state.create_volume(overlay, Contents { bytes: b"QFI\xfb".to_vec(), capacity, backing })?;
            state.require_domain(domain)?.0.overlay = overlay.to_owned();
            Ok(())
        })
    }

    fn define_saved(&self, memory: &str, spec: &DomainSpec) -> Result<()> {
        self.call(Verb::DefineSaved, &spec.name, |state| {
            state.require_state(memory, &spec.name)?;
            state.define(spec)
        })
    }

    fn restore(&self, domain: &str, memory: &str) -> Result<()> {
        self.call(Verb::Restore, domain, |state| {
            state.require_state(memory, domain)?;
            state.power_on(domain)
        })
    }

    fn start(&self, domain: &str) -> Result<()> {
        self.call(Verb::Start, domain, |state| state.power_on(domain))
    }

    fn restart(&self, domain: &str, method: RestartMethod) -> Result<()> {
        self.call(Verb::Restart, domain, |state| {
            let current = &mut state.require_domain(domain)?.1;
            if *current != DomainState::Running {
                return Err(wrong("restart", domain, "it is not running"));
            }
            match method {
                RestartMethod::Acpi | RestartMethod::Reset => Ok(()),
                RestartMethod::PowerCut => {
                    *current = DomainState::ShutOff(StopReason::Destroyed);
                    state.power_on(domain)
                }
            }
        })
    }

    fn power_off(&self, domain: &str) -> Result<()> {
        self.call(Verb::PowerOff, domain, |state| {
            if let Some((_, state)) = state.domains.get_mut(domain)
                && state.is_alive()
            {
                *state = DomainState::ShutOff(StopReason::Destroyed);
            }
            Ok(())
        })
    }

    fn undefine(&self, domain: &str) -> Result<()> {
        self.call(Verb::Undefine, domain, |state| {
            if state.domains.get(domain).is_some_and(|(_, state)| state.is_alive()) {
                return Err(wrong("undefine", domain, "it is running"));
            }
            state.domains.remove(domain);
            Ok(())
        })
    }

    fn state(&self, domain: &str) -> Result<DomainState> {
        self.call(Verb::State, domain, |state| {
            Ok(state.domains.get(domain).map_or(DomainState::Absent, |(_, state)| state.clone()))
        })
    }

    fn machines(&self) -> Result<Vec<Machine>> {
        self.call(Verb::Machines, "", |state| {
            let State { domains, damaged, resident, .. } = state;
            let machine = |(spec, state): &(DomainSpec, DomainState)| Machine {
                name: spec.name.clone(),
                state: state.clone(),
                memory: spec.memory,
                resident: Some(resident.get(&spec.name).copied().unwrap_or(Bytes(0))),
                ownership: (!damaged.contains(&spec.name)).then(|| spec.ownership.clone()),
            };
            Ok(domains.values().map(machine).collect())
        })
    }

    fn set_ownership(&self, domain: &str, ownership: &Ownership) -> Result<()> {
        self.call(Verb::SetOwnership, domain, |state| {
            state.require_domain(domain)?.0.ownership = ownership.clone();
            Ok(())
        })
    }
}

impl State {
    fn create_volume(&mut self, name: &str, contents: Contents) -> Result<()> {
        if self.volumes.contains_key(name) {
            return Err(HypervisorError::Exists { object: format!("volume {name}") });
        }
        self.volumes.insert(name.to_owned(), contents);
        Ok(())
    }

    fn define(&mut self, spec: &DomainSpec) -> Result<()> {
        if self.domains.contains_key(&spec.name) {
            return Err(HypervisorError::Exists { object: format!("domain {}", spec.name) });
        }
        let off = DomainState::ShutOff(StopReason::Unknown);
        self.domains.insert(spec.name.clone(), (spec.clone(), off));
        Ok(())
    }

    /// The saved state of `domain`, undamaged.
    fn require_state(&self, memory: &str, domain: &str) -> Result<()> {
        match self.require_volume(memory)?.bytes == format!("state of {domain}").into_bytes() {
            true => Ok(()),
            false => Err(wrong("restore", domain, "its saved state is damaged")),
        }
    }

    fn require_pool(&self) -> Result<()> {
        if self.pool { Ok(()) } else { Err(missing("storage pool", "boma-it")) }
    }

    fn require_volume(&self, name: &str) -> Result<&Contents> {
        self.volumes.get(name).ok_or_else(|| missing("volume", name))
    }

    fn require_domain(&mut self, name: &str) -> Result<&mut (DomainSpec, DomainState)> {
        self.domains.get_mut(name).ok_or_else(|| missing("domain", name))
    }

    fn power_on(&mut self, name: &str) -> Result<()> {
        let (spec, state) = self.require_domain(name)?.clone();
        if state.is_alive() {
            return Err(wrong("start", name, "it is running already"));
        }
        self.require_volume(&spec.overlay)?;
        if spec.seed {
            self.require_volume(&VmVolumes(name).seed())?;
        }
        if self.network.is_none() {
            return Err(missing("network", "boma-it"));
        }
        if spec.accelerator == Accelerator::Kvm && self.kvm == Kvm::Crashes {
            return Err(wrong("start", name, QEMU_EXITED));
        }
        self.append(VmVolumes(name).journal(), "");
        self.append(VmVolumes(name).console(), "BdsDxe: starting Boot0001\r\n");
        let mut state = DomainState::Running;
        match (spec.accelerator, self.kvm) {
            (Accelerator::Kvm, Kvm::Absent) => return Err(wrong("start", name, "KVM is not available")),
            (Accelerator::Kvm, Kvm::Broken) => state = DomainState::Paused(PauseReason::CpuError),
            (Accelerator::Kvm, Kvm::Works) => {
                self.append(VmVolumes(name).console(), "[    1.0] systemd[1]: systemd 257 running\r\n");
            }
            (Accelerator::Kvm, Kvm::Stalls | Kvm::Crashes) | (Accelerator::Tcg, _) => {}
        }
        self.require_domain(name)?.1 = state;
        Ok(())
    }
}

fn file_error(verb: &'static str, object: &str) -> impl FnOnce(std::io::Error) -> HypervisorError {
    move |source| HypervisorError::File { verb, object: object.to_owned(), source }
}

fn missing(kind: &str, name: &str) -> HypervisorError {
    HypervisorError::NotFound { object: format!("{kind} {name}") }
}

fn wrong(verb: &'static str, domain: &str, why: &'static str) -> HypervisorError {
    HypervisorError::Other { verb, object: format!("domain {domain}"), source: why.into() }
}
