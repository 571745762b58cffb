//! What a run is given besides its plan: the hypervisor, the images, the reporter, and what happens to the VM of a
//! failed run. The driver and the test harness open one context a process; tests build one from fakes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use etcetera::BaseStrategy;
use etcetera::base_strategy::Xdg;

use super::running_vm::NoRunningVm;
use crate::catalog::Plan;
use crate::catalog::plan::{HarnessPlan, TrialName};
use crate::catalog::quantity::TimeLimit;
use crate::event::Reporter;
use crate::machine::hypervisor::HostInfo;
use crate::machine::image::ImageStore;
use crate::machine::layer::store::LayerStore;
use crate::machine::libvirt::Libvirt;
use crate::machine::network::Slot;
use crate::machine::ownership::{Lifetime, ProcFs, Processes};
use crate::machine::seed::USER;
use crate::machine::{Accelerator, Hypervisor, Machine, NamePrefix, Ownership};
use crate::outcome::Stage;
use crate::support::env;
use crate::support::interrupt::Interrupt;
use crate::support::secret::withhold;

/// What to do of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Everything: up → apply → reboot → assert → down.
    Cycle,
    /// Bring the VM up, for later steps.
    Up,
    /// Apply the site playbook to the running VM.
    Apply,
    /// Restart the running VM.
    Reboot,
    /// Run `verify.yml` against the running VM.
    Assert,
}

impl Job {
    /// The one stage of a step.
    fn stage(self) -> Option<Stage> {
        match self {
            Self::Cycle => None,
            Self::Up => Some(Stage::Up),
            Self::Apply => Some(Stage::Apply),
            Self::Reboot => Some(Stage::Reboot),
            Self::Assert => Some(Stage::Assert),
        }
    }

    pub(super) fn includes(self, stage: Stage) -> bool {
        self.stage().is_none_or(|it| it == stage)
    }

    /// The name of the run in the output: `askari::cycle`, or of a step `askari::cycle up`.
    pub(super) fn title(self, plan: &Plan) -> String {
        self.stage().map_or_else(|| plan.trial.to_string(), |stage| format!("{} {stage}", plan.trial))
    }
}

/// Everything outside the plan that a run needs.
pub struct RunContext {
    /// Where the VMs run.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Prefix of the names of our VMs and volumes there.
    pub prefix: NamePrefix,
    /// Golden images on this machine.
    pub images: ImageStore,
    /// Folder of what outlives a run: the locks of the places for VMs, the result of the KVM probe.
    pub state: PathBuf,
    /// The processes of this machine, to tell whether an owner is still alive.
    pub processes: ProcFs,
    /// Names the test run. Trials of the same test run queue for a place; all others are refused.
    pub session: String,
    /// How long a run waits before it is refused a place, or the VM that another process works on.
    pub wait: Duration,
    /// How many CPUs the hypervisor's host gives, if it is this machine.
    pub cores: Option<usize>,
    /// Use this accelerator instead of probing.
    pub accelerator: Option<Accelerator>,
    /// User and port to log in to guests.
    pub login: GuestLogin,
    /// Whether nobody watches: then no run goes on from an applied layer.
    pub is_ci: bool,
    /// What happens to the VM of a run that did not pass.
    pub keep: Keep,
    /// Ctrl-C, SIGTERM and SIGHUP.
    pub interrupt: Interrupt,
    /// Receives every event of a run.
    pub reporter: Arc<dyn Reporter>,
}

/// How to log in to guests: the user that the seed creates, and the port of sshd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLogin {
    /// The user.
    pub user: String,
    /// The port of sshd.
    pub port: u16,
}

impl Default for GuestLogin {
    fn default() -> Self {
        Self { user: USER.to_owned(), port: 22 }
    }
}

/// What happens to the VM of a run that did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is destroyed, so that it does not block the next trial of the test run.
    Never,
    /// It stays until the next trial of this test run needs its place, or until `down`.
    ForSession,
    /// It stays until `down`, as the driver does it.
    UntilDown,
}

impl RunContext {
    /// The context of this machine, with the hypervisor of `harness`.
    ///
    /// # Errors
    /// When the hypervisor does not answer, or this machine's folders and processes cannot be read.
    pub fn open(
        harness: &HarnessPlan,
        keep: Keep,
        interrupt: Interrupt,
        reporter: Arc<dyn Reporter>,
    ) -> anyhow::Result<Self> {
        let accelerator = env::ACCEL.choice()?;
        let wait = env::WAIT.parsed()?.map_or(Duration::ZERO, |TimeLimit(wait)| wait);
        let folders = Xdg::new().context("cannot find your home folder")?;
        let processes = ProcFs::new().context("cannot read /proc")?;
        withhold(harness.secret_variables.iter().map(String::as_str));
        let hypervisor = Libvirt::new(&harness.uri, NamePrefix::default()).heeding(interrupt.clone());
        let is_local = hypervisor.host_info()?.local;
        let us = processes.this_process();
        Ok(Self {
            hypervisor: Arc::new(hypervisor),
            prefix: NamePrefix::default(),
            images: ImageStore::new(folders.cache_dir().join("boma-it/images")),
            state: folders.cache_dir().join("boma-it"),
            session: env::nextest_run_id().unwrap_or_else(|| format!("{}-{}", us.pid, us.started)),
            processes,
            wait,
            cores: is_local.then(|| std::thread::available_parallelism().map_or(1, Into::into)),
            accelerator,
            login: GuestLogin::default(),
            is_ci: env::is_ci(),
            keep,
            interrupt,
            reporter,
        })
    }

    /// The lifetime of a VM that is kept; none if VMs are not kept.
    pub(super) fn kept_lifetime(&self) -> Option<Lifetime> {
        match self.keep {
            Keep::Never => None,
            Keep::ForSession => Some(Lifetime::Kept { session: self.session.clone() }),
            Keep::UntilDown => Some(Lifetime::Manual),
        }
    }

    pub(super) fn machines(&self) -> anyhow::Result<Vec<Machine>> {
        self.hypervisor.machines().context("cannot list the VMs")
    }

    pub(super) fn machine(&self, name: &str) -> anyhow::Result<Option<Machine>> {
        Ok(self.machines()?.into_iter().find(|it| it.name == name))
    }

    /// The VM of a trial, with its owner. The metadata finds it: its name does not say which scenario runs.
    ///
    /// # Errors
    /// [`NoRunningVm::Unowned`] when there is none but a VM has the host's name and no metadata; or that the hypervisor
    /// does not answer.
    pub(super) fn machine_of(&self, trial: &TrialName) -> anyhow::Result<Option<(Machine, Ownership)>> {
        let (owned, unowned): (Vec<_>, Vec<_>) =
            self.machines()?.into_iter().partition(|it| it.ownership.is_some());
        let probe = self.prefix.probe();
        let owned = owned.into_iter().filter(|it| it.name != probe);
        let owned = owned.filter_map(|it| it.ownership.clone().map(|ownership| (it, ownership)));
        if let Some(found) = owned.into_iter().find(|(_, ownership)| ownership.trial() == *trial) {
            return Ok(Some(found));
        }
        let named = |it: &Machine| Slot::all().any(|slot| self.prefix.machine(&trial.host, slot) == it.name);
        match unowned.into_iter().find(named) {
            Some(Machine { name: machine, .. }) => Err(NoRunningVm::Unowned { machine }.into()),
            None => Ok(None),
        }
    }

    /// The layers in the hypervisor's pool.
    pub fn layers(&self) -> LayerStore<'_> {
        LayerStore::new(self.hypervisor.as_ref(), self.state.join("layers"))
    }

    pub(super) fn host_info(&self) -> anyhow::Result<HostInfo> {
        self.hypervisor.host_info().context("cannot ask the hypervisor about its host")
    }
}
