//! A plan: a trial with every default filled in. Plain data that says everything a cycle needs to know; making one
//! touches nothing but the YAML files. Later floors build their own specs from it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::certs::CertsPlan;
pub use super::image::{
    BuildId, DEBIAN_IMAGES, ImageSource, InvalidBuildId, InvalidPackage, Official, PackageName, Packages,
    Release,
};
use super::quantity::{Bytes, seconds};
use super::risk::Risk;
use super::secrets::SecretPlan;
use crate::outcome::Stage;
use crate::support::name::{Name, PREFIX};

/// A trial's name: `<profile>::cycle` or `<profile>::<scenario>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrialName {
    /// The profile.
    pub host: Name,
    /// The scenario; none for the plain cycle.
    pub scenario: Option<Name>,
}

impl fmt::Display for TrialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scenario {
            None => write!(f, "{}::cycle", self.host),
            Some(scenario) => write!(f, "{}::{scenario}", self.host),
        }
    }
}

impl TrialName {
    /// The domain's name on the hypervisor: `boma-it-<host>` or `boma-it-<host>-<scenario>`.
    pub fn machine(&self) -> String {
        match &self.scenario {
            None => format!("{PREFIX}-{}", self.host),
            Some(scenario) => format!("{PREFIX}-{}-{scenario}", self.host),
        }
    }
}

impl TrialName {
    /// The driver's options that name it: `--host askari --scenario incident`.
    pub fn driver_options(&self) -> String {
        match &self.scenario {
            None => format!("--host {}", self.host),
            Some(scenario) => format!("--host {} --scenario {scenario}", self.host),
        }
    }
}

impl Serialize for TrialName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Everything a cycle needs to know.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Which trial.
    pub trial: TrialName,
    /// The domain's name.
    pub machine: String,
    /// What it is about, in a line.
    pub description: String,
    /// The folder that holds `harness/`, `profiles/`, `overrides/`, `scenarios/`.
    pub root: PathBuf,
    /// The Ansible side.
    pub site: SitePlan,
    /// The VM's size.
    pub vm: Sizing,
    /// Which golden image.
    pub image: ImageSource,
    /// Certificate tier.
    pub certs: Tier,
    /// Risks that are taken for this run.
    pub accepted_risks: Vec<Risk>,
    /// How the VM is restarted.
    pub restart: Restart,
    /// Whether the guest reaches anything beyond the harness's network.
    pub egress: bool,
    /// What is declared to happen.
    pub expect: Expectation,
    /// The secrets that its roles need, and where each comes from; never a value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretPlan>,
    /// Where and how: hypervisor, network, limits.
    pub harness: HarnessPlan,
}

/// What Ansible is given.
#[derive(Clone, Debug, Serialize)]
pub struct SitePlan {
    /// The site's folder: absolute.
    pub dir: PathBuf,
    /// The playbook that is applied: absolute.
    pub playbook: PathBuf,
    /// The production inventory, read-only: absolute.
    pub inventory: PathBuf,
    /// The playbook that asserts: absolute.
    pub verify: PathBuf,
    /// Folder of `ansible-playbook` and its sisters, if it is not to be found on `PATH`: absolute.
    pub ansible: Option<PathBuf>,
    /// The override file of the host: absolute.
    pub overrides: PathBuf,
    /// Variables of the scenario, laid over the override.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// The profile's roles: tags given to the site playbook.
    pub roles: Vec<String>,
}

/// Size of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sizing {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Bytes,
    /// Virtual size of the thin overlay.
    pub disk: Bytes,
}

/// Certificate tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The web server's own authority; certificates are not under test.
    Internal,
    /// A real ACME server on this machine.
    Pebble,
    /// Let's Encrypt's staging directory.
    LeStaging,
    /// Let's Encrypt's production directory, wildcard, on demand only.
    LeProdWildcard,
}

impl Tier {
    /// Every tier, the least demanding first.
    pub const ALL: [Self; 4] = [Self::Internal, Self::Pebble, Self::LeStaging, Self::LeProdWildcard];

    /// The word for it, in files and in `CERTS=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Pebble => "pebble",
            Self::LeStaging => "le-staging",
            Self::LeProdWildcard => "le-prod-wildcard",
        }
    }

    /// Whether it puts records into a real zone, which takes the DNS provider's token.
    pub fn needs_token(self) -> bool {
        matches!(self, Self::LeStaging | Self::LeProdWildcard)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the VM is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// ACPI power button: the guest shuts its services down.
    #[default]
    Graceful,
    /// `systemctl reboot` inside the guest.
    Soft,
    /// The reset button.
    Reset,
    /// Power off and on again.
    PowerCut,
    /// Not at all: a negative control; the reboot stage must go red.
    None,
}

/// What is declared to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expectation {
    /// `verify.yml` once more before the restart, and how it must go.
    pub before_reboot: Option<ExpectedResult>,
    /// The declared failure; none: everything passes.
    pub fail: Option<ExpectedFailure>,
}

/// Pass or fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedResult {
    /// Every assertion holds.
    Pass,
    /// At least one does not.
    Fail,
}

/// A failure that must be seen, located.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedFailure {
    /// At which stage.
    pub at: Stage,
    /// What exactly.
    pub what: ExpectedFault,
}

/// What exactly must go wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedFault {
    /// These assertions (or, at `apply`, this task) fail, and no other does.
    Tasks(Vec<String>),
    /// The guest is up but SSH never answers: a lockout.
    Unreachable,
    /// The boot ends in emergency mode.
    Emergency,
}

/// Where and how: from `harness/harness.yml`.
#[derive(Clone, Debug, Serialize)]
pub struct HarnessPlan {
    /// Libvirt connection URI.
    pub uri: String,
    /// What the certificate tiers go by.
    pub certs: CertsPlan,
    /// The network's IPv4 subnet.
    pub subnet: Subnet,
    /// Where run folders go: absolute.
    pub runs: PathBuf,
    /// How many run folders are kept.
    pub keep_runs: usize,
    /// Memory that must stay free on this machine beside the VM.
    pub memory_reserve: Bytes,
    /// Environment variables that hold secrets, needed or not: no child inherits them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secret_variables: Vec<String>,
    /// Deadlines of the stages and of the image, for KVM; scaled up under TCG where they wait for a guest.
    pub timeouts: Timeouts,
}

/// An IPv4 network in CIDR notation: `10.213.47.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The network address.
    pub network: Ipv4Addr,
    /// Prefix length, 16 to 28.
    pub prefix: u8,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Deadlines of the stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// Getting the golden image.
    #[serde(serialize_with = "seconds")]
    pub image: Duration,
    /// From power-on to ready.
    #[serde(serialize_with = "seconds")]
    pub up: Duration,
    /// The site playbook.
    #[serde(serialize_with = "seconds")]
    pub apply: Duration,
    /// From the restart to settled again.
    #[serde(serialize_with = "seconds")]
    pub reboot: Duration,
    /// `verify.yml`.
    #[serde(serialize_with = "seconds")]
    pub assert: Duration,
    /// Destroying everything.
    #[serde(serialize_with = "seconds")]
    pub down: Duration,
}
