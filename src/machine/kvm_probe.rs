//! Finds out whether KVM really works.
//!
//! That `/dev/kvm` opens, that the hypervisor advertises KVM, or that a guest of three instructions runs proves nothing:
//! on some machines all of this holds and a stock kernel still dies in its first steps. So the probe boots the golden
//! image until its first process prints on the console or the virtual CPU stops. The choice is cached until the host
//! reboots or gets another QEMU.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::accelerator::{Accelerator, AcceleratorChoice};
use super::domain::{DiskCache, DomainSpec};
use super::hypervisor::{
    DomainState, HostInfo, Hypervisor, HypervisorError, PauseReason, Result, StopReason,
};
use super::names::{NamePrefix, VmVolumes};
use super::network::Egress;
use super::ownership::{Ownership, Processes};
use super::teardown::teardown;
use crate::catalog::quantity::Bytes;
use crate::support::deadline::{Deadline, Progress, WaitError};
use crate::support::file;

/// How long a guest under KVM may be silent. A Debian kernel needs some three seconds.
pub(crate) const PROBE: Duration = Duration::from_secs(30);
/// What a kernel prints when it starts user space, and what the first process prints.
const BOOTED: [&str; 3] = ["Run /init as init process", "systemd[1]:", " login:"];
/// The cached choice, in the cache folder.
const CACHE_FILE: &str = "acceleration.json";

/// A choice holds as long as these stay the same.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ProbeKey {
    uri: String,
    hostname: String,
    version: String,
    boot_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Cached {
    key: ProbeKey,
    choice: AcceleratorChoice,
}

/// What the probe needs.
pub(crate) struct KvmProbe<'a> {
    /// The hypervisor.
    pub(crate) hypervisor: &'a dyn Hypervisor,
    /// Its host, as it is now.
    pub(crate) host: &'a HostInfo,
    /// The prefix of all names there.
    pub(crate) prefix: &'a NamePrefix,
    /// The volume of the golden image, already uploaded.
    pub(crate) image_volume: &'a str,
    /// Owner, slot and address of the probing VM: the same as for the VM to come.
    pub(crate) ownership: &'a Ownership,
    /// The processes of this machine, to tell whether another process is probing.
    pub(crate) processes: &'a dyn Processes,
    /// The folder of the cached choice.
    pub(crate) cache: &'a Path,
}

impl KvmProbe<'_> {
    /// The choice without a probe: `forced` by the user, determined by the hypervisor, or cached.
    pub(crate) fn known(&self, forced: Option<Accelerator>) -> Option<AcceleratorChoice> {
        if let Some(accelerator) = forced {
            return Some(AcceleratorChoice { accelerator, why: "set by BOMA_IT_ACCEL".to_owned() });
        }
        if !self.host.offers_kvm {
            return Some(tcg("the hypervisor does not offer KVM"));
        }
        let text = std::fs::read(self.cache.join(CACHE_FILE)).ok()?;
        let cached: Cached = serde_json::from_slice(&text).ok()?;
        (cached.key == self.key()).then_some(cached.choice)
    }

    /// Boots the golden image under KVM, which ends well within [`PROBE`], and caches the choice. Pool, network and image
    /// must exist. The probing VM is removed whatever happens.
    ///
    /// # Errors
    /// When the probe could not run, another process is probing or ended the probe, or `deadline` passed. A failure of KVM
    /// itself is a choice, not an error.
    pub(crate) fn run(&self, deadline: &Deadline) -> Result<AcceleratorChoice> {
        let name = self.prefix.probe();
        self.remove_leftover(&name)?;
        let defined = self.hypervisor.define(&self.domain(&name));
        if let Err(error @ HypervisorError::Exists { .. }) = defined {
            // Another process was faster, and the domain belongs to it.
            return Err(error);
        }
        let choice = defined.and_then(|()| self.boot(&name, deadline));
        let removed = teardown(self.hypervisor, &name);
        let choice = choice?;
        removed?;
        self.cache(&choice);
        Ok(choice)
    }

    /// Removes what an earlier probe left, unless it belongs to another process that is alive.
    fn remove_leftover(&self, name: &str) -> Result<()> {
        let leftover = self.hypervisor.machines()?.into_iter().find(|it| it.name == name);
        let is_ours = |it: &Ownership| it.owner == self.ownership.owner || it.is_orphan(self.processes);
        match leftover.map(|it| it.ownership) {
            Some(ownership) if !ownership.as_ref().is_some_and(is_ours) => {
                Err(busy(name, ownership.as_ref()))
            }
            _ => teardown(self.hypervisor, name),
        }
    }

    fn boot(&self, name: &str, deadline: &Deadline) -> Result<AcceleratorChoice> {
        let volumes = VmVolumes(name);
        self.hypervisor.create_overlay(&volumes.overlay(), self.image_volume, Bytes(0))?;
        if let Err(error) = self.hypervisor.start(name) {
            return kvm_failure(&error).map(|why| tcg(format!("no VM starts under KVM: {why}"))).ok_or(error);
        }
        let mut console = Vec::new();
        let look = || {
            let state = self.hypervisor.state(name)?;
            let seen = console.len() as u64;
            match self.hypervisor.download(&volumes.console(), seen, &mut console) {
                Ok(_) | Err(HypervisorError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            judge(&state, &String::from_utf8_lossy(&console))
        };
        let probe = deadline.within(PROBE, "the KVM probe");
        match probe.wait_for("a kernel under KVM", Duration::from_millis(200), look) {
            Ok(choice) => Ok(choice),
            // Silence means that KVM fails, unless the caller's own deadline ended the wait.
            Err(WaitError::TimedOut { .. }) if deadline.check("the KVM probe").is_ok() => {
                Ok(tcg(format!("a stock kernel printed nothing under KVM for {} s", PROBE.as_secs())))
            }
            Err(source) => {
                Err(HypervisorError::GaveUp { what: format!("probe KVM with domain {name}"), source })
            }
        }
    }

    fn domain(&self, name: &str) -> DomainSpec {
        let ownership = Ownership { accelerator: Accelerator::Kvm, ..self.ownership.clone() };
        DomainSpec {
            name: name.to_owned(),
            vcpus: 1,
            memory: Bytes::mib(768),
            accelerator: Accelerator::Kvm,
            mac: ownership.slot.mac(),
            egress: Egress::None,
            seed: false,
            disk: DiskCache::Unsafe,
            overlay: VmVolumes(name).overlay(),
            ownership,
        }
    }

    fn key(&self) -> ProbeKey {
        ProbeKey {
            uri: self.host.uri.clone(),
            hostname: self.host.hostname.clone(),
            version: self.host.version.clone(),
            boot_id: self.processes.this_process().boot_id.clone(),
        }
    }

    /// A failure here only costs another probe.
    fn cache(&self, choice: &AcceleratorChoice) {
        let cached = Cached { key: self.key(), choice: choice.clone() };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(self.cache)?;
            file::replace(&self.cache.join(CACHE_FILE), 0o600, |file| {
                Ok(serde_json::to_writer_pretty(file, &cached)?)
            })
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "cannot cache which accelerator works");
        }
    }
}

fn tcg(why: impl Into<String>) -> AcceleratorChoice {
    AcceleratorChoice { accelerator: Accelerator::Tcg, why: why.into() }
}

/// QEMU's last words in one line, if they are about KVM. A VM that fails to start for another reason says nothing about
/// KVM, and the choice would be cached.
fn kvm_failure(error: &HypervisorError) -> Option<String> {
    let HypervisorError::Other { source, .. } = error else { return None };
    let text = source.to_string();
    if !text.to_ascii_lowercase().contains("kvm") {
        return None;
    }
    let line = text.lines().next().unwrap_or_default();
    Some(line.rsplit_once("qemu-system-x86_64: ").map_or(line, |(_, message)| message).trim().to_owned())
}

fn busy(name: &str, ownership: Option<&Ownership>) -> HypervisorError {
    let who = match ownership {
        Some(Ownership { owner, .. }) => format!("process {} on {} is probing", owner.pid, owner.hostname),
        None => "it exists and its owner is unknown".to_owned(),
    };
    let next =
        "try again in a minute, remove it with `boma-it prune --all`, or set BOMA_IT_ACCEL to skip the probe";
    HypervisorError::Other {
        verb: "probe KVM with",
        object: format!("domain {name}"),
        source: format!("{who}; {next}").into(),
    }
}

/// What the domain's state and its console say about KVM.
///
/// # Errors
/// When something other than KVM ended the probe.
fn judge(state: &DomainState, console: &str) -> anyhow::Result<Progress<AcceleratorChoice>> {
    if BOOTED.iter().any(|sign| console.contains(sign)) {
        let why = "a stock kernel boots".to_owned();
        return Ok(Progress::Ready(AcceleratorChoice { accelerator: Accelerator::Kvm, why }));
    }
    let Some(failure) = state.failure() else {
        return Ok(Progress::Pending(format!("the VM is {state} and has not printed anything")));
    };
    let is_unrelated = matches!(
        state,
        DomainState::Absent
            | DomainState::ShutOff(StopReason::Destroyed)
            | DomainState::Paused(PauseReason::ByUser | PauseReason::DiskError)
    );
    anyhow::ensure!(!is_unrelated, "{failure}, which says nothing about KVM");
    Ok(Progress::Ready(tcg(format!(
        "the hypervisor offers KVM but a stock kernel dies under it (the VM is {state})"
    ))))
}

#[cfg(test)]
mod tests;
