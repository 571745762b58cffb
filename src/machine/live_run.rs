//! A run of this user that lives: it holds the lock of a slot, and says in the lock's file who it is and how much memory its
//! VM may take. The kernel ends the lock with the process, so that this is never out of date.

use super::network::Slot;
use super::ownership::Ownership;
use crate::catalog::plan::TrialName;
use crate::catalog::quantity::Bytes;

/// A run that lives, as its lock tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveRun {
    /// Its slot.
    pub slot: Slot,
    /// Its trial; none if the lock's text cannot be read.
    pub trial: Option<TrialName>,
    /// The test run that it belongs to.
    pub session: Option<String>,
    /// The memory that its VM was admitted with; zero for a step on a VM that is up.
    pub memory: Bytes,
    /// Who it is: `askari::cycle of test run 7-700, process 7`.
    pub words: String,
}

impl LiveRun {
    /// A run of this process.
    pub(crate) fn of_this_process(slot: Slot, trial: &TrialName, session: &str, memory: Bytes) -> Self {
        let words = format!("{trial} of test run {session}, process {}", std::process::id());
        Self { slot, trial: Some(trial.clone()), session: Some(session.to_owned()), memory, words }
    }

    /// What it writes into its lock: `askari::cycle of test run 7-700, process 7, 3GiB`.
    pub(crate) fn line(&self) -> String {
        format!("{}, {}", self.words, self.memory)
    }

    /// The run that holds the lock of `slot` with this line. An unknown line is a run of unknown origin: it has a place.
    pub(crate) fn read(slot: Slot, line: &str) -> Self {
        let unknown = || Self { slot, trial: None, session: None, memory: Bytes(0), words: line.to_owned() };
        let parse = || {
            let (words, memory) = line.rsplit_once(", ")?;
            let (trial, rest) = words.split_once(" of test run ")?;
            let (session, _) = rest.rsplit_once(", process ")?;
            Some(Self {
                slot,
                trial: Some(trial.parse().ok()?),
                session: Some(session.to_owned()),
                memory: memory.parse().ok()?,
                words: words.to_owned(),
            })
        };
        parse().unwrap_or_else(unknown)
    }

    /// Whether it works on the VM with this owner.
    pub(crate) fn is_of(&self, ownership: &Ownership) -> bool {
        self.slot == ownership.slot && self.trial.as_ref().is_none_or(|trial| *trial == ownership.trial())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("askari::cycle")]
    #[case("askari::incident-2026-06-17")]
    fn a_run_is_read_from_the_line_that_it_wrote(#[case] trial: &str) {
        let slot = Slot::new(1).unwrap();
        let run = LiveRun::of_this_process(slot, &trial.parse().unwrap(), "7-700", Bytes::gib(3));
        assert_eq!(LiveRun::read(slot, &run.line()), run);
        assert!(run.line().ends_with(", 3GiB"), "{}", run.line());
    }

    #[test]
    fn an_unknown_line_is_a_run_of_unknown_origin() {
        for line in [
            "",
            "another process",
            "a of test run b, process 7, much",
            "a::b::c of test run x, process 1, 3GiB",
        ] {
            let run = LiveRun::read(Slot::new(0).unwrap(), line);
            assert_eq!((run.trial, run.session, &*run.words), (None, None, line));
        }
    }
}
