//! One run in progress: what every stage works with, and the frame that runs a stage and records how it went. The stages
//! are methods of [`Run`], each in the file of its name; [`super::run()`] puts them in order. It stands alone because all
//! of these files use it.

use std::time::Duration;

use super::bytecode::BytecodeLog;
use super::certs::Certs;
use super::cleanup::Cleanup;
use super::context::{Job, RunContext};
use super::errors::{StageError, StageOutput};
use super::layers::RunLayers;
use super::recorder::RunRecorder;
use super::running_vm::RunningVm;
use crate::catalog::Plan;
use crate::machine::network::Slot;
use crate::machine::{Hypervisor, Ownership};
use crate::outcome::Stage;
use crate::site::CheckedSite;
use crate::support::run_folder::RunFolder;

pub(super) struct Run<'a> {
    pub context: &'a RunContext,
    pub plan: &'a Plan,
    pub job: Job,
    /// The site, checked at admission.
    pub checked: CheckedSite,
    pub certs: Certs,
    pub bytecode: BytecodeLog,
    pub recorder: RunRecorder,
    pub cleanup: Cleanup<'a>,
    pub folder: RunFolder,
    /// The slot of its VM.
    pub slot: Slot,
    /// The name of its VM's domain.
    pub machine: String,
    /// The layers that the VM of this run can go on from, or becomes.
    pub layers: Option<RunLayers>,
    /// The owner that the VM of this run records; set right before the VM is defined.
    pub ownership: Option<Ownership>,
    pub vm: Option<RunningVm>,
}

impl<'a> Run<'a> {
    pub(super) fn hypervisor(&self) -> &'a dyn Hypervisor {
        self.context.hypervisor.as_ref()
    }

    pub(super) fn vm(&self) -> anyhow::Result<&RunningVm> {
        self.vm.as_ref().ok_or_else(|| anyhow::anyhow!("no VM is up"))
    }

    /// A time budget for KVM, stretched to what the VM's accelerator needs and to what the machine gives each VM.
    pub(super) fn patience(&self, vm: &RunningVm, budget: Duration) -> Duration {
        budget * self.stretch(vm)
    }

    /// How many times longer than with KVM on an idle machine a VM may take.
    pub(super) fn stretch(&self, vm: &RunningVm) -> u32 {
        vm.ownership.accelerator.patience() * crowding(self.context, self.plan)
    }

    /// Runs one stage and records it. After an interrupt, whatever error it ended with counts as the interrupt.
    pub(super) fn stage<T>(
        &mut self,
        stage: Stage,
        work: impl FnOnce(&mut Self) -> Result<StageOutput<T>, StageError>,
    ) -> Result<T, (Stage, StageError)> {
        let running = self.recorder.begin(stage);
        match work(self).map_err(|error| error.unless_interrupted(&self.context.interrupt)) {
            Ok(output) => {
                self.recorder.end(running, output.outcome, &output.summary);
                Ok(output.value)
            }
            Err(error) => {
                self.recorder.end(running, error.outcome(), &error.to_string());
                Err((stage, error))
            }
        }
    }
}

/// How many times slower a VM may be because others run beside it: their virtual CPUs to a CPU of the hypervisor, rounded
/// up. It counts those that may run, as others start while a deadline runs.
pub(super) fn crowding(context: &RunContext, plan: &Plan) -> u32 {
    let vms = u32::try_from(plan.harness.vms).unwrap_or(u32::MAX);
    match context.cores {
        _ if vms <= 1 => 1,
        Some(cores) => {
            let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
            vms.saturating_mul(plan.vm.vcpus).div_ceil(cores).max(1)
        }
        // The hypervisor's host is another machine: as if it had just enough for one VM.
        None => vms,
    }
}
