//! The connection to libvirt, and the bound on every call.
//!
//! A libvirt call blocks until its daemon answers, so each call runs on its own thread, and the caller stops waiting when
//! that thread has been silent for too long. Libvirt's objects never leave that thread: a `Drop` of the `virt` crate that
//! panics affects no other call.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use virt::connect::Connect;

use super::errors::{Failure, cannot_open, translate};
use crate::machine::hypervisor::{HypervisorError, Result};
use crate::support::interrupt::{Interrupt, Interrupted};

/// How long a call may be silent. The slowest legitimate call destroys a QEMU that ignores SIGTERM: 15 s.
const SILENCE: Duration = Duration::from_secs(30);
/// The same for slow calls. One that needs QEMU's capabilities may find libvirt running every installed QEMU several times
/// while all callers wait; we have seen 100 s on a busy two-core machine. Others write or read a guest's whole memory.
const SLOW: Duration = Duration::from_secs(240);
/// The same for every call after one that hung, until one returns. A teardown makes some eight calls and nextest gives a
/// terminated trial less than a minute, so a hung daemon must not cost 30 s a call.
const AFTER_HANG: Duration = Duration::from_secs(3);
/// How long a read-only call may take once a signal has arrived during it.
const AFTER_SIGNAL: Duration = Duration::from_secs(3);
/// How often a waiting caller checks for a signal.
const ATTENTION: Duration = Duration::from_millis(50);
/// How many updates a call may be ahead of its caller; bounds the memory of a download.
const BACKLOG: usize = 4;

/// Connections to one libvirt URI, opened on demand: as many as there are concurrent calls.
pub(super) struct Connection {
    uri: String,
    idle: Mutex<Vec<Connect>>,
    /// Whether the last call hung.
    hung: AtomicBool,
    interrupt: Interrupt,
}

/// What a call does, for its errors, and how long the caller waits for it.
#[derive(Clone, Debug)]
pub(super) struct CallInfo {
    /// As in "cannot …": `start`.
    pub(super) verb: &'static str,
    /// `domain boma-it-askari`.
    pub(super) object: String,
    silence: Duration,
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Stops soon after a signal.
    ReadOnly,
    /// Is waited for in spite of a signal: given up, it would take effect after its undo has run.
    Write,
}

impl CallInfo {
    /// A call that does `verb` to the `kind` called `name`, and changes something.
    pub(super) fn new(verb: &'static str, kind: &str, name: &str) -> Self {
        Self { verb, object: format!("{kind} {name}"), silence: SILENCE, access: Access::Write }
    }

    /// The same for a call that changes nothing.
    pub(super) fn read_only(self) -> Self {
        Self { access: Access::ReadOnly, ..self }
    }

    /// The same for a call that may make libvirt probe QEMU's capabilities, or that moves a guest's memory.
    pub(super) fn slow(self) -> Self {
        Self { silence: SLOW, ..self }
    }
}

/// A running call's way to its caller.
pub(super) struct CallChannel<C> {
    sender: SyncSender<C>,
    cancelled: Arc<AtomicBool>,
    used: Cell<bool>,
}

impl<C> CallChannel<C> {
    fn new() -> (Self, Receiver<C>) {
        let (sender, receiver) = sync_channel(BACKLOG);
        (Self { sender, cancelled: Arc::default(), used: Cell::default() }, receiver)
    }

    /// Sends an update, which also shows that the call is alive.
    ///
    /// # Errors
    /// [`Failure::Cancelled`] when the caller has given up.
    pub(super) fn send(&self, update: C) -> Result<(), Failure> {
        self.used.set(true);
        if self.cancelled.load(Ordering::Relaxed) || self.sender.send(update).is_err() {
            return Err(Failure::Cancelled);
        }
        Ok(())
    }
}

impl Connection {
    /// To `uri`; connects on the first call.
    pub(super) fn new(uri: String) -> Self {
        static QUIET: Once = Once::new();
        // Libvirt would print each error on our standard error.
        QUIET.call_once(virt::error::clear_error_callback);
        Self { uri, idle: Mutex::default(), hung: AtomicBool::new(false), interrupt: Interrupt::never() }
    }

    /// The same, watching `interrupt`.
    pub(super) fn heeding(self, interrupt: Interrupt) -> Self {
        Self { interrupt, ..self }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Runs `work` on a connection.
    pub(super) fn call<T: Send + 'static>(
        &self,
        info: CallInfo,
        work: impl Fn(&Connect) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.call_with_updates(info, move |connection, _: &CallChannel<()>| work(connection), |()| Ok(()))
    }

    /// Runs `work` on a connection and hands its updates to `on_update`. If `on_update` fails, the next
    /// [`CallChannel::send`] fails too, and `work` is still waited for.
    pub(super) fn call_with_updates<T: Send + 'static, C: Send + 'static>(
        &self,
        info: CallInfo,
        work: impl Fn(&Connect, &CallChannel<C>) -> Result<T, Failure> + Send + 'static,
        mut on_update: impl FnMut(C) -> Result<()>,
    ) -> Result<T> {
        let CallInfo { verb, object, silence, access } = info.clone();
        let silence = if self.hung.load(Ordering::Relaxed) { silence.min(AFTER_HANG) } else { silence };
        // A call that starts after the signal is cleanup, and has its own time.
        let heeds_signal = access == Access::ReadOnly && self.interrupt.check().is_ok();
        let (channel, updates) = CallChannel::new();
        let cancelled = Arc::clone(&channel.cancelled);
        let (uri, idle) = (self.uri.clone(), self.lock_idle().pop());
        let worker = std::thread::spawn(move || {
            let open = || Connect::open(Some(&uri)).map_err(|error| cannot_open(error, &uri).into());
            let is_alive = |connection: &Connect| connection.is_alive().unwrap_or(false);
            let (connection, result) = attempt(idle, open, is_alive, &channel, &work);
            (connection, result.map_err(|failure| translate(failure, &info)))
        });
        let (received, gave_up) =
            receive(&updates, silence, heeds_signal.then_some(&self.interrupt), |update| {
                on_update(update).inspect_err(|_| cancelled.store(true, Ordering::Relaxed))
            });
        let error = match gave_up {
            Some(reason) if !worker.is_finished() => {
                cancelled.store(true, Ordering::Relaxed);
                match reason {
                    GaveUp::Interrupted(signal) => {
                        HypervisorError::GaveUp { what: format!("{verb} {object}"), source: signal.into() }
                    }
                    GaveUp::Hung => {
                        self.hung.store(true, Ordering::Relaxed);
                        HypervisorError::Hung { verb, object, bound: silence }
                    }
                }
            }
            _ => match worker.join() {
                Ok((connection, result)) => {
                    self.hung.store(false, Ordering::Relaxed);
                    self.lock_idle().extend(connection);
                    return received.and(result);
                }
                // Libvirt's objects panic when they cannot be freed.
                Err(_) => HypervisorError::Other { verb, object, source: "the connection broke".into() },
            },
        };
        received.and(Err(error))
    }

    /// Each call takes a connection out for itself, so a call that hangs blocks no other.
    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<Connect>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a call is not waited for any longer.
enum GaveUp {
    Hung,
    Interrupted(Interrupted),
}

/// Passes updates on until the call ends or is given up; returns the first error of `on_update`.
fn receive<C>(
    updates: &Receiver<C>,
    silence: Duration,
    interrupt: Option<&Interrupt>,
    mut on_update: impl FnMut(C) -> Result<()>,
) -> (Result<()>, Option<GaveUp>) {
    let (mut received, mut last, mut signalled) = (Ok(()), Instant::now(), None);
    loop {
        let left = silence.saturating_sub(last.elapsed());
        match updates.recv_timeout(left.min(ATTENTION)) {
            Ok(update) => {
                if received.is_ok() {
                    received = on_update(update);
                }
                last = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => return (received, None),
            Err(RecvTimeoutError::Timeout) if left <= ATTENTION => return (received, Some(GaveUp::Hung)),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(Err(signal)) = interrupt.map(Interrupt::check) {
                    let since = *signalled.get_or_insert_with(Instant::now);
                    if last.max(since).elapsed() >= AFTER_SIGNAL {
                        return (received, Some(GaveUp::Interrupted(signal)));
                    }
                }
            }
        }
    }
}

/// Runs `work` on the `idle` connection, or on a new one if there is none or it turns out to be dead, as it is after the
/// daemon restarted. Work that has sent an update is not repeated: the caller would receive the update twice. Returns the
/// connection too, if it is still good.
fn attempt<K, T, C>(
    idle: Option<K>,
    open: impl FnOnce() -> Result<K, Failure>,
    is_alive: impl Fn(&K) -> bool,
    channel: &CallChannel<C>,
    work: &impl Fn(&K, &CallChannel<C>) -> Result<T, Failure>,
) -> (Option<K>, Result<T, Failure>) {
    let guarded = |connection: &K| {
        catch_unwind(AssertUnwindSafe(|| work(connection, channel))).unwrap_or(Err(Failure::Panicked))
    };
    if let Some(connection) = idle {
        let result = guarded(&connection);
        let alive = result.is_ok() || is_alive(&connection);
        if alive || channel.used.get() {
            return (alive.then_some(connection), result);
        }
    }
    match open() {
        Ok(connection) => {
            let result = guarded(&connection);
            (Some(connection), result)
        }
        Err(failure) => (None, Err(failure)),
    }
}

#[cfg(test)]
mod tests;
