//! The stage `reboot`: restart the VM in the way the plan says, and prove it by the boot id.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Context;

use super::ledger::RunRecorder;
use super::live::RunningVm;
use super::stop::{StageError, StageOutput};
use super::vigil::{VmFailure, VmMonitor};
use super::world::RunContext;
use crate::catalog::Plan;
use crate::catalog::plan::{ExpectedFault, Restart};
use crate::guest::{RebootError, prove_reboot, wait_ready};
use crate::machine::RestartMethod;
use crate::support::deadline::format_duration;

/// How long after the end of its boot a guest may be silent before it counts as locked, with KVM. Only its journal tells of that
/// end: whatever is ever to be started is running by then.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Restarts the VM and waits until another boot than the one before is settled.
pub(super) fn reboot(
    world: &RunContext,
    plan: &Plan,
    live: &RunningVm,
    ledger: &RunRecorder,
) -> Result<StageOutput<()>, StageError> {
    let hypervisor = world.hypervisor.as_ref();
    let deadline = ledger.deadline(live.patience(plan.harness.timeouts.reboot), "reboot");
    let told = |what: String| ledger.note(what);
    let mut vigil =
        VmMonitor::from_now_on(hypervisor, &live.machine).beginning_again(live.ownership.accelerator, &told);
    let mut progress = |what: &str| ledger.doing(what);
    // The baseline is read from a settled guest: cloud-init may itself have asked for a reboot a moment ago.
    let ready = wait_ready(&live.access, &deadline, &mut || vigil.look(), &mut progress)
        .context("the guest was not ready before the restart")?;
    vigil.mark();
    let old = match plan.restart {
        Restart::Soft => deadline
            .time_wait(|| ready.request_reboot(&deadline))
            .context("the guest could not be asked to restart")?,
        Restart::None => ready.into_baseline(),
        Restart::Graceful | Restart::Reset | Restart::PowerCut => {
            let push = match plan.restart {
                Restart::Reset => RestartMethod::Reset,
                Restart::PowerCut => RestartMethod::PowerCut,
                _ => RestartMethod::Acpi,
            };
            let baseline = ready.into_baseline();
            hypervisor.restart(&live.machine, push).context("the VM could not be restarted")?;
            baseline
        }
    };
    let (vigil, patience) = (RefCell::new(vigil), live.patience(SILENCE));
    let mut alive = || vigil.borrow_mut().look();
    let mut resign = |silent| silent >= patience && vigil.borrow().ended_before(patience);
    let proven = prove_reboot(old, &live.access, &deadline, &mut alive, &mut resign, &mut progress);
    let (ready, proof) = proven.map_err(|error| stop(error, &mut vigil.borrow_mut()))?;
    ready.facts.notes().into_iter().for_each(|note| ledger.note(note));
    if let Err(reason) = &proof.single_boot {
        ledger.note(format!("the guest's journal cannot confirm that it booted exactly once: {reason}"));
    }
    Ok(StageOutput::passed(
        (),
        format!("boot {} → {} in {}", proof.old.short(), proof.new.short(), format_duration(proof.took)),
    ))
}

/// A fault that can be declared is one of the new boot. And a guest that cannot be reached counts as locked only if it came up:
/// one that hangs in its boot is just as silent.
fn stop(error: RebootError, vigil: &mut VmMonitor<'_>) -> StageError {
    let unreachable = matches!(error, RebootError::Unreachable { .. });
    let error = anyhow::Error::from(error);
    let lost = VmFailure::in_chain(&error).and_then(VmFailure::fault);
    match lost {
        Some(fault) => match vigil.began_once() {
            Ok(_) => StageError::Fault(fault, error),
            Err(why) => StageError::Error(error.context(why)),
        },
        None if unreachable => match vigil.came_up() {
            Ok(line) => StageError::Fault(
                ExpectedFault::Unreachable,
                error.context(format!("it came up (`{line}`), and SSH does not answer")),
            ),
            Err(why) => StageError::Error(error.context(why)),
        },
        None => error.into(),
    }
}
