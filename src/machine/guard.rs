//! The guards: may another VM start? As many as `limits.vms` run at a time, and the host keeps some memory for itself.
//! These are decisions only; the caller removes what is in the way.

use std::fmt;

use super::hypervisor::Machine;
use super::live_run::LiveRun;
use super::network::Slot;
use super::ownership::{Lifetime, Ownership, Processes};
use crate::catalog::plan::TrialName;
use crate::catalog::quantity::Bytes;

/// A run that wants a VM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// Its trial.
    pub trial: &'a TrialName,
    /// The test run that it belongs to.
    pub session: &'a str,
    /// How many VMs may run at a time.
    pub limit: usize,
}

/// What a VM may start with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// VMs to remove before: trial VMs whose owner is dead.
    pub orphans: Vec<String>,
    /// VMs to remove before: those that an earlier trial of the same test run kept for inspection.
    pub kept: Vec<String>,
    /// Memory that others were admitted with and do not use yet.
    pub promised: Bytes,
    /// The VMs and runs beside this one.
    pub others: Beside,
}

/// What a run waits for if it is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Whether one of them is a run of the same test run, which ends by itself.
    ours: bool,
    /// They, in words.
    words: String,
}

impl Beside {
    fn new<'a>(session: &str, others: impl IntoIterator<Item = &'a Other<'a>>) -> Self {
        let others: Vec<_> = others.into_iter().collect();
        let words: Vec<_> = others.iter().map(|it| it.words()).collect();
        Self { ours: others.iter().any(|it| it.is_ours(session)), words: words.join(", ") }
    }

    /// The refusal beside these.
    pub(crate) fn refuse(self, refusal: Refusal) -> Refused {
        Refused { refusal: Box::new(refusal), behind_ours: self.ours, others: self.words }
    }
}

/// A refusal, and whether waiting helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Why.
    pub refusal: Box<Refusal>,
    /// Whether a run of the same test run is in the way: it ends by itself.
    pub behind_ours: bool,
    /// What is waited for, in words.
    pub others: String,
}

/// Why starting a VM is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Other VMs are in the way.
    #[error(
        "no room for another VM (`limits.vms: {limit}` in harness/harness.yml): {}; or set BOMA_IT_WAIT=30m to wait", list(.others)
    )]
    Full {
        /// How many VMs may run.
        limit: usize,
        /// What takes their places.
        others: Vec<Occupant>,
    },
    /// The trial has a VM.
    #[error("{trial} has a VM already: {occupant}")]
    Taken {
        /// The trial.
        trial: TrialName,
        /// The VM.
        occupant: Occupant,
    },
    /// Another VM got the same address.
    #[error("another VM took the network address of this one meanwhile: {occupant}; run it again")]
    Address {
        /// The VM.
        occupant: Occupant,
    },
    /// Not enough free memory.
    #[error(
        "too little free memory for a VM of {wanted}: {} MiB are available{} and {reserve} must stay free, so {} MiB are missing; free some, or ask for less (`vm.memory` of the profile, `memory_reserve` of harness/harness.yml)",
        .available.0 >> 20, promise(*.promised), .missing.0.div_ceil(1 << 20)
    )]
    Memory {
        /// What the VM needs.
        wanted: Bytes,
        /// What is available.
        available: Bytes,
        /// What VMs that run were admitted with and do not use yet.
        promised: Bytes,
        /// What must stay free.
        reserve: Bytes,
        /// What is missing.
        missing: Bytes,
    },
}

/// What takes a place: a VM, or a run that will have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// What it is, with its state: `boma-it-askari is running`.
    what: String,
    /// Its owner in words, starting with a comma; empty if unknown.
    owner: String,
    /// How to end it.
    end: String,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}; {}", self.what, self.owner, self.end)
    }
}

fn list(others: &[Occupant]) -> String {
    others.iter().map(Occupant::to_string).collect::<Vec<_>>().join("; ")
}

fn promise(promised: Bytes) -> String {
    match promised.0.div_ceil(1 << 20) {
        0 => String::new(),
        mib => format!(" (of which VMs that run or start will still take {mib} MiB)"),
    }
}

/// Whether a VM for `request` may start beside `machines` and beside the runs of this user that are `live`.
///
/// A VM that is off takes no place, but no trial has two VMs. A VM without readable metadata is never removed.
///
/// # Errors
/// [`Refusal::Full`] or [`Refusal::Taken`].
pub(crate) fn admit(
    request: Request<'_>,
    machines: &[Machine],
    live: &[LiveRun],
    processes: &dyn Processes,
) -> Result<Admission, Refused> {
    let kept_by_us = Lifetime::Kept { session: request.session.to_owned() };
    let (mut admission, mut others) = (Admission::default(), Vec::new());
    for machine in machines {
        let owner = machine.ownership.as_ref();
        let run = owner.and_then(|owner| live.iter().find(|run| run.is_of(owner)));
        if owner.is_some_and(|it| it.is_orphan(processes)) {
            admission.orphans.push(machine.name.clone());
        } else if run.is_none() && owner.is_some_and(|it| it.lifetime == kept_by_us) {
            admission.kept.push(machine.name.clone());
        } else {
            others.push(Other { machine: Some(machine), run });
        }
    }
    let has_vm = |run: &LiveRun| others.iter().any(|it| it.is_alive() && it.run == Some(run));
    let without_vm: Vec<_> = live.iter().filter(|run| !has_vm(run)).collect();
    others.retain(|it| it.is_alive() || it.is_of(request.trial) && it.run.is_none());
    others.extend(without_vm.into_iter().map(|run| Other { machine: None, run: Some(run) }));
    if let Some(other) = others.iter().find(|it| it.is_of(request.trial)) {
        let refusal = Refusal::Taken { trial: request.trial.clone(), occupant: other.occupant() };
        return Err(Beside::new(request.session, [other]).refuse(refusal));
    }
    if others.len() >= request.limit {
        let refusal =
            Refusal::Full { limit: request.limit, others: others.iter().map(Other::occupant).collect() };
        return Err(Beside::new(request.session, &others).refuse(refusal));
    }
    admission.promised = Bytes(others.iter().map(|it| it.promised().0).sum());
    admission.others = Beside::new(request.session, &others);
    Ok(admission)
}

/// Whether our VM, defined as `name` in `slot`, may start now. The locks are one user's: another user of this hypervisor may
/// have started a VM since ours was admitted.
///
/// # Errors
/// [`Refusal`].
pub(crate) fn check_start(
    request: Request<'_>,
    name: &str,
    slot: Slot,
    machines: &[Machine],
    processes: &dyn Processes,
) -> Result<(), Refusal> {
    let others: Vec<_> = machines.iter().filter(|it| it.name != name).cloned().collect();
    let admission = admit(request, &others, &[], processes).map_err(|it| *it.refusal)?;
    let is_leaving = |it: &Machine| admission.orphans.contains(&it.name) || admission.kept.contains(&it.name);
    let has_slot = |it: &Machine| it.ownership.as_ref().is_some_and(|it| it.slot == slot);
    match others.iter().find(|it| has_slot(it) && !is_leaving(it)) {
        Some(machine) => {
            Err(Refusal::Address { occupant: Other { machine: Some(machine), run: None }.occupant() })
        }
        None => Ok(()),
    }
}

/// Whether `available` memory suffices for a VM that needs `wanted`, if others will still take what was `promised` to them
/// and `reserve` must stay free.
///
/// # Errors
/// [`Refusal::Memory`].
pub(crate) fn check_memory(
    wanted: Bytes,
    available: Bytes,
    promised: Bytes,
    reserve: Bytes,
) -> Result<(), Refusal> {
    let needed = wanted.0.saturating_add(promised.0).saturating_add(reserve.0);
    match needed.saturating_sub(available.0) {
        0 => Ok(()),
        missing => Err(Refusal::Memory { wanted, available, promised, reserve, missing: Bytes(missing) }),
    }
}

/// A VM, with the run of this user that works on it, or a run that has no VM yet.
struct Other<'a> {
    machine: Option<&'a Machine>,
    run: Option<&'a LiveRun>,
}

impl Other<'_> {
    fn is_alive(&self) -> bool {
        self.machine.is_some_and(|it| it.state.is_alive())
    }

    fn ownership(&self) -> Option<&Ownership> {
        self.machine.and_then(|it| it.ownership.as_ref())
    }

    fn is_of(&self, trial: &TrialName) -> bool {
        self.run.is_some_and(|it| it.trial.as_ref() == Some(trial))
            || self.ownership().is_some_and(|it| it.trial() == *trial)
    }

    fn is_ours(&self, session: &str) -> bool {
        self.run.is_some_and(|it| it.session.as_deref() == Some(session))
    }

    /// A guest takes its memory little by little, so free memory alone would promise the same memory twice.
    fn promised(&self) -> Bytes {
        match (self.machine, self.run) {
            (Some(machine), _) => {
                Bytes(machine.memory.0.saturating_sub(machine.resident.unwrap_or(Bytes(0)).0))
            }
            (None, run) => run.map_or(Bytes(0), |run| run.memory),
        }
    }

    fn words(&self) -> String {
        match (self.run, self.machine) {
            (Some(run), _) => run.words.clone(),
            (None, Some(machine)) => format!("the VM {}", machine.name),
            (None, None) => "another run".to_owned(),
        }
    }

    fn occupant(&self) -> Occupant {
        let what = match self.machine {
            Some(machine) => format!("{} is {}", machine.name, machine.state),
            None => "one is about to start".to_owned(),
        };
        if let Some(run) = self.run {
            return Occupant { what, owner: format!(", {}", run.words), end: "end that process".to_owned() };
        }
        let name = self.machine.map_or("", |it| it.name.as_str());
        let Some(it) = self.ownership() else {
            let end = format!("end it with `virsh destroy {name}; virsh undefine --nvram {name}`");
            return Occupant { what, owner: String::new(), end };
        };
        let owner = match &it.lifetime {
            Lifetime::Trial { .. } => format!(", owned by process {} on {}", it.owner.pid, it.owner.hostname),
            Lifetime::Manual => ", kept by the driver".to_owned(),
            Lifetime::Kept { .. } => format!(", kept for inspection by run {}", it.run),
        };
        Occupant { what, owner, end: format!("end it with `boma-it down {}`", it.trial().driver_options()) }
    }
}

#[cfg(test)]
mod tests;
