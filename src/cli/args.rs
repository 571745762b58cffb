//! The command line as clap parses it. What the words mean against the world is resolved by the sub-commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::catalog::schema::FileKind;
use crate::support::env;

/// Integration tests for Ansible-managed hosts that must survive a real reboot.
///
/// Each sub-command is a process of its own: `up` today, `apply` tomorrow works. The same trials run under
/// `cargo test --test integration`.
#[derive(Debug, Parser)]
#[command(name = "boma-it", version, max_term_width = 100, after_help = after_help())]
pub struct Cli {
    /// Folder that holds harness/, profiles/, overrides/ and scenarios/ [default: found upwards from here]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The sub-commands, in the order of a cycle.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Golden image → overlay → seed → boot → ready; the VM stays until `down`
    Up(RiskyChoice),
    /// Apply the site playbook, for real, against the one-host inventory of the VM
    Apply(RiskyChoice),
    /// Restart the VM and wait for a proven reboot: the boot id changed
    Reboot(Choice),
    /// Run verify.yml against the VM
    Assert(Choice),
    /// up → apply → reboot → assert → down; destroyed on pass, kept on failure
    Cycle {
        /// Which trial
        #[command(flatten)]
        choice: RiskyChoice,
        /// Removed: refused with its replacement
        #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
        repeat: Option<String>,
    },
    /// Destroy the VM, its overlay, seed and firmware variables
    Down(Target),
    /// Reap orphaned boma-it-* VMs and volumes
    Prune {
        /// Every boma-it-* VM, also those that run or were kept
        #[arg(long)]
        all: bool,
    },
    /// Print the captured serial console of all boots
    Console(Target),
    /// Open a shell in the guest, or run a command there
    Ssh {
        /// Which VM
        #[command(flatten)]
        target: Target,
        /// Command to run instead of a shell
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// List every trial
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what a trial would do; nothing is done
    Plan(Choice),
    /// Print the JSON Schema of a kind of file, for editors; needs no project
    Schema {
        /// Which file: profiles/, scenarios/, or harness/harness.yml
        kind: Kind,
    },
    /// Golden images: list, build, remove
    Image {
        /// What to do with images
        #[command(subcommand)]
        command: ImageCommand,
    },
}

/// What to do with golden images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List the images, with where each came from
    List,
    /// Get the image of harness.yml ready, if it is not there yet
    Build,
    /// Remove an image from the cache and from the hypervisor's pool
    Remove {
        /// Name as `boma-it image list` shows it
        name: String,
    },
}

/// A kind of file that has a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[expect(missing_docs, reason = "the words say it, and FileKind documents them")]
pub enum Kind {
    Profile,
    Scenario,
    Harness,
}

impl From<Kind> for FileKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Profile => Self::Profile,
            Kind::Scenario => Self::Scenario,
            Kind::Harness => Self::Harness,
        }
    }
}

/// Which trial's VM.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// Name of the host: a file in profiles/
    #[arg(long, value_name = "NAME")]
    pub host: String,
    /// Name of the scenario: a file in scenarios/ [default: the plain cycle]
    #[arg(long, value_name = "NAME")]
    pub scenario: Option<String>,
}

/// Which trial, and the choices that a trial leaves open.
#[derive(Clone, Debug, Args)]
pub struct Choice {
    /// Which trial
    #[command(flatten)]
    pub target: Target,
    /// Certificate tier [default: internal]
    #[arg(long, value_name = "TIER")]
    pub certs: Option<String>,
}

/// The choices of what may hand a production token to the VM.
#[derive(Clone, Debug, Args)]
pub struct RiskyChoice {
    /// Which trial, and what it leaves open
    #[command(flatten)]
    pub choice: Choice,
    /// Take this accepted risk; `R6` is what the tier le-prod-wildcard asks for
    #[arg(long, value_name = "NUMBER")]
    pub accept_risk: Option<String>,
}

impl From<Choice> for RiskyChoice {
    /// No risk is taken, unless the environment takes it.
    fn from(choice: Choice) -> Self {
        Self { choice, accept_risk: None }
    }
}

/// The exit codes and what each means.
pub const EXIT_CODES: [(&str, &str); 6] = [
    ("0", "passed"),
    ("1", "an assertion failed, or an expectation was not met"),
    ("2", "usage: a bad option, name or file"),
    ("3", "could not find out: the machine, libvirt, Ansible or the guest failed"),
    ("4", "refused by a guard before anything was created"),
    ("129, 130, 143", "interrupted by SIGHUP, Ctrl-C or SIGTERM; cleaned up"),
];

fn after_help() -> String {
    let variables = env::ALL.iter().map(|it| format!("  {:<19} {}\n", it.name, it.help)).collect::<String>();
    let codes = EXIT_CODES.map(|(code, meaning)| format!("  {code:<13}  {meaning}")).join("\n");
    format!("Environment:\n{variables}\nExit codes:\n{codes}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
