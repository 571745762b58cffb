//! What a failed restart means: the site's doing, or an error.

use std::time::Duration;

use super::errors::{StageError, VmFailure};
use super::lockout::{Closed, unexplained};
use super::vm_monitor::VmMonitor;
use crate::catalog::plan::ExpectedFault;
use crate::guest::{ReadyError, RebootError};
use crate::support::deadline::format_duration;

/// The site is at fault only if that is proven: by a fault of the one new boot that the guest's own
/// software shows; by a boot that ended, with nobody able to log in (a guest that hangs while booting is just as silent);
/// or by a job that the guest itself says it waits for, and has for `patience`.
pub(super) fn classify(
    mut error: RebootError,
    closed: Option<Closed>,
    patience: Duration,
    user: &str,
    monitor: &mut VmMonitor<'_>,
) -> StageError {
    let hung = hung_job(&error, patience);
    let is_unreachable = matches!(error, RebootError::Unreachable { .. });
    if let RebootError::Unreachable { last, .. } = &mut error {
        *last = last.take().and_then(|last| unexplained(*last, closed.as_ref())).map(Box::new);
    }
    let error = anyhow::Error::from(error);
    if let Some(fault) = VmFailure::in_chain(&error).and_then(VmFailure::fault) {
        return match monitor.began_one_boot() {
            Ok(_) => StageError::Fault(fault, error),
            Err(why) => StageError::Error(error.context(why)),
        };
    }
    if let Some(job) = hung {
        return StageError::Fault(ExpectedFault::Hung, error.context(job));
    }
    if !is_unreachable {
        return error.into();
    }
    match (monitor.ended_boot(), closed) {
        (Ok(_), Some(Closed::KeyType(words))) => {
            StageError::Error(error.context(format!("sshd does not take our kind of key: {words}")))
        }
        (Ok(line), Some(Closed::Proven(words))) => StageError::Fault(
            ExpectedFault::Unreachable,
            error.context(format!(
                "the guest booted (`{line}`), and the account `{user}` is locked out: sshd says {words}"
            )),
        ),
        (Ok(line), _) => StageError::Fault(
            ExpectedFault::Unreachable,
            error.context(format!("the guest booted (`{line}`), but SSH does not answer")),
        ),
        (Err(why), _) => match monitor.stuck_job(patience) {
            Some(job) => StageError::Fault(ExpectedFault::Hung, error.context(why).context(job)),
            None => StageError::Error(error.context(why)),
        },
    }
}

/// The jobs that the guest, over SSH, says that it still waits for after all that time. cloud-init is the harness's own.
fn hung_job(error: &RebootError, patience: Duration) -> Option<String> {
    let RebootError::NotReady(ReadyError::NotSettled { jobs: Some(jobs), .. }) = error else { return None };
    let is_site = !jobs.units.is_empty() && !jobs.units.iter().any(|unit| unit.starts_with("cloud-"));
    (is_site && jobs.unchanged_for >= patience).then(|| {
        let (units, time) = (jobs.units.join(", "), format_duration(jobs.unchanged_for));
        format!("the boot does not end: it has waited for {units} for {time}")
    })
}

#[cfg(test)]
mod tests;
