//! The command line as clap parses it. [`super::driver`] resolves it against the files and the machine.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::catalog::plan::{Risk, Tier, TrialName};
use crate::catalog::schema::FileKind;
use crate::machine::layer::LayerName;
use crate::support::env;
use crate::support::name::Name;

/// Integration tests for Ansible-managed hosts that must survive a real reboot.
///
/// Each sub-command is a separate process that finds its VM again: you can run `up` today and `apply` tomorrow. `cargo test
/// --test integration` runs the same trials.
#[derive(Debug, Parser)]
#[command(name = "boma-it", version, max_term_width = 100, after_help = after_help())]
pub struct Cli {
    /// Project folder, which holds harness/ and profiles/ [default: found upwards from here]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// The sub-commands, in the order of a cycle.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the VM and wait until it is ready; it stays until `down`
    Up(RiskyChoice),
    /// Apply the site playbook to the VM
    Apply(RiskyChoice),
    /// Restart the VM and prove the reboot by the kernel's boot id
    Reboot(Choice),
    /// Run verify.yml against the VM
    Assert(Choice),
    /// Run up, apply, reboot, assert and down; a VM whose run did not pass stays until `down`
    Cycle {
        #[command(flatten)]
        choice: RiskyChoice,
        /// Removed: refused with its replacement
        #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
        repeat: Option<String>,
    },
    /// Destroy the VM, its overlay, seed and firmware variables
    Down(Target),
    /// Remove orphaned VMs, volumes, old layers and leftover secrets
    Prune {
        /// Remove every boma-it-* VM, running and kept ones too, and every layer
        #[arg(long)]
        all: bool,
    },
    /// Print the serial console of all boots, without secrets
    Console(Target),
    /// Open a shell in the VM, or run a command there
    Ssh {
        #[command(flatten)]
        target: Target,
        /// Command to run instead of a shell
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// List every trial
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the plan of a trial as YAML, check the site for it, and do nothing
    Plan(Choice),
    /// Print the JSON Schema of a kind of file, for editors; needs no project
    Schema {
        /// Kind of file
        kind: FileKind,
    },
    /// List, build or remove golden images
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// List or remove layers, the kept states that trials go on from
    Layer {
        #[command(subcommand)]
        command: LayerCommand,
    },
}

/// What to do with layers.
#[derive(Debug, Subcommand)]
pub enum LayerCommand {
    /// List the layers: host, age, size, and the VM that uses one
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove layers; the next trial makes the one it needs
    Remove {
        /// Names as `boma-it layer list` shows them
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME")]
        names: Vec<LayerName>,
        /// Remove every layer that no VM uses
        #[arg(long)]
        all: bool,
    },
}

/// What to do with golden images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List the images and where each came from
    List,
    /// Build or download the image that harness.yml names, unless it is in the cache
    Build,
    /// Remove an image from the cache and from the hypervisor's pool
    Remove {
        /// Name as `boma-it image list` shows it
        name: String,
    },
}

/// Which trial's VM.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// Host: the name of a file in profiles/
    #[arg(long, value_name = "NAME")]
    pub host: Name,
    /// Scenario: the name of a file in scenarios/ [default: the plain cycle]
    #[arg(long, value_name = "NAME")]
    pub scenario: Option<Name>,
}

impl Target {
    /// The trial, whether or not its files exist.
    pub(super) fn trial(&self) -> TrialName {
        let scenario = self.scenario.clone().filter(|name| name.as_str() != "cycle");
        TrialName { host: self.host.clone(), scenario }
    }
}

/// Which trial, and its certificate tier.
#[derive(Clone, Debug, Args)]
pub struct Choice {
    #[command(flatten)]
    pub target: Target,
    /// Certificate tier [default: the first that the scenario allows]
    #[arg(long, value_name = "TIER")]
    pub certs: Option<Tier>,
}

/// Options of the sub-commands that can hand a production token to the VM.
#[derive(Clone, Debug, Args)]
pub struct RiskyChoice {
    #[command(flatten)]
    pub choice: Choice,
    /// Accept this risk of docs/security/accepted-risks.md; the tier le-prod-wildcard needs R6
    #[arg(long, value_name = "RISK")]
    pub accept_risk: Option<Risk>,
}

impl From<Choice> for RiskyChoice {
    fn from(choice: Choice) -> Self {
        Self { choice, accept_risk: None }
    }
}

/// The exit codes and what each means.
pub const EXIT_CODES: [(&str, &str); 6] = [
    ("0", "passed"),
    ("1", "an assertion failed, or an expectation was not met"),
    ("2", "usage: an option, a variable, a name or a file is wrong"),
    ("3", "could not find out: this machine, libvirt, Ansible or the guest failed"),
    ("4", "refused by a guard before anything was created"),
    ("129, 130, 143", "interrupted by SIGHUP, Ctrl-C or SIGTERM, and cleaned up"),
];

fn after_help() -> String {
    // The help stands in a line of its own, because clap wraps a line with the indent of its first word.
    let variables = env::ALL.iter().map(|it| format!("  {}\n          {}\n", it.name, it.help));
    let variables = variables.collect::<String>();
    let codes = EXIT_CODES.map(|(code, meaning)| format!("  {code:<13}  {meaning}")).join("\n");
    format!("Environment:\n{variables}\nExit codes:\n{codes}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn clap_accepts_the_definition() {
        super::Cli::command().debug_assert();
    }
}
