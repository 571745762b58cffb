//! The stage `reboot`: restart the VM as the plan says, and prove the restart by the boot id.

use std::cell::RefCell;

use anyhow::Context;

use super::errors::{StageError, StageOutput};
use super::lockout::LoginWatch;
use super::restart_failure::classify;
use super::run::Run;
use super::vm_monitor::{SILENCE, VmMonitor};
use crate::catalog::plan::Restart;
use crate::guest::{Baseline, Ready, Silence, Witness, prove_reboot, wait_ready};
use crate::machine::RestartMethod;
use crate::support::deadline::{Deadline, format_duration};

impl Run<'_> {
    /// Restarts the VM and waits until another boot is settled.
    pub(super) fn reboot(&self) -> Result<StageOutput<()>, StageError> {
        let (vm, recorder) = (self.vm()?, &self.recorder);
        let note = |what: String| recorder.note(what);
        let deadline = recorder.deadline(self.patience(vm, self.plan.harness.timeouts.reboot), "reboot");
        let mut monitor = VmMonitor::from_now_on(self.hypervisor(), &vm.machine)
            .resetting_stalled_boots(vm.ownership.accelerator, &note);
        let mut progress = |what: &str| recorder.doing(what);
        // The baseline comes from a settled guest: cloud-init may have asked for a reboot a moment ago.
        let ready = wait_ready(&vm.access, &deadline, &mut || monitor.check(), &mut progress)
            .context("the guest was not ready before the restart")?;
        monitor.mark();
        let old = self.restart(ready, &vm.machine, &deadline)?;
        let monitor = RefCell::new(monitor);
        let patience = self.patience(vm, SILENCE.min(self.plan.harness.timeouts.reboot / 4));
        let mut watch = LoginWatch::new(&monitor, &vm.access, patience);
        let mut health_check = || monitor.borrow_mut().check();
        let mut give_up = |silence: &Silence<'_>| watch.gives_up_booted(silence);
        let proven = prove_reboot(old, &vm.access, &deadline, &mut health_check, &mut give_up, &mut progress);
        let closed = watch.into_closed();
        let mut monitor = monitor.into_inner();
        let (ready, proof) =
            proven.map_err(|error| classify(error, closed, patience, &vm.access.user, &mut monitor))?;
        ready.facts.notes().into_iter().for_each(note);
        let proof = proof.confirm(monitor.boot_counts()).map_err(anyhow::Error::from)?;
        for (witness, why) in proof.unconfirmed().filter(|(witness, _)| *witness != Witness::Wtmp) {
            note(format!("{witness} cannot confirm that the guest booted exactly once: {why}"));
        }
        let (old, new, took) = (proof.old.short(), proof.new.short(), format_duration(proof.took));
        Ok(StageOutput::passed(format!("boot {old} → {new} in {took}; once, by {}", proof.confirmed_by())))
    }

    fn restart(&self, ready: Ready, machine: &str, deadline: &Deadline) -> anyhow::Result<Baseline> {
        let method = match self.plan.restart {
            Restart::Soft => {
                return deadline
                    .time_wait(|| ready.request_reboot(deadline))
                    .context("cannot ask the guest to restart");
            }
            Restart::None => return Ok(ready.into_baseline(deadline)),
            Restart::Graceful => RestartMethod::Acpi,
            Restart::Reset => RestartMethod::Reset,
            Restart::PowerCut => RestartMethod::PowerCut,
        };
        let baseline = ready.into_baseline(deadline);
        self.hypervisor().restart(machine, method).context("cannot restart the VM")?;
        Ok(baseline)
    }
}
