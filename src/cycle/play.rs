//! The stages that are Ansible's: `apply`, and `verify.yml` before and after the reboot.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;

use super::judge;
use super::ledger::RunRecorder;
use super::live::RunningVm;
use super::reboot::SILENCE;
use super::stop::{StageError, StageOutput};
use super::vigil::VmMonitor;
use super::watchman::watched;
use crate::catalog::Plan;
use crate::catalog::plan::{ExpectedFailure, ExpectedFault};
use crate::event::Event;
use crate::guest::{ReadyError, wait_ready};
use crate::machine::Hypervisor;
use crate::outcome::{Assertion, AssertionStatus, Outcome, Stage};
use crate::site::certs::Acme;
use crate::site::{
    self, Checked, HarnessVars, Phase, PlaybookError, PlaybookReport, TaskEvent, Verification, Workspace,
};
use crate::support::deadline::Deadline;

/// How long listing a site's hosts and tags may take.
const CHECK: Duration = Duration::from_secs(120);

/// What Ansible is told of the plan.
pub(super) fn vars(plan: &Plan, address: IpAddr, acme: Acme) -> HarnessVars {
    HarnessVars {
        host: plan.trial.host.to_string(),
        scenario: plan.trial.scenario.as_ref().map(ToString::to_string),
        address,
        certs: plan.certs,
        acme,
        egress: plan.egress,
    }
}

/// Checks all that can be checked of the site before a VM exists.
///
/// # Errors
/// What is wrong with the playbooks, the inventory, the roles or Ansible itself.
pub(super) fn check(plan: &Plan, ledger: &RunRecorder) -> anyhow::Result<Checked> {
    // Where the VM will be is not known yet; nothing is reached.
    let nowhere = IpAddr::V4(plan.harness.subnet.network);
    let deadline = ledger.deadline(CHECK, "the check of the site");
    Ok(site::check(&plan.site, &vars(plan, nowhere, Acme::default()), &deadline)?)
}

/// What a playbook is run with, and against what.
#[derive(Clone, Copy)]
pub(super) struct PlaybookRun<'a> {
    /// Where the VM lives: watched meanwhile.
    pub hypervisor: &'a dyn Hypervisor,
    /// What is to be done.
    pub plan: &'a Plan,
    /// The VM.
    pub live: &'a RunningVm,
    /// The site, checked at admission.
    pub checked: &'a Checked,
    /// The run's book.
    pub ledger: &'a RunRecorder,
}

impl PlaybookRun<'_> {
    /// Applies the site playbook.
    pub(super) fn apply(self, acme: Acme) -> Result<StageOutput<()>, StageError> {
        let report = self.run(acme, Phase::Apply, self.plan.harness.timeouts.apply)?;
        Ok(StageOutput::passed((), format!("{} tasks, {} changed", report.ok, report.changed)))
    }

    /// Runs `verify.yml`. Gives every assertion of it.
    pub(super) fn verify(self, acme: Acme, phase: Phase) -> Result<StageOutput<Vec<Assertion>>, StageError> {
        let report = self.run(acme, phase, self.plan.harness.timeouts.assert)?;
        let found =
            site::verification(&report, self.plan.trial.host.as_str()).map_err(anyhow::Error::from)?;
        for doubt in doubts(&found) {
            if judge::is_failure_declared(&self.plan.expect, phase) {
                let why = "so nobody can say that nothing failed but what was declared";
                return Err(StageError::Error(anyhow::anyhow!("{doubt}; {why}")));
            }
            self.ledger.note(doubt);
        }
        let failed = found.assertions.iter().any(|it| it.status == AssertionStatus::Failed);
        let outcome = if failed { Outcome::Failed } else { Outcome::Passed };
        let summary = judge::count(&found.assertions);
        Ok(StageOutput { value: found.assertions, outcome, summary })
    }

    /// Runs the playbook of `phase`, which may take `budget` with KVM.
    fn run(self, acme: Acme, phase: Phase, budget: Duration) -> Result<PlaybookReport, StageError> {
        let Self { hypervisor, plan, live, checked, ledger } = self;
        let deadline = ledger.deadline(live.patience(budget), phase.as_str());
        let folder = live.folder.join("ansible");
        let workspace = Workspace::prepare(&folder, &plan.site, checked, &live.access)
            .context("cannot prepare for Ansible")?;
        let mut hear = |event: TaskEvent| match event {
            TaskEvent::Started { task } => ledger.tell(&Event::TaskStarted { task }),
            TaskEvent::Finished(result) => ledger.tell(&Event::TaskFinished(result)),
        };
        let vars = vars(plan, live.access.address, acme);
        let ran = watched(hypervisor, &live.machine, &deadline, |deadline| {
            workspace.run(phase, &vars, deadline, &mut hear)
        });
        ran.context("the VM was lost while Ansible ran")?.map_err(|error| match error {
            PlaybookError::Unreachable { .. } if phase == Phase::Apply => self.locked_out(error, &deadline),
            other => stop(other),
        })
    }

    /// This very playbook locked us out; or it only seems so, as Ansible says that a host is unreachable for a single connection
    /// that was refused, a slow sudo or a full disk. Where a lockout is declared nobody may get in for as long as after a reboot.
    fn locked_out(self, error: PlaybookError, deadline: &Deadline) -> StageError {
        let Self { hypervisor, plan, live, ledger, .. } = self;
        let fault = |error: PlaybookError| StageError::Fault(ExpectedFault::Unreachable, error.into());
        let declared = ExpectedFailure { at: Stage::Apply, what: ExpectedFault::Unreachable };
        if plan.expect.fail.as_ref() != Some(&declared) {
            return fault(error);
        }
        let mut vigil = VmMonitor::from_now_on(hypervisor, &live.machine);
        let mut progress = |what: &str| ledger.doing(what);
        let deadline = deadline.within(live.patience(SILENCE), "SSH that does not answer");
        match wait_ready(&live.access, &deadline, &mut || vigil.look(), &mut progress) {
            Err(ReadyError::Unreachable { .. }) => fault(error),
            Ok(_) | Err(ReadyError::NotSettled { .. }) => {
                let error = anyhow::Error::from(error);
                StageError::Error(error.context("SSH answers all the same, so nobody is locked out"))
            }
            Err(other) => anyhow::Error::from(other).context(error).into(),
        }
    }
}

/// Why it is not known of every assertion whether it holds.
fn doubts(found: &Verification) -> Vec<String> {
    let trouble = found.trouble.as_ref().map(|task| {
        let said = task.message.as_deref().unwrap_or_default();
        format!("could not find everything out: “{}” ({}) failed: {said}", task.task, task.path)
    });
    let unreached = found.unreached.split_first().map(|(first, more)| {
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        format!("verify.yml did not reach {first}{more}, as an assertion failed (`ignore_errors: true` lets it go on)")
    });
    trouble.into_iter().chain(unreached).collect()
}

fn stop(error: PlaybookError) -> StageError {
    match error {
        PlaybookError::TaskFailed { task } => StageError::TaskFailed {
            message: task.message.clone().unwrap_or_else(|| "it said nothing".to_owned()),
            task: task.task.clone(),
        },
        other => anyhow::Error::from(other).into(),
    }
}
