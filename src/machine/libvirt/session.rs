//! The connection, and the bound on every call. Libvirt's calls block for as long as its daemon pleases, so each runs on a
//! thread of its own, and who asked stops waiting for it when nothing was heard from it for too long. What belongs
//! to libvirt lives and dies on that thread: a `Drop` in the `virt` crate that panics harms nobody else.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use virt::connect::Connect;

use super::errors::{Failure, cannot_open, translate};
use crate::machine::hypervisor::{HypervisorError, Result};

/// For how long a call may say nothing. The slowest that is in order, destroying a QEMU that does not react to SIGTERM,
/// takes libvirt 15 s.
const SILENCE: Duration = Duration::from_secs(30);
/// The same for calls that need to know what QEMU can do: when it does not know (any more), libvirt first runs each
/// QEMU that is installed, several times, and all callers wait; 100 s were seen on a busy machine of two cores.
const PROBING: Duration = Duration::from_secs(240);
/// The same for every call after one that hung, until one does not: a daemon that hangs keeps a teardown of some eight calls from
/// its end, and that has less than a minute where nextest ends a trial.
const AFTER_A_HANG: Duration = Duration::from_secs(3);
/// How many messages a call may be ahead of who asked: bounds the memory of a download.
const AHEAD: usize = 4;

/// Connections to libvirt, made when they are needed: as many as there are calls at a time.
pub(super) struct Session {
    uri: String,
    idle: Mutex<Vec<Connect>>,
    hangs: AtomicBool,
}

/// What a call is about, for errors.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// What is done, as in "cannot …": `start`.
    pub(super) verb: &'static str,
    /// To what: `domain boma-it-askari`.
    pub(super) object: String,
    /// How long it may say nothing.
    silence: Duration,
}

impl About {
    /// With the patience that a call needs which may make libvirt find out what QEMU can do.
    pub(super) fn probing(self) -> Self {
        Self { silence: PROBING, ..self }
    }
}

/// `verb` done to the `kind` of that `name`.
pub(super) fn about(verb: &'static str, kind: &str, name: &str) -> About {
    About { verb, object: format!("{kind} {name}"), silence: SILENCE }
}

/// A call's line to who asked.
pub(super) struct Line<C> {
    sender: SyncSender<Message<C>>,
    cancelled: Arc<AtomicBool>,
    spoke: Cell<bool>,
}

enum Message<C> {
    News(C),
    Done,
}

impl<C> Line<C> {
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
        Self { uri, idle: Mutex::default(), hangs: AtomicBool::new(false) }
    }

    /// The URI, as it was given.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Runs `work` on a connection.
    pub(super) fn call<T: Send + 'static>(
        &self,
        about: About,
        work: impl Fn(&Connect) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.converse(about, move |connection, _: &Line<()>| work(connection), |()| Ok(()))
    }

    /// Runs `work` on a connection, and hears what it says on the way. If hearing fails, `work` is told so by its
    /// [`Line`], and is still waited for.
    pub(super) fn converse<T: Send + 'static, C: Send + 'static>(
        &self,
        about: About,
        work: impl Fn(&Connect, &Line<C>) -> Result<T, Failure> + Send + 'static,
        mut hear: impl FnMut(C) -> Result<()>,
    ) -> Result<T> {
        let about = match self.hangs.load(Ordering::Relaxed) {
            true => About { silence: about.silence.min(AFTER_A_HANG), ..about },
            false => about,
        };
        let (sender, receiver) = sync_channel(AHEAD);
        let line = Line { sender, cancelled: Arc::default(), spoke: Cell::default() };
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
            let _ = line.sender.send(Message::Done);
        });
        let heard = listen(&receiver, &about, |news| {
            let heard = hear(news);
            if heard.is_err() {
                cancelled.store(true, Ordering::Relaxed);
            }
            heard
        });
        let done = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.hangs.store(done.is_none(), Ordering::Relaxed);
        match done {
            Some((connection, result)) => {
                self.put(connection);
                heard.and(result)
            }
            None => {
                cancelled.store(true, Ordering::Relaxed);
                Err(heard.err().unwrap_or(HypervisorError::Hung {
                    verb: about.verb,
                    object: about.object,
                    bound: about.silence,
                }))
            }
        }
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

/// Hears all that is said until the call is done, the first failure to hear included.
fn listen<C>(
    receiver: &Receiver<Message<C>>,
    about: &About,
    mut hear: impl FnMut(C) -> Result<()>,
) -> Result<()> {
    let mut heard = Ok(());
    loop {
        match receiver.recv_timeout(about.silence) {
            Ok(Message::News(news)) if heard.is_ok() => heard = hear(news),
            Ok(Message::News(_)) => {}
            Ok(Message::Done) | Err(RecvTimeoutError::Disconnected) => return heard,
            Err(RecvTimeoutError::Timeout) => {
                let (verb, object) = (about.verb, about.object.clone());
                return heard.and(Err(HypervisorError::Hung { verb, object, bound: about.silence }));
            }
        }
    }
}

struct Worker<K> {
    kept: Option<K>,
    open: Box<dyn Fn() -> Result<K> + Send>,
    lives: fn(&K) -> bool,
    about: About,
}

type Done<K, T> = (Option<K>, Result<T>);

impl<K> Worker<K> {
    /// Does the work on the kept connection or a new one; once more on a new one if the kept one turns out to be dead,
    /// as it is after the daemon was restarted. What has said something is not done once more: it would say it again.
    fn run<T, C>(mut self, line: &Line<C>, work: &impl Fn(&K, &Line<C>) -> Result<T, Failure>) -> Done<K, T> {
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
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;

    fn mock() -> Session {
        Session::new("test:///default".to_owned())
    }

    fn soon(verb: &'static str) -> About {
        About { silence: Duration::from_millis(200), ..about(verb, "domain", "x") }
    }

    #[test]
    fn a_call_that_hangs_is_given_up_and_the_next_one_works() {
        let session = mock();
        let (release, held) = channel::<()>();
        let held = Mutex::new(held);
        let started = Instant::now();
        let error = session
            .call(soon("start"), move |_| {
                let _ = held.lock().unwrap().recv();
                Ok(())
            })
            .unwrap_err();
        assert!(matches!(error, HypervisorError::Hung { .. }), "{error}");
        assert!(error.to_string().contains("cannot start domain x"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(2));
        let (again, bound) = (Mutex::new(channel::<()>()), AFTER_A_HANG);
        let hung =
            session.call(about("stop", "domain", "x"), move |_| Ok(again.lock().unwrap().1.recv().is_ok()));
        assert!(matches!(hung, Err(HypervisorError::Hung { bound: it, .. }) if it == bound), "{hung:?}");
        session.call(about("ask", "host", "x"), |connection| Ok(connection.hostname()?)).unwrap();
        drop(release);
    }

    #[test]
    fn the_connection_of_a_call_that_hung_is_not_used_again() {
        let session = mock();
        session.call(about("ask", "host", "x"), |connection| Ok(connection.hostname()?)).unwrap();
        let (release, held) = channel::<()>();
        let held = Mutex::new(held);
        let hung = session.call(soon("start"), move |_| Ok(held.lock().unwrap().recv().is_ok()));
        assert!(matches!(hung, Err(HypervisorError::Hung { .. })), "{hung:?}");
        assert!(session.take().is_none(), "it is kept");
        session.call(about("ask", "host", "x"), |connection| Ok(connection.hostname()?)).unwrap();
        assert!(session.take().is_some(), "none is kept");
        drop(release);
    }

    #[test]
    fn a_call_that_is_slow_but_talks_is_not_given_up() {
        let mut heard = 0;
        // Longer than it may be silent; a step of it has room for a busy machine.
        let work = |_: &Connect, line: &Line<u32>| {
            for step in 0..25 {
                crate::support::deadline::Deadline::uninterrupted(Duration::from_secs(9), "the test")
                    .pause(Duration::from_millis(100));
                line.say(step)?;
            }
            Ok("done")
        };
        let upload = About { silence: Duration::from_secs(2), ..about("upload", "volume", "x") };
        let result = mock().converse(upload, work, |step| {
            heard += step;
            Ok(())
        });
        assert_eq!((result.unwrap(), heard), ("done", 300));
    }

    #[test]
    fn a_call_whose_news_are_refused_is_told_and_waited_for() {
        let (told, was_told) = channel();
        let work = move |_: &Connect, line: &Line<()>| {
            while line.say(()).is_ok() {}
            told.send(()).unwrap();
            Err::<(), _>(Failure::Cancelled)
        };
        let full = || HypervisorError::File {
            verb: "write",
            object: "the console".to_owned(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        let error = mock().converse(about("download", "volume", "x"), work, |()| Err(full())).unwrap_err();
        assert!(matches!(error, HypervisorError::File { .. }), "{error}");
        was_told.try_recv().unwrap();
    }

    /// The kept connection, 1, is dead; the new one, 2, is not.
    #[rstest::rstest]
    #[case::that_said_something(&[7], &[1], &[7])]
    #[case::that_said_nothing(&[], &[1, 2], &[])]
    fn a_call_on_a_dead_connection_is_repeated_unless_it_was_heard(
        #[case] news: &'static [u32],
        #[case] attempts: &[u32],
        #[case] heard: &[u32],
    ) {
        let (sender, receiver) = sync_channel(AHEAD);
        let line = Line { sender, cancelled: Arc::default(), spoke: Cell::default() };
        let worker = Worker {
            kept: Some(1),
            open: Box::new(|| Ok(2)),
            lives: |connection| *connection != 1,
            about: about("download", "volume", "x"),
        };
        let tried = Mutex::new(Vec::new());
        let (kept, result) = worker.run(&line, &|connection: &u32, line: &Line<u32>| {
            tried.lock().unwrap().push(*connection);
            news.iter().try_for_each(|piece| line.say(*piece))?;
            if *connection == 1 { Err(Failure::Panicked) } else { Ok(()) }
        });
        drop(line);
        let said: Vec<u32> = receiver
            .iter()
            .map(|message| match message {
                Message::News(piece) => piece,
                Message::Done => 0,
            })
            .collect();
        assert_eq!((tried.into_inner().unwrap().as_slice(), said.as_slice()), (attempts, heard));
        assert_eq!((result.is_ok(), kept), (news.is_empty(), news.is_empty().then_some(2)));
    }

    #[test]
    fn a_panic_in_a_call_becomes_an_error() {
        let error =
            mock().call(about("start", "domain", "x"), |_| -> Result<(), _> { panic!("free failed") });
        assert!(matches!(error, Err(HypervisorError::Other { .. })), "{error:?}");
    }
}
