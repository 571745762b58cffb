//! The hypervisor as the harness sees it: a dozen or so verbs on named things, and the errors they end in. Each verb
//! is bounded in time, says what it did to which object when it fails, and names what to do next where there
//! is something. What is rendered, decided and remembered about machines is done elsewhere.
//!
//! Order matters in one place. A machine is *defined first*, then gets its volumes, then starts: the domain is the
//! record of who owns them, so there is no moment at which a volume belongs to nobody. Undoing runs the
//! other way round, and the undoing verbs succeed when there is nothing (left) to undo.

use std::error::Error as StdError;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::domain::DomainSpec;
use super::network::NetworkSpec;
use super::ownership::Ownership;
use crate::catalog::quantity::Bytes;
use crate::support::deadline::{Deadline, WaitError, format_duration};

/// What verbs give.
pub type Result<T, E = HypervisorError> = std::result::Result<T, E>;

/// The verbs.
pub trait Hypervisor: Send + Sync {
    /// What this hypervisor is and offers; asked anew each time, as free memory changes.
    fn facts(&self) -> Result<HostInfo>;

    /// Makes our storage pool, or makes sure that it is there and active.
    fn ensure_pool(&self) -> Result<()>;

    /// Makes our network and its filters, or makes sure that they are there, active and as `spec` has them.
    ///
    /// What differs is replaced while no machine of ours is running, and is an error otherwise.
    fn ensure_network(&self, spec: &NetworkSpec) -> Result<()>;

    /// Every volume in our pool, by name; files that the hypervisor itself made there (consoles) included.
    fn volumes(&self) -> Result<Vec<Volume>>;

    /// Makes a volume of the contents of `file`, calling `progress` with the number of bytes sent so far. Nothing
    /// is left of it when it fails; if we are killed, [`Volume::length`] differs from the file's.
    fn upload(
        &self,
        volume: &str,
        file: &Path,
        deadline: &Deadline,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()>;

    /// Makes a thin qcow2 overlay of `capacity` (never less than its backing volume's) over the volume `backing`.
    fn create_overlay(&self, volume: &str, backing: &str, capacity: Bytes) -> Result<()>;

    /// Writes a volume's bytes from `offset` on to `to` and gives their number; past the end there are none.
    fn download(&self, volume: &str, offset: u64, to: &mut dyn Write) -> Result<u64>;

    /// Deletes a volume; it need not be there.
    fn delete_volume(&self, volume: &str) -> Result<()>;

    /// Defines a domain, without starting it. [`HypervisorError::Exists`] if there is one of that name.
    fn define(&self, spec: &DomainSpec) -> Result<()>;

    /// Powers a defined domain on.
    fn start(&self, domain: &str) -> Result<()>;

    /// Restarts a running domain. For [`RestartMethod::Acpi`] this only asks: the guest does it.
    fn restart(&self, domain: &str, push: RestartMethod) -> Result<()>;

    /// Cuts a domain's power; it need not be running, nor be there.
    fn power_off(&self, domain: &str) -> Result<()>;

    /// Removes a domain that is not running, with its firmware variables; it need not be there.
    fn undefine(&self, domain: &str) -> Result<()>;

    /// What state a domain is in.
    fn state(&self, domain: &str) -> Result<DomainState>;

    /// Every machine of ours, by name, running or not.
    fn machines(&self) -> Result<Vec<Machine>>;

    /// Replaces what a domain's metadata says about its owner.
    fn set_ownership(&self, domain: &str, ownership: &Ownership) -> Result<()>;
}

/// What a hypervisor is and offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// The connection's URI.
    pub uri: String,
    /// Name and version: `QEMU 10.0.2`.
    pub version: String,
    /// Its host's name.
    pub hostname: String,
    /// Whether it runs on this very machine.
    pub local: bool,
    /// Memory that a new VM could have now.
    pub available_memory: Bytes,
    /// Whether it *says* that KVM can be used. See [`super::acceleration`] for whether that is true.
    pub offers_kvm: bool,
}

/// A volume in our pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What the guest sees: the virtual size of a qcow2 file.
    pub capacity: Bytes,
    /// Disk space in use.
    pub allocation: Bytes,
    /// Length of the file.
    pub length: Bytes,
    /// Path, on the hypervisor, of its backing file.
    pub backing: Option<String>,
}

/// How to restart a domain from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartMethod {
    /// The power button: a guest shuts its services down and reboots. Needs no agent in the guest.
    Acpi,
    /// The reset button: the guest notices nothing until firmware runs.
    Reset,
    /// Power off, then on: QEMU ends too, and what it had not written is lost.
    PowerCut,
}

/// A machine of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The domain's name.
    pub name: String,
    /// The state it is in.
    pub state: DomainState,
    /// What it is given.
    pub memory: Bytes,
    /// Whose it is, unless its metadata is missing or not readable.
    pub ownership: Option<Ownership>,
}

/// What state a domain is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainState {
    /// There is no such domain.
    Absent,
    /// It runs.
    Running,
    /// It is frozen.
    Paused(PauseReason),
    /// It is off.
    ShutOff(StopReason),
    /// The guest's kernel panicked, and the domain was stopped with it.
    Panicked,
}

/// Why a domain is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// Somebody suspended it.
    ByUser,
    /// It is just being started.
    Starting,
    /// A disk could not be read or written: most often, the hypervisor's disk is full.
    DiskError,
    /// The virtual CPU could not go on: a `KVM internal error`, most often.
    CpuError,
    /// The hypervisor is saving, dumping or migrating it, or gave another such reason.
    Housekeeping,
}

/// Why a domain is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was never started, or the hypervisor does not remember.
    Unknown,
    /// The guest shut itself down.
    ByGuest,
    /// Its power was cut.
    Destroyed,
    /// QEMU died.
    Crashed,
    /// It could not be started.
    FailedToStart,
}

impl DomainState {
    /// Whether it holds memory: it is running, or frozen, or stopped in a panic.
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Running | Self::Paused(_) | Self::Panicked)
    }

    /// If nothing more is to be expected of the guest in this state, what is wrong, in words.
    pub fn trouble(&self) -> Option<&'static str> {
        Some(match self {
            Self::Running | Self::Paused(PauseReason::Starting | PauseReason::Housekeeping) => return None,
            Self::Absent => "the domain is gone",
            Self::Paused(PauseReason::ByUser) => "the domain was suspended by somebody",
            Self::Paused(PauseReason::DiskError) => {
                "the domain was paused by a disk error; is the hypervisor's disk full?"
            }
            Self::Paused(PauseReason::CpuError) => {
                "the virtual CPU stopped (a KVM internal error, most often; BOMA_IT_ACCEL=tcg does without KVM)"
            }
            Self::ShutOff(StopReason::Unknown) => "the domain is off",
            Self::ShutOff(StopReason::ByGuest) => "the guest shut itself down",
            Self::ShutOff(StopReason::Destroyed) => "somebody destroyed the domain",
            Self::ShutOff(StopReason::Crashed) => "QEMU died under the guest",
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

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// There is no such thing.
    #[error("there is no {object} on the hypervisor")]
    NotFound {
        /// `volume golden-0123.qcow2`.
        object: String,
    },
    /// There is one already.
    #[error("there is a {object} on the hypervisor already")]
    Exists {
        /// `domain boma-it-askari`.
        object: String,
    },
    /// The connection's URI is none that libvirt knows.
    #[error(
        "libvirt does not take `{uri}`; correct `libvirt.uri` of harness/harness.yml, or BOMA_IT_URI (`qemu:///system` is this machine's)"
    )]
    BadUri {
        /// The URI.
        uri: String,
        /// What libvirt said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Nobody answers at the connection's URI.
    #[error("no libvirt daemon answers at {uri}; {hint}")]
    NoDaemon {
        /// The URI.
        uri: String,
        /// What to do next.
        hint: String,
        /// What libvirt said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// We may not.
    #[error("no permission to use libvirt at {uri}; {hint}")]
    Permission {
        /// The URI.
        uri: String,
        /// What to do next.
        hint: String,
        /// What libvirt said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The hypervisor has no room.
    #[error(
        "the hypervisor's disk is full: cannot {verb} {object}; free some space there (`boma-it prune`, `boma-it image list`)"
    )]
    DiskFull {
        /// What was being done.
        verb: &'static str,
        /// To what.
        object: String,
        /// What libvirt said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// It neither did it nor refused.
    #[error(
        "libvirt did not answer for {}: cannot {verb} {object}; is its daemon alive? (`virsh uri` shows)", format_duration(*.bound)
    )]
    Hung {
        /// What was being done.
        verb: &'static str,
        /// To what.
        object: String,
        /// How long was waited.
        bound: Duration,
    },
    /// The network cannot be as it should.
    #[error("cannot have the network {network}: {why}")]
    NetworkConflict {
        /// The network and its subnet.
        network: String,
        /// What is in the way, and what to do next.
        why: String,
    },
    /// The caller's deadline passed, or we were asked to stop.
    #[error("gave up: cannot {what}")]
    Ended {
        /// What was being done to what: `upload volume golden-0123.qcow2`.
        what: String,
        /// Why.
        #[source]
        source: WaitError,
    },
    /// A file on our side.
    #[error("cannot {verb} {object}")]
    File {
        /// What was being done.
        verb: &'static str,
        /// To what.
        object: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Anything else.
    #[error("cannot {verb} {object}")]
    Other {
        /// What was being done.
        verb: &'static str,
        /// To what.
        object: String,
        /// What libvirt said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}
