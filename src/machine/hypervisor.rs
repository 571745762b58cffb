//! The hypervisor: its verbs, the data they pass, and the errors they end in. Every verb is bounded in time and idempotent
//! where its documentation says that an object need not exist. An error names the verb, the object and what to do next.
//!
//! The order matters in one place. A VM is *defined first*, then gets its volumes, then starts: the domain records who owns
//! the volumes, so no volume is ever without an owner. Removal goes the other way round.

use std::error::Error as StdError;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::domain::DomainSpec;
use super::network::NetworkSpec;
use super::ownership::Ownership;
use crate::catalog::quantity::Bytes;
use crate::support::deadline::{Deadline, WaitError, format_duration};

/// The result of a verb.
pub type Result<T, E = HypervisorError> = std::result::Result<T, E>;

/// The verbs.
pub trait Hypervisor: Send + Sync {
    /// The hypervisor's host. Never cached, as free memory changes.
    fn host_info(&self) -> Result<HostInfo>;

    /// Makes sure that our storage pool exists and is active.
    fn ensure_pool(&self) -> Result<()>;

    /// Makes sure that our network and its filters exist, are active and match `spec`.
    ///
    /// A network that differs is replaced, unless one of our VMs is running: then this is an error.
    fn ensure_network(&self, spec: &NetworkSpec) -> Result<()>;

    /// Every volume in our pool, sorted by name, including files that the hypervisor itself made there (console logs).
    fn volumes(&self) -> Result<Vec<Volume>>;

    /// Creates a volume from `file`, calling `progress` with the number of bytes sent so far. A failed upload leaves no
    /// volume; one of a killed process leaves a volume whose [`Volume::length`] differs from the file's.
    fn upload(
        &self,
        volume: &str,
        file: &Path,
        deadline: &Deadline,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()>;

    /// Creates a thin qcow2 overlay over the volume `backing`, of at least the backing volume's capacity.
    fn create_overlay(&self, volume: &str, backing: &str, capacity: Bytes) -> Result<()>;

    /// Writes a volume's bytes from `offset` on to `to` and returns their number: 0 past the end.
    fn download(&self, volume: &str, offset: u64, to: &mut dyn Write) -> Result<u64>;

    /// Deletes a volume; it need not exist.
    fn delete_volume(&self, volume: &str) -> Result<()>;

    /// Defines a domain without starting it. [`HypervisorError::Exists`] if the name is taken.
    fn define(&self, spec: &DomainSpec) -> Result<()>;

    /// Keeps the present state of a running domain: its memory as the volume `memory`, and its disk as it is. The domain goes
    /// on with the new volume `overlay` over that disk. The guest is paused for a second or two.
    fn save(&self, domain: &str, memory: &str, overlay: &str) -> Result<()>;

    /// Defines the domain whose state is the volume `memory`, with the owner, disk and network filter of `spec`, without
    /// starting it. An error when `spec` has another name than the saved domain, or the state cannot be read.
    fn define_saved(&self, memory: &str, spec: &DomainSpec) -> Result<()>;

    /// Starts a domain of [`Hypervisor::define_saved`] from its state.
    fn restore(&self, domain: &str, memory: &str) -> Result<()>;

    /// Starts a defined domain.
    fn start(&self, domain: &str) -> Result<()>;

    /// Restarts a running domain. [`RestartMethod::Acpi`] only asks the guest to reboot.
    fn restart(&self, domain: &str, method: RestartMethod) -> Result<()>;

    /// Cuts a domain's power; it need not be running, nor exist.
    fn power_off(&self, domain: &str) -> Result<()>;

    /// Removes a stopped domain with its firmware variables; it need not exist.
    fn undefine(&self, domain: &str) -> Result<()>;

    /// The state of a domain.
    fn state(&self, domain: &str) -> Result<DomainState>;

    /// Every VM with our prefix, running or not, sorted by name.
    fn machines(&self) -> Result<Vec<Machine>>;

    /// Replaces the ownership in a domain's metadata.
    fn set_ownership(&self, domain: &str, ownership: &Ownership) -> Result<()>;
}

/// The hypervisor's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// The connection's URI.
    pub uri: String,
    /// Name and version of the hypervisor: `QEMU 10.0.2`.
    pub version: String,
    /// Version of libvirt: `9.0.0`.
    pub libvirt: String,
    /// Its processor, as libvirt describes it.
    pub cpu: String,
    /// The host's name.
    pub hostname: String,
    /// Whether it is this machine.
    pub local: bool,
    /// Memory that a new VM could use now.
    pub available_memory: Bytes,
    /// Whether it *claims* to offer KVM. [`super::kvm_probe`] finds out whether that is true.
    pub offers_kvm: bool,
}

/// A volume in our pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The size that the guest sees.
    pub capacity: Bytes,
    /// Disk space in use.
    pub allocation: Bytes,
    /// Length of the file.
    pub length: Bytes,
    /// Path of its backing file on the hypervisor.
    pub backing: Option<String>,
}

/// How to restart a domain from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartMethod {
    /// The power button: the guest shuts down its services and reboots. Needs no agent in the guest.
    Acpi,
    /// The reset button: the guest notices nothing until firmware runs.
    Reset,
    /// Power off, then on: QEMU ends too, and loses what it has not written.
    PowerCut,
}

/// A VM with our prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The domain's name.
    pub name: String,
    /// Its state.
    pub state: DomainState,
    /// Its memory.
    pub memory: Bytes,
    /// How much of its host's memory it holds by now; none if that is not known.
    pub resident: Option<Bytes>,
    /// Its owner, unless the metadata is missing or damaged.
    pub ownership: Option<Ownership>,
}

/// The state of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainState {
    /// It does not exist.
    Absent,
    /// It runs.
    Running,
    /// Its CPUs are stopped.
    Paused(PauseReason),
    /// It is off.
    ShutOff(StopReason),
    /// The guest's kernel panicked, which stopped the domain.
    Panicked,
}

/// Why a domain is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// Somebody suspended it.
    ByUser,
    /// It is starting.
    Starting,
    /// A disk could not be read or written, mostly because the hypervisor's disk is full.
    DiskError,
    /// The virtual CPU failed, mostly with a `KVM internal error`.
    CpuError,
    /// The hypervisor is saving, dumping or migrating it, or similar.
    Housekeeping,
}

/// Why a domain is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It never started, or the hypervisor does not know.
    Unknown,
    /// The guest shut itself down.
    ByGuest,
    /// Its power was cut.
    Destroyed,
    /// QEMU crashed.
    Crashed,
    /// It failed to start.
    FailedToStart,
}

impl DomainState {
    /// Whether it holds memory: it is running, paused, or stopped by a panic.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self, Self::Running | Self::Paused(_) | Self::Panicked)
    }

    /// What is wrong, if the guest cannot continue in this state.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        Some(match self {
            Self::Running | Self::Paused(PauseReason::Starting | PauseReason::Housekeeping) => return None,
            Self::Absent => "the domain does not exist any more",
            Self::Paused(PauseReason::ByUser) => "the domain was suspended",
            Self::Paused(PauseReason::DiskError) => {
                "the domain was paused by a disk error; is the hypervisor's disk full?"
            }
            Self::Paused(PauseReason::CpuError) => {
                "the virtual CPU failed (mostly a KVM internal error; set BOMA_IT_ACCEL=tcg to run without KVM)"
            }
            Self::ShutOff(StopReason::Unknown) => "the domain is off",
            Self::ShutOff(StopReason::ByGuest) => "the guest shut itself down",
            Self::ShutOff(StopReason::Destroyed) => "the domain was destroyed from outside",
            Self::ShutOff(StopReason::Crashed) => "QEMU crashed",
            Self::ShutOff(StopReason::FailedToStart) => "the domain failed to start",
            Self::Panicked => "the guest's kernel panicked",
        })
    }
}

impl std::fmt::Display for DomainState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Absent => "absent",
            Self::Running => "running",
            Self::Paused(_) => "paused",
            Self::ShutOff(_) => "off",
            Self::Panicked => "panicked",
        })
    }
}

/// An error of the layer below: libvirt's, or the fake's.
type Source = Box<dyn StdError + Send + Sync>;

/// Why a verb failed. `verb` and `object` complete "cannot …": `upload`, `volume golden-0123.qcow2`.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are described once, above and in the messages")]
pub enum HypervisorError {
    /// The object does not exist.
    #[error("the hypervisor has no {object}")]
    NotFound { object: String },
    /// The object exists already.
    #[error("the hypervisor already has a {object}")]
    Exists { object: String },
    /// Libvirt does not understand the URI.
    #[error(
        "libvirt does not accept the URI `{uri}`; correct `libvirt.uri` in harness/harness.yml, or BOMA_IT_URI (this machine is `qemu:///system`)"
    )]
    BadUri { uri: String, source: Source },
    /// No daemon answers.
    #[error("no libvirt daemon answers at {uri}; {hint}")]
    NoDaemon { uri: String, hint: String, source: Source },
    /// The daemon refuses this user.
    #[error("no permission to use libvirt at {uri}; {hint}")]
    Permission { uri: String, hint: String, source: Source },
    /// The hypervisor's disk is full.
    #[error(
        "the hypervisor's disk is full: cannot {verb} {object}; free some space there (`boma-it prune`, `boma-it image list`)"
    )]
    DiskFull { verb: &'static str, object: String, source: Source },
    /// No answer within the bound.
    #[error(
        "libvirt has not answered for {}: cannot {verb} {object}; check its daemon with `virsh uri`", format_duration(*.bound)
    )]
    Hung { verb: &'static str, object: String, bound: Duration },
    /// The network cannot be set up as specified.
    #[error("cannot set up the network {network}: {why}")]
    NetworkConflict { network: String, why: String },
    /// The caller's deadline passed, or a signal arrived.
    #[error("{}: {what}", if matches!(.source, WaitError::TimedOut { .. }) { "timed out" } else { "interrupted" })]
    GaveUp { what: String, source: WaitError },
    /// A file on this machine.
    #[error("cannot {verb} {object}")]
    File { verb: &'static str, object: String, source: std::io::Error },
    /// Any other error.
    #[error("cannot {verb} {object}")]
    Other { verb: &'static str, object: String, source: Source },
}
