//! Layer 4, the only orchestrator: the story of a run.
//!
//! [`run()`] does a [`Job`] of a plan in a [`RunContext`]. It checks everything that can refuse the run
//! ([`admission`]), runs the stages in order ([`up`], [`playbook`], [`reboot`]), judges what was observed (`judge`),
//! collects [`diagnostics`] while the VM runs, and tears the VM down or keeps it. [`down()`] ends a kept VM, and
//! [`prune()`] removes what killed runs left.

mod admission;
mod bytecode;
mod certs;
mod cleanup;
mod comparison;
mod context;
mod diagnostics;
mod down;
mod errors;
mod judge;
mod layers;
mod lockout;
mod observed;
mod place;
mod playbook;
mod reboot;
mod recorder;
mod restart_failure;
mod run;
mod running_vm;
mod secrets;
mod up;
mod vm_monitor;

use anyhow::Context;
use jiff::Zoned;

pub use admission::LockHeld;
pub use context::{GuestLogin, Job, Keep, RunContext};
pub use down::{Ended, Removed, down, prune};
pub use errors::{BootIncomplete, VmFailure};
pub use playbook::check_site;
pub use running_vm::{NoRunningVm, RunningVm};
pub use secrets::redact_secrets_of;

use crate::catalog::Plan;
use crate::event::{Event, RunReport};
use crate::machine::Lifetime;
use crate::outcome::{Assertion, Outcome, Stage};
use crate::site::Phase;
use crate::support::memory;
use admission::Admitted;
use bytecode::BytecodeLog;
use certs::Certs;
use cleanup::Cleanup;
use errors::StageError;
use judge::{Judgement, judge};
use observed::{Observed, TrialEnd, is_as_declared};
use recorder::RunRecorder;
use run::Run;

/// Runs `job` of `plan`. Once anything is created or changed, the result is in the report, however the run ends; the
/// context's reporter receives it too.
///
/// # Errors
/// Before anything is created: bad files, a guard's refusal, no VM where one must be up, an interrupt.
pub fn run(context: &RunContext, plan: &Plan, job: Job) -> anyhow::Result<RunReport> {
    let recorder = RunRecorder::new(context.reporter.clone(), context.interrupt.clone());
    let certs = Certs::admit(context, plan, job)?;
    let secrets = secrets::learn(plan, &recorder)?;
    let checked = playbook::check(plan, &recorder)?.with_secrets(secrets);
    let (Admitted { place, notes }, vm) = if job.includes(Stage::Up) {
        (admission::admit(context, plan, &recorder)?, None)
    } else {
        let held = admission::hold(context, &plan.trial, &recorder)?;
        let vm = RunningVm::find(context, &plan.trial)?;
        let (_, _, place) = held.context("the VM was brought up only now; try again")?;
        (Admitted { place, notes: Vec::new() }, Some(vm))
    };
    secrets::remove_leftovers(&plan.harness.runs, &recorder)?;
    // Like the place, held until the report is out: whoever comes next finds everything done.
    let (folder, _occupied) = match &vm {
        Some(vm) => (vm.folder.clone(), vm.folder.occupy()?),
        None => up::create_folder(context, plan)?,
    };
    let (slot, machine) = match &vm {
        Some(vm) => (place.slot, vm.machine.clone()),
        None => (place.slot, context.prefix.machine(&plan.trial.host, place.slot)),
    };
    recorder.report(&Event::RunStarted { trial: job.title(plan), folder: folder.path().to_owned() });
    notes.into_iter().chain(checked.notes.clone()).for_each(|note| recorder.note(note));
    let ownership = vm.as_ref().map(|vm| vm.ownership.clone());
    let cleanup = Cleanup::new(plan.harness.timeouts.down);
    let bytecode = BytecodeLog::default();
    Ok(Run {
        context,
        plan,
        job,
        checked,
        certs,
        bytecode,
        recorder,
        cleanup,
        folder,
        slot,
        machine,
        layers: None,
        ownership,
        vm,
    }
    .finish(Zoned::now()))
}

impl Run<'_> {
    fn finish(mut self, started: Zoned) -> RunReport {
        let observed = self.run_stages();
        let mut judgement = match (&observed.end, self.job) {
            (None, job) if job != Job::Cycle => Judgement::of_step(self.recorder.stages()),
            _ => judge(&self.plan.expect, &observed),
        };
        self.diagnose(judgement.outcome, observed.error());
        self.certs.end(&self.recorder);
        let kept = self.keep_or_tear_down(&mut judgement);
        secrets::scrub(&self.folder, &self.recorder);
        let (trial, vm) = (&self.plan.trial, self.vm.as_ref());
        let report = RunReport {
            version: 1,
            trial: trial.to_string(),
            host: trial.host.to_string(),
            scenario: trial.scenario.as_ref().map(ToString::to_string),
            machine: self.machine.clone(),
            started: started.to_string(),
            accelerator: vm.map(|vm| vm.ownership.accelerator.to_string()),
            image: vm.map(|vm| up::describe_image(&vm.ownership.image, &self.folder)),
            bytecode_cache: self.bytecode.describe(),
            layer: vm.and_then(|vm| Some(vm.ownership.layer.as_ref()?.describe(&Zoned::now()))),
            expected: judgement.expected,
            seen: judgement.seen,
            compared: judgement.compared,
            outcome: judgement.outcome,
            error: observed.error().and_then(StageError::chain),
            stages: self.recorder.stages().to_vec(),
            before: observed.before.unwrap_or_default(),
            assertions: match observed.end {
                Some(TrialEnd::Asserted(assertions)) => assertions,
                _ => Vec::new(),
            },
            peak_memory: memory::peak(),
            kept,
            folder: self.folder.path().to_owned(),
        };
        self.recorder.report(&Event::RunFinished(Box::new(report.clone())));
        report
    }

    fn run_stages(&mut self) -> Observed {
        let mut before = None;
        let end = match self.stages_in_order(&mut before) {
            Ok(assertions) => assertions.map(TrialEnd::Asserted),
            Err((at, why)) => Some(TrialEnd::Stopped { at, why }),
        };
        Observed { before, end }
    }

    /// The stages of the job. Returns the assertions of the stage `assert`, if it ran.
    fn stages_in_order(
        &mut self,
        before: &mut Option<Vec<Assertion>>,
    ) -> Result<Option<Vec<Assertion>>, (Stage, StageError)> {
        if self.job.includes(Stage::Up) {
            self.stage(Stage::Up, Self::up)?;
        }
        if self.job.includes(Stage::Apply) {
            self.stage(Stage::Apply, Self::apply)?;
        }
        if let (Job::Cycle, Some(declared)) = (self.job, self.plan.expect.before_reboot) {
            let assertions = self.stage(Stage::Before, |run| run.verify(Phase::Before))?;
            if !is_as_declared(declared, before.insert(assertions)) {
                return Ok(None);
            }
        }
        if self.job.includes(Stage::Reboot) {
            self.stage(Stage::Reboot, |run| run.reboot())?;
        }
        if self.job.includes(Stage::Assert) {
            return self.stage(Stage::Assert, |run| run.verify(Phase::Assert)).map(Some);
        }
        Ok(None)
    }

    /// Leaves the VM to a later step or to a person, or tears it down. Returns whether it was kept for inspection.
    fn keep_or_tear_down(&mut self, judgement: &mut Judgement) -> bool {
        self.save_logs();
        match (self.job, judgement.outcome) {
            (Job::Up, Outcome::Passed) | (Job::Apply | Job::Reboot | Job::Assert, _) => {
                self.leave();
                return false;
            }
            (_, Outcome::Failed | Outcome::Errored) if self.keep() => return true,
            _ => {}
        }
        let running = self.recorder.begin(Stage::Down);
        let errors: Vec<String> = self.cleanup.run().iter().map(|error| format!("{error:#}")).collect();
        running_vm::remove_keys(&self.folder);
        if errors.is_empty() {
            self.recorder.end(running, Outcome::Passed, "everything was removed");
            return false;
        }
        let summary = errors.join("; ");
        self.recorder.end(running, Outcome::Errored, &summary);
        if judgement.outcome == Outcome::Passed {
            judgement.outcome = Outcome::Errored;
            judgement.seen = format!("{}; but at down: {summary}", judgement.seen);
        }
        false
    }

    /// After a step, the VM stays until `down`.
    fn leave(&mut self) {
        self.cleanup.disarm();
        if let (Job::Up, Some(vm)) = (self.job, &self.vm)
            && let Err(error) = vm.change_lifetime(self.hypervisor(), Lifetime::Manual)
        {
            self.recorder.note(format!(
                "the VM is still recorded as this process's, so `boma-it prune` may remove it: {error:#}"
            ));
        }
    }

    /// Keeps the VM of a run that did not pass, if the context wants that and the VM runs.
    fn keep(&mut self) -> bool {
        let (Some(lifetime), Some(vm)) = (self.context.kept_lifetime(), &self.vm) else { return false };
        let Ok(Some(found)) = self.context.machine(&vm.machine) else { return false };
        let is_ours = found.ownership.is_some_and(|it| it.is_same_run(&vm.ownership));
        if !(is_ours && found.state.is_alive()) {
            return false;
        }
        if let Err(error) = vm.change_lifetime(self.hypervisor(), lifetime) {
            self.recorder.note(format!("cannot keep the VM: {error:#}"));
            return false;
        }
        self.cleanup.disarm();
        let commands = diagnostics::commands(self.context, &vm.machine, &self.plan.trial);
        self.recorder.report(&Event::Kept { machine: vm.machine.clone(), commands });
        true
    }
}
