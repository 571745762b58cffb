//! What helps a person to understand a run that did not pass: diagnostics from inside the VM while it runs, its console
//! and journal, and the commands to look inside a kept VM. Nothing here ever hides or replaces the first error.

use std::time::Duration;

use super::admission;
use super::context::RunContext;
use super::errors::StageError;
use super::recorder::RunRecorder;
use super::run::Run;
use crate::catalog::plan::TrialName;
use crate::guest::{Session, diagnostics};
use crate::machine::{Hypervisor, HypervisorError, VmVolumes};
use crate::outcome::Outcome;
use crate::support::file;
use crate::support::run_folder::RunFolder;
use crate::support::secret::Redacting;

/// How long diagnostics may take, with KVM.
const BUDGET: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Collects diagnostics into the run folder, wherever an assertion failed or something broke, declared or not. A VM
    /// that failed is not asked: that would only delay the report.
    pub(super) fn diagnose(&self, outcome: Outcome, error: Option<&StageError>) {
        let (Some(vm), recorder) = (&self.vm, &self.recorder) else { return };
        if error.is_some_and(StageError::is_vm_failure) {
            recorder.note(
                "no diagnostics from inside, as the VM failed; console.log and journal.log have its last messages",
            );
            return;
        }
        let is_broken = recorder.stages().iter().any(|stage| stage.outcome != Outcome::Passed);
        if !is_broken || outcome == Outcome::Interrupted {
            return;
        }
        recorder.doing("collecting diagnostics");
        let deadline = recorder.deadline(self.patience(vm, BUDGET), "diagnostics");
        let folder = vm.folder.join("diagnostics");
        match Session::connect(&vm.access, &deadline) {
            Ok(mut session) => {
                let mut progress = |what: &str| recorder.doing(format!("collecting diagnostics: {what}"));
                let collected = diagnostics::collect(&mut session, &folder, &deadline, &mut progress);
                let summary = diagnostics::summary(&collected, deadline.elapsed());
                recorder.note(format!("diagnostics: {summary}, in {}", folder.display()));
            }
            Err(error) => recorder.note(format!(
                "no diagnostics from inside, as SSH does not answer ({error}); console.log and journal.log have the guest's \
                 messages"
            )),
        }
    }

    /// Saves console and journal, unless the VM of that name belongs to another run by now.
    pub(super) fn save_logs(&self) {
        let Some(ours) = &self.ownership else { return };
        match admission::belongs_to_another(self.context, &self.machine, ours) {
            Ok(true) => {}
            Ok(false) => save_logs(self.hypervisor(), &self.machine, &self.folder, &self.recorder),
            Err(error) => {
                self.recorder.note(format!("cannot save console.log and journal.log: {error:#}"));
            }
        }
    }
}

/// Saves the VM's console and journal into the run folder. A failure is only noted. A log that was saved before stays until
/// a whole new one replaces it, as it may be the last copy.
pub(super) fn save_logs(
    hypervisor: &dyn Hypervisor,
    machine: &str,
    folder: &RunFolder,
    recorder: &RunRecorder,
) {
    let volumes = VmVolumes(machine);
    let existing = match hypervisor.volumes() {
        Ok(volumes) => Some(volumes.into_iter().map(|volume| volume.name).collect::<Vec<_>>()),
        // No pool, no volumes.
        Err(HypervisorError::NotFound { .. }) => return,
        Err(error) => {
            let error = anyhow::Error::from(error);
            recorder
                .note(format!("cannot list the earlier parts of the VM's logs, so each is tried: {error:#}"));
            None
        }
    };
    let may_exist = |part: &String| existing.as_ref().is_none_or(|existing| existing.contains(part));
    for (volume, name) in [(volumes.console(), "console.log"), (volumes.journal(), "journal.log")] {
        let saved = file::replace(&folder.join(name), 0o600, |file| -> anyhow::Result<()> {
            let mut redacting = Redacting::of_process(file);
            for part in VmVolumes::rolled(&volume).iter().filter(|part| may_exist(part)) {
                match hypervisor.download(part, 0, &mut redacting) {
                    Ok(_) | Err(HypervisorError::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            hypervisor.download(&volume, 0, &mut redacting)?;
            redacting.finish()?;
            Ok(())
        });
        // A guest without our golden image has no journal volume.
        if let Err(error) = saved
            && !matches!(error.downcast_ref(), Some(HypervisorError::NotFound { .. }))
        {
            recorder.note(format!("cannot save {name}: {error:#}"));
        }
    }
}

/// The commands to look inside a kept VM, each with what it is for.
pub(super) fn commands(context: &RunContext, machine: &str, trial: &TrialName) -> Vec<(String, String)> {
    let options = trial.driver_options();
    let uri = context.host_info().map_or_else(|_| "qemu:///system".to_owned(), |host| host.uri);
    [
        (format!("boma-it ssh {options}"), "a shell inside"),
        (format!("virsh -c {uri} console {machine}"), "the serial console, live"),
        (format!("boma-it console {options}"), "everything that the console printed"),
        (format!("boma-it down {options}"), "end it"),
    ]
    .map(|(command, purpose)| (command, purpose.to_owned()))
    .into()
}

#[cfg(test)]
mod tests;
