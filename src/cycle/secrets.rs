//! Secrets in the course of a run: read at admission and made known to the redactor before anything is said or written,
//! looked for once more when all is done, and known again to a later process that touches what the run left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use super::ledger::RunRecorder;
use super::live::keys;
use super::world::RunContext;
use crate::catalog::Plan;
use crate::catalog::secrets::SecretPlan;
use crate::site::secrets::{self, Secrets};
use crate::support::deadline::{Deadline, Waited};
use crate::support::lock::{Busy, FileLock, LockError};
use crate::support::run_folder::RunFolder;
use crate::support::secret::{Redactor, sweep, withhold};

/// How long Ansible Vault and a password command may take.
const READ: Duration = Duration::from_secs(120);

/// Reads the plan's secrets. From here on nothing that this process says or writes has one of them, and no child
/// inherits one.
///
/// # Errors
/// [`secrets::SecretError`]: one is missing or unfit, or Ansible Vault could not be run.
pub(super) fn learn(plan: &Plan, ledger: &RunRecorder) -> anyhow::Result<Secrets> {
    withhold(plan.harness.secret_variables.iter().map(String::as_str));
    let needs = TierRequirements {
        secrets: plan.secrets.clone(),
        site: Site { ansible: plan.site.ansible.clone() },
        root: plan.root.clone(),
    };
    needs.learn(&ledger.deadline(READ, "reading secrets"))
}

/// Makes the secrets of an earlier run known to this process, so that what the VM said can be told without them.
///
/// # Errors
/// As for the run itself: they are not to be had any more; or its plan is gone.
pub fn learn_of_run(folder: &RunFolder, deadline: &Deadline) -> anyhow::Result<()> {
    let path = folder.join("plan.json");
    let read = || -> anyhow::Result<TierRequirements> { Ok(serde_json::from_slice(&std::fs::read(&path)?)?) };
    let needs =
        read().with_context(|| format!("cannot see which secrets the run had: {}", path.display()))?;
    needs.learn(&deadline.within(READ, "reading secrets")).map(drop)
}

/// What a plan, or the one written into a run folder, says of secrets.
#[derive(Deserialize)]
struct TierRequirements {
    #[serde(default)]
    secrets: Vec<SecretPlan>,
    site: Site,
    root: PathBuf,
}

#[derive(Deserialize)]
struct Site {
    ansible: Option<PathBuf>,
}

impl TierRequirements {
    fn learn(&self, deadline: &Deadline) -> anyhow::Result<Secrets> {
        let read = secrets::read(&self.secrets, self.site.ansible.as_deref(), &self.root, deadline)?;
        for (name, secret) in read.iter() {
            Redactor::of_process().add(name, secret)?;
        }
        Ok(read)
    }
}

/// The last look through a run folder: what came there past our writers is cleaned, and told.
pub(super) fn clean(folder: &RunFolder, ledger: &RunRecorder) {
    match sweep(folder.path(), &[keys(folder)], Redactor::of_process()) {
        Ok(cleaned) => {
            for path in cleaned {
                let name = path.strip_prefix(folder.path()).unwrap_or(&path);
                ledger.note(format!("a secret was taken out of {} in the run folder", name.display()));
            }
        }
        Err(error) => ledger.note(format!(
            "the run folder could not be searched for secrets; look before you hand it on: {error}"
        )),
    }
}

/// Removes what killed runs left of their secrets below `runs`, unless somebody is at work. Gives what was removed.
///
/// # Errors
/// That something is there and cannot be removed.
pub fn prune_secrets(world: &RunContext, runs: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let soon = Deadline::after(Duration::from_secs(1), "prune", world.interrupt.clone(), Waited::default());
    match FileLock::acquire(&world.state.join("vm.lock"), "boma-it prune", &soon, |_| Busy::GiveUp) {
        Ok(_lock) => {
            secrets::forget_leftovers(runs).context("cannot remove the secrets that a killed run left")
        }
        Err(LockError::Held { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Removes what killed runs left of their secrets. Nothing else may run: the lock is held.
///
/// # Errors
/// That something is there and cannot be removed.
pub(super) fn forget_leftovers(runs: &Path, ledger: &RunRecorder) -> anyhow::Result<()> {
    let removed =
        secrets::forget_leftovers(runs).context("cannot remove the secrets that a killed run left")?;
    for path in removed {
        ledger.note(format!("removed what a killed run left of its secrets: {}", path.display()));
    }
    Ok(())
}
