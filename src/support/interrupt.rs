//! Ctrl-C and SIGTERM, turned into a value that every wait checks.
//!
//! No cleanup runs in a signal handler. The handler stores the signal's number; a wait ([`super::deadline::Deadline`],
//! [`super::process::Process`]) sees it within 50 ms and returns [`Interrupted`], and the ordinary cleanup runs on the way
//! out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A shared flag: whether, and by which signal, the run was interrupted.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
}

/// The run was interrupted, by the signal of this number (2 for Ctrl-C, 15 for SIGTERM).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted by signal {0}")]
pub struct Interrupted(pub i32);

impl Interrupt {
    /// An interrupt that only [`Interrupt::raise`] can trigger: for tests, and for cleanup that must finish.
    pub fn never() -> Self {
        Self::default()
    }

    /// Listens for SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// A second SIGINT or SIGTERM changes nothing: cleanup is bounded by its own deadline, and a supervisor
    /// that cannot wait for it sends SIGKILL, after which `boma-it prune` removes what is left.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub(crate) fn from_signals() -> std::io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let number = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, Arc::clone(&interrupt.signal), number)?;
        }
        Ok(interrupt)
    }

    /// Interrupts the run, as if `signal` had been received.
    pub fn raise(&self, signal: i32) {
        self.signal.store(usize::try_from(signal).unwrap_or_default(), Ordering::SeqCst);
    }

    /// `Err` once the run was interrupted.
    ///
    /// # Errors
    /// [`Interrupted`] with the signal's number.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        match self.signal.load(Ordering::SeqCst) {
            0 => Ok(()),
            number => Err(Interrupted(i32::try_from(number).unwrap_or_default())),
        }
    }
}
