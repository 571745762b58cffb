//! The stage `reboot`: restart the VM as the plan says, and prove the restart by the boot id.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Context;

use super::errors::{StageError, StageOutput, VmFailure};
use super::lockout::{Closed, LoginWatch};
use super::run::Run;
use super::vm_monitor::{SILENCE, VmMonitor};
use crate::catalog::plan::{ExpectedFault, Restart};
use crate::guest::{Baseline, Ready, ReadyError, RebootError, Silence, Witness, prove_reboot, wait_ready};
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

/// What a failed restart means. It is the site's doing only if that is proven: by a fault of the one new boot that the guest's
/// own software shows; by a boot that ended, with nobody able to log in (a guest that hangs while booting is just as silent);
/// or by a job that the guest itself says it waits for, and has for `patience`.
fn classify(
    error: RebootError,
    closed: Option<Closed>,
    patience: Duration,
    user: &str,
    monitor: &mut VmMonitor<'_>,
) -> StageError {
    let hung = hung_job(&error, patience);
    let is_unreachable = matches!(error, RebootError::Unreachable { .. });
    let error = anyhow::Error::from(error);
    if let Some(fault) = VmFailure::in_chain(&error).and_then(VmFailure::fault) {
        return match monitor.began_one_boot() {
            Ok(_) => StageError::Fault(fault, error),
            Err(why) => StageError::Error(error.context(why)),
        };
    }
    if let Some(job) = hung {
        return StageError::Fault(ExpectedFault::Hung, error.context(job));
    }
    if !is_unreachable {
        return error.into();
    }
    match (monitor.ended_boot(), closed) {
        (Ok(_), Some(Closed::KeyType(words))) => {
            StageError::Error(error.context(format!("sshd does not take our kind of key: {words}")))
        }
        (Ok(line), Some(Closed::Proven(words))) => StageError::Fault(
            ExpectedFault::Unreachable,
            error.context(format!(
                "the guest booted (`{line}`), and the account `{user}` is locked out: sshd says {words}"
            )),
        ),
        (Ok(line), _) => StageError::Fault(
            ExpectedFault::Unreachable,
            error.context(format!("the guest booted (`{line}`), but SSH does not answer")),
        ),
        (Err(why), _) => match monitor.stuck_job(patience) {
            Some(job) => StageError::Fault(ExpectedFault::Hung, error.context(why).context(job)),
            None => StageError::Error(error.context(why)),
        },
    }
}

/// The jobs that the guest, over SSH, says that it still waits for after all that time. cloud-init is the harness's own.
fn hung_job(error: &RebootError, patience: Duration) -> Option<String> {
    let RebootError::NotReady(ReadyError::NotSettled { jobs: Some(jobs), .. }) = error else { return None };
    let is_site = !jobs.units.is_empty() && !jobs.units.iter().any(|unit| unit.starts_with("cloud-"));
    (is_site && jobs.unchanged_for >= patience).then(|| {
        let (units, time) = (jobs.units.join(", "), format_duration(jobs.unchanged_for));
        format!("the boot does not end: it has waited for {units} for {time}")
    })
}
