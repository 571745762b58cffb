//! What a run finds around it: the hypervisor, the images, who is told, and what the caller wants of failures. Made
//! once a process by the driver or the harness; a test makes one of fakes.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use etcetera::BaseStrategy;
use etcetera::base_strategy::Xdg;

use crate::catalog::plan::HarnessPlan;
use crate::event::Reporter;
use crate::machine::image::ImageStore;
use crate::machine::libvirt::Libvirt;
use crate::machine::ownership::{Lifetime, ProcFs};
use crate::machine::seed::USER;
use crate::machine::{Accelerator, Hypervisor, NamePrefix};
use crate::support::env;
use crate::support::interrupt::Interrupt;
use crate::support::secret::withhold;

/// Everything outside the plan that a run needs.
pub struct RunContext {
    /// Where machines live.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The names of our things there.
    pub realm: NamePrefix,
    /// Golden images, on this machine.
    pub images: ImageStore,
    /// Folder of what is remembered between runs: the lock, the verdict on KVM.
    pub state: PathBuf,
    /// The processes of this machine, to judge who is still alive.
    pub processes: ProcFs,
    /// Names the test run: its trials queue up for the one VM, all others are refused.
    pub session: String,
    /// Uses this accelerator instead of probing.
    pub accelerator: Option<Accelerator>,
    /// How guests are entered.
    pub door: GuestLogin,
    /// What becomes of a VM whose run did not pass.
    pub keep: Keep,
    /// Ctrl-C, SIGTERM and SIGHUP.
    pub interrupt: Interrupt,
    /// Who is told.
    pub sink: Arc<dyn Reporter>,
}

/// How guests are entered: whom the seed makes for us, and where its sshd listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLogin {
    /// The user.
    pub user: String,
    /// sshd's port.
    pub port: u16,
}

impl Default for GuestLogin {
    fn default() -> Self {
        Self { user: USER.to_owned(), port: 22 }
    }
}

/// What becomes of a VM whose run did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is destroyed: trials of one test run must not be in each other's way.
    Never,
    /// It stays until the next trial of this test run needs the room, or somebody says `down`.
    ForSession,
    /// It stays until somebody says `down`: the driver's way.
    UntilDown,
}

impl RunContext {
    /// The world of this machine, with the hypervisor that `harness` names.
    ///
    /// # Errors
    /// When the hypervisor does not answer, or this machine's folders and processes cannot be read.
    pub fn open(
        harness: &HarnessPlan,
        keep: Keep,
        interrupt: Interrupt,
        sink: Arc<dyn Reporter>,
    ) -> anyhow::Result<Self> {
        let accelerator = env::ACCEL.choice()?;
        let folders = Xdg::new().context("cannot tell where your home is")?;
        let processes = ProcFs::here().context("cannot read /proc")?;
        withhold(harness.secret_variables.iter().map(String::as_str));
        let hypervisor = Libvirt::new(&harness.uri, NamePrefix::default()).heeding(interrupt.clone());
        hypervisor.facts()?;
        let us = processes.this_process();
        Ok(Self {
            hypervisor: Arc::new(hypervisor),
            realm: NamePrefix::default(),
            images: ImageStore::new(folders.cache_dir().join("boma-it/images")),
            state: folders.cache_dir().join("boma-it"),
            session: env::nextest_run_id().unwrap_or_else(|| format!("{}-{}", us.pid, us.started)),
            processes,
            accelerator,
            door: GuestLogin::default(),
            keep,
            interrupt,
            sink,
        })
    }

    /// The lifetime of a kept machine, if one is kept.
    pub fn kept(&self) -> Option<Lifetime> {
        match self.keep {
            Keep::Never => None,
            Keep::ForSession => Some(Lifetime::Kept { session: self.session.clone() }),
            Keep::UntilDown => Some(Lifetime::Manual),
        }
    }
}
