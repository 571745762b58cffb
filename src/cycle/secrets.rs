//! The secrets of a run: read at admission and given to the redactor before anything is printed or written, searched for
//! once more in the finished run folder, and read again by a later process that handles what the run left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use super::recorder::RunRecorder;
use super::running_vm::keys;
use crate::catalog::Plan;
use crate::catalog::secrets::SecretPlan;
use crate::site::secrets::{self, Secrets};
use crate::support::deadline::Deadline;
use crate::support::run_folder::RunFolder;
use crate::support::secret::{self, Redactor, withhold};

/// How long Ansible Vault and a password command may take.
const READ: Duration = Duration::from_secs(120);

/// Reads the plan's secrets. From here on this process redacts them from everything that it prints or writes, and no
/// child inherits one.
///
/// # Errors
/// [`secrets::SecretError`]: one is missing or too weak to redact, or Ansible Vault cannot be run.
pub(super) fn learn(plan: &Plan, recorder: &RunRecorder) -> anyhow::Result<Secrets> {
    withhold(plan.harness.secret_variables.iter().map(String::as_str));
    let deadline = recorder.deadline(READ, "reading secrets");
    read(&plan.secrets, plan.site.ansible.as_deref(), &plan.root, &deadline)
}

/// Makes this process redact the secrets of an earlier run, so that it can print or save what that run's VM printed.
///
/// # Errors
/// As for the run itself: a secret cannot be read any more; or the plan in the run folder is gone.
pub fn redact_secrets_of(folder: &RunFolder, deadline: &Deadline) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct PlanFile {
        #[serde(default)]
        secrets: Vec<SecretPlan>,
        site: Site,
        root: PathBuf,
    }
    #[derive(Deserialize)]
    struct Site {
        ansible: Option<PathBuf>,
    }
    let path = folder.join("plan.json");
    let parse = || -> anyhow::Result<PlanFile> { Ok(serde_json::from_slice(&std::fs::read(&path)?)?) };
    let plan =
        parse().with_context(|| format!("cannot read which secrets the run had: {}", path.display()))?;
    let deadline = deadline.within(READ, "reading secrets");
    read(&plan.secrets, plan.site.ansible.as_deref(), &plan.root, &deadline).map(drop)
}

fn read(
    plans: &[SecretPlan],
    ansible: Option<&Path>,
    root: &Path,
    deadline: &Deadline,
) -> anyhow::Result<Secrets> {
    let read = secrets::read(plans, ansible, root, deadline)?;
    for (name, secret) in read.iter() {
        Redactor::of_process().add(name, secret)?;
    }
    Ok(read)
}

/// Searches the finished run folder for secrets that got there past our writers, removes them and notes it.
pub(super) fn scrub(folder: &RunFolder, recorder: &RunRecorder) {
    match secret::scrub(folder.path(), &[keys(folder)], Redactor::of_process()) {
        Ok(cleaned) => {
            for path in cleaned {
                let name = path.strip_prefix(folder.path()).unwrap_or(&path);
                recorder.note(format!("removed a secret from {} in the run folder", name.display()));
            }
        }
        Err(error) => recorder
            .note(format!("cannot search the run folder for secrets; check it before you share it: {error}")),
    }
}

/// Removes the secrets that killed runs left; those of a run in progress stay.
///
/// # Errors
/// When one exists and cannot be removed.
pub(super) fn remove_leftovers(runs: &Path, recorder: &RunRecorder) -> anyhow::Result<()> {
    let removed =
        secrets::remove_leftovers(runs).context("cannot remove the secrets that a killed run left")?;
    for path in removed {
        recorder.note(format!("removed the secrets that a killed run left: {}", path.display()));
    }
    Ok(())
}
