//! The one deadline type. Everything that may block takes a `&Deadline`: it says how much time is left and whether the
//! run was interrupted, and adds up the time spent waiting for the guest or for Ansible.
//!
//! A wait names what it waits for and keeps the last reason why that is not ready, so that a time-out reads
//! like `timed out after 5m waiting for SSH on 10.213.47.10 (deadline of up): connection refused`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::interrupt::{Interrupt, Interrupted};

/// How often a wait checks for an interrupt; also the longest delay between a signal and the end of a sleep.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// Time spent waiting for the guest or for Ansible, as opposed to our own work. Shared by every deadline of a run.
#[derive(Clone, Debug, Default)]
pub struct Waited(Arc<AtomicU64>);

impl Waited {
    /// All waiting time so far.
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A point in time by which something must be done, and the reasons to stop before it.
#[derive(Clone, Debug)]
pub struct Deadline {
    what: String,
    started: Instant,
    budget: Duration,
    interrupt: Interrupt,
    waited: Waited,
}

/// What a probe found: see [`Deadline::wait_for`].
#[derive(Debug)]
pub enum Progress<T> {
    /// What was waited for.
    Ready(T),
    /// Not yet, and why.
    Pending(String),
}

/// Why a wait ended without what it waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("timed out after {} waiting for {awaited} (deadline of {what}){}", format_duration(*.budget), .last.as_deref().map(|l| format!(": {l}")).unwrap_or_default())]
    TimedOut {
        /// Whose deadline it was.
        what: String,
        /// What was waited for.
        awaited: String,
        /// The deadline's whole budget.
        budget: Duration,
        /// The last reason the probe gave for not being ready.
        last: Option<String>,
    },
    /// The run was interrupted.
    #[error("stopped waiting")]
    Interrupted(#[from] Interrupted),
    /// The probe failed, so waiting longer is pointless.
    #[error("waiting for {awaited}")]
    Failed {
        /// What was waited for.
        awaited: String,
        /// Why the probe failed.
        #[source]
        source: anyhow::Error,
    },
}

impl Deadline {
    /// `budget` from now, for `what` (a noun phrase: "up", "ready", "apply").
    pub fn after(budget: Duration, what: impl Into<String>, interrupt: Interrupt, waited: Waited) -> Self {
        Self { what: what.into(), started: Instant::now(), budget, interrupt, waited }
    }

    /// A deadline that ignores signals and counts no waiting time: for cleanup and for tests.
    pub fn uninterrupted(budget: Duration, what: impl Into<String>) -> Self {
        Self::after(budget, what, Interrupt::never(), Waited::default())
    }

    /// A deadline for a part of this one: `budget` from now, but never later than this one.
    pub(crate) fn within(&self, budget: Duration, what: impl Into<String>) -> Self {
        Self::after(budget.min(self.remaining()), what, self.interrupt.clone(), self.waited.clone())
    }

    /// The same deadline with another interrupt: for work that something other than a signal may end.
    pub(crate) fn heeding(&self, interrupt: Interrupt) -> Self {
        Self { interrupt, ..self.clone() }
    }

    /// What is left, zero when it has passed.
    pub(crate) fn remaining(&self) -> Duration {
        self.budget.saturating_sub(self.started.elapsed())
    }

    /// How long ago the deadline was set.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The interrupt that ends waits on this deadline.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// `Err` once the deadline has passed or the run was interrupted; `awaited` names what would have come next.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] or [`WaitError::Interrupted`].
    pub(crate) fn check(&self, awaited: &str) -> Result<(), WaitError> {
        self.check_with(awaited, None)
    }

    /// Runs `work`, which blocks on the guest or on Ansible, and counts its time as waiting.
    pub(crate) fn time_wait<T>(&self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        self.waited.add(started.elapsed());
        result
    }

    /// Calls `probe` every `interval` until it is ready, it fails, or the deadline passes. The whole wait, probes
    /// included, counts as waiting.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] with the last pending reason, [`WaitError::Interrupted`], or
    /// [`WaitError::Failed`] with the probe's own error.
    pub fn wait_for<T>(
        &self,
        awaited: &str,
        interval: Duration,
        mut probe: impl FnMut() -> anyhow::Result<Progress<T>>,
    ) -> Result<T, WaitError> {
        self.time_wait(|| {
            let mut last = None;
            loop {
                self.check_with(awaited, last.take())?;
                match probe() {
                    Ok(Progress::Ready(value)) => return Ok(value),
                    Ok(Progress::Pending(reason)) => last = Some(reason),
                    Err(error) => {
                        return Err(WaitError::Failed { awaited: awaited.to_owned(), source: error });
                    }
                }
                self.check_with(awaited, last.clone())?;
                self.pause(interval);
            }
        })
    }

    /// Sleeps for `interval`, cut short by the deadline or an interrupt.
    pub(crate) fn pause(&self, interval: Duration) {
        let until = Instant::now() + interval.min(self.remaining());
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.interrupt.check().is_err() {
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
            std::thread::sleep(left.min(INTERRUPT_CHECK));
        }
    }

    fn check_with(&self, awaited: &str, last: Option<String>) -> Result<(), WaitError> {
        self.interrupt.check()?;
        if self.remaining().is_zero() {
            return Err(WaitError::TimedOut {
                what: self.what.clone(),
                awaited: awaited.to_owned(),
                budget: self.budget,
                last,
            });
        }
        Ok(())
    }
}

/// A duration as people write it: `850ms`, `4.2s`, `59s`, `3m07s`, `1h02m`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon(ms: u64) -> Deadline {
        Deadline::uninterrupted(Duration::from_millis(ms), "the test")
    }

    #[test]
    fn a_wait_that_times_out_names_what_it_waited_for_and_the_last_reason() {
        let mut tries = 0;
        let error = soon(900)
            .wait_for("a green light", Duration::from_millis(5), || {
                tries += 1;
                Ok(Progress::<()>::Pending(format!("red, look {tries}")))
            })
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            format!(
                "timed out after 900ms waiting for a green light (deadline of the test): red, look {tries}"
            )
        );
        assert!(tries > 1);
    }

    #[test]
    fn a_failing_probe_ends_the_wait_at_once_and_keeps_its_error_chain() {
        let started = Instant::now();
        let error = soon(10_000)
            .wait_for("SSH", Duration::from_millis(5), || {
                Err::<Progress<()>, _>(anyhow::anyhow!("the kernel panicked").context("the guest died"))
            })
            .unwrap_err();
        assert_eq!(
            format!("{:#}", anyhow::Error::from(error)),
            "waiting for SSH: the guest died: the kernel panicked"
        );
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn an_interrupt_ends_a_wait_within_a_second() {
        let interrupt = Interrupt::never();
        let deadline =
            Deadline::after(Duration::from_secs(60), "the test", interrupt.clone(), Waited::default());
        let started = Instant::now();
        let result = deadline.wait_for("nothing", Duration::from_secs(30), || {
            interrupt.raise(15);
            Ok(Progress::<()>::Pending("never".into()))
        });
        assert!(matches!(result, Err(WaitError::Interrupted(Interrupted(15)))));
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_part_never_outlives_the_whole_and_counts_into_the_same_waiting_time() {
        let waited = Waited::default();
        let whole = Deadline::after(Duration::from_secs(20), "whole", Interrupt::never(), waited.clone());
        let part = whole.within(Duration::from_secs(60), "part");
        assert!(part.remaining() <= Duration::from_secs(20));
        part.time_wait(|| part.pause(Duration::from_millis(20)));
        assert!(waited.total() >= Duration::from_millis(20));
    }

    #[rstest::rstest]
    #[case(850, "850ms")]
    #[case(4_240, "4.2s")]
    #[case(59_400, "59s")]
    #[case(187_000, "3m07s")]
    #[case(3_720_000, "1h02m")]
    fn durations_are_shown_as_people_write_them(#[case] ms: u64, #[case] shown: &str) {
        assert_eq!(format_duration(Duration::from_millis(ms)), shown);
    }
}
