//! The guards: is there room for one more machine? One runs at a time, and the host keeps some memory for itself. These
//! are decisions only; who was asked to reap or displace something does it, and asks again.

use super::hypervisor::Machine;
use super::ownership::{Lifetime, Ownership, Processes};
use crate::catalog::quantity::Bytes;

/// What must go before a machine may come. Nothing of it is anybody's loss.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Machines of trials whose process is dead.
    pub reap: Vec<String>,
    /// Machines that an earlier trial of this same test run kept for inspection.
    pub displace: Vec<String>,
}

/// Why a machine may not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another one runs.
    #[error("the VM {machine} {state} already, and one runs at a time{whose}; end it with `{end}`")]
    Busy {
        /// Its domain's name.
        machine: String,
        /// What it does, a verb: `runs`.
        state: String,
        /// Whose it is, in words, starting with a comma, as far as is known.
        whose: String,
        /// The command that ends it.
        end: String,
    },
    /// This very one is there.
    #[error("the VM {machine} is there already ({state}){whose}; end it with `{end}`")]
    Taken {
        /// Its domain's name.
        machine: String,
        /// What state it is in.
        state: String,
        /// Whose it is, in words, starting with a comma, as far as is known.
        whose: String,
        /// The command that ends it.
        end: String,
    },
    /// The memory does not suffice.
    #[error(
        "too little free memory for a VM of {wanted}: {} MiB are available and {reserve} must stay free, so {} MiB are missing; free some, or ask for less (`vm.memory` of the profile, `memory_reserve` of harness/harness.yml)",
        .available.0 >> 20, .missing.0.div_ceil(1 << 20)
    )]
    Memory {
        /// What the VM is to have.
        wanted: Bytes,
        /// What could be had.
        available: Bytes,
        /// What must stay free.
        reserve: Bytes,
        /// What is missing.
        missing: Bytes,
    },
}

/// Whether the machine `wanted` may come to those that are there; `session` names the test run that asks, if one does.
///
/// A machine that is off takes no room and is let be, unless it is the wanted one. One whose metadata cannot be read
/// is never taken away.
///
/// # Errors
/// [`Refusal::Busy`] or [`Refusal::Taken`].
pub fn admit(
    wanted: &str,
    session: Option<&str>,
    machines: &[Machine],
    processes: &dyn Processes,
) -> Result<Admission, Refusal> {
    let mut admission = Admission::default();
    for machine in machines {
        let owned = machine.ownership.as_ref();
        if owned.is_some_and(|it| it.is_orphan(processes)) {
            admission.reap.push(machine.name.clone());
        } else if owned.is_some_and(|it| is_kept_by(it, session)) {
            admission.displace.push(machine.name.clone());
        } else if machine.name == wanted {
            return Err(Refusal::Taken {
                machine: machine.name.clone(),
                state: machine.state.to_string(),
                whose: whose(owned),
                end: end(machine),
            });
        } else if machine.state.is_alive() {
            let state = match machine.state {
                super::DomainState::Running => "runs".to_owned(),
                ref other => format!("is there, {other},"),
            };
            let (machine, whose, end) = (machine.name.clone(), whose(owned), end(machine));
            return Err(Refusal::Busy { machine, state, whose, end });
        }
    }
    Ok(admission)
}

/// Whether `available` memory suffices for a machine that `wanted` so much, if `reserve` must stay free.
///
/// # Errors
/// [`Refusal::Memory`].
pub fn check_memory(wanted: Bytes, available: Bytes, reserve: Bytes) -> Result<(), Refusal> {
    let needed = wanted.0.saturating_add(reserve.0);
    match needed.checked_sub(available.0) {
        None | Some(0) => Ok(()),
        Some(missing) => Err(Refusal::Memory { wanted, available, reserve, missing: Bytes(missing) }),
    }
}

fn is_kept_by(ownership: &Ownership, session: Option<&str>) -> bool {
    matches!(&ownership.lifetime, Lifetime::Kept { session: kept } if Some(kept.as_str()) == session)
}

fn whose(ownership: Option<&Ownership>) -> String {
    let Some(it) = ownership else { return String::new() };
    match &it.lifetime {
        Lifetime::Trial { .. } => format!(", for process {} on {}", it.owner.pid, it.owner.hostname),
        Lifetime::Manual => ", left for a person by the driver".to_owned(),
        Lifetime::Kept { .. } => format!(", kept for inspection by run {}", it.run),
    }
}

fn end(machine: &Machine) -> String {
    match &machine.ownership {
        Some(it) => format!("boma-it down {}", it.driver_options()),
        None => format!("virsh destroy {0}; virsh undefine --nvram {0}", machine.name),
    }
}

#[cfg(test)]
mod tests;
