//! Admission: a place for the VM, the guards, and who owns a VM. Everything that can refuse a run does so before anything is
//! created.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::context::RunContext;
use super::place::{self, Place};
use super::recorder::RunRecorder;
use super::run::crowding;
use super::running_vm::remove_keys_in;
use crate::catalog::Plan;
use crate::catalog::plan::TrialName;
use crate::catalog::quantity::Bytes;
use crate::machine::guard::{self, Admission, Refused, Request};
use crate::machine::hypervisor::HypervisorError;
use crate::machine::live_run::LiveRun;
use crate::machine::network::{Slot, host_note};
use crate::machine::teardown::teardown;
use crate::machine::{Machine, Ownership};
use crate::support::deadline::Progress;

/// How long a trial queues behind those of its own test run: longer than any test run takes.
const QUEUE: Duration = Duration::from_secs(12 * 3600);
/// How often a run in the queue tries again.
const RETRY: Duration = Duration::from_millis(300);

/// Another process works on a VM.
#[derive(Debug, thiserror::Error)]
#[error(
    "another boma-it process works on the VM {machine}: {holder}; end that process, or set BOMA_IT_WAIT=30m to wait for it"
)]
pub struct LockHeld {
    machine: String,
    holder: String,
}

/// A run that may bring up a VM.
#[derive(Debug)]
pub(super) struct Admitted {
    /// The place of its VM.
    pub place: Place,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Why a run cannot go on now.
struct NotNow {
    error: anyhow::Error,
    /// Whether it ends by itself, because a run of the same test run is in the way.
    behind_ours: bool,
    /// What is in the way.
    others: String,
}

impl From<Refused> for NotNow {
    fn from(Refused { refusal, behind_ours, others }: Refused) -> Self {
        Self { error: (*refusal).into(), behind_ours, others }
    }
}

/// Checks the guards, removes the VMs that the plan's VM may replace, and takes a place for it. A trial queues behind trials
/// of its own test run; anyone else is refused where there is no room, at once or after [`RunContext::wait`].
///
/// # Errors
/// [`guard::Refusal`], an interrupt, or that the hypervisor does not answer.
pub(super) fn admit(context: &RunContext, plan: &Plan, recorder: &RunRecorder) -> anyhow::Result<Admitted> {
    let mut notes = Vec::new();
    let place = queue(context, recorder, || try_admit(context, plan, recorder, &mut notes))?;
    let crowding = crowding(context, plan);
    if crowding > 1 {
        let vms = plan.harness.vms;
        notes.push(format!("up to {vms} VMs share the CPUs (`limits.vms`), so timeouts are x{crowding}"));
    }
    Ok(Admitted { place, notes })
}

fn try_admit(
    context: &RunContext,
    plan: &Plan,
    recorder: &RunRecorder,
    notes: &mut Vec<String>,
) -> anyhow::Result<Result<Place, NotNow>> {
    let _turn = place::turn(context, recorder)?;
    let mut machines = context.machines()?;
    let live = place::live_runs(context)?;
    let admission = match guard::admit(request(context, plan), &machines, &live, &context.processes) {
        Ok(admission) => admission,
        Err(refused) => return Ok(Err(refused.into())),
    };
    let Admission { orphans, kept, promised, others } = admission;
    for (names, why) in [(orphans, "its process is gone"), (kept, "an earlier trial of this run kept it")] {
        for name in names {
            let torn_down = teardown(context.hypervisor.as_ref(), &name);
            // Even if a volume is left: once the domain is gone, nothing records where the keys are.
            let owned = machines.iter().filter(|it| it.name == name).filter_map(|it| it.ownership.as_ref());
            remove_keys_in(owned.map(|it| it.run_folder.as_path()));
            torn_down.with_context(|| format!("cannot remove the VM {name}"))?;
            machines.retain(|it| it.name != name);
            notes.push(format!("removed the VM {name}: {why}"));
        }
    }
    let (host, reserve) = (context.host_info()?, plan.harness.memory_reserve);
    if let Err(refusal) = guard::check_memory(plan.vm.memory, host.available_memory, promised, reserve) {
        return Ok(Err(others.refuse(refusal).into()));
    }
    let slot = free_slot(context, plan, &machines, &live)
        .context("every address of the network is taken; `boma-it prune --all` frees them")?;
    let run = LiveRun::of_this_process(slot, &plan.trial, &context.session, plan.vm.memory);
    let place = place::take(context, &run)?;
    notes.extend(host.local.then(|| host_note("/sys/class/net".as_ref())).flatten());
    Ok(Ok(place))
}

/// Takes the place of the trial's VM for a step on it, or to end it; nothing if there is no such VM. Waits as [`admit`].
///
/// # Errors
/// [`LockHeld`], [`super::NoRunningVm::Unowned`], an interrupt, or that the hypervisor does not answer.
pub(super) fn hold(
    context: &RunContext,
    trial: &TrialName,
    recorder: &RunRecorder,
) -> anyhow::Result<Option<(Machine, Ownership, Place)>> {
    queue(context, recorder, || {
        let _turn = place::turn(context, recorder)?;
        let Some((machine, ownership)) = context.machine_of(trial)? else { return Ok(Ok(None)) };
        let slot = ownership.slot;
        if let Some(run) = place::live_runs(context)?.into_iter().find(|run| run.slot == slot) {
            return Ok(Err(NotNow {
                behind_ours: run.session.as_ref() == Some(&context.session),
                others: run.words.clone(),
                error: LockHeld { machine: machine.name, holder: run.words }.into(),
            }));
        }
        let run = LiveRun::of_this_process(slot, trial, &context.session, Bytes(0));
        Ok(Ok(Some((machine, ownership, place::take(context, &run)?))))
    })
}

/// Tries again until it is this run's turn, or nothing says that waiting helps.
fn queue<T>(
    context: &RunContext,
    recorder: &RunRecorder,
    mut attempt: impl FnMut() -> anyhow::Result<Result<T, NotNow>>,
) -> anyhow::Result<T> {
    let (started, mut told) = (Instant::now(), String::new());
    let deadline = recorder.deadline(QUEUE.max(context.wait), "the queue");
    let turn = deadline.wait_for("a place for the VM", RETRY, || {
        let NotNow { error, behind_ours, others } = match attempt() {
            Ok(Ok(turn)) => return Ok(Progress::Ready(Ok(turn))),
            Ok(Err(not_now)) => not_now,
            Err(error) => return Ok(Progress::Ready(Err(error))),
        };
        if !behind_ours && started.elapsed() >= context.wait {
            return Ok(Progress::Ready(Err(error)));
        }
        if told != others {
            recorder.doing(format!("waiting for {others}"));
            told = others;
        }
        Ok(Progress::Pending(error.to_string()))
    });
    turn?
}

fn request<'a>(context: &'a RunContext, plan: &'a Plan) -> Request<'a> {
    Request { trial: &plan.trial, session: &context.session, limit: plan.harness.vms }
}

/// The lowest slot that no run holds and no VM has, running or not. A VM without metadata has the slot that its name tells.
fn free_slot(context: &RunContext, plan: &Plan, machines: &[Machine], live: &[LiveRun]) -> Option<Slot> {
    let named = |slot: &Slot| {
        let name = context.prefix.machine(&plan.trial.host, *slot);
        machines.iter().any(|it| it.name == name)
    };
    let recorded = machines.iter().filter_map(|it| it.ownership.as_ref()).map(|it| it.slot);
    Slot::free(recorded.chain(live.iter().map(|run| run.slot)).chain(Slot::all().filter(named)))
}

/// Checks right before the start that there still is room for the VM, and that its address is its own. The locks are one
/// user's; another user of this hypervisor may have got this far as well while an image was built here.
///
/// # Errors
/// [`guard::Refusal`], or that the hypervisor does not answer.
pub(super) fn check_start(
    context: &RunContext,
    plan: &Plan,
    machine: &str,
    slot: Slot,
) -> anyhow::Result<()> {
    let machines = context.machines()?;
    Ok(guard::check_start(request(context, plan), machine, slot, &machines, &context.processes)?)
}

/// Why the plan's VM could not be defined. If another VM has its name by now, the error says whose it is and how to end
/// it.
pub(super) fn not_defined(
    context: &RunContext,
    plan: &Plan,
    machine: &str,
    error: HypervisorError,
) -> anyhow::Error {
    if let HypervisorError::Exists { .. } = error
        && let Ok(Some(theirs)) = context.machine(machine)
        && let Err(refused) = guard::admit(request(context, plan), &[theirs], &[], &context.processes)
    {
        return (*refused.refusal).into();
    }
    anyhow::Error::from(error).context("cannot define the VM")
}

/// Whether the VM of that name belongs to another run than `ownership` says. A run ends its VM by name, and that name may
/// have been taken meanwhile.
///
/// # Errors
/// When the hypervisor does not answer.
pub(super) fn belongs_to_another(
    context: &RunContext,
    machine: &str,
    ownership: &Ownership,
) -> anyhow::Result<bool> {
    let is_ours = |it: &Machine| it.ownership.as_ref().is_some_and(|it| it.is_same_run(ownership));
    Ok(context.machine(machine)?.is_some_and(|it| !is_ours(&it)))
}
