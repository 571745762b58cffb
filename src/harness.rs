//! Floor 6, the libtest-mimic glue: catalog → trials → outcome.
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
//! `--list` reads file names and little else: no libvirt, no network, no image. nextest lists twice and then runs
//! each trial in a process of its own; both are at home here.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::catalog::plan::TrialName;
use crate::catalog::{Project, RunOptions, find_root};
use crate::cycle::{self, Job, Keep, RunContext};
use crate::event::Reporters;
use crate::machine::HypervisorError;
use crate::outcome::{Outcome, error_chain};
use crate::report::json::JsonReporter;
use crate::report::summary::explain;
use crate::report::terminal::{self, Mode, Terminal, print_error};
use crate::site::SiteError;
use crate::site::certs::UnmetRequirement;
use crate::support::interrupt::Interrupt;
use crate::support::process::{ProcessError, is_available};
use crate::support::secret::Redactor;
use crate::support::{env, log};

/// Runs the trials as `cargo test` or nextest ask for them, and gives libtest's exit code; that of a signal if one
/// stopped us.
pub fn main() -> ExitCode {
    log::init();
    let mut arguments = Arguments::from_args();
    // One VM runs at a time: a second thread would only queue, with its trial's name already printed.
    arguments.test_threads = Some(1);
    let catalog = match catalog() {
        Ok(catalog) => Arc::new(catalog),
        Err(error) => {
            print_error(&error);
            return ExitCode::from(2);
        }
    };
    let interrupt = match Interrupt::from_signals().context("cannot listen for signals") {
        Ok(interrupt) => interrupt,
        Err(error) => {
            print_error(&error);
            return ExitCode::from(3);
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(&catalog, &interrupt));
    match interrupt.check() {
        Ok(()) => conclusion.exit_code(),
        Err(signal) => ExitCode::from(u8::try_from(128 + signal.0).unwrap_or(130)),
    }
}

/// The project whose test target we are: cargo says where it is; otherwise it is found upwards from the working directory.
fn catalog() -> anyhow::Result<Project> {
    env::refuse_repeat()?;
    let here = match env::cargo_manifest_dir() {
        Some(dir) => dir,
        None => std::env::current_dir().context("cannot see the working directory")?,
    };
    let root = find_root(&here, env::ROOT.get().map(PathBuf::from))?;
    Ok(Project::load(&root)?)
}

/// No libtest kind: it would become part of the name under nextest.
fn trials(catalog: &Arc<Project>, interrupt: &Interrupt) -> Vec<Trial> {
    let sound = catalog.trials().map(|name| {
        let (catalog, name, interrupt) = (Arc::clone(catalog), name.clone(), interrupt.clone());
        Trial::ignorable_test(name.to_string(), move || run(&catalog, &name, &interrupt))
    });
    let broken = catalog.strays().iter().map(|stray| {
        let error = stray.error.clone();
        Trial::test(stray.name(), move || Err(Failed::from(error)))
    });
    sound.chain(broken).collect()
}

fn run(catalog: &Project, name: &TrialName, interrupt: &Interrupt) -> Result<Completion, Failed> {
    // A tier is chosen for a test run, and the scenarios say which of them it is for.
    let chosen = RunOptions::from_env(None, None).map_err(|error| Failed::from(error.to_string()))?;
    if let Some(why) = catalog.skip_reason(name, &chosen) {
        return Ok(Completion::ignored_with(why.to_string()));
    }
    match attempt(catalog, name, interrupt) {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match missing(&error) {
            // Nobody reads why a CI job was green.
            Some(why) if !env::is_ci() => Ok(Completion::ignored_with(why)),
            _ => Err(Failed::from(error_chain(&error))),
        },
    }
}

fn attempt(catalog: &Project, name: &TrialName, interrupt: &Interrupt) -> anyhow::Result<()> {
    interrupt.check()?;
    let choices = RunOptions::from_env(None, None)?;
    let plan = catalog.plan(name, &choices)?;
    let terminal = Terminal::stderr(Mode::from_env()?, terminal::TerminalUse::Trial);
    let sinks = Reporters::new(vec![Box::new(terminal), Box::new(JsonReporter::new())]);
    let keep = if env::KEEP.is_on() { Keep::ForSession } else { Keep::Never };
    let world = RunContext::open(&plan.harness, keep, interrupt.clone(), Arc::new(sinks))?;
    let report = cycle::run(&world, &plan, Job::Cycle)?;
    anyhow::ensure!(report.outcome == Outcome::Passed, explain(&report));
    Ok(())
}

/// Whether this machine lacks what VMs need, and what: such trials are ignored where a person sees why. What is there and broken is an error.
fn missing(error: &anyhow::Error) -> Option<String> {
    let lacks = |cause: &(dyn std::error::Error + 'static)| {
        let hypervisor = matches!(
            cause.downcast_ref(),
            Some(HypervisorError::NoDaemon { .. } | HypervisorError::Permission { .. })
        );
        let acme = matches!(cause.downcast_ref(), Some(UnmetRequirement::Program { .. }));
        let ansible = match cause.downcast_ref() {
            Some(SiteError::Process(ProcessError::Start { program, source })) => is_absent(program, source),
            Some(SiteError::TooOld { .. }) => true,
            _ => false,
        };
        hypervisor || acme || ansible
    };
    error.chain().any(lacks).then(|| Redactor::of_process().redact(&format!("{error:#}")).into_owned())
}

/// Whether a program that did not start is nowhere on `PATH`. The system says "not found" also where what runs it is gone; and one
/// that is looked for at a place of its own is configured, and not there.
fn is_absent(program: &str, said: &io::Error) -> bool {
    said.kind() == io::ErrorKind::NotFound && !program.contains('/') && !is_available(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::secrets::SecretError;

    /// On no machine's `PATH`.
    const ABSENT: &str = "boma-it-no-ansible";

    fn start(program: &str, kind: io::ErrorKind) -> ProcessError {
        ProcessError::Start { program: program.to_owned(), source: io::Error::from(kind) }
    }

    fn ansible(error: ProcessError) -> anyhow::Error {
        anyhow::Error::from(SiteError::Process(error)).context("askari::cycle")
    }

    #[test]
    fn what_this_machine_lacks_is_missing_and_what_is_broken_is_not() {
        let told = missing(&ansible(start(ABSENT, io::ErrorKind::NotFound))).unwrap();
        assert!(told.contains("askari::cycle: ") && told.contains(ABSENT), "{told}");
        let lost = ProcessError::Io {
            command: "ansible-inventory --list".to_owned(),
            source: io::Error::other("the pipe broke"),
        };
        assert_eq!(missing(&ansible(lost)), None, "it is there");
        assert_eq!(missing(&anyhow::anyhow!("no libvirt daemon answers")), None, "words are no type");
    }

    /// `NotFound` is also what the system says where the interpreter of a script is gone.
    #[rstest::rstest]
    #[case::without_its_interpreter("sh", io::ErrorKind::NotFound)]
    #[case::not_for_us("sh", io::ErrorKind::PermissionDenied)]
    #[case::not_executable(ABSENT, io::ErrorKind::PermissionDenied)]
    #[case::not_in_the_folder_that_harness_yml_names(
        "/srv/.venv2/bin/ansible-inventory",
        io::ErrorKind::NotFound
    )]
    fn an_ansible_that_is_there_or_configured_and_does_not_start_is_an_error(
        #[case] program: &str,
        #[case] kind: io::ErrorKind,
    ) {
        assert_eq!(missing(&ansible(start(program, kind))), None);
    }

    /// Its vault is the first that a trial asks of Ansible.
    #[test]
    fn a_machine_without_ansible_lacks_it_where_a_vault_is_to_be_opened_too() {
        let error = SecretError::from(SiteError::Process(start(ABSENT, io::ErrorKind::NotFound)));
        let told = missing(&error.into()).unwrap();
        assert!(told.contains("Ansible Vault") && told.contains(ABSENT), "{told}");
    }
}
