//! Layer 6: the driver `boma-it`. [`args`] is the command line as clap parses it, [`driver`] resolves it against the files
//! and the machine, and this file runs the sub-commands. Those about images and layers are in [`image`]
//! and [`layer`].

pub mod args;
mod driver;
mod image;
pub(crate) mod layer;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use crate::catalog::RunOptions;
use crate::catalog::schema;
use crate::cycle::{self, Ended, Job};
use crate::exit::{ErrorClass, Exit};
use crate::machine::VmVolumes;
use crate::machine::teardown::PruneScope;
use crate::report::terminal::print_error;
use crate::support::deadline::{Deadline, Waited};
use crate::support::env::{self, RepeatRemoved};
use crate::support::interrupt::Interrupt;
use crate::support::log;
use crate::support::secret::Redactor;
use args::{Cli, Command, RiskyChoice, Target};
use driver::Driver;

/// How long `console` may take to read the secrets of the run.
const SECRETS_BUDGET: Duration = Duration::from_secs(120);

/// Parses the command line, runs the sub-command, prints an error if there is one, and gives the exit code.
pub fn main() -> ExitCode {
    log::init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let usage = Exit::Error(ErrorClass::Usage);
            return if error.use_stderr() { usage } else { Exit::Passed }.into();
        }
    };
    let exit = run(cli).unwrap_or_else(|error| {
        print_error(&error);
        Exit::Error(ErrorClass::of(&error))
    });
    exit.into()
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    // Resolved lazily: `schema` needs no project.
    let driver = Driver::find(cli.root);
    match cli.command {
        Command::Up(choice) => run_job(&driver?, &choice, Job::Up),
        Command::Apply(choice) => run_job(&driver?, &choice, Job::Apply),
        Command::Reboot(choice) => run_job(&driver?, &choice.into(), Job::Reboot),
        Command::Assert(choice) => run_job(&driver?, &choice.into(), Job::Assert),
        Command::Cycle { choice, repeat } => {
            repeat.map_or(Ok(()), |_| Err(RepeatRemoved("--repeat")))?;
            env::refuse_repeat()?;
            run_job(&driver?, &choice, Job::Cycle)
        }
        Command::Down(target) => down(&driver?, &target),
        Command::Prune { all } => prune(&driver?, all),
        Command::Console(target) => console(&driver?, &target),
        Command::Ssh { target, command } => ssh(&driver?, &target, &command),
        Command::List { json } => list(&driver?, json),
        Command::Plan(choice) => plan(&driver?, &choice.into()),
        Command::Image { command } => image::run(&driver?, &command),
        Command::Layer { command } => layer::run(&driver?, &command),
        Command::Schema { kind } => print(&schema::text(kind)),
    }
}

/// The plan on standard output; on standard error, what a run would say about the playbooks.
fn plan(driver: &Driver, choice: &RiskyChoice) -> anyhow::Result<Exit> {
    let plan = driver.plan(choice)?;
    print(&serde_yaml::to_string(&plan)?)?;
    let interrupt = Interrupt::from_signals().context("cannot listen for signals")?;
    let notes = match cycle::check_site(&plan, &interrupt) {
        Err(error) if matches!(ErrorClass::of(&error), ErrorClass::MachineLacks { .. }) => {
            vec![format!("the site was not checked: {error:#}")]
        }
        checked => checked?,
    };
    for note in notes {
        let _ = writeln!(std::io::stderr(), "note: {}", Redactor::of_process().redact(&note));
    }
    Ok(Exit::Passed)
}

/// `up`, `apply`, `reboot`, `assert` and `cycle`: shown on the terminal, recorded in the run folder.
fn run_job(driver: &Driver, choice: &RiskyChoice, job: Job) -> anyhow::Result<Exit> {
    let plan = driver.plan(choice)?;
    let context = driver.context()?;
    let report = cycle::run(&context, &plan, job)?;
    Ok(Exit::of_run(report.outcome, &context.interrupt))
}

/// Reads no profile: a VM must be removable after its profile is gone.
fn down(driver: &Driver, target: &Target) -> anyhow::Result<Exit> {
    let trial = target.trial();
    match cycle::down(&driver.context()?, &trial)? {
        Some(Ended { machine, folder }) => {
            print(&format!("{machine} is gone; its run folder is {}\n", folder.display()))
        }
        None => {
            // Without a VM, a name that no file has either is a typo.
            driver.find_trial(target)?;
            print(&format!("{trial} has no VM\n"))
        }
    }
}

fn prune(driver: &Driver, all: bool) -> anyhow::Result<Exit> {
    let context = driver.context()?;
    let runs = driver.project.harness(&RunOptions::from_env(None, None)?)?.runs;
    let scope = if all { PruneScope::Everything } else { PruneScope::Orphans };
    let (removed, result) = cycle::prune(&context, &runs, scope);
    let machines = removed.machines.iter().map(|name| format!("removed the VM {name}\n"));
    let volumes = removed.volumes.iter().map(|name| format!("removed the volume {name}\n"));
    let layers = removed.layers.iter().map(|name| format!("removed the layer {name}\n"));
    let secrets = removed.secrets.iter().map(|path| format!("removed the secrets {}\n", path.display()));
    let text: String = machines.chain(volumes).chain(layers).chain(secrets).collect();
    print(if text.is_empty() && result.is_ok() { "nothing to prune\n" } else { &text })?;
    result.map(|()| Exit::Passed)
}

/// The console comes from the hypervisor, so the secrets of the run must be known before it is printed.
fn console(driver: &Driver, target: &Target) -> anyhow::Result<Exit> {
    let (context, vm) = driver.running_vm(target)?;
    let deadline = Deadline::after(SECRETS_BUDGET, "console", context.interrupt.clone(), Waited::default());
    cycle::redact_secrets_of(&vm.folder, &deadline)
        .context("cannot read the secrets of the run, so the console cannot be printed without them")?;
    let mut text = Vec::new();
    context.hypervisor.download(&VmVolumes(&vm.machine).console(), 0, &mut text)?;
    print(&String::from_utf8_lossy(&text))
}

/// OpenSSH with the run's key and host key, and without the user's own configuration and agent.
fn ssh(driver: &Driver, target: &Target, command: &[String]) -> anyhow::Result<Exit> {
    let (_, vm) = driver.running_vm(target)?;
    let status = vm.ssh_command()?.args(command).interact()?;
    Ok(match status.code() {
        Some(code) => Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)),
        None => Exit::Error(ErrorClass::Infrastructure),
    })
}

fn list(driver: &Driver, json: bool) -> anyhow::Result<Exit> {
    let trials: Vec<_> = driver.project.trials().collect();
    print(&if json {
        format!("{}\n", serde_json::to_string_pretty(&trials)?)
    } else {
        trials.iter().map(|trial| format!("{trial}\n")).collect()
    })
}

/// Prints a result to standard output, without the secrets of this process. A reader that has gone (`boma-it list | head -1`)
/// is not an error.
fn print(text: &str) -> anyhow::Result<Exit> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().write_all(Redactor::of_process().redact(text).as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Passed),
    }
}
