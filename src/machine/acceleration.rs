//! What runs the virtual CPUs: KVM where it truly works, QEMU's translator (TCG) where it does not.
//!
//! That `/dev/kvm` opens, that a hypervisor advertises KVM, or that a guest of three instructions runs, proves
//! nothing: there are machines where all of that holds and a stock kernel dies at its first steps. So a real one is booted,
//! from the golden image, until its first process speaks on the console or the virtual CPU stops. The verdict is
//! remembered until the host reboots or gets another QEMU.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::domain::{DiskCache, DomainSpec};
use super::hypervisor::{
    DomainState, HostInfo, Hypervisor, HypervisorError, PauseReason, Result, StopReason,
};
use super::names::{NamePrefix, VmVolumes};
use super::network::Egress;
use super::ownership::{Ownership, Processes};
use super::teardown::teardown;
use crate::catalog::quantity::Bytes;
use crate::support::deadline::{Deadline, Progress};
use crate::support::file;

/// For how long a guest under KVM may say nothing that proves it: a Debian kernel needs some three seconds.
pub const PROBE: Duration = Duration::from_secs(30);
/// What a kernel prints when it hands over to user space, and what the first process prints.
const PROOFS: [&str; 3] = ["Run /init as init process", "systemd[1]:", " login:"];
/// The file that remembers, in the cache folder.
const MEMORY: &str = "acceleration.json";

/// What runs the virtual CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator: works everywhere, several times slower.
    Tcg,
}

impl Accelerator {
    /// `kvm` or `tcg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// By how much a deadline that is meant for KVM is multiplied. Under TCG a Debian boot takes about four times as long
    /// as under KVM on the same machine (some 50 s against some 12 s).
    pub fn patience(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 4,
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which accelerator, and why: one line for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorChoice {
    /// Which.
    pub accelerator: Accelerator,
    /// Why, fit to stand behind "KVM: " or "TCG (slow): ".
    pub why: String,
}

impl AcceleratorChoice {
    fn new(accelerator: Accelerator, why: impl Into<String>) -> Self {
        Self { accelerator, why: why.into() }
    }
}

impl fmt::Display for AcceleratorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.accelerator {
            Accelerator::Kvm => write!(f, "accelerator KVM: {}", self.why),
            Accelerator::Tcg => {
                let times = self.accelerator.patience();
                write!(f, "accelerator TCG, several times slower, time-outs x{times}: {}", self.why)
            }
        }
    }
}

/// Under which circumstances a verdict holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ProbeKey {
    uri: String,
    hostname: String,
    version: String,
    boot_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    circumstances: ProbeKey,
    verdict: AcceleratorChoice,
}

/// What is needed to find out.
pub struct KvmProbe<'a> {
    /// The hypervisor.
    pub hypervisor: &'a dyn Hypervisor,
    /// Its present facts.
    pub facts: &'a HostInfo,
    /// Our names there.
    pub realm: &'a NamePrefix,
    /// The volume of the golden image, uploaded already.
    pub image_volume: &'a str,
    /// Whose the probing machine is, and where it stands on the network: as for the machine that is to come.
    pub ownership: &'a Ownership,
    /// The processes of this machine, to judge whether somebody else probes.
    pub processes: &'a dyn Processes,
    /// Id of the present boot of this machine.
    pub boot_id: &'a str,
    /// Where the verdict is remembered.
    pub cache: &'a Path,
}

impl KvmProbe<'_> {
    /// Without probing: what somebody `forced`, what needs no probe, or what is remembered.
    pub fn known(&self, forced: Option<Accelerator>) -> Option<AcceleratorChoice> {
        if let Some(accelerator) = forced {
            return Some(AcceleratorChoice::new(accelerator, "as BOMA_IT_ACCEL says"));
        }
        if !self.facts.offers_kvm {
            return Some(AcceleratorChoice::new(Accelerator::Tcg, "the hypervisor offers no KVM"));
        }
        let text = std::fs::read(self.cache.join(MEMORY)).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        (remembered.circumstances == self.circumstances()).then_some(remembered.verdict)
    }

    /// By booting the golden image under KVM, which ends well within [`PROBE`]; remembers the verdict. Pool, network and
    /// image must be there; nothing is left of the probing machine, whatever the end.
    ///
    /// # Errors
    /// When the probe could not be made, or somebody else is at it or ended it, or `deadline` passed. That KVM fails is no error but a
    /// verdict.
    pub fn probe(&self, deadline: &Deadline) -> Result<AcceleratorChoice> {
        let name = format!("{}-kvm-probe", self.realm.prefix());
        self.make_room(&name)?;
        let defined = self.hypervisor.define(&self.machine(&name));
        if let Err(error @ HypervisorError::Exists { .. }) = defined {
            // Somebody was faster: it is theirs.
            return Err(error);
        }
        let found = defined.and_then(|()| self.boot(&name, deadline));
        let undone = teardown(self.hypervisor, &name);
        let verdict = found?;
        undone?;
        self.remember(&verdict);
        Ok(verdict)
    }

    /// Takes away what is left of an earlier probe, unless it is somebody else's who lives.
    fn make_room(&self, name: &str) -> Result<()> {
        let there = self.hypervisor.machines()?.into_iter().find(|it| it.name == name);
        let is_ours = |it: &Ownership| it.owner == self.ownership.owner || it.is_orphan(self.processes);
        match there.map(|it| it.ownership) {
            Some(owned) if !owned.as_ref().is_some_and(is_ours) => Err(taken(name, owned.as_ref())),
            _ => teardown(self.hypervisor, name),
        }
    }

    fn boot(&self, name: &str, deadline: &Deadline) -> Result<AcceleratorChoice> {
        self.hypervisor.create_overlay(&VmVolumes(name).overlay(), self.image_volume, Bytes(0))?;
        if let Err(error) = self.hypervisor.start(name) {
            return kvm_to_blame(&error)
                .map(|why| AcceleratorChoice::new(Accelerator::Tcg, format!("no VM starts under KVM: {why}")))
                .ok_or(error);
        }
        let probe = deadline.within(PROBE, "the KVM probe");
        let mut console = String::new();
        let mut seen = 0;
        let look = || -> anyhow::Result<Progress<AcceleratorChoice>> {
            let state = self.hypervisor.state(name)?;
            let mut new = Vec::new();
            seen += self.hypervisor.download(&VmVolumes(name).console(), seen, &mut new).or_else(absent)?;
            console.push_str(&String::from_utf8_lossy(&new));
            judge(&state, &console)
        };
        match probe.wait_for("a kernel under KVM", Duration::from_millis(200), look) {
            Ok(verdict) => Ok(verdict),
            Err(error) => self.no_answer(name, deadline, error),
        }
    }

    /// Silence is a verdict, unless it was not KVM's fault.
    fn no_answer(
        &self,
        name: &str,
        deadline: &Deadline,
        error: crate::support::deadline::WaitError,
    ) -> Result<AcceleratorChoice> {
        use crate::support::deadline::WaitError;
        let timed_out = matches!(error, WaitError::TimedOut { .. });
        if timed_out && deadline.check("the KVM probe").is_ok() {
            let why = format!("under KVM a stock kernel was silent for {} s", PROBE.as_secs());
            return Ok(AcceleratorChoice::new(Accelerator::Tcg, why));
        }
        Err(HypervisorError::Ended { what: format!("try KVM with domain {name}"), source: error })
    }

    fn machine(&self, name: &str) -> DomainSpec {
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
            ownership,
        }
    }

    fn circumstances(&self) -> ProbeKey {
        ProbeKey {
            uri: self.facts.uri.clone(),
            hostname: self.facts.hostname.clone(),
            version: self.facts.version.clone(),
            boot_id: self.boot_id.to_owned(),
        }
    }

    /// Failing to remember costs another probe, no more.
    fn remember(&self, verdict: &AcceleratorChoice) {
        let remembered = Remembered { circumstances: self.circumstances(), verdict: verdict.clone() };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(self.cache)?;
            file::replace(&self.cache.join(MEMORY), 0o600, |file| {
                Ok(serde_json::to_writer_pretty(file, &remembered)?)
            })
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "cannot remember which accelerator works");
        }
    }
}

fn absent(error: HypervisorError) -> Result<u64> {
    match error {
        HypervisorError::NotFound { .. } => Ok(0),
        error => Err(error),
    }
}

/// What QEMU said as it ended, in a line, if it speaks of KVM. Any other reason not to start is no verdict on KVM, which
/// would be remembered.
fn kvm_to_blame(error: &HypervisorError) -> Option<String> {
    let HypervisorError::Other { source, .. } = error else { return None };
    let text = source.to_string();
    if !text.to_ascii_lowercase().contains("kvm") {
        return None;
    }
    let line = text.lines().next().unwrap_or_default();
    let gist = line.rsplit_once("qemu-system-x86_64: ").map_or(line, |(_, gist)| gist);
    Some(gist.trim().to_owned())
}

fn taken(name: &str, owned: Option<&Ownership>) -> HypervisorError {
    let whose = match owned {
        Some(Ownership { owner, .. }) => format!("process {} on {} is at it", owner.pid, owner.hostname),
        None => "it is there already, and does not say whose it is".to_owned(),
    };
    let next =
        "try again in a minute, or end it with `boma-it prune --all`; with BOMA_IT_ACCEL nothing is probed";
    HypervisorError::Other {
        verb: "try KVM with",
        object: format!("domain {name}"),
        source: format!("{whose}; {next}").into(),
    }
}

/// What the guest's state and its console say of KVM.
///
/// # Errors
/// That the probe was ended by what is not KVM's doing.
fn judge(state: &DomainState, console: &str) -> anyhow::Result<Progress<AcceleratorChoice>> {
    if PROOFS.iter().any(|proof| console.contains(proof)) {
        return Ok(Progress::Ready(AcceleratorChoice::new(
            Accelerator::Kvm,
            "a stock kernel boots under it",
        )));
    }
    Ok(match state {
        DomainState::Running => Progress::Pending("it says nothing yet".to_owned()),
        state => match state.trouble() {
            None => Progress::Pending(format!("it is {state}")),
            Some(trouble) if !may_be_kvms(state) => anyhow::bail!("{trouble}, which says nothing of KVM"),
            Some(_) => {
                let why = format!("KVM is offered but a stock kernel dies under it (the VM is {state})");
                Progress::Ready(AcceleratorChoice::new(Accelerator::Tcg, why))
            }
        },
    })
}

/// Whether KVM can have brought a domain into this state, rather than somebody, or a full disk.
fn may_be_kvms(state: &DomainState) -> bool {
    !matches!(
        state,
        DomainState::Absent
            | DomainState::ShutOff(StopReason::Destroyed)
            | DomainState::Paused(PauseReason::ByUser | PauseReason::DiskError)
    )
}

#[cfg(test)]
mod tests;
