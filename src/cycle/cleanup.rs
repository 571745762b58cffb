//! The cleanup stack. The undo of a thing is pushed before the thing is made. However a run ends, the undos run in
//! reverse order, each once and with its own deadline, and a failed one does not stop the others.

use std::time::Duration;

use crate::support::deadline::Deadline;

type Undo<'a> = Box<dyn FnOnce(&Deadline) -> anyhow::Result<()> + 'a>;

/// Undos: the last one pushed runs first. Dropping the stack runs the rest.
pub(super) struct Cleanup<'a> {
    undos: Vec<(String, Undo<'a>)>,
    bound: Duration,
}

impl<'a> Cleanup<'a> {
    /// An empty stack. Each undo may take `bound`. An interrupt does not end it, as it also runs after one.
    pub(super) fn new(bound: Duration) -> Self {
        Self { undos: Vec::new(), bound }
    }

    /// Adds the undo of what is about to be made. `what` names it: `the VM boma-it-askari`. The undo must be
    /// idempotent: it also runs when the making failed half-way.
    pub(super) fn push(
        &mut self,
        what: impl Into<String>,
        undo: impl FnOnce(&Deadline) -> anyhow::Result<()> + 'a,
    ) {
        self.undos.push((what.into(), Box::new(undo)));
    }

    /// Runs every undo now. Returns the errors, each with the name of its object.
    pub(super) fn run(&mut self) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        while let Some((what, undo)) = self.undos.pop() {
            let deadline = Deadline::uninterrupted(self.bound, format!("removing {what}"));
            if let Err(error) = undo(&deadline) {
                errors.push(error.context(format!("cannot remove {what}; `boma-it prune` tries again")));
            }
        }
        errors
    }

    /// Drops every undo: a later process removes what was made.
    pub(super) fn disarm(&mut self) {
        self.undos.clear();
    }
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        for error in self.run() {
            tracing::error!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn undos_run_once_in_reverse_order_and_a_failed_one_does_not_stop_the_others() {
        let log = RefCell::new(Vec::new());
        let mut cleanup = Cleanup::new(Duration::from_secs(1));
        for name in ["overlay", "seed", "domain"] {
            let log = &log;
            cleanup.push(name, move |_| {
                log.borrow_mut().push(name);
                anyhow::ensure!(name != "seed", "the pool is gone");
                Ok(())
            });
        }
        let errors: Vec<_> = cleanup.run().iter().map(|e| format!("{e:#}")).collect();
        assert_eq!(errors, ["cannot remove seed; `boma-it prune` tries again: the pool is gone"]);
        drop(cleanup);
        assert_eq!(*log.borrow(), ["domain", "seed", "overlay"]);
    }

    #[test]
    fn a_panic_runs_the_undos_and_a_disarmed_stack_does_not() {
        let log = RefCell::new(0);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut cleanup = Cleanup::new(Duration::from_secs(1));
            cleanup.push("vm", |_| {
                *log.borrow_mut() += 1;
                Ok(())
            });
            panic!("in the middle of a stage");
        }));
        assert_eq!(*log.borrow(), 1);
        let mut kept = Cleanup::new(Duration::from_secs(1));
        kept.push("vm", |_| panic!("was disarmed"));
        kept.disarm();
    }
}
