//! The vigil over a VM while something else is waited for: its state as the hypervisor has it, and what its console
//! says. A guest that died, froze, panicked or fell into emergency mode ends the wait at once, by name.
//!
//! One thing it can mend. An emulated kernel now and then stands still while it looks for its disks: one CPU hears no timer any
//! more, for a cause in QEMU that is not known, and nothing comes of waiting. Nothing of the guest has run by then, so to
//! reset it is to begin the same boot once more; and it is told, as it is a trait of the emulator that no host has.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::catalog::plan::ExpectedFault;
use crate::guest::{BootFault, BootFaultKind, BootLog, end_of_boot};
use crate::machine::{Accelerator, Hypervisor, HypervisorError, RestartMethod, VmVolumes};

/// How often the hypervisor and the console are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often, during one wait, a boot that stood still before its init is begun again.
const FRESH_STARTS: usize = 2;

/// The guest will not come: nothing to wait for.
#[derive(Debug, thiserror::Error)]
pub enum VmFailure {
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
        fault: BootFault,
    },
}

impl VmFailure {
    /// The one behind an error, if there is one.
    pub fn in_chain(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| cause.downcast_ref())
    }

    /// As what a scenario may declare it.
    pub fn fault(&self) -> Option<ExpectedFault> {
        match self {
            Self::Console { fault, .. } if fault.kind == BootFaultKind::Emergency => {
                Some(ExpectedFault::Emergency)
            }
            _ => None,
        }
    }
}

/// SSH does not answer, and the guest is not known to have come up: a VM that did not boot, and no lockout.
#[derive(Debug, thiserror::Error)]
pub enum BootIncomplete {
    /// There is no new boot at all.
    #[error("{machine} did not boot: neither its firmware nor a kernel spoke on its console after the restart{}", last_words(.last.as_deref()))]
    NotBegun {
        /// The domain.
        machine: String,
        /// The console's last line.
        last: Option<String>,
    },
    /// It has begun, and not ended.
    #[error(
        "{machine} did not boot to its end: no login prompt on its console, no end of the boot in its journal, so this is \
         no lockout{}", last_words(.last.as_deref())
    )]
    NotEnded {
        /// The domain.
        machine: String,
        /// The console's last line.
        last: Option<String>,
    },
    /// It got as far as a prompt, and its journal, which came in, does not say that it ended.
    #[error(
        "{machine} did not boot to its end: its console says `{prompt}`, but its journal, which came in, has no end of the \
         boot, so this is no lockout; the last that its journal said is `{last}`"
    )]
    Unfinished {
        /// The domain.
        machine: String,
        /// The console's line.
        prompt: String,
        /// The journal's last line.
        last: String,
    },
    /// It boots again and again.
    #[error("{machine} restarts by itself: {boots} boots began on its console, where one was asked for")]
    Again {
        /// The domain.
        machine: String,
        /// How many.
        boots: usize,
    },
}

fn last_words(last: Option<&str>) -> String {
    last.map_or_else(String::new, |line| format!("; the last that its console said is `{line}`"))
}

/// Watches one VM, from a given point of its console on.
pub(super) struct VmMonitor<'a> {
    hypervisor: &'a dyn Hypervisor,
    machine: &'a str,
    console: Tail,
    /// Length of the console's text at the mark, if there is one: then the end of a boot is looked for as well.
    mark: Option<usize>,
    /// What the journal said since a new boot began.
    journal: Option<Tail>,
    /// When the end of that boot was first seen there, and the line that says so.
    ended: Option<(Instant, String)>,
    next: Instant,
    again: Option<Again<'a>>,
}

/// No log is begun anew before it has so many bytes: virtlogd does it at 2 MiB.
const LONG: u64 = 1 << 20;

/// That a boot may be begun again.
struct Again<'a> {
    told: &'a (dyn Fn(String) + Sync),
    times: usize,
}

/// What was read so far of a volume that grows.
#[derive(Default)]
struct Tail {
    offset: u64,
    text: Vec<u8>,
}

impl Tail {
    /// Reads on, and gives whether that could be done. Consoles and journals are a help: what cannot be read now is read the next
    /// time.
    fn read(&mut self, hypervisor: &dyn Hypervisor, volume: &str) -> bool {
        let read = self.read_on(hypervisor, volume);
        if let Err(error) = &read {
            tracing::debug!("{volume} cannot be read: {error}");
        }
        read.is_ok()
    }

    /// What a download gave before it broke off counts for nothing, as the next one begins where this one did.
    fn read_on(&mut self, hypervisor: &dyn Hypervisor, volume: &str) -> Result<(), HypervisorError> {
        let mut more = Vec::new();
        let read = hypervisor.download(volume, self.offset, &mut more)?;
        let mut offset = self.offset + read;
        // A log that grew long was renamed, and begun anew: then it is shorter than what was read of it.
        if read == 0 && self.offset > LONG {
            let now = hypervisor.volumes()?.into_iter().find(|it| it.name == volume);
            if now.is_some_and(|it| it.length.0 < self.offset) {
                let [.., newest] = VmVolumes::rolled(volume);
                hypervisor.download(&newest, self.offset, &mut more)?;
                offset = hypervisor.download(volume, 0, &mut more)?;
            }
        }
        self.text.append(&mut more);
        self.offset = offset;
        Ok(())
    }

    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }

    fn last_line(&self) -> Option<String> {
        self.text().lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
    }
}

impl<'a> VmMonitor<'a> {
    /// Heeds everything the console says.
    pub(super) fn from_power_on(hypervisor: &'a dyn Hypervisor, machine: &'a str) -> Self {
        let (console, next) = (Tail::default(), Instant::now());
        Self { hypervisor, machine, console, mark: None, journal: None, ended: None, next, again: None }
    }

    /// Heeds what the console says from now on: for a restart.
    pub(super) fn from_now_on(hypervisor: &'a dyn Hypervisor, machine: &'a str) -> Self {
        let mut vigil = Self::from_power_on(hypervisor, machine);
        vigil.mark();
        vigil
    }

    /// Under emulation, begins a boot again that stands still before the disk's init has run, and says so to `told`.
    pub(super) fn beginning_again(
        mut self,
        accelerator: Accelerator,
        told: &'a (dyn Fn(String) + Sync),
    ) -> Self {
        self.again = (accelerator == Accelerator::Tcg).then_some(Again { told, times: 0 });
        self
    }

    /// From here on: what the console said so far belongs to the boot that is about to end.
    pub(super) fn mark(&mut self) {
        self.console.read(self.hypervisor, &VmVolumes(self.machine).console());
        self.mark = Some(self.console.text.len());
        (self.journal, self.ended) = (None, None);
    }

    /// Looks, if it is time to.
    ///
    /// # Errors
    /// [`VmFailure`], or that the hypervisor could not be asked.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        self.look_now()
    }

    /// Looks, whether or not it is time to.
    ///
    /// # Errors
    /// As [`VmMonitor::look`].
    pub(super) fn look_now(&mut self) -> anyhow::Result<()> {
        let state = self.hypervisor.state(self.machine).context("cannot see how the VM is")?;
        if let Some(why) = state.trouble() {
            return Err(VmFailure::State { machine: self.machine.to_owned(), why }.into());
        }
        let BootLog { fault, boots, init_started, .. } = self.hear();
        if let Some(fault) = fault {
            let stands_still = fault.kind == BootFaultKind::Stalled && boots > 0 && !init_started;
            if !(stands_still && self.begin_again()?) {
                return Err(VmFailure::Console { machine: self.machine.to_owned(), fault }.into());
            }
        }
        self.next = Instant::now() + INTERVAL;
        Ok(())
    }

    /// Resets the VM, if that is still to be tried; gives whether it was.
    fn begin_again(&mut self) -> anyhow::Result<bool> {
        let Some(again) = self.again.as_mut().filter(|it| it.times < FRESH_STARTS) else { return Ok(false) };
        again.times += 1;
        (again.told)(format!(
            "{}'s emulated kernel stood still before its init, hearing no timer: reset, the boot begins again",
            self.machine
        ));
        self.mark();
        let reset = self.hypervisor.restart(self.machine, RestartMethod::Reset);
        reset.context("the VM stood still in its boot and could not be reset")?;
        Ok(true)
    }

    /// What shows that the guest came up since the mark, whether or not it answers: a line of its console or its journal. A prompt
    /// comes before the end of a boot, so it counts only where the journal, which would have that end, does not come in.
    ///
    /// # Errors
    /// [`BootIncomplete`], where nothing does.
    pub(super) fn came_up(&mut self) -> Result<String, BootIncomplete> {
        let BootLog { up, finished, last_line: last, .. } = self.began_once()?;
        let ended = finished.or_else(|| self.ended.as_ref().map(|(_, line)| line.clone()));
        let machine = self.machine.to_owned();
        match (up, ended, self.journal.as_ref().and_then(Tail::last_line)) {
            (Some(line), Some(_), _) | (None, Some(line), _) | (Some(line), None, None) => Ok(line),
            (Some(prompt), None, Some(last)) => Err(BootIncomplete::Unfinished { machine, prompt, last }),
            (None, None, _) => Err(BootIncomplete::NotEnded { machine, last }),
        }
    }

    /// What the console tells, if exactly one boot began since the mark: else it may be the old boot's word, or a loop's.
    ///
    /// # Errors
    /// [`BootIncomplete`].
    pub(super) fn began_once(&mut self) -> Result<BootLog, BootIncomplete> {
        let told = self.hear();
        let machine = self.machine.to_owned();
        match told.boots {
            0 => Err(BootIncomplete::NotBegun { machine, last: told.last_line }),
            1 => Ok(told),
            boots => Err(BootIncomplete::Again { machine, boots }),
        }
    }

    /// Whether the end of the boot was seen in the journal that long ago. A login prompt would not do: it comes before the end.
    pub(super) fn ended_before(&self, ago: Duration) -> bool {
        self.ended.as_ref().is_some_and(|(seen, _)| seen.elapsed() >= ago)
    }

    /// What the console tells. Once it tells of a new boot, whatever comes into the journal is of that boot: the old one is dead,
    /// and can no longer repeat itself there.
    fn hear(&mut self) -> BootLog {
        let files = VmVolumes(self.machine);
        self.console.read(self.hypervisor, &files.console());
        let told = BootLog::read(&self.console.text(), self.mark.unwrap_or_default());
        match &mut self.journal {
            None if told.boots > 0 && self.mark.is_some() => {
                let mut tail = Tail::default();
                if tail.read(self.hypervisor, &files.journal()) {
                    tail.text.clear();
                    self.journal = Some(tail);
                }
            }
            Some(tail) if self.ended.is_none() => {
                tail.read(self.hypervisor, &files.journal());
                self.ended = end_of_boot(&tail.text()).map(|line| (Instant::now(), line));
            }
            _ => {}
        }
        told
    }
}

#[cfg(test)]
mod tests;
