//! Keeps watch over the VM while something else has the floor for long (Ansible, which notices a dead VM by SSH's timeouts only):
//! the work is ended as soon as the hypervisor or the console says that the VM is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::vigil::VmMonitor;
use crate::machine::Hypervisor;
use crate::support::deadline::Deadline;
use crate::support::interrupt::{Interrupt, Interrupted};

/// How soon an interrupt is handed on; the vigil itself looks once a second.
const ATTENTION: Duration = Duration::from_millis(50);
/// What the work sees as its interrupt when the VM is lost: SIGTERM.
const ENOUGH: i32 = 15;

/// Runs `work` with a deadline that also ends when `machine` is lost.
///
/// # Errors
/// That the VM is lost ([`super::VmFailure`]), whatever the work made of it.
pub(super) fn watched<T>(
    hypervisor: &dyn Hypervisor,
    machine: &str,
    deadline: &Deadline,
    work: impl FnOnce(&Deadline) -> T,
) -> anyhow::Result<T> {
    let leash = Interrupt::never();
    let (over, mut vigil) = (AtomicBool::new(false), VmMonitor::from_now_on(hypervisor, machine));
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                if let Err(Interrupted(signal)) = deadline.interrupt().check() {
                    leash.raise(signal);
                    return Ok(());
                }
                if let Err(lost) = vigil.look() {
                    leash.raise(ENOUGH);
                    return Err(lost);
                }
                Deadline::uninterrupted(ATTENTION, "the watch").pause(ATTENTION);
            }
            // The work may have seen the end of the VM before the watch did.
            vigil.look_now()
        });
        let done = work(&deadline.heeding(leash.clone()));
        over.store(true, Ordering::SeqCst);
        let seen =
            watch.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the watch over {machine} broke off")));
        seen.map(|()| done)
    })
}
