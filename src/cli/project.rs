//! What the command line means here: which project, which trial, which hypervisor. Everything is resolved when it is
//! asked for, so that `list` touches no libvirt, and `down` no profile.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use super::args::{RiskyChoice, Target};
use super::exit::Usage;
use crate::catalog::plan::TrialName;
use crate::catalog::{Plan, Project, RunOptions, find_root};
use crate::cycle::{Keep, RunContext, RunningVm};
use crate::event::Reporters;
use crate::report::json::JsonReporter;
use crate::report::terminal::{self, Mode, Terminal};
use crate::support::env;
use crate::support::interrupt::Interrupt;

/// The project around us, and what the environment chooses.
pub(super) struct Driver {
    catalog: Project,
}

impl Driver {
    /// The project at `root`, or the one around the working directory.
    pub(super) fn find(root: Option<PathBuf>) -> anyhow::Result<Self> {
        let here = std::env::current_dir().context("cannot see the working directory")?;
        let given = root.or_else(|| env::ROOT.get().map(PathBuf::from));
        Ok(Self { catalog: Project::load(&find_root(&here, given)?)? })
    }

    pub(super) fn catalog(&self) -> &Project {
        &self.catalog
    }

    /// The plan of the chosen trial.
    pub(super) fn plan(&self, choice: &RiskyChoice) -> anyhow::Result<Plan> {
        let RiskyChoice { choice, accept_risk } = choice;
        let trial = self.catalog.find(&choice.target.host, choice.target.scenario.as_deref())?;
        let choices = RunOptions::from_env(choice.certs.as_deref(), accept_risk.as_deref())?;
        Ok(self.catalog.plan(&trial, &choices)?)
    }

    /// The name of a trial whose files need not be there any more.
    pub(super) fn trial(target: &Target) -> anyhow::Result<TrialName> {
        let parse = |text: &str| text.parse().map_err(|error| Usage(format!("{error}")));
        let scenario = target.scenario.as_deref().filter(|name| *name != "cycle");
        Ok(TrialName { host: parse(&target.host)?, scenario: scenario.map(parse).transpose()? })
    }

    /// The world in which the driver's runs happen: told on the terminal, a failed VM kept until `down`.
    pub(super) fn world(&self) -> anyhow::Result<RunContext> {
        let interrupt = Interrupt::from_signals().context("cannot listen for signals")?;
        let terminal = Terminal::stderr(
            Mode::from_env().map_err(|e| Usage(e.to_string()))?,
            terminal::TerminalUse::Driver,
        );
        let sink = Reporters::new(vec![Box::new(terminal), Box::new(JsonReporter::new())]);
        let harness = self.catalog.harness(&RunOptions::from_env(None, None)?)?;
        RunContext::open(&harness, Keep::UntilDown, interrupt, Arc::new(sink))
    }

    /// The VM of a trial, to look inside.
    pub(super) fn live(&self, target: &Target) -> anyhow::Result<(RunContext, RunningVm)> {
        let world = self.world()?;
        let live = RunningVm::find(&world, &Self::trial(target)?)?;
        Ok((world, live))
    }
}
