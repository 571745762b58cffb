//! What the command line means here: which project, which trial, which hypervisor. Everything is resolved when a
//! sub-command asks for it, so `list` does not touch libvirt and `down` reads no profile.

use std::path::PathBuf;

use anyhow::Context;

use super::args::{RiskyChoice, Target};
use crate::catalog::plan::TrialName;
use crate::catalog::{Plan, Project, ProjectError, RunOptions, find_root};
use crate::cycle::{Keep, RunContext, RunningVm};
use crate::report::reporters;
use crate::report::terminal::TerminalUse;
use crate::support::env;
use crate::support::interrupt::Interrupt;
use crate::support::name::Name;

/// The project that the sub-command works in.
pub(super) struct Driver {
    pub(super) project: Project,
}

impl Driver {
    /// The project at `root`, or else in the nearest folder from the working directory upwards.
    pub(super) fn find(root: Option<PathBuf>) -> anyhow::Result<Self> {
        let here = std::env::current_dir().context("cannot read the working directory")?;
        let given = root.or_else(|| env::ROOT.get().map(PathBuf::from));
        Ok(Self { project: Project::load(&find_root(&here, given)?)? })
    }

    pub(super) fn find_trial(&self, target: &Target) -> Result<TrialName, ProjectError> {
        self.project.find(target.host.as_str(), target.scenario.as_ref().map(Name::as_str))
    }

    pub(super) fn plan(&self, choice: &RiskyChoice) -> anyhow::Result<Plan> {
        let RiskyChoice { choice, accept_risk } = choice;
        let trial = self.find_trial(&choice.target)?;
        Ok(self.project.plan(&trial, &RunOptions::from_env(choice.certs, *accept_risk)?)?)
    }

    /// Runs of the driver are shown on the terminal, and a VM whose run did not pass stays until `down`.
    pub(super) fn context(&self) -> anyhow::Result<RunContext> {
        let interrupt = Interrupt::from_signals().context("cannot listen for signals")?;
        let harness = self.project.harness(&RunOptions::from_env(None, None)?)?;
        RunContext::open(&harness, Keep::UntilDown, interrupt, reporters(TerminalUse::Driver)?)
    }

    pub(super) fn running_vm(&self, target: &Target) -> anyhow::Result<(RunContext, RunningVm)> {
        let context = self.context()?;
        let vm = RunningVm::find(&context, &target.trial())?;
        Ok((context, vm))
    }
}
