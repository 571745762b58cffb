//! Floor 6, the driver `boma-it`: one file per sub-command. Arguments come in two levels: parsed ([`args`]), then
//! resolved against the files and the machine ([`project`]).

pub mod args;
mod console;
mod exit;
mod image;
mod list;
mod plan;
mod project;
mod prune;
mod schema;
mod ssh;
mod steps;

use std::process::ExitCode;

use clap::Parser;

use crate::cycle::Job;
use crate::report::terminal::print_error;
use crate::support::log;
use crate::support::secret::Redactor;
use args::{Cli, Command};
use exit::Exit;
use project::Driver;

/// Parses the command line, runs the sub-command, tells an error, and gives the exit code.
pub fn main() -> ExitCode {
    log::init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            let _ = told.print();
            return if told.use_stderr() { Exit::Usage } else { Exit::Passed }.into();
        }
    };
    let exit = run(cli).unwrap_or_else(|error| {
        print_error(&error);
        Exit::of_error(&error)
    });
    exit.into()
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    // Told where it is needed: what says how a project's files are written needs none.
    let project = Driver::find(cli.root);
    match cli.command {
        Command::Up(choice) => steps::run(&project?, &choice, Job::Up),
        Command::Apply(choice) => steps::run(&project?, &choice, Job::Apply),
        Command::Reboot(choice) => steps::run(&project?, &choice.into(), Job::Reboot),
        Command::Assert(choice) => steps::run(&project?, &choice.into(), Job::Assert),
        Command::Cycle { choice, repeat } => steps::cycle(&project?, &choice, repeat.is_some()),
        Command::Down(target) => steps::down(&project?, &target),
        Command::Prune { all } => prune::run(&project?, all),
        Command::Console(target) => console::run(&project?, &target),
        Command::Ssh { target, command } => ssh::run(&project?, &target, &command),
        Command::List { json } => list::run(&project?, json),
        Command::Plan(choice) => plan::run(&project?, &choice.into()),
        Command::Image { command } => image::run(&project?, &command),
        Command::Schema { kind } => schema::run(kind),
    }
}

/// Writes a result to standard output, without this process's secrets. A reader that went away (`boma-it list | head -1`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().write_all(Redactor::of_process().redact(text).as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
