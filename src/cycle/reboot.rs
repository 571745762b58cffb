//! The stage `reboot`: restart the VM as the plan says, and prove the restart by the boot id.

use std::cell::RefCell;

use anyhow::Context;

use super::errors::{StageError, StageOutput, VmFailure};
use super::run::Run;
use super::vm_monitor::{SILENCE, VmMonitor};
use crate::catalog::plan::{ExpectedFault, Restart};
use crate::guest::{Baseline, Ready, RebootError, prove_reboot, wait_ready};
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
        let (monitor, patience) = (RefCell::new(monitor), self.patience(vm, SILENCE));
        let mut health_check = || monitor.borrow_mut().check();
        let mut give_up = |silent| silent >= patience && monitor.borrow().boot_ended_before(patience);
        let proven = prove_reboot(old, &vm.access, &deadline, &mut health_check, &mut give_up, &mut progress);
        let (ready, proof) = proven.map_err(|error| classify(error, &mut monitor.borrow_mut()))?;
        ready.facts.notes().into_iter().for_each(note);
        if let Err(reason) = &proof.single_boot {
            note(format!("the guest's journal cannot confirm that it booted exactly once: {reason}"));
        }
        let (old, new) = (proof.old.short(), proof.new.short());
        Ok(StageOutput::passed(format!("boot {old} → {new} in {}", format_duration(proof.took))))
    }

    fn restart(&self, ready: Ready, machine: &str, deadline: &Deadline) -> anyhow::Result<Baseline> {
        let method = match self.plan.restart {
            Restart::Soft => {
                return deadline
                    .time_wait(|| ready.request_reboot(deadline))
                    .context("cannot ask the guest to restart");
            }
            Restart::None => return Ok(ready.into_baseline()),
            Restart::Graceful => RestartMethod::Acpi,
            Restart::Reset => RestartMethod::Reset,
            Restart::PowerCut => RestartMethod::PowerCut,
        };
        let baseline = ready.into_baseline();
        self.hypervisor().restart(machine, method).context("cannot restart the VM")?;
        Ok(baseline)
    }
}

/// A fault counts as declared only if it is one of the new boot, and a guest counts as locked out only if its boot ended: one
/// that hangs while booting is just as silent.
fn classify(error: RebootError, monitor: &mut VmMonitor<'_>) -> StageError {
    let is_unreachable = matches!(error, RebootError::Unreachable { .. });
    let error = anyhow::Error::from(error);
    if let Some(fault) = VmFailure::in_chain(&error).and_then(VmFailure::fault) {
        return match monitor.began_one_boot() {
            Ok(_) => StageError::Fault(fault, error),
            Err(why) => StageError::Error(error.context(why)),
        };
    }
    if !is_unreachable {
        return error.into();
    }
    match monitor.ended_boot() {
        Ok(line) => StageError::Fault(
            ExpectedFault::Unreachable,
            error.context(format!("the guest booted (`{line}`), but SSH does not answer")),
        ),
        Err(why) => StageError::Error(error.context(why)),
    }
}
