use std::sync::mpsc::channel;

use super::*;

fn mock() -> Session {
    Session::new("test:///default".to_owned())
}

fn soon(verb: &'static str) -> CallInfo {
    CallInfo { silence: Duration::from_millis(200), ..about(verb, "domain", "x") }
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
    let work = |_: &Connect, line: &CallChannel<u32>| {
        for step in 0..25 {
            crate::support::deadline::Deadline::uninterrupted(Duration::from_secs(9), "the test")
                .pause(Duration::from_millis(100));
            line.say(step)?;
        }
        Ok("done")
    };
    let upload = CallInfo { silence: Duration::from_secs(2), ..about("upload", "volume", "x") };
    let result = mock().converse(upload, work, |step| {
        heard += step;
        Ok(())
    });
    assert_eq!((result.unwrap(), heard), ("done", 300));
}

#[test]
fn a_call_whose_news_are_refused_is_told_and_waited_for() {
    let (told, was_told) = channel();
    let work = move |_: &Connect, line: &CallChannel<()>| {
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

enum Asked {
    Before,
    Meanwhile,
}

#[rstest::rstest]
#[case::it_only_looks(about("ask", "host", "x").looking(), Asked::Meanwhile, true)]
#[case::it_changes_something(about("start", "domain", "x"), Asked::Meanwhile, false)]
#[case::it_is_cleanup(about("ask", "host", "x").looking(), Asked::Before, false)]
fn a_signal_ends_a_call_that_is_under_way_and_changes_nothing(
    #[case] about: CallInfo,
    #[case] asked: Asked,
    #[case] given_up: bool,
) {
    let interrupt = Interrupt::never();
    let session = mock().heeding(interrupt.clone());
    if matches!(asked, Asked::Before) {
        interrupt.raise(15);
    }
    let started = Instant::now();
    let result = session.call(about.clone(), move |_| {
        interrupt.raise(15);
        let long = 2 * AFTER_A_SIGNAL;
        crate::support::deadline::Deadline::uninterrupted(long, "the test").pause(long);
        Ok(())
    });
    assert_eq!(result.is_err(), given_up, "{result:?}");
    if let Err(error) = result {
        let error = anyhow::Error::from(error);
        assert!(error.chain().any(|cause| cause.is::<Interrupted>()), "{error:#}");
        assert!(started.elapsed() < 2 * AFTER_A_SIGNAL);
    }
    assert!(!session.hangs.load(Ordering::Relaxed), "the cleanup has 3 s for a call");
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
    let line = CallChannel { sender, cancelled: Arc::default(), spoke: Cell::default() };
    let worker = Worker {
        kept: Some(1),
        open: Box::new(|| Ok(2)),
        lives: |connection| *connection != 1,
        about: about("download", "volume", "x"),
    };
    let tried = Mutex::new(Vec::new());
    let (kept, result) = worker.run(&line, &|connection: &u32, line: &CallChannel<u32>| {
        tried.lock().unwrap().push(*connection);
        news.iter().try_for_each(|piece| line.say(*piece))?;
        if *connection == 1 { Err(Failure::Panicked) } else { Ok(()) }
    });
    drop(line);
    let said: Vec<u32> = receiver
        .iter()
        .map(|message| match message {
            Message::News(piece) => piece,
            Message::Answer => 0,
        })
        .collect();
    assert_eq!((tried.into_inner().unwrap().as_slice(), said.as_slice()), (attempts, heard));
    assert_eq!((result.is_ok(), kept), (news.is_empty(), news.is_empty().then_some(2)));
}

#[test]
fn a_panic_in_a_call_becomes_an_error() {
    let error = mock().call(about("start", "domain", "x"), |_| -> Result<(), _> { panic!("free failed") });
    assert!(matches!(error, Err(HypervisorError::Other { .. })), "{error:?}");
}
