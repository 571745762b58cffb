//! The connection, and the bound on every call. Libvirt's calls block for as long as its daemon pleases, so each runs on a
//! thread of its own, and who asked stops waiting for it when nothing was heard from it for too long. What belongs
//! to libvirt lives and dies on that thread: a `Drop` in the `virt` crate that panics harms nobody else.

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

/// For how long a call may say nothing. The slowest that is in order, destroying a QEMU that does not react to SIGTERM,
/// takes libvirt 15 s.
const SILENCE: Duration = Duration::from_secs(30);
/// The same for calls that need to know what QEMU can do: when it does not know (any more), libvirt first runs each
/// QEMU that is installed, several times, and all callers wait; 100 s were seen on a busy machine of two cores.
const PROBING: Duration = Duration::from_secs(240);
/// The same for every call after one that hung, until one does not: a daemon that hangs keeps a teardown of some eight calls from
/// its end, and that has less than a minute where nextest ends a trial.
const AFTER_A_HANG: Duration = Duration::from_secs(3);
/// The same for a call that only looks, once we were asked to stop while it was under way.
const AFTER_A_SIGNAL: Duration = Duration::from_secs(3);
/// How often it is looked whether we were.
const ATTENTION: Duration = Duration::from_millis(50);
/// How many messages a call may be ahead of who asked: bounds the memory of a download.
const AHEAD: usize = 4;

/// Connections to libvirt, made when they are needed: as many as there are calls at a time.
pub(super) struct Session {
    uri: String,
    idle: Mutex<Vec<Connect>>,
    hangs: AtomicBool,
    interrupt: Interrupt,
}

/// What a call is about, for errors.
#[derive(Clone, Debug)]
pub(super) struct CallInfo {
    /// What is done, as in "cannot …": `start`.
    pub(super) verb: &'static str,
    /// To what: `domain boma-it-askari`.
    pub(super) object: String,
    /// How long it may say nothing.
    silence: Duration,
    effect: Access,
}

/// What a call leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Nothing. When we are asked to stop, it is not waited for long.
    Looks,
    /// Something. It is waited for, signal or not: given up, it would take effect when its undo has run.
    Changes,
}

impl CallInfo {
    /// Of a call that changes nothing.
    pub(super) fn looking(self) -> Self {
        Self { effect: Access::Looks, ..self }
    }

    /// With the patience that a call needs which may make libvirt find out what QEMU can do.
    pub(super) fn probing(self) -> Self {
        Self { silence: PROBING, ..self }
    }
}

/// `verb` done to the `kind` of that `name`.
pub(super) fn about(verb: &'static str, kind: &str, name: &str) -> CallInfo {
    CallInfo { verb, object: format!("{kind} {name}"), silence: SILENCE, effect: Access::Changes }
}

/// A call's line to who asked.
pub(super) struct CallChannel<C> {
    sender: SyncSender<Message<C>>,
    cancelled: Arc<AtomicBool>,
    spoke: Cell<bool>,
}

enum Message<C> {
    News(C),
    Answer,
}

impl<C> CallChannel<C> {
    /// Says something, if only that the call is alive.
    ///
    /// # Errors
    /// [`Failure::Cancelled`] when nobody listens any more.
    pub(super) fn say(&self, news: C) -> Result<(), Failure> {
        self.spoke.set(true);
        if self.cancelled.load(Ordering::Relaxed) || self.sender.send(Message::News(news)).is_err() {
            return Err(Failure::Cancelled);
        }
        Ok(())
    }
}

impl Session {
    /// Of `uri`; nothing is connected yet.
    pub(super) fn new(uri: String) -> Self {
        static QUIET: Once = Once::new();
        // Libvirt would print each error on our standard error.
        QUIET.call_once(virt::error::clear_error_callback);
        Self { uri, idle: Mutex::default(), hangs: AtomicBool::new(false), interrupt: Interrupt::never() }
    }

    /// The same, heeding `interrupt`.
    pub(super) fn heeding(self, interrupt: Interrupt) -> Self {
        Self { interrupt, ..self }
    }

    /// The URI, as it was given.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Runs `work` on a connection.
    pub(super) fn call<T: Send + 'static>(
        &self,
        about: CallInfo,
        work: impl Fn(&Connect) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.converse(about, move |connection, _: &CallChannel<()>| work(connection), |()| Ok(()))
    }

    /// Runs `work` on a connection, and hears what it says on the way. If hearing fails, `work` is told so by its
    /// [`CallChannel`], and is still waited for.
    pub(super) fn converse<T: Send + 'static, C: Send + 'static>(
        &self,
        about: CallInfo,
        work: impl Fn(&Connect, &CallChannel<C>) -> Result<T, Failure> + Send + 'static,
        mut hear: impl FnMut(C) -> Result<()>,
    ) -> Result<T> {
        let about = match self.hangs.load(Ordering::Relaxed) {
            true => CallInfo { silence: about.silence.min(AFTER_A_HANG), ..about },
            false => about,
        };
        // What begins after a signal is cleanup, and has its own time.
        let is_heeded = about.effect == Access::Looks && self.interrupt.check().is_ok();
        let heeded = is_heeded.then_some(&self.interrupt);
        let (sender, receiver) = sync_channel(AHEAD);
        let line = CallChannel { sender, cancelled: Arc::default(), spoke: Cell::default() };
        let cancelled = Arc::clone(&line.cancelled);
        let outcome = Arc::new(Mutex::new(None));
        let uri = self.uri.clone();
        let worker = Worker {
            kept: self.take(),
            open: Box::new(move || Connect::open(Some(&uri)).map_err(|error| cannot_open(error, &uri))),
            lives: |connection: &Connect| connection.is_alive().unwrap_or(false),
            about: about.clone(),
        };
        let result = Arc::clone(&outcome);
        std::thread::spawn(move || {
            let done = worker.run(&line, &work);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            let _ = line.sender.send(Message::Answer);
        });
        let (heard, given_up) = listen(&receiver, about.silence, heeded, |news| {
            let heard = hear(news);
            if heard.is_err() {
                cancelled.store(true, Ordering::Relaxed);
            }
            heard
        });
        let done = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((connection, result)) = done {
            self.hangs.store(false, Ordering::Relaxed);
            self.put(connection);
            return heard.and(result);
        }
        cancelled.store(true, Ordering::Relaxed);
        let CallInfo { verb, object, silence: bound, .. } = about;
        heard.and(Err(match given_up {
            Some(GivenUp::Interrupted(signal)) => {
                HypervisorError::Ended { what: format!("{verb} {object}"), source: signal.into() }
            }
            Some(GivenUp::Hung) | None => {
                self.hangs.store(true, Ordering::Relaxed);
                HypervisorError::Hung { verb, object, bound }
            }
        }))
    }

    /// A kept connection, for one call: it has it to itself, so that one that hangs is nobody else's.
    fn take(&self) -> Option<Connect> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps a connection for the next call; none is kept after a call that lost it, or that hung on it.
    fn put(&self, connection: Option<Connect>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(connection);
    }
}

/// Why a call is not waited for any more.
enum GivenUp {
    Hung,
    Interrupted(Interrupted),
}

/// Hears all that is said until the call is done or given up; gives the first failure to hear.
fn listen<C>(
    receiver: &Receiver<Message<C>>,
    silence: Duration,
    heeded: Option<&Interrupt>,
    mut hear: impl FnMut(C) -> Result<()>,
) -> (Result<()>, Option<GivenUp>) {
    let (mut heard, mut last, mut signalled) = (Ok(()), Instant::now(), None);
    loop {
        let left = silence.saturating_sub(last.elapsed());
        match receiver.recv_timeout(left.min(ATTENTION)) {
            Ok(Message::News(news)) => {
                if heard.is_ok() {
                    heard = hear(news);
                }
                last = Instant::now();
            }
            Ok(Message::Answer) | Err(RecvTimeoutError::Disconnected) => return (heard, None),
            Err(RecvTimeoutError::Timeout) if left <= ATTENTION => return (heard, Some(GivenUp::Hung)),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(Err(signal)) = heeded.map(Interrupt::check) {
                    let since = *signalled.get_or_insert_with(Instant::now);
                    if last.max(since).elapsed() >= AFTER_A_SIGNAL {
                        return (heard, Some(GivenUp::Interrupted(signal)));
                    }
                }
            }
        }
    }
}

struct Worker<K> {
    kept: Option<K>,
    open: Box<dyn Fn() -> Result<K> + Send>,
    lives: fn(&K) -> bool,
    about: CallInfo,
}

type Answer<K, T> = (Option<K>, Result<T>);

impl<K> Worker<K> {
    /// Does the work on the kept connection or a new one; once more on a new one if the kept one turns out to be dead,
    /// as it is after the daemon was restarted. What has said something is not done once more: it would say it again.
    fn run<T, C>(
        mut self,
        line: &CallChannel<C>,
        work: &impl Fn(&K, &CallChannel<C>) -> Result<T, Failure>,
    ) -> Answer<K, T> {
        let attempt = |connection: &K| {
            catch_unwind(AssertUnwindSafe(|| work(connection, line))).unwrap_or(Err(Failure::Panicked))
        };
        if let Some(connection) = self.kept.take() {
            let result = attempt(&connection);
            let lives = result.is_ok() || (self.lives)(&connection);
            if lives || line.spoke.get() {
                return (lives.then_some(connection), result.map_err(|failure| self.explain(failure)));
            }
        }
        match (self.open)() {
            Ok(connection) => {
                let result = attempt(&connection).map_err(|failure| self.explain(failure));
                (Some(connection), result)
            }
            Err(error) => (None, Err(error)),
        }
    }

    fn explain(&self, failure: Failure) -> HypervisorError {
        translate(failure, &self.about)
    }
}

#[cfg(test)]
mod tests;
