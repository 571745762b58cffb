//! The vigil over a VM while something else is waited for: its state as the hypervisor has it, and what its console
//! says. A guest that died, froze, panicked or fell into emergency mode ends the wait at once, by name.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::catalog::plan::ExpectedFault;
use crate::guest::console;
use crate::machine::{Hypervisor, MachineFiles};

/// How often the hypervisor and the console are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The guest will not come: nothing to wait for.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Seen from outside.
    #[error("{machine}: {why}")]
    State {
        /// The domain.
        machine: String,
        /// What is wrong with it, in words.
        why: &'static str,
    },
    /// Told by the console.
    #[error("{machine} says on its console: {fault} (all of it: console.log in the run folder)")]
    Console {
        /// The domain.
        machine: String,
        /// What it says.
        fault: console::Fault,
    },
}

impl Lost {
    /// The one behind an error, if there is one.
    pub fn in_chain(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| cause.downcast_ref())
    }

    /// As what a scenario may declare it.
    pub fn fault(&self) -> Option<ExpectedFault> {
        match self {
            Self::Console { fault, .. } if fault.kind == console::FaultKind::Emergency => {
                Some(ExpectedFault::Emergency)
            }
            _ => None,
        }
    }
}

/// Watches one VM, from a given point of its console on.
pub(super) struct Vigil<'a> {
    hypervisor: &'a dyn Hypervisor,
    machine: &'a str,
    offset: u64,
    text: Vec<u8>,
    since: usize,
    next: Instant,
}

impl<'a> Vigil<'a> {
    /// Heeds everything the console says.
    pub(super) fn from_power_on(hypervisor: &'a dyn Hypervisor, machine: &'a str) -> Self {
        Self { hypervisor, machine, offset: 0, text: Vec::new(), since: 0, next: Instant::now() }
    }

    /// Heeds what the console says from now on: for a restart.
    pub(super) fn from_now_on(hypervisor: &'a dyn Hypervisor, machine: &'a str) -> Self {
        let mut vigil = Self::from_power_on(hypervisor, machine);
        vigil.read();
        vigil.since = vigil.text.len();
        vigil
    }

    /// Looks, if it is time to.
    ///
    /// # Errors
    /// [`Lost`], or that the hypervisor could not be asked.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        let state = self.hypervisor.state(self.machine).context("cannot see how the VM is")?;
        if let Some(why) = state.trouble() {
            return Err(Lost::State { machine: self.machine.to_owned(), why }.into());
        }
        self.read();
        if let Some(fault) = console::fault(&String::from_utf8_lossy(&self.text), self.since) {
            return Err(Lost::Console { machine: self.machine.to_owned(), fault }.into());
        }
        self.next = Instant::now() + INTERVAL;
        Ok(())
    }

    /// The console is a help: what cannot be read now is read the next time.
    fn read(&mut self) {
        let volume = MachineFiles(self.machine).console();
        match self.hypervisor.download(&volume, self.offset, &mut self.text) {
            Ok(read) => self.offset += read,
            Err(error) => tracing::debug!("the console cannot be read: {error}"),
        }
    }
}
