//! Who owns a VM: what the domain's metadata says, to and from XML, and when a VM is an orphan.
//!
//! The domain is the only record. From it a process learns which run a VM belongs to, where the run folder is, and whether
//! the owning process is alive.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::ValueEnum;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::accelerator::Accelerator;
use super::layer::{LayerName, LayerOrigin};
use super::network::Slot;
use super::xml::{Element, el};
use crate::catalog::plan::TrialName;
use crate::support::name::Name;

/// The XML namespace of our metadata.
pub(super) const NAMESPACE: &str = "urn:boma-it:1";
/// The namespace's prefix, as libvirt shows it.
pub(super) const XML_PREFIX: &str = "boma";

/// Who owns a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Id of the run: the name of its run folder.
    pub run: String,
    /// The profile.
    pub host: Name,
    /// The scenario; none for the plain cycle.
    pub scenario: Option<Name>,
    /// The process that created the VM.
    pub owner: Owner,
    /// How long the VM is meant to live.
    pub lifetime: Lifetime,
    /// The run folder: absolute, on the owner's machine.
    pub run_folder: PathBuf,
    /// Its slot on the network.
    pub slot: Slot,
    /// Its address there.
    pub address: Ipv4Addr,
    /// What runs its virtual CPUs.
    pub accelerator: Accelerator,
    /// The name of its golden image.
    pub image: String,
    /// The layer that it was restored from; none if it booted.
    pub layer: Option<LayerOrigin>,
    /// The layers that its states become: their volumes are its disks.
    pub makes: Vec<LayerName>,
}

/// A process, identified across reboots and machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The machine it runs on.
    pub hostname: String,
    /// Id of that machine's boot.
    pub boot_id: String,
    /// The PID namespace in which `pid` counts, see pid_namespaces(7): a container has its own.
    pub pid_namespace: Option<u64>,
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/<pid>/stat`, see proc(5). A later process with the
    /// same id has another value.
    pub started: u64,
}

/// How long a VM is meant to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as its owner, the process that runs its trial. The trials of one test run share a session.
    Trial {
        /// Names the test run.
        session: String,
    },
    /// Until `down`.
    Manual,
    /// Kept after its trial for inspection: until `down`, or until a later trial of the same session needs its place.
    Kept {
        /// Names the test run.
        session: String,
    },
}

/// The processes of one machine, as far as we need them to judge owners.
pub trait Processes {
    /// The process that asks.
    fn this_process(&self) -> &Owner;
    /// The state of the process with this id.
    fn look(&self, pid: u32) -> ProcessState;
}

/// What is known about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It is alive and started at this time, as in [`Owner::started`].
    Alive(u64),
    /// It does not exist, or has ended.
    Gone,
    /// It exists, but `/proc` hides it: another user's process where `/proc` is mounted with `hidepid`, see proc(5).
    Hidden,
}

/// The processes of this machine, from `/proc`.
#[derive(Clone, Debug)]
pub struct ProcFs(Owner);

impl ProcFs {
    /// As seen by this process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn new() -> std::io::Result<Self> {
        let pid = std::process::id();
        Ok(Self(Owner {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
            pid_namespace: std::fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino()),
            pid,
            started: match process_state(pid) {
                ProcessState::Alive(started) => started,
                ProcessState::Gone | ProcessState::Hidden => 0,
            },
        }))
    }
}

impl Processes for ProcFs {
    fn this_process(&self) -> &Owner {
        &self.0
    }

    fn look(&self, pid: u32) -> ProcessState {
        process_state(pid)
    }
}

fn process_state(pid: u32) -> ProcessState {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => start_time(&stat).map_or(ProcessState::Gone, ProcessState::Alive),
        Err(_) => without_stat(pid),
    }
}

/// The state of a process whose `/proc/<pid>/stat` cannot be read.
fn without_stat(pid: u32) -> ProcessState {
    match i32::try_from(pid).ok().and_then(Pid::from_raw).map(test_kill_process) {
        None | Some(Err(Errno::SRCH)) => ProcessState::Gone,
        Some(_) => ProcessState::Hidden,
    }
}

/// Field 22 of `/proc/<pid>/stat`; none for a zombie (field 3), which is dead already. Field 2, the command in
/// parentheses, may itself contain blanks and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

impl Owner {
    /// Whether this process is alive. Unknown for a process on another machine, in another PID namespace, or hidden.
    pub(crate) fn is_alive(&self, processes: &dyn Processes) -> Option<bool> {
        let this = processes.this_process();
        if self.hostname != this.hostname {
            return None;
        }
        if self.boot_id != this.boot_id {
            return Some(false);
        }
        if let (Some(theirs), Some(ours)) = (self.pid_namespace, this.pid_namespace)
            && theirs != ours
        {
            return None;
        }
        match processes.look(self.pid) {
            ProcessState::Alive(started) => Some(started == self.started),
            ProcessState::Gone => Some(false),
            ProcessState::Hidden => None,
        }
    }
}

impl Ownership {
    /// Whether it is a trial's VM whose owner is known to be dead.
    pub(crate) fn is_orphan(&self, processes: &dyn Processes) -> bool {
        matches!(self.lifetime, Lifetime::Trial { .. }) && self.owner.is_alive(processes) == Some(false)
    }

    /// Whether a layer's volumes are part of this VM's disk.
    pub(crate) fn uses(&self, layer: &LayerName) -> bool {
        self.layer.as_ref().is_some_and(|it| it.name == *layer) || self.makes.contains(layer)
    }

    /// Whether both name the same run. Another user, or another machine that uses the same hypervisor, may have a VM of the
    /// same name.
    pub(crate) fn is_same_run(&self, other: &Self) -> bool {
        self.run == other.run && self.owner == other.owner
    }

    /// The trial that runs in the VM.
    pub(crate) fn trial(&self) -> TrialName {
        TrialName { host: self.host.clone(), scenario: self.scenario.clone() }
    }

    /// The element for `virDomainSetMetadata`, which adds the namespace itself.
    pub(super) fn render(&self) -> String {
        self.fill(el("machine")).render()
    }

    /// The element as part of a domain's XML.
    pub(super) fn element(&self) -> Element {
        self.fill(el("boma:machine").attr("xmlns:boma", NAMESPACE))
    }

    fn fill(&self, element: Element) -> Element {
        let (lifetime, session) = match &self.lifetime {
            Lifetime::Trial { session } => ("trial", Some(session)),
            Lifetime::Manual => ("manual", None),
            Lifetime::Kept { session } => ("kept", Some(session)),
        };
        let makes = self.makes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        element
            .attr("run", &self.run)
            .attr("host", &self.host)
            .attr_if("scenario", self.scenario.as_ref())
            .attr("lifetime", lifetime)
            .attr_if("session", session)
            .attr_if("pid-namespace", self.owner.pid_namespace)
            .attr("hostname", &self.owner.hostname)
            .attr("boot-id", &self.owner.boot_id)
            .attr("pid", self.owner.pid)
            .attr("started", self.owner.started)
            .attr("folder", self.run_folder.display())
            .attr("slot", self.slot.number())
            .attr("address", self.address)
            .attr("accelerator", self.accelerator)
            .attr("image", &self.image)
            .attr_if("layer", self.layer.as_ref().map(|it| &it.name))
            .attr_if("layer-made", self.layer.as_ref().map(|it| it.made))
            .attr_if("makes", (!makes.is_empty()).then_some(makes))
    }

    /// Reads the element from a domain's XML; `None` if it is missing or damaged.
    pub(super) fn read(domain_xml: &str) -> Option<Self> {
        let document = roxmltree::Document::parse(domain_xml).ok()?;
        let node = document.descendants().find(|node| node.has_tag_name((NAMESPACE, "machine")))?;
        let get = |name| node.attribute(name);
        let session = || Some(get("session")?.to_owned());
        Some(Self {
            run: get("run")?.to_owned(),
            host: get("host")?.parse().ok()?,
            scenario: get("scenario").map(str::parse).transpose().ok()?,
            owner: Owner {
                hostname: get("hostname")?.to_owned(),
                boot_id: get("boot-id")?.to_owned(),
                pid_namespace: get("pid-namespace").map(str::parse).transpose().ok()?,
                pid: get("pid")?.parse().ok()?,
                started: get("started")?.parse().ok()?,
            },
            lifetime: match get("lifetime")? {
                "trial" => Lifetime::Trial { session: session()? },
                "manual" => Lifetime::Manual,
                "kept" => Lifetime::Kept { session: session()? },
                _ => return None,
            },
            run_folder: get("folder")?.into(),
            slot: Slot::new(get("slot")?.parse().ok()?)?,
            address: get("address")?.parse().ok()?,
            accelerator: Accelerator::from_str(get("accelerator")?, false).ok()?,
            image: get("image")?.to_owned(),
            layer: match get("layer") {
                None => None,
                Some(name) => {
                    Some(LayerOrigin { name: name.parse().ok()?, made: get("layer-made")?.parse().ok()? })
                }
            },
            makes: get("makes")
                .unwrap_or_default()
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
