//! What helps a person to understand a run that did not pass: diagnostics from inside while the VM lives, and the
//! commands to look inside a kept one. Nothing here ever hides or replaces the first error.

use std::time::Duration;

use super::ledger::RunRecorder;
use super::live::RunningVm;
use super::world::RunContext;
use crate::catalog::plan::TrialName;
use crate::guest::{Session, diagnostics};

/// How long diagnostics may take, with KVM.
const BUDGET: Duration = Duration::from_secs(60);

/// Collects diagnostics into the run folder, as far as the guest can be reached.
pub(super) fn diagnose(live: &RunningVm, ledger: &RunRecorder) {
    ledger.doing("collecting diagnostics");
    let deadline = ledger.deadline(live.patience(BUDGET), "diagnostics");
    let folder = live.folder.join("diagnostics");
    match Session::connect(&live.access, &deadline) {
        Ok(mut session) => {
            let mut progress = |what: &str| ledger.doing(format!("collecting diagnostics: {what}"));
            let collected = diagnostics::collect(&mut session, &folder, &deadline, &mut progress);
            let summary = diagnostics::summary(&collected, deadline.elapsed());
            ledger.note(format!("diagnostics: {summary}, in {}", folder.display()));
        }
        Err(error) => ledger.note(format!(
            "no diagnostics from inside, as SSH does not answer ({error}); console.log and journal.log have what the guest said"
        )),
    }
}

/// The trial's VM, if it is there to look at.
pub(super) fn find(world: &RunContext, trial: &TrialName) -> Option<RunningVm> {
    RunningVm::find(world, trial).ok()
}

/// The commands to look inside a kept VM, each with what it is for.
pub(super) fn commands(world: &RunContext, machine: &str, trial: &TrialName) -> Vec<(String, String)> {
    let options = trial.driver_options();
    let uri = world.hypervisor.facts().map_or_else(|_| "qemu:///system".to_owned(), |facts| facts.uri);
    [
        (format!("boma-it ssh {options}"), "a shell inside"),
        (format!("virsh -c {uri} console {machine}"), "the serial console, live"),
        (format!("boma-it console {options}"), "all that the console said"),
        (format!("boma-it down {options}"), "end it"),
    ]
    .map(|(command, purpose)| (command, purpose.to_owned()))
    .into()
}
