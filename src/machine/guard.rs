//! The guards: may another VM start? One runs at a time, and the host keeps some memory for itself. These are decisions
//! only; the caller removes what is in the way.

use super::hypervisor::{DomainState, Machine};
use super::ownership::{Lifetime, Ownership, Processes};
use crate::catalog::plan::TrialName;
use crate::catalog::quantity::Bytes;

/// The VMs to remove before a new one may start. Nobody needs them any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Trial VMs whose owner is dead.
    pub orphans: Vec<String>,
    /// VMs that an earlier trial of the same test run kept for inspection.
    pub kept: Vec<String>,
}

/// Why starting a VM is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another VM is in the way.
    #[error("another VM is {state}, and only one may run at a time: {machine}{owner}; end it with `{end}`")]
    Busy {
        /// Its domain's name.
        machine: String,
        /// Its state: `running`.
        state: DomainState,
        /// Its owner in words, starting with a comma; empty if unknown.
        owner: String,
        /// The command that ends it.
        end: String,
    },
    /// The trial has a VM.
    #[error("{trial} has a VM already: {machine} is {state}{owner}; end it with `{end}`")]
    Taken {
        /// The trial.
        trial: TrialName,
        /// Its domain's name.
        machine: String,
        /// Its state.
        state: DomainState,
        /// Its owner in words, starting with a comma; empty if unknown.
        owner: String,
        /// The command that ends it.
        end: String,
    },
    /// Not enough free memory.
    #[error(
        "too little free memory for a VM of {wanted}: {} MiB are available and {reserve} must stay free, so {} MiB are missing; free some, or ask for less (`vm.memory` of the profile, `memory_reserve` of harness/harness.yml)",
        .available.0 >> 20, .missing.0.div_ceil(1 << 20)
    )]
    Memory {
        /// What the VM needs.
        wanted: Bytes,
        /// What is available.
        available: Bytes,
        /// What must stay free.
        reserve: Bytes,
        /// What is missing.
        missing: Bytes,
    },
}

/// Whether a VM for the trial `wanted` may start beside `machines`; `session` names the test run that asks, if one does.
///
/// A VM that is off is no obstacle unless it is this trial's. A VM without readable metadata is never removed.
///
/// # Errors
/// [`Refusal::Busy`] or [`Refusal::Taken`].
pub(crate) fn admit(
    wanted: &TrialName,
    session: Option<&str>,
    machines: &[Machine],
    processes: &dyn Processes,
) -> Result<Admission, Refusal> {
    let mut admission = Admission::default();
    let kept_by_us = session.map(|session| Lifetime::Kept { session: session.to_owned() });
    for Machine { name, state, ownership, .. } in machines {
        let (machine, state) = (name.clone(), state.clone());
        if ownership.as_ref().is_some_and(|it| it.is_orphan(processes)) {
            admission.orphans.push(machine);
            continue;
        }
        if ownership.as_ref().is_some_and(|it| kept_by_us.as_ref() == Some(&it.lifetime)) {
            admission.kept.push(machine);
            continue;
        }
        let is_wanted = ownership.as_ref().is_some_and(|it| it.trial() == *wanted);
        if is_wanted || state.is_alive() {
            let (owner, end) = owner_and_end(name, ownership.as_ref());
            return Err(match is_wanted {
                true => Refusal::Taken { trial: wanted.clone(), machine, state, owner, end },
                false => Refusal::Busy { machine, state, owner, end },
            });
        }
    }
    Ok(admission)
}

/// Whether `available` memory suffices for a VM that needs `wanted`, if `reserve` must stay free.
///
/// # Errors
/// [`Refusal::Memory`].
pub(crate) fn check_memory(wanted: Bytes, available: Bytes, reserve: Bytes) -> Result<(), Refusal> {
    match wanted.0.saturating_add(reserve.0).saturating_sub(available.0) {
        0 => Ok(()),
        missing => Err(Refusal::Memory { wanted, available, reserve, missing: Bytes(missing) }),
    }
}

/// A VM's owner in words, and the command that ends the VM.
fn owner_and_end(name: &str, ownership: Option<&Ownership>) -> (String, String) {
    let Some(it) = ownership else {
        return (String::new(), format!("virsh destroy {name}; virsh undefine --nvram {name}"));
    };
    let owner = match &it.lifetime {
        Lifetime::Trial { .. } => format!(", owned by process {} on {}", it.owner.pid, it.owner.hostname),
        Lifetime::Manual => ", kept by the driver".to_owned(),
        Lifetime::Kept { .. } => format!(", kept for inspection by run {}", it.run),
    };
    (owner, format!("boma-it down {}", it.trial().driver_options()))
}

#[cfg(test)]
mod tests;
