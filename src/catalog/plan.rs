//! A plan: a trial with every default filled in. Plain data that says everything a cycle needs to know. Making one reads
//! the YAML files and nothing else; the layers above build their own specs from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::ansible_section::{BytecodeCache, PlaysForNobody};
pub use super::image::{
    BuildId, DEBIAN_IMAGES, ImageSource, InvalidBuildId, InvalidPackage, Official, PackageName, Packages,
    Release,
};
use super::quantity::{Bytes, seconds};
use super::secrets::SecretPlan;
pub use super::subnet::Subnet;
use crate::outcome::Stage;
use crate::support::name::{InvalidName, Name};

/// The most VMs at a time: each has an address on the network for itself.
pub(crate) const MAX_VMS: u8 = 8;

/// What a host's plain trial is called instead of a scenario.
pub(super) const PLAIN: &str = "cycle";

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
            None => write!(f, "{}::{PLAIN}", self.host),
            Some(scenario) => write!(f, "{}::{scenario}", self.host),
        }
    }
}

impl FromStr for TrialName {
    type Err = String;

    /// The trial that is displayed so.
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, scenario) = text.split_once("::").ok_or("a trial is `<profile>::<scenario>`")?;
        let name = |text: &str| text.parse().map_err(|error: InvalidName| error.to_string());
        let scenario = (scenario != PLAIN).then(|| name(scenario)).transpose()?;
        Ok(Self { host: name(host)?, scenario })
    }
}

impl TrialName {
    /// The last part of its run folders' names: `<host>` or `<host>-<scenario>`.
    pub(crate) fn label(&self) -> String {
        match &self.scenario {
            None => self.host.to_string(),
            Some(scenario) => format!("{}-{scenario}", self.host),
        }
    }

    /// The driver's options that name it: `--host askari --scenario incident`.
    pub(crate) fn driver_options(&self) -> String {
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
    /// What the trial is about, in one line.
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
    /// Risks accepted for this run.
    pub accepted_risks: Vec<Risk>,
    /// How the VM is restarted.
    pub restart: Restart,
    /// Whether the guest reaches anything beyond the harness's network.
    pub egress: bool,
    /// The declared result.
    pub expect: Expectation,
    /// The secrets that its roles need, and where each comes from; never a value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretPlan>,
    /// Where and how: hypervisor, network, limits.
    pub harness: HarnessPlan,
}

/// What Ansible is given.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SitePlan {
    /// The site's folder: absolute.
    pub dir: PathBuf,
    /// The site playbook: absolute.
    pub playbook: PathBuf,
    /// The production inventory, read-only: absolute.
    pub inventory: PathBuf,
    /// The playbook that asserts: absolute.
    pub verify: PathBuf,
    /// Folder of `ansible-playbook` and its companions, absolute; none: they are found on `PATH`.
    pub ansible: Option<PathBuf>,
    /// When the guest keeps the byte-code of Ansible's modules.
    pub bytecode_cache: BytecodeCache,
    /// What it means if a play of the site's playbook selects no host of the production inventory.
    pub plays_for_nobody: PlaysForNobody,
    /// The override file of the host: absolute.
    pub overrides: PathBuf,
    /// Variables of the scenario; they replace those of the override.
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

impl Default for Sizing {
    /// As the runbook says: 2 vCPUs, 3 GiB of memory, a thin overlay of 20 GiB.
    fn default() -> Self {
        Self { vcpus: 2, memory: Bytes::gib(3), disk: Bytes::gib(20) }
    }
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
    /// Whether it writes records into a real zone, which takes the DNS provider's token.
    pub(crate) fn needs_token(self) -> bool {
        matches!(self, Self::LeStaging | Self::LeProdWildcard)
    }
}

impl fmt::Display for Tier {
    /// The word that it is serialised as.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A risk that a person accepts for one run, by its number in `docs/security/accepted-risks.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum Risk {
    /// The production token reaches a throw-away VM, and records are written to the real zone.
    R6,
}

impl fmt::Display for Risk {
    /// The word that it is serialised as.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
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
    /// Not at all: a negative control; the reboot stage must fail.
    None,
}

/// The declared result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expectation {
    /// How `verify.yml` must end before the restart; none: it does not run there.
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

/// A failure that the trial must show, and at which stage.
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
    /// The initramfs does not find the root file system.
    Initramfs,
    /// The kernel panics.
    Panic,
    /// A job keeps the boot from ending.
    Hung,
}

/// Where and how: from `harness/harness.yml`.
#[derive(Clone, Debug, Serialize)]
pub struct HarnessPlan {
    /// Libvirt connection URI.
    pub uri: String,
    /// Settings of the certificate tiers.
    pub certs: CertsPlan,
    /// The network's IPv4 subnet.
    pub subnet: Subnet,
    /// Folder of the run folders: absolute.
    pub runs: PathBuf,
    /// How many run folders are kept.
    pub keep_runs: usize,
    /// How many VMs may run at a time.
    pub vms: usize,
    /// Memory that must stay free on this machine beside the VMs.
    pub memory_reserve: Bytes,
    /// What a VM may start from.
    pub layers: Layers,
    /// Disk space that layers may take.
    pub layer_space: Bytes,
    /// Environment variables that hold secrets, needed or not: no child inherits them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secret_variables: Vec<String>,
    /// Deadlines of the stages and of the image, for KVM; longer under TCG where they wait for a guest.
    pub timeouts: Timeouts,
}

/// What a VM may start from, beside its golden image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    /// Nothing: every trial boots from the image.
    None,
    /// A settled first boot of the same VM, at most a day old; the first trial makes it.
    #[default]
    Ready,
    /// Also the state after the same playbook, for a second look at `verify.yml` or at the restart. Never with secrets, nor
    /// with a certificate tier other than `internal`, nor in CI.
    Applied,
}

/// What the tiers `pebble`, `le-staging` and `le-prod-wildcard` need; `internal` needs none of it. Also `certs:` of
/// `harness.yml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub struct CertsPlan {
    /// ACME directory of the Let's Encrypt tiers, instead of Let's Encrypt's own.
    pub directory: Option<String>,
    /// Root certificates (a PEM file, relative to the root) for an authority of one's own behind `directory`: of its HTTPS
    /// and of what it issues.
    pub root: Option<PathBuf>,
    /// The name that the certificate is for, beside its wildcard; none: the site decides.
    pub domain: Option<String>,
    /// Where the Let's Encrypt tiers put DNS records.
    pub dns: DnsPlan,
}

/// Where DNS records are put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub struct DnsPlan {
    /// The provider of the DNS service.
    pub provider: DnsProvider,
    /// Name of the secret that opens it: the Ansible variable that the site has it in.
    pub token: String,
}

impl Default for DnsPlan {
    fn default() -> Self {
        Self { provider: DnsProvider::default(), token: "vault.gandi.pat".to_owned() }
    }
}

/// A provider of a DNS service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DnsProvider {
    /// Gandi's LiveDNS.
    #[default]
    Gandi,
}

/// Deadlines of the stages under KVM. Without KVM they are longer, except `image` and `down`, which wait for no guest.
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
