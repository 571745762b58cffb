//! Layer 6: the trials under `cargo test`, by libtest-mimic.
//!
//! A test target of one line runs every profile and scenario on disk:
//!
//! ```no_run
//! // harness/main.rs, with `harness = false` in Cargo.toml
//! fn main() -> std::process::ExitCode {
//!     boma_it::harness::main()
//! }
//! ```
//!
//! `--list` reads the names of files and little else: no libvirt, no network, no image. nextest lists twice and then runs
//! each trial in a process of its own; both work.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::catalog::plan::TrialName;
use crate::catalog::{Project, RunOptions, find_root};
use crate::cycle::{self, Job, Keep, RunContext};
use crate::exit::{ErrorClass, Exit};
use crate::outcome::{Outcome, error_chain};
use crate::report::reporters;
use crate::report::summary::explain;
use crate::report::terminal::{TerminalUse, print_error};
use crate::support::interrupt::Interrupt;
use crate::support::secret::Redactor;
use crate::support::{env, log};

/// Runs the trials that `cargo test` or nextest asks for. Gives libtest's exit code, or 128 plus the number of the signal
/// that stopped the run.
pub fn main() -> ExitCode {
    log::init();
    run_trials().unwrap_or_else(|error| {
        print_error(&error);
        Exit::Error(ErrorClass::of(&error)).into()
    })
}

fn run_trials() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    let project = Arc::new(project()?);
    let interrupt = Interrupt::from_signals().context("cannot listen for signals")?;
    let selected = selected(&arguments, &project);
    let threads = threads(&arguments, project.vms(), selected.len());
    arguments.test_threads = Some(threads);
    let width = selected.iter().map(String::len).max().unwrap_or_default();
    let beside = (threads > 1).then_some(width);
    let conclusion = libtest_mimic::run(&arguments, trials(&project, &interrupt, beside));
    Ok(match interrupt.check() {
        Ok(()) => conclusion.exit_code(),
        Err(interrupted) => Exit::Error(ErrorClass::Interrupted(interrupted.0)).into(),
    })
}

/// The project of the running test target. Cargo names its folder; without cargo it is found upwards from the working
/// directory.
fn project() -> anyhow::Result<Project> {
    env::refuse_repeat()?;
    let here = match env::cargo_manifest_dir() {
        Some(dir) => dir,
        None => std::env::current_dir().context("cannot read the working directory")?,
    };
    let root = find_root(&here, env::ROOT.get().map(PathBuf::from))?;
    Ok(Project::load(&root)?)
}

/// The names of the trials that `arguments` select.
fn selected(arguments: &Arguments, project: &Project) -> Vec<String> {
    let named = |trial: &TrialName| Trial::test(trial.to_string(), || Ok(()));
    let trials = project.trials().map(named).filter(|trial| !arguments.is_filtered_out(trial));
    trials.map(|trial| trial.name().to_owned()).collect()
}

/// How many trials run at a time: one for each VM that may run. A thread more would only queue. A person may ask for fewer
/// (`--test-threads`).
fn threads(arguments: &Arguments, vms: usize, trials: usize) -> usize {
    arguments.test_threads.unwrap_or(vms).min(vms).min(trials).max(1)
}

/// Without a libtest kind, which nextest would make a part of the name.
fn trials(project: &Arc<Project>, interrupt: &Interrupt, beside: Option<usize>) -> Vec<Trial> {
    let valid = project.trials().map(|name| {
        let (project, name, interrupt) = (Arc::clone(project), name.clone(), interrupt.clone());
        Trial::ignorable_test(name.to_string(), move || run(&project, &name, &interrupt, beside))
    });
    let invalid = project.invalid_files().iter().map(|file| {
        let error = file.error.clone();
        Trial::test(file.name(), move || Err(Failed::from(error)))
    });
    valid.chain(invalid).collect()
}

fn run(
    project: &Project,
    name: &TrialName,
    interrupt: &Interrupt,
    beside: Option<usize>,
) -> Result<Completion, Failed> {
    let options = RunOptions::from_env(None, None)?;
    // The tier is chosen for all trials, and a scenario may not allow it.
    if let Some(reason) = project.skip_reason(name, &options) {
        return Ok(Completion::ignored_with(reason.to_string()));
    }
    match run_cycle(project, name, &options, interrupt, beside) {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match ErrorClass::of(&error) {
            // Nobody reads why a CI job was green, so in CI this is a failure.
            ErrorClass::MachineLacks { .. } if !env::is_ci() => {
                Ok(Completion::ignored_with(Redactor::of_process().redact(&format!("{error:#}"))))
            }
            _ => Err(Failed::from(error_chain(&error))),
        },
    }
}

fn run_cycle(
    project: &Project,
    name: &TrialName,
    options: &RunOptions,
    interrupt: &Interrupt,
    beside: Option<usize>,
) -> anyhow::Result<()> {
    interrupt.check()?;
    let plan = project.plan(name, options)?;
    let terminal_use = match beside {
        None => TerminalUse::Trial,
        Some(width) => TerminalUse::SideBySide { trial: name.to_string(), width },
    };
    let reporters = reporters(terminal_use)?;
    let keep = if env::KEEP.is_on() { Keep::ForSession } else { Keep::Never };
    let context = RunContext::open(&plan.harness, keep, interrupt.clone(), reporters)?;
    let report = cycle::run(&context, &plan, Job::Cycle)?;
    anyhow::ensure!(report.outcome == Outcome::Passed, explain(&report));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::as_many_as_vms_may_run(None, 4, 9, 4)]
    #[case::one_vm(None, 1, 9, 1)]
    #[case::fewer_trials(None, 4, 1, 1)]
    #[case::fewer_are_asked_for(Some(2), 4, 9, 2)]
    #[case::more_would_queue(Some(8), 4, 9, 4)]
    #[case::no_trial(None, 4, 0, 1)]
    fn as_many_trials_run_as_vms_may(
        #[case] asked: Option<usize>,
        #[case] vms: usize,
        #[case] trials: usize,
        #[case] expected: usize,
    ) {
        let arguments = Arguments { test_threads: asked, ..Arguments::default() };
        assert_eq!(threads(&arguments, vms, trials), expected);
    }
}
