//! The stages that run Ansible: `apply`, and `verify.yml` before and after the reboot.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;

use super::errors::{StageError, StageOutput};
use super::lockout::{Closed, LoginWatch, unexplained};
use super::observed::count;
use super::recorder::RunRecorder;
use super::run::Run;
use super::vm_monitor::{SILENCE, VmMonitor, cancel_on_vm_failure};
use crate::catalog::Plan;
use crate::catalog::plan::{Expectation, ExpectedFailure, ExpectedFault, ExpectedResult};
use crate::event::Event;
use crate::guest::{ReadyError, Silence, SshError, log_in};
use crate::outcome::{Assertion, Outcome, Stage};
use crate::site::certs::Acme;
use crate::site::{
    self, CheckedSite, HarnessVars, Phase, PlaybookError, PlaybookReport, TaskEvent, Workspace,
};
use crate::support::deadline::{Deadline, Waited};
use crate::support::interrupt::Interrupt;

/// How long listing a site's hosts and tags may take.
const CHECK: Duration = Duration::from_secs(120);

/// Checks everything about the site that can be checked before a VM exists.
///
/// # Errors
/// What is wrong with the playbooks, the inventory, the roles or Ansible itself.
pub(super) fn check(plan: &Plan, recorder: &RunRecorder) -> anyhow::Result<CheckedSite> {
    check_within(plan, &recorder.deadline(CHECK, "the check of the site"))
}

/// The same without a run. Returns what a person should know about the playbooks.
///
/// # Errors
/// As [`check`]; and an interrupt.
pub fn check_site(plan: &Plan, interrupt: &Interrupt) -> anyhow::Result<Vec<String>> {
    let deadline = Deadline::after(CHECK, "the check of the site", interrupt.clone(), Waited::default());
    Ok(check_within(plan, &deadline)?.notes)
}

fn check_within(plan: &Plan, deadline: &Deadline) -> anyhow::Result<CheckedSite> {
    // The address of the VM is not known yet. Nothing connects to it here.
    let unknown = IpAddr::V4(plan.harness.subnet.network);
    let declared = match &plan.expect.fail {
        Some(ExpectedFailure { at: Stage::Assert, what: ExpectedFault::Tasks(tasks) }) => tasks.as_slice(),
        _ => &[],
    };
    let checked = site::check(&plan.site, &vars(plan, unknown, Acme::default()), declared, deadline)?;
    Ok(checked.that_can_count(&plan.site)?)
}

/// The plan as variables for the site.
fn vars(plan: &Plan, address: IpAddr, acme: Acme) -> HarnessVars {
    HarnessVars {
        host: plan.trial.host.to_string(),
        scenario: plan.trial.scenario.as_ref().map(ToString::to_string),
        address,
        certs: plan.certs,
        acme,
        egress: plan.egress,
    }
}

impl Run<'_> {
    /// Applies the site playbook.
    pub(super) fn apply(&mut self) -> Result<StageOutput<()>, StageError> {
        if let Some(summary) = self.restored_apply()? {
            return Ok(StageOutput::passed(summary));
        }
        let report = self.run_playbook(Phase::Apply, self.plan.harness.timeouts.apply)?;
        let monitor = VmMonitor::from_now_on(self.hypervisor(), &self.vm()?.machine);
        self.log_in_anew(monitor, None)?;
        let summary = format!("{} tasks, {} changed", report.ok, report.changed);
        let kept = self.keep_applied(&summary).map(|kept| format!(", {kept}")).unwrap_or_default();
        Ok(StageOutput::passed(summary + &kept))
    }

    /// Everything that the site playbook gets from outside the site's files.
    pub(super) fn playbook_inputs(&self) -> Vec<String> {
        let address = IpAddr::V4(self.slot.address(self.plan.harness.subnet));
        self.checked.inputs(&self.plan.site, &vars(self.plan, address, Acme::default()))
    }

    /// Runs `verify.yml`. Returns all its assertions.
    pub(super) fn verify(&mut self, phase: Phase) -> Result<StageOutput<Vec<Assertion>>, StageError> {
        let report = self.run_playbook(phase, self.plan.harness.timeouts.assert)?;
        let verification =
            site::verification(&report, self.plan.trial.host.as_str()).map_err(anyhow::Error::from)?;
        for gap in verification.gaps {
            if declares_failure(&self.plan.expect, phase) {
                let why = "so it is unknown whether only the declared assertion fails";
                return Err(StageError::Error(anyhow::anyhow!("verify.yml is inconclusive: {gap}; {why}")));
            }
            self.recorder.note(format!("verify.yml is inconclusive: {gap}"));
        }
        verification.notes.into_iter().for_each(|note| self.recorder.note(note));
        let assertions = verification.assertions;
        let has_failed = assertions.iter().any(Assertion::is_failed);
        let outcome = if has_failed { Outcome::Failed } else { Outcome::Passed };
        Ok(StageOutput { summary: count(&assertions), value: assertions, outcome })
    }

    /// Runs the playbook of `phase`, which may take `budget` with KVM.
    fn run_playbook(&mut self, phase: Phase, budget: Duration) -> Result<PlaybookReport, StageError> {
        let acme = self.certs.serve(self.context, self.plan, &self.folder, &self.recorder)?;
        let deadline = self.recorder.deadline(self.patience(self.vm()?, budget), phase.as_str());
        self.prepare_bytecode_cache(phase, &deadline);
        self.checked.patience = self.stretch(self.vm()?);
        let vm = self.vm()?;
        let workspace =
            Workspace::prepare(&vm.folder.join("ansible"), &self.plan.site, &self.checked, &vm.access)
                .context("cannot prepare for Ansible")?;
        let mut on_task = |event: TaskEvent| match event {
            TaskEvent::Started { task } => self.recorder.report(&Event::TaskStarted { task }),
            TaskEvent::Finished(result) => self.recorder.report(&Event::TaskFinished(result)),
        };
        let vars = vars(self.plan, vm.access.address, acme);
        let monitor = VmMonitor::from_now_on(self.hypervisor(), &vm.machine);
        let ended = cancel_on_vm_failure(self.hypervisor(), &vm.machine, &deadline, |deadline| {
            workspace.run(phase, &vars, deadline, &mut on_task)
        });
        let ended = ended.context("the VM failed while Ansible ran")?;
        ended.iter().flat_map(|report| &report.notes).for_each(|note| self.recorder.note(note.clone()));
        ended.map_err(|error| match error {
            PlaybookError::TaskFailed(task) => StageError::TaskFailed {
                message: task.message.clone().unwrap_or_else(|| "no message".to_owned()),
                role: task.role.clone(),
                task: task.task.clone(),
            },
            PlaybookError::Unreachable { .. } if phase == Phase::Apply => {
                self.explain_unreachable(monitor, error)
            }
            other => StageError::Error(other.into()),
        })
    }

    /// Ansible reports a host as unreachable for a single refused connection, a slow sudo or a full disk. So we try ourselves.
    /// `monitor` has its mark at the beginning of the playbook, which may have restarted the guest.
    fn explain_unreachable(&self, monitor: VmMonitor<'_>, error: PlaybookError) -> StageError {
        let error = anyhow::Error::from(error);
        match self.log_in_anew(monitor, Some(&error)) {
            Err(closed) => closed,
            Ok(()) => {
                StageError::Error(error.context("SSH still answers, so this does not count as a lockout"))
            }
        }
    }

    /// Logs in with a new connection: Ansible's may have outlived what the playbook did to sshd, to the firewall or to the
    /// account. A guest that restarted since the mark of `monitor` may just be booting. `ansible` is what Ansible said, if it
    /// lost the guest.
    fn log_in_anew(&self, monitor: VmMonitor<'_>, ansible: Option<&anyhow::Error>) -> Result<(), StageError> {
        let (vm, recorder) = (self.vm()?, &self.recorder);
        let monitor = RefCell::new(monitor);
        let patience = self.patience(vm, SILENCE.min(self.plan.harness.timeouts.apply));
        let mut watch = LoginWatch::new(&monitor, &vm.access, patience);
        let deadline = recorder.deadline(watch.limit(), "a login after the playbook");
        let mut health_check = || monitor.borrow_mut().check();
        let mut give_up = |silence: &Silence<'_>| watch.gives_up_running(silence);
        let mut progress = |what: &str| recorder.doing(what);
        let result = log_in(&vm.access, &deadline, &mut health_check, &mut give_up, &mut progress);
        let Err(error) = result else { return Ok(()) };
        let closed = watch.into_closed();
        let last = match error {
            ReadyError::Unreachable { last: Some(last), .. } => last,
            other => {
                return Err(anyhow::Error::from(other).context("cannot log in after the playbook").into());
            }
        };
        let (user, is_mute) = (&vm.access.user, matches!(*last, SshError::Mute { .. }));
        let client = unexplained(*last, closed.as_ref()).map(anyhow::Error::from);
        let error = |why: String| match (client, ansible.map(|error| format!("{error:#}"))) {
            (Some(client), Some(ansible)) => client.context(ansible).context(why),
            (Some(client), None) => client.context(why),
            (None, Some(ansible)) => anyhow::Error::msg(ansible).context(why),
            (None, None) => anyhow::Error::msg(why),
        };
        if monitor.borrow_mut().began_boots() > 0 {
            let why = "the guest restarted during or after the playbook, and nobody can log in";
            return Err(error(why.to_owned()).into());
        }
        let lockout = |why: String| format!("the apply locked out the account `{user}`: {why}");
        Err(match closed {
            Some(Closed::Proven(words)) => {
                StageError::Fault(ExpectedFault::Unreachable, error(lockout(format!("sshd says {words}"))))
            }
            Some(Closed::Silent(life)) if !is_mute => StageError::Fault(
                ExpectedFault::Unreachable,
                error(lockout(format!("nobody can log in, though the guest is up: {life}"))),
            ),
            Some(Closed::KeyType(words)) => {
                error(format!("sshd does not take our kind of key: {words}")).into()
            }
            Some(Closed::Silent(_)) | None => {
                let why = "nobody can log in after the playbook, and nothing proves that this is a lockout";
                error(why.to_owned()).into()
            }
        })
    }
}

/// Whether the scenario declares failed assertions in `phase`. Then `verify.yml` must reach its end: an assertion that it
/// did not evaluate may be another failure.
fn declares_failure(expect: &Expectation, phase: Phase) -> bool {
    match phase {
        Phase::Before => expect.before_reboot == Some(ExpectedResult::Fail),
        Phase::Assert => expect.fail.as_ref().is_some_and(|fail| fail.at == Stage::Assert),
        Phase::Apply => false,
    }
}
