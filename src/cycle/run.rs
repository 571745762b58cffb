//! One run: the stages of a job in order, then judging, explaining, tearing down or keeping, and the report.

use jiff::Zoned;

use super::certs::Certs;
use super::cleanup::Cleanup;
use super::image_used::ImageUsed;
use super::judge::{self, Judgement, Observed, TrialEnd};
use super::ledger::RunRecorder;
use super::live::RunningVm;
use super::play::PlaybookRun;
use super::stop::{StageError, StageOutput};
use super::world::RunContext;
use super::{admit, down, explain, play, reboot, secrets, up};
use crate::catalog::Plan;
use crate::event::{Event, RunReport};
use crate::machine::Ownership;
use crate::outcome::{Assertion, Outcome, Stage};
use crate::site::{Checked, Phase};
use crate::support::memory;
use crate::support::run_folder::RunFolder;

/// What is to be done of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Everything: up → apply → reboot → assert → down.
    Cycle,
    /// Bring the VM up, for later steps.
    Up,
    /// Apply the site playbook to the VM that is up.
    Apply,
    /// Restart the VM that is up.
    Reboot,
    /// Run `verify.yml` against the VM that is up.
    Assert,
}

impl Job {
    fn does(self, stage: Stage) -> bool {
        match self {
            Self::Cycle => true,
            Self::Up => stage == Stage::Up,
            Self::Apply => stage == Stage::Apply,
            Self::Reboot => stage == Stage::Reboot,
            Self::Assert => stage == Stage::Assert,
        }
    }

    /// What it is called in front of a person: the trial itself, or a step of it.
    fn title(self, plan: &Plan) -> String {
        match self {
            Self::Cycle => plan.trial.to_string(),
            Self::Up => format!("{} up", plan.trial),
            Self::Apply => format!("{} apply", plan.trial),
            Self::Reboot => format!("{} reboot", plan.trial),
            Self::Assert => format!("{} assert", plan.trial),
        }
    }
}

/// Runs `job` of `plan`. Once something is made or touched, whatever happens ends up in the report, which the world's
/// sink has heard too.
///
/// # Errors
/// Before anything is made: bad files, a guard's refusal, no VM where one must be up, an interrupt.
pub fn run(world: &RunContext, plan: &Plan, job: Job) -> anyhow::Result<RunReport> {
    let ledger = RunRecorder::new(world.sink.clone(), world.interrupt.clone());
    let certs = Certs::admit(world, plan, job)?;
    let learnt = secrets::learn(plan, &ledger)?;
    let checked = play::check(plan, &ledger)?.with_secrets(learnt);
    // Held to the very end, the report included: whoever has it next finds everything done.
    let _lock = admit::lock(world, &plan.trial, &ledger)?;
    secrets::forget_leftovers(&plan.harness.runs, &ledger)?;
    let (folder, live) = if job.does(Stage::Up) {
        let notes = admit::room(world, plan)?;
        let folder = up::folder(world, plan)?;
        ledger.tell(&Event::RunStarted { trial: job.title(plan), folder: folder.path().to_owned() });
        notes.into_iter().for_each(|note| ledger.note(note));
        (folder, None)
    } else {
        let live = RunningVm::find(world, &plan.trial)?;
        let folder = live.folder.clone();
        ledger.tell(&Event::RunStarted { trial: job.title(plan), folder: folder.path().to_owned() });
        (folder, Some(live))
    };
    let run = Run {
        world,
        plan,
        job,
        checked,
        certs,
        started: Zoned::now(),
        ledger,
        cleanup: Cleanup::new(plan.harness.timeouts.down),
        folder,
        ours: live.as_ref().map(|live| live.ownership.clone()),
        live,
        before: None,
        assertions: Vec::new(),
    };
    Ok(run.run_out())
}

struct Run<'a> {
    world: &'a RunContext,
    plan: &'a Plan,
    job: Job,
    checked: Checked,
    certs: Certs,
    started: Zoned,
    ledger: RunRecorder,
    cleanup: Cleanup<'a>,
    folder: RunFolder,
    /// What the VM of this run says of its owner, from right before it is defined.
    ours: Option<Ownership>,
    live: Option<RunningVm>,
    before: Option<Vec<Assertion>>,
    assertions: Vec<Assertion>,
}

impl Run<'_> {
    fn run_out(mut self) -> RunReport {
        let stopped = self.stages().err();
        let mut judgement = self.judge(stopped.as_ref());
        self.explain(judgement.outcome, stopped.as_ref().map(|(_, stop)| stop));
        self.certs.end(&self.ledger);
        let kept = self.keep_or_end(&mut judgement);
        secrets::clean(&self.folder, &self.ledger);
        let report = RunReport {
            version: 1,
            trial: self.plan.trial.to_string(),
            host: self.plan.trial.host.to_string(),
            scenario: self.plan.trial.scenario.as_ref().map(ToString::to_string),
            machine: self.plan.machine.clone(),
            started: self.started.to_string(),
            accelerator: self.live.as_ref().map(|live| live.ownership.accelerator.to_string()),
            image: self.live.as_ref().map(|live| ImageUsed::shown(&live.ownership.image, &self.folder)),
            expected: judgement.expected,
            seen: judgement.seen,
            compared: judgement.compared,
            outcome: judgement.outcome,
            error: stopped.and_then(|(_, stop)| stop.chain()),
            stages: self.ledger.stages().to_vec(),
            before: self.before.unwrap_or_default(),
            assertions: self.assertions,
            peak_memory: memory::peak(),
            kept,
            folder: self.folder.path().to_owned(),
        };
        self.ledger.tell(&Event::RunFinished(Box::new(report.clone())));
        report
    }

    fn stages(&mut self) -> Result<(), (Stage, StageError)> {
        if self.job.does(Stage::Up) {
            self.stage(Stage::Up, |run| {
                let (world, plan) = (run.world, run.plan);
                let ours = run.ours.insert(up::prepare(world, plan, &run.folder, &run.ledger)?).clone();
                let made = up::make(world, plan, &run.folder, ours, &run.ledger, &mut run.cleanup)?;
                let live = run.live.insert(made);
                up::ready(run.world, run.plan, live, &run.ledger)
            })?;
        }
        if self.job.does(Stage::Apply) {
            self.stage(Stage::Apply, |run| {
                let acme = run.certs.serve(run.plan, &run.folder, &run.ledger)?;
                run.stand()?.apply(acme)
            })?;
        }
        if let (Job::Cycle, Some(verdict)) = (self.job, self.plan.expect.before_reboot) {
            let before = self.verify(Stage::Before, Phase::Before)?;
            let go_on = judge::before(verdict, &before).is_ok();
            self.before = Some(before);
            if !go_on {
                return Ok(());
            }
        }
        if self.job.does(Stage::Reboot) {
            self.stage(Stage::Reboot, |run| reboot::reboot(run.world, run.plan, run.live()?, &run.ledger))?;
        }
        if self.job.does(Stage::Assert) {
            self.assertions = self.verify(Stage::Assert, Phase::Assert)?;
        }
        Ok(())
    }

    fn verify(&mut self, stage: Stage, phase: Phase) -> Result<Vec<Assertion>, (Stage, StageError)> {
        self.stage(stage, |run| {
            let acme = run.certs.serve(run.plan, &run.folder, &run.ledger)?;
            run.stand()?.verify(acme, phase)
        })
    }

    /// Runs one stage and books it. Whatever error an interrupt ended in, it counts as the interrupt.
    fn stage<T>(
        &mut self,
        stage: Stage,
        work: impl FnOnce(&mut Self) -> Result<StageOutput<T>, StageError>,
    ) -> Result<T, (Stage, StageError)> {
        let running = self.ledger.begin(stage);
        let result = work(self).map_err(|stop| stop.unless_interrupted(&self.world.interrupt));
        match &result {
            Ok(done) => self.ledger.end(running, done.outcome, &done.summary),
            Err(stop) => self.ledger.end(running, stop.outcome(), &stop.to_string()),
        }
        result.map(|done| done.value).map_err(|stop| (stage, stop))
    }

    fn stand(&self) -> Result<PlaybookRun<'_>, StageError> {
        Ok(PlaybookRun {
            hypervisor: self.world.hypervisor.as_ref(),
            plan: self.plan,
            live: self.live()?,
            checked: &self.checked,
            ledger: &self.ledger,
        })
    }

    fn live(&self) -> Result<&RunningVm, StageError> {
        self.live.as_ref().ok_or_else(|| StageError::Error(anyhow::anyhow!("no VM is up")))
    }

    fn judge(&self, stopped: Option<&(Stage, StageError)>) -> Judgement {
        let end = match stopped {
            Some((at, stop)) => match stop.end(*at) {
                Some(end) => Some(end),
                None => return Judgement::interrupted(&self.plan.expect, *at, stop),
            },
            None if self.job.does(Stage::Assert) && !self.assertions.is_empty() => {
                Some(TrialEnd::Asserted(self.assertions.clone()))
            }
            // A step without a verdict of its own: it did what it is for.
            None if self.job != Job::Cycle => return Judgement::step(self.ledger.stages()),
            None => None,
        };
        judge::judge(&self.plan.expect, &Observed { before: self.before.clone(), end })
    }

    /// Diagnostics while the VM lives, wherever an assertion did not hold or something broke, declared or not. Nobody is asked in
    /// a VM that is lost: that would only delay the word that it is.
    fn explain(&self, outcome: Outcome, stopped: Option<&StageError>) {
        let Some(live) = &self.live else { return };
        let broken = self.ledger.stages().iter().any(|stage| stage.outcome != Outcome::Passed);
        if stopped.is_some_and(StageError::is_lost) {
            self.ledger.note(
                "no diagnostics from inside a VM that is lost; console.log and journal.log have what it said",
            );
        } else if broken && outcome != Outcome::Interrupted {
            explain::diagnose(live, &self.ledger);
        }
    }

    /// Leaves the VM to a later step or to a person, or ends it. Gives whether it was kept for inspection.
    fn keep_or_end(&mut self, judgement: &mut Judgement) -> bool {
        self.save_logs();
        if self.job != Job::Cycle && (self.job != Job::Up || judgement.outcome == Outcome::Passed) {
            self.leave();
            return false;
        }
        if judgement.outcome != Outcome::Passed && judgement.outcome != Outcome::Interrupted && self.keep() {
            return true;
        }
        let running = self.ledger.begin(Stage::Down);
        let trouble = self.cleanup.run();
        down::forget_keys(&self.folder);
        let words: Vec<String> = trouble.iter().map(|error| format!("{error:#}")).collect();
        let outcome = if words.is_empty() { Outcome::Passed } else { Outcome::Errored };
        let summary = if words.is_empty() { "nothing is left".to_owned() } else { words.join("; ") };
        self.ledger.end(running, outcome, &summary);
        if !words.is_empty() && judgement.outcome == Outcome::Passed {
            judgement.outcome = Outcome::Errored;
            judgement.seen = format!("{}; but at down: {summary}", judgement.seen);
        }
        false
    }

    /// Saves what the VM said, unless the one of that name is another party's by now.
    fn save_logs(&self) {
        let Some(ours) = &self.ours else { return };
        match admit::is_anothers(self.world, &self.plan.machine, ours) {
            Ok(true) => {}
            Ok(false) => {
                down::save_logs(
                    self.world.hypervisor.as_ref(),
                    &self.plan.machine,
                    &self.folder,
                    &self.ledger,
                );
            }
            Err(error) => {
                self.ledger.note(format!("console.log and journal.log could not be saved: {error:#}"));
            }
        }
    }

    /// After a step: the VM is there until somebody says `down`.
    fn leave(&mut self) {
        self.cleanup.disarm();
        if let (Job::Up, Some(live)) = (self.job, &self.live) {
            let lifetime = crate::machine::Lifetime::Manual;
            if let Err(error) = live.change_lifetime(self.world.hypervisor.as_ref(), lifetime) {
                self.ledger
                    .note(format!("the VM still counts as this process's and may be pruned: {error:#}"));
            }
        }
    }

    /// Keeps the VM of a run that did not pass, if that is wanted and there is one to look at.
    fn keep(&mut self) -> bool {
        let Some(lifetime) = self.world.kept() else { return false };
        let Some(live) = explain::find(self.world, &self.plan.trial) else { return false };
        if !self.ours.as_ref().is_some_and(|ours| live.ownership.is_same_run(ours)) {
            return false;
        }
        if let Err(error) = live.change_lifetime(self.world.hypervisor.as_ref(), lifetime) {
            self.ledger.note(format!("the VM could not be kept: {error:#}"));
            return false;
        }
        self.cleanup.disarm();
        self.ledger.tell(&Event::Kept {
            machine: live.machine.clone(),
            commands: explain::commands(self.world, &live.machine, &self.plan.trial),
        });
        true
    }
}
