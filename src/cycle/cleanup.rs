//! The cleanup stack: whoever acquires something first pushes its undo. On the way out, whatever the way, the
//! undos run in reverse, each once, each with its own bound, and none keeps the next from running.

use std::time::Duration;

use crate::support::deadline::Deadline;

type Undo<'a> = Box<dyn FnOnce(&Deadline) -> anyhow::Result<()> + 'a>;

/// Undos, last pushed first run. Dropping the stack runs what is left of it.
pub struct Cleanup<'a> {
    undos: Vec<(String, Undo<'a>)>,
    bound: Duration,
}

impl<'a> Cleanup<'a> {
    /// An empty stack. One undo may take `bound`, and no interrupt ends it: this is what runs after one.
    pub fn new(bound: Duration) -> Self {
        Self { undos: Vec::new(), bound }
    }

    /// Remembers how to undo what is about to be acquired. `what` names it: `domain boma-it-askari`. The undo must
    /// be idempotent: it also runs when the acquisition itself failed half-way.
    pub fn push(&mut self, what: impl Into<String>, undo: impl FnOnce(&Deadline) -> anyhow::Result<()> + 'a) {
        self.undos.push((what.into(), Box::new(undo)));
    }

    /// Runs every undo now. Gives what could not be undone, each error with the name of its object.
    pub fn run(&mut self) -> Vec<anyhow::Error> {
        let mut trouble = Vec::new();
        while let Some((what, undo)) = self.undos.pop() {
            let deadline = Deadline::uninterrupted(self.bound, format!("removing {what}"));
            if let Err(error) = undo(&deadline) {
                trouble
                    .push(error.context(format!("{what} could not be removed; `boma-it prune` tries again")));
            }
        }
        trouble
    }

    /// Forgets every undo: what was acquired is now somebody else's to remove.
    pub fn disarm(&mut self) {
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
    fn undos_run_once_in_reverse_and_a_failing_one_stops_no_other() {
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
        let trouble: Vec<_> = cleanup.run().iter().map(|e| format!("{e:#}")).collect();
        assert_eq!(trouble, ["seed could not be removed; `boma-it prune` tries again: the pool is gone"]);
        drop(cleanup);
        assert_eq!(*log.borrow(), ["domain", "seed", "overlay"]);
    }

    #[test]
    fn a_panic_still_cleans_up_and_a_disarmed_stack_does_not() {
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
