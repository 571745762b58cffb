//! Monitors a VM while something else is waited for: its state on the hypervisor, its console and its journal. A guest that
//! died, froze, panicked or entered emergency mode ends the wait at once, with an error that names the cause.
//!
//! The monitor repairs one thing. An emulated kernel sometimes hangs while it looks for its disks: a vCPU stops receiving
//! timer interrupts, for an unknown cause in QEMU, and it never recovers. Init has not started by then, so a reset only
//! repeats the same boot. A note reports it, as no real host does this.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::errors::{BootIncomplete, VmFailure};
use crate::guest::{BootCount, BootFaultKind, BootLog, Witness, end_of_boot, kernels};
use crate::machine::{Accelerator, Hypervisor, HypervisorError, RestartMethod, VmVolumes};
use crate::support::deadline::{Deadline, format_duration};
use crate::support::interrupt::{Interrupt, Interrupted};

/// How often the hypervisor and the console are checked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How soon an interrupt is passed on to the work.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(50);
/// The signal that the work sees when the VM failed: SIGTERM.
const SIGTERM: i32 = 15;
/// How many times, during one wait, a boot that hangs before its init is reset.
const RESETS: usize = 2;
/// How long after the end of its boot a guest may be silent before it counts as locked out, with KVM. Only the journal shows
/// that end; every unit that will ever start has started by then.
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// virtlogd starts a new log file at 2 MiB, so a shorter log was not rotated.
const ROTATED: u64 = 1 << 20;

/// Monitors one VM, from a given point of its console on.
pub(super) struct VmMonitor<'a> {
    hypervisor: &'a dyn Hypervisor,
    machine: &'a str,
    console: Tail,
    /// Length of the console's text at the mark, if one was set. Only then is the end of a boot searched for.
    mark: Option<usize>,
    /// Boots that began between the mark that the caller set and the mark of a reset, without those that were reset.
    earlier_boots: usize,
    journal: Tail,
    /// Length of the journal's text at the mark that the caller set, if it could be read.
    journal_mark: Option<usize>,
    /// Where the journal goes on with a new boot.
    new_boot: Option<usize>,
    /// When the end of that boot was first seen in the journal, and the line that shows it.
    ended: Option<(Instant, String)>,
    next: Instant,
    resets: Option<Resets<'a>>,
}

/// Resets of hanging boots.
struct Resets<'a> {
    note: &'a (dyn Fn(String) + Sync),
    done: usize,
}

/// A volume that grows, and what was read of it so far.
#[derive(Default)]
struct Tail {
    offset: u64,
    text: Vec<u8>,
}

impl Tail {
    /// Reads what is new. Returns whether that succeeded; a failure is tried again at the next check.
    fn read(&mut self, hypervisor: &dyn Hypervisor, volume: &str) -> bool {
        let read = self.read_on(hypervisor, volume);
        if let Err(error) = &read {
            tracing::debug!("cannot read {volume}: {error}");
        }
        read.is_ok()
    }

    /// Drops what a download gave before it broke off, as the next one starts at the same offset.
    fn read_on(&mut self, hypervisor: &dyn Hypervisor, volume: &str) -> Result<(), HypervisorError> {
        let mut more = Vec::new();
        let read = hypervisor.download(volume, self.offset, &mut more)?;
        let mut offset = self.offset + read;
        // A rotated log is shorter than what was read of it.
        if read == 0 && self.offset > ROTATED {
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

    fn last_line_after(&self, start: usize) -> Option<String> {
        let text = String::from_utf8_lossy(self.text.get(start..).unwrap_or_default());
        text.lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
    }
}

impl<'a> VmMonitor<'a> {
    /// Everything on the console counts.
    pub(super) fn from_power_on(hypervisor: &'a dyn Hypervisor, machine: &'a str) -> Self {
        Self {
            hypervisor,
            machine,
            console: Tail::default(),
            mark: None,
            earlier_boots: 0,
            journal: Tail::default(),
            journal_mark: None,
            new_boot: None,
            ended: None,
            next: Instant::now(),
            resets: None,
        }
    }

    /// What the console prints from now on counts: for a restart.
    pub(super) fn from_now_on(hypervisor: &'a dyn Hypervisor, machine: &'a str) -> Self {
        let mut monitor = Self::from_power_on(hypervisor, machine);
        monitor.mark();
        monitor
    }

    /// Under emulation, resets a VM whose boot hangs before its init has started, with a note.
    pub(super) fn resetting_stalled_boots(
        mut self,
        accelerator: Accelerator,
        note: &'a (dyn Fn(String) + Sync),
    ) -> Self {
        self.resets = (accelerator == Accelerator::Tcg).then_some(Resets { note, done: 0 });
        self
    }

    /// Sets the mark: what the console printed so far belongs to the boot that is about to end.
    pub(super) fn mark(&mut self) {
        self.earlier_boots = 0;
        let is_read = self.journal.read(self.hypervisor, &VmVolumes(self.machine).journal());
        self.journal_mark = is_read.then_some(self.journal.text.len());
        self.mark_console();
    }

    fn mark_console(&mut self) {
        self.console.read(self.hypervisor, &VmVolumes(self.machine).console());
        self.mark = Some(self.console.text.len());
        (self.new_boot, self.ended) = (None, None);
    }

    /// Checks the VM, if the interval has passed.
    ///
    /// # Errors
    /// [`VmFailure`], or that the hypervisor does not answer.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        if Instant::now() < self.next { Ok(()) } else { self.check_now() }
    }

    fn check_now(&mut self) -> anyhow::Result<()> {
        let state = self.hypervisor.state(self.machine).context("cannot read the state of the VM")?;
        if let Some(why) = state.failure() {
            return Err(VmFailure::State { machine: self.machine.to_owned(), why }.into());
        }
        let BootLog { fault, boots, init_started, .. } = self.read_logs();
        if let Some(fault) = fault {
            let is_before_init = fault.kind == BootFaultKind::Stalled && boots > 0 && !init_started;
            if !(is_before_init && self.reset(boots)?) {
                return Err(VmFailure::Console { machine: self.machine.to_owned(), fault }.into());
            }
        }
        self.next = Instant::now() + INTERVAL;
        Ok(())
    }

    /// Resets the VM in the last of so many boots since the mark, if a reset is left. Returns whether it did.
    fn reset(&mut self, boots: usize) -> anyhow::Result<bool> {
        let Some(resets) = self.resets.as_mut().filter(|it| it.done < RESETS) else { return Ok(false) };
        resets.done += 1;
        (resets.note)(format!(
            "{}'s emulated kernel hung before its init (a vCPU stopped receiving timer interrupts); reset to boot again",
            self.machine
        ));
        self.earlier_boots += boots.saturating_sub(1);
        self.mark_console();
        let reset = self.hypervisor.restart(self.machine, RestartMethod::Reset);
        reset.context("the boot hangs, and the VM cannot be reset")?;
        Ok(true)
    }

    /// The line of the console or the journal that shows that the guest finished its boot since the mark, whether or not it
    /// answers. A login prompt alone is not enough where the journal is received: it appears before the end of the boot.
    ///
    /// # Errors
    /// [`BootIncomplete`], if no line shows it.
    pub(super) fn ended_boot(&mut self) -> Result<String, BootIncomplete> {
        let BootLog { up, finished, last_line: last, .. } = self.began_one_boot()?;
        let ended = finished.or_else(|| self.ended.as_ref().map(|(_, line)| line.clone()));
        let machine = self.machine.to_owned();
        let last_entry = self.new_boot.and_then(|start| self.journal.last_line_after(start));
        match (up, ended, last_entry) {
            (Some(line), Some(_), _) | (None, Some(line), _) | (Some(line), None, None) => Ok(line),
            (Some(prompt), None, Some(last)) => Err(BootIncomplete::Unfinished { machine, prompt, last }),
            (None, None, _) => Err(BootIncomplete::NotEnded { machine, last }),
        }
    }

    /// The job that the one new boot waits for, by the console, and has for at least that long. cloud-init is the harness's own.
    pub(super) fn stuck_job(&mut self, at_least: Duration) -> Option<String> {
        let job = self.began_one_boot().ok()?.job?;
        let is_site = !job.name.to_ascii_lowercase().contains("cloud-init");
        (is_site && job.elapsed >= at_least).then(|| {
            let time = format_duration(job.elapsed);
            format!(
                "the boot does not end: its console says that it has waited for `{}` for {time}",
                job.name
            )
        })
    }

    /// What the console shows, if exactly one boot began since the mark. Otherwise it may belong to the old boot, or to a
    /// boot loop.
    ///
    /// # Errors
    /// [`BootIncomplete`].
    pub(super) fn began_one_boot(&mut self) -> Result<BootLog, BootIncomplete> {
        let log = self.read_logs();
        let machine = self.machine.to_owned();
        match log.boots {
            0 => Err(BootIncomplete::NotBegun { machine, last: log.last_line }),
            1 => Ok(log),
            boots => Err(BootIncomplete::Loop { machine, boots }),
        }
    }

    /// Whether the journal showed the end of the boot at least that long ago. A login prompt would not do: it appears before
    /// the end.
    pub(super) fn boot_ended_before(&self, ago: Duration) -> bool {
        self.ended.as_ref().is_some_and(|(seen, _)| seen.elapsed() >= ago)
    }

    /// How many boots began since the mark, by what reaches this machine. A boot that was reset here does not count.
    pub(super) fn boot_counts(&mut self) -> Vec<BootCount> {
        let boots = self.read_logs().boots + self.earlier_boots;
        let is_read = self.journal.read(self.hypervisor, &VmVolumes(self.machine).journal());
        let text = self.journal.text();
        let streamed = match self.journal_mark {
            _ if text.is_empty() => Err("the image streams none".to_owned()),
            Some(mark) if is_read => Ok(kernels(&text).iter().filter(|(at, _)| *at >= mark).count()),
            _ => Err("it could not be read".to_owned()),
        };
        vec![BootCount::new(Witness::Console, Ok(boots)), BootCount::new(Witness::StreamedJournal, streamed)]
    }

    /// How many boots began on the console since the mark.
    pub(super) fn began_boots(&mut self) -> usize {
        self.read_logs().boots
    }

    /// The whole journal that was streamed so far; empty where the image streams none.
    pub(super) fn journal(&mut self) -> Cow<'_, str> {
        self.journal.read(self.hypervisor, &VmVolumes(self.machine).journal());
        self.journal.text()
    }

    /// The new boot's journal from its end on: what a guest says that has booted.
    pub(super) fn journal_after_boot(&mut self) -> Option<String> {
        let (_, end) = self.ended.clone()?;
        let new_boot = self.new_boot?;
        let text = self.journal();
        let boot = text.get(new_boot..)?;
        Some(boot.split_once(&end)?.1.to_owned())
    }

    /// Reads console and journal. Once the console shows a new boot, everything new in the journal belongs to it: the old boot
    /// is dead and cannot write there any more.
    fn read_logs(&mut self) -> BootLog {
        let volumes = VmVolumes(self.machine);
        self.console.read(self.hypervisor, &volumes.console());
        let log = BootLog::read(&self.console.text(), self.mark.unwrap_or_default());
        if log.boots > 0 && self.mark.is_some() && self.ended.is_none() {
            let is_read = self.journal.read(self.hypervisor, &volumes.journal());
            match self.new_boot {
                None if is_read => self.new_boot = Some(self.journal.text.len()),
                None => {}
                Some(start) => {
                    let text = String::from_utf8_lossy(self.journal.text.get(start..).unwrap_or_default());
                    self.ended = end_of_boot(&text).map(|line| (Instant::now(), line));
                }
            }
        }
        log
    }
}

/// Runs `work` with a deadline that also ends when `machine` fails. Ansible, for one, would notice a dead VM only by the
/// timeouts of SSH.
///
/// # Errors
/// The failure of the VM ([`VmFailure`]), whatever the result of the work.
pub(super) fn cancel_on_vm_failure<T>(
    hypervisor: &dyn Hypervisor,
    machine: &str,
    deadline: &Deadline,
    work: impl FnOnce(&Deadline) -> T,
) -> anyhow::Result<T> {
    let cancel = Interrupt::never();
    let (is_done, mut monitor) = (AtomicBool::new(false), VmMonitor::from_now_on(hypervisor, machine));
    std::thread::scope(|scope| {
        let monitoring = scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                if let Err(Interrupted(signal)) = deadline.interrupt().check() {
                    cancel.raise(signal);
                    return Ok(());
                }
                if let Err(failure) = monitor.check() {
                    cancel.raise(SIGTERM);
                    return Err(failure);
                }
                Deadline::uninterrupted(INTERRUPT_INTERVAL, "the VM monitor").pause(INTERRUPT_INTERVAL);
            }
            // The work may have ended because of a failure that the monitor has not seen yet.
            monitor.check_now()
        });
        let output = work(&deadline.heeding(cancel.clone()));
        is_done.store(true, Ordering::SeqCst);
        let checked =
            monitoring.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the monitor of {machine} panicked")));
        checked.map(|()| output)
    })
}

#[cfg(test)]
mod tests;
