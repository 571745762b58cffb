use std::sync::mpsc;

use super::*;

fn mock() -> Connection {
    Connection::new("test:///default".to_owned())
}

/// A call that may be silent for 200 ms.
fn impatient(verb: &'static str) -> CallInfo {
    CallInfo { silence: Duration::from_millis(200), ..CallInfo::new(verb, "domain", "x") }
}

#[test]
fn a_hung_call_is_given_up_and_the_next_call_works() {
    let connection = mock();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let started = Instant::now();
    let error = connection
        .call(impatient("start"), move |_| {
            let _ = held.lock().unwrap().recv();
            Ok(())
        })
        .unwrap_err();
    assert!(matches!(error, HypervisorError::Hung { .. }), "{error}");
    assert!(error.to_string().contains("cannot start domain x"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
    let (again, bound) = (Mutex::new(mpsc::channel::<()>()), AFTER_HANG);
    let hung = connection
        .call(CallInfo::new("stop", "domain", "x"), move |_| Ok(again.lock().unwrap().1.recv().is_ok()));
    assert!(matches!(hung, Err(HypervisorError::Hung { bound: it, .. }) if it == bound), "{hung:?}");
    connection.call(CallInfo::new("ask", "host", "x"), |connection| Ok(connection.hostname()?)).unwrap();
    drop(release);
}

#[test]
fn the_connection_of_a_hung_call_is_not_used_again() {
    let connection = mock();
    connection.call(CallInfo::new("ask", "host", "x"), |connection| Ok(connection.hostname()?)).unwrap();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let hung = connection.call(impatient("start"), move |_| Ok(held.lock().unwrap().recv().is_ok()));
    assert!(matches!(hung, Err(HypervisorError::Hung { .. })), "{hung:?}");
    assert!(connection.lock_idle().is_empty(), "it was kept");
    connection.call(CallInfo::new("ask", "host", "x"), |connection| Ok(connection.hostname()?)).unwrap();
    assert!(!connection.lock_idle().is_empty(), "none was kept");
    drop(release);
}

#[test]
fn a_slow_call_that_sends_updates_is_not_given_up() {
    let mut total = 0;
    // All steps together take longer than the call may be silent; one step leaves time for a busy machine.
    let work = |_: &Connect, channel: &CallChannel<u32>| {
        for step in 0..25 {
            crate::support::deadline::Deadline::uninterrupted(Duration::from_secs(9), "the test")
                .pause(Duration::from_millis(100));
            channel.send(step)?;
        }
        Ok("done")
    };
    let upload = CallInfo { silence: Duration::from_secs(2), ..CallInfo::new("upload", "volume", "x") };
    let result = mock().call_with_updates(upload, work, |step| {
        total += step;
        Ok(())
    });
    assert_eq!((result.unwrap(), total), ("done", 300));
}

#[test]
fn a_call_whose_update_is_rejected_is_cancelled_and_waited_for() {
    let (report, cancelled) = mpsc::channel();
    let work = move |_: &Connect, channel: &CallChannel<()>| {
        while channel.send(()).is_ok() {}
        report.send(()).unwrap();
        Err::<(), _>(Failure::Cancelled)
    };
    let full = || HypervisorError::File {
        verb: "write",
        object: "the console".to_owned(),
        source: std::io::ErrorKind::StorageFull.into(),
    };
    let error = mock()
        .call_with_updates(CallInfo::new("download", "volume", "x"), work, |()| Err(full()))
        .unwrap_err();
    assert!(matches!(error, HypervisorError::File { .. }), "{error}");
    cancelled.try_recv().unwrap();
}

/// When the signal arrives.
enum Signal {
    Before,
    During,
}

#[rstest::rstest]
#[case::read_only(CallInfo::new("ask", "host", "x").read_only(), Signal::During, true)]
#[case::write(CallInfo::new("start", "domain", "x"), Signal::During, false)]
#[case::cleanup(CallInfo::new("ask", "host", "x").read_only(), Signal::Before, false)]
fn a_signal_ends_a_read_only_call_that_started_before_it(
    #[case] info: CallInfo,
    #[case] signal: Signal,
    #[case] given_up: bool,
) {
    let interrupt = Interrupt::never();
    let connection = mock().heeding(interrupt.clone());
    if matches!(signal, Signal::Before) {
        interrupt.raise(15);
    }
    let started = Instant::now();
    let result = connection.call(info.clone(), move |_| {
        interrupt.raise(15);
        let long = 2 * AFTER_SIGNAL;
        crate::support::deadline::Deadline::uninterrupted(long, "the test").pause(long);
        Ok(())
    });
    assert_eq!(result.is_err(), given_up, "{result:?}");
    if let Err(error) = result {
        let error = anyhow::Error::from(error);
        assert!(error.chain().any(|cause| cause.is::<Interrupted>()), "{error:#}");
        assert!(started.elapsed() < 2 * AFTER_SIGNAL);
    }
    assert!(!connection.hung.load(Ordering::Relaxed), "cleanup would have only 3 s for a call");
}

/// The idle connection, 1, is dead; the new one, 2, is alive.
#[rstest::rstest]
#[case::after_an_update(&[7], &[1], &[7])]
#[case::without_an_update(&[], &[1, 2], &[])]
fn a_call_on_a_dead_connection_is_repeated_unless_it_has_sent_an_update(
    #[case] updates: &'static [u32],
    #[case] attempts: &[u32],
    #[case] received: &[u32],
) {
    let (channel, receiver) = CallChannel::new();
    let tried = Mutex::new(Vec::new());
    let work = |connection: &u32, channel: &CallChannel<u32>| {
        tried.lock().unwrap().push(*connection);
        updates.iter().try_for_each(|update| channel.send(*update))?;
        if *connection == 1 { Err(Failure::Panicked) } else { Ok(()) }
    };
    let (kept, result) = attempt(Some(1), || Ok(2), |connection| *connection != 1, &channel, &work);
    drop(channel);
    assert_eq!(tried.into_inner().unwrap(), attempts);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), received);
    assert_eq!((result.is_ok(), kept), (updates.is_empty(), updates.is_empty().then_some(2)));
}

#[test]
fn a_panic_in_a_call_becomes_an_error() {
    let error =
        mock().call(CallInfo::new("start", "domain", "x"), |_| -> Result<(), _> { panic!("free failed") });
    assert!(matches!(error, Err(HypervisorError::Other { .. })), "{error:?}");
}
