//! Whose machine it is: what a domain's metadata says, to and from XML, and when a machine is an orphan.
//!
//! The domain is the only record. A process that finds a machine learns from it which run it belongs to, where its
//! run folder lies, and whether the process that answers for it still lives.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::ValueEnum;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::acceleration::Accelerator;
use super::network::Slot;
use super::xml::{Element, el};
use crate::support::name::Name;

/// The XML namespace of our metadata.
pub const NAMESPACE: &str = "urn:boma-it:1";
/// The namespace's prefix, as libvirt shows it.
pub const PREFIX: &str = "boma";

/// Whose machine it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Id of the run: the name of its run folder.
    pub run: String,
    /// The profile.
    pub host: Name,
    /// The scenario, if it is one.
    pub scenario: Option<Name>,
    /// The process that made it.
    pub owner: Owner,
    /// How long it is meant to live.
    pub lifetime: Lifetime,
    /// The run folder: absolute, on the owner's machine.
    pub run_folder: PathBuf,
    /// Its place on the network.
    pub slot: Slot,
    /// Its address there.
    pub address: Ipv4Addr,
    /// What runs its virtual CPUs.
    pub accelerator: Accelerator,
    /// The golden image: its name.
    pub image: String,
}

/// A process, so described that no other can be taken for it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its machine's name.
    pub hostname: String,
    /// Its machine's boot id, which a reboot changes.
    pub boot_id: String,
    /// The namespace of process ids that it is in, where the next field is its id: see pid_namespaces(7). A container that has its host's
    /// name may have one of its own.
    pub pid_namespace: Option<u64>,
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/<pid>/stat`, see proc(5). A process that later gets
    /// the same id has another.
    pub started: u64,
}

/// How long a machine is meant to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as its owner, the process that runs its trial. Trials of one test run share a session.
    Trial {
        /// Names the test run.
        session: String,
    },
    /// Until somebody says `down`.
    Manual,
    /// A trial's machine kept after the trial for inspection: until somebody says `down`, or a later trial of the same
    /// session needs the room.
    Kept {
        /// Names the test run.
        session: String,
    },
}

/// A machine and the processes on it, as far as judging owners goes.
pub trait Processes {
    /// Our machine's name.
    fn hostname(&self) -> &str;
    /// Our machine's boot id.
    fn boot_id(&self) -> &str;
    /// The namespace of the process ids that we see.
    fn pid_namespace(&self) -> Option<u64>;
    /// What can be told of the process of that id.
    fn look(&self, pid: u32) -> ProcessState;
}

/// What can be told of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It lives, and started then, as in [`Owner::started`].
    Lives(u64),
    /// There is none of that id, or it has ended.
    Gone,
    /// There is one, and no more is shown of it: another user's, where `/proc` is mounted with `hidepid`, see proc(5).
    Hidden,
}

/// The processes of this machine, from `/proc`.
#[derive(Clone, Debug)]
pub struct ProcFs {
    hostname: String,
    boot_id: String,
    pid_namespace: Option<u64>,
}

impl ProcFs {
    /// Of this machine, as it is now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn here() -> std::io::Result<Self> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let pid_namespace = std::fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino());
        Ok(Self { hostname, boot_id, pid_namespace })
    }

    /// This very process, as an owner.
    pub fn this_process(&self) -> Owner {
        let pid = std::process::id();
        Owner {
            hostname: self.hostname.clone(),
            boot_id: self.boot_id.clone(),
            pid_namespace: self.pid_namespace,
            pid,
            started: match self.look(pid) {
                ProcessState::Lives(started) => started,
                ProcessState::Gone | ProcessState::Hidden => 0,
            },
        }
    }
}

impl Processes for ProcFs {
    fn hostname(&self) -> &str {
        &self.hostname
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn pid_namespace(&self) -> Option<u64> {
        self.pid_namespace
    }

    fn look(&self, pid: u32) -> ProcessState {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => start_time(&stat).map_or(ProcessState::Gone, ProcessState::Lives),
            Err(_) => unshown(pid),
        }
    }
}

/// What is told of a process whose `/proc/<pid>/stat` we cannot read.
fn unshown(pid: u32) -> ProcessState {
    match i32::try_from(pid).ok().and_then(Pid::from_raw).map(test_kill_process) {
        None | Some(Err(Errno::SRCH)) => ProcessState::Gone,
        Some(_) => ProcessState::Hidden,
    }
}

/// Field 22 of `/proc/<pid>/stat`. Field 2, the command in parentheses, may hold blanks and parentheses itself.
/// A zombie (field 3) is dead already.
fn start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

impl Owner {
    /// Whether this process still lives, if that can be told: not that of a process on another machine or in another namespace, or of
    /// one that is hidden.
    pub fn is_alive(&self, processes: &dyn Processes) -> Option<bool> {
        if self.hostname != processes.hostname() {
            return None;
        }
        if self.boot_id != processes.boot_id() {
            return Some(false);
        }
        if let (Some(theirs), Some(ours)) = (self.pid_namespace, processes.pid_namespace())
            && theirs != ours
        {
            return None;
        }
        match processes.look(self.pid) {
            ProcessState::Lives(started) => Some(started == self.started),
            ProcessState::Gone => Some(false),
            ProcessState::Hidden => None,
        }
    }
}

impl Ownership {
    /// Whether nobody answers for the machine any more: it is a trial's, and its owner is known to be dead.
    pub fn is_orphan(&self, processes: &dyn Processes) -> bool {
        matches!(self.lifetime, Lifetime::Trial { .. }) && self.owner.is_alive(processes) == Some(false)
    }

    /// Whether it is a machine of that very run. Another party may have one of the same name: another user, or another machine at the
    /// same hypervisor.
    pub fn is_same_run(&self, other: &Self) -> bool {
        self.run == other.run && self.owner == other.owner
    }

    /// The options of the driver that name this machine: `--host askari --scenario incident`.
    pub fn driver_options(&self) -> String {
        match &self.scenario {
            None => format!("--host {}", self.host),
            Some(scenario) => format!("--host {} --scenario {scenario}", self.host),
        }
    }

    /// The element as libvirt's `virDomainSetMetadata` takes it, which adds the namespace itself.
    pub fn render(&self) -> String {
        self.fill(el("machine")).render()
    }

    /// The element as it stands in a domain's XML.
    pub(super) fn element(&self) -> Element {
        self.fill(el("boma:machine").attr("xmlns:boma", NAMESPACE))
    }

    fn fill(&self, element: Element) -> Element {
        let (lifetime, session) = match &self.lifetime {
            Lifetime::Trial { session } => ("trial", Some(session)),
            Lifetime::Manual => ("manual", None),
            Lifetime::Kept { session } => ("kept", Some(session)),
        };
        let mut element = element.attr("run", &self.run).attr("host", &self.host);
        if let Some(scenario) = &self.scenario {
            element = element.attr("scenario", scenario);
        }
        element = element.attr("lifetime", lifetime);
        if let Some(session) = session {
            element = element.attr("session", session);
        }
        if let Some(namespace) = self.owner.pid_namespace {
            element = element.attr("pid-namespace", namespace);
        }
        element
            .attr("hostname", &self.owner.hostname)
            .attr("boot-id", &self.owner.boot_id)
            .attr("pid", self.owner.pid)
            .attr("started", self.owner.started)
            .attr("folder", self.run_folder.display())
            .attr("slot", self.slot.number())
            .attr("address", self.address)
            .attr("accelerator", self.accelerator)
            .attr("image", &self.image)
    }

    /// Read from a domain's XML; nothing if it holds none, or none that we can read.
    pub fn read(domain_xml: &str) -> Option<Self> {
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
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
