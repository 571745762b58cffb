use std::time::Instant;

use super::*;
use crate::support::deadline::Waited;
use crate::support::interrupt::Interrupt;

fn sh(script: &str) -> Process {
    Process::new("sh").arg("-c").arg(script)
}

fn plenty() -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(30), "the test")
}

#[test]
fn a_failure_shows_a_pasteable_command_the_status_and_both_streams() {
    let error = sh("echo out; echo 'it''s broken' >&2; exit 3").run_ok(&plenty()).unwrap_err();
    insta::assert_snapshot!(error, @r#"
    `sh -c "echo out; echo 'it''s broken' >&2; exit 3"` ended with exit status 3
      stdout:
        out
      stderr:
        its broken
    "#);
}

#[test]
fn a_missing_program_is_named_in_the_error() {
    let error = Process::new("no-such-program-of-ours").run(&plenty()).unwrap_err();
    assert!(error.to_string().starts_with("cannot start `no-such-program-of-ours`"), "{error}");
}

#[test]
fn the_deadline_ends_the_whole_process_group() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let started = Instant::now();
    // The shell has three seconds to start. It ends on SIGTERM, long before it would be killed.
    let error = sh(&format!("sleep 60 & echo $! > {}; wait", pid_file.display()))
        .run(&Deadline::uninterrupted(Duration::from_secs(3), "the test"))
        .unwrap_err();
    assert!(matches!(error, ProcessError::Ended { source: WaitError::TimedOut { .. }, .. }), "{error}");
    assert!(started.elapsed() < Duration::from_millis(3000 + 3700));
    let grandchild: i32 = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    let gone = plenty().wait_for("the grandchild to be gone", Duration::from_millis(10), || {
        let state = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        let alive = !state.is_empty() && !state.contains(") Z ");
        Ok(if alive {
            super::super::deadline::Progress::Pending(state)
        } else {
            super::super::deadline::Progress::Ready(())
        })
    });
    assert!(gone.is_ok(), "{gone:?}");
}

#[test]
fn a_child_that_ignores_sigterm_is_killed() {
    let interrupt = Interrupt::never();
    let deadline = Deadline::after(Duration::from_secs(60), "the test", interrupt.clone(), Waited::default());
    let mut asked = None;
    // SIGTERM is sent once the trap is set.
    let error = sh("trap '' TERM; echo deaf; while :; do sleep 0.1; done")
        .run_with(&deadline, |_, _| {
            interrupt.raise(15);
            asked = Some(Instant::now());
        })
        .unwrap_err();
    assert!(matches!(error, ProcessError::Ended { source: WaitError::Interrupted(_), .. }), "{error}");
    let took = asked.unwrap().elapsed();
    assert!(took >= GRACE && took < GRACE + Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_process_that_inherited_the_streams_is_not_waited_for() {
    let started = Instant::now();
    let finished = sh("sleep 20 & echo done").run(&plenty()).unwrap();
    assert_eq!(finished.stdout, "done\n");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_process_that_inherited_the_streams_and_keeps_writing_is_not_waited_for() {
    let finished = sh("(while :; do echo heir; done) & echo last >&2").run(&plenty()).unwrap();
    assert_eq!(finished.stderr, "last\n");
}

#[test]
fn the_output_of_an_exited_child_is_complete_and_has_nothing_written_later() {
    // No line feed at the end, in a pipe that another process keeps open.
    let mut child = sh("sleep 30 & head -c 4000 /dev/zero; echo whole >&2").spawn().unwrap();
    child.wait().unwrap();
    let mut outputs = Outputs::of(&mut child);
    assert_eq!(outputs.held().unwrap(), [(Stream::Stderr, b"whole\n".to_vec())]);
    assert!(outputs.held().unwrap().is_empty() && !outputs.are_at_their_end());
    assert_eq!(outputs.break_off(), [(Stream::Stdout, vec![0; 4000])]);
    signal_group(&child, Signal::KILL);
}

#[test]
fn lines_arrive_as_they_are_written_and_are_logged() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut seen = Vec::new();
    let finished = sh("echo one; echo two >&2; printf three")
        .log_to(&log)
        .run_with(&plenty(), |stream, line| seen.push((stream, line.to_owned())))
        .unwrap();
    assert_eq!(finished.stdout, "one\nthree");
    assert_eq!(finished.stderr, "two\n");
    assert!(seen.contains(&(Stream::Stderr, "two".to_owned())), "{seen:?}");
    let mut logged: Vec<_> = std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect();
    logged.sort();
    assert_eq!(logged.join("").len(), "onetwothree".len());
}

#[test]
fn the_child_gets_its_input_and_its_environment() {
    let out = sh("cat; echo $GIVEN-$HOME")
        .input("hello ")
        .env("GIVEN", "yes")
        .env_remove("HOME")
        .run_ok(&plenty())
        .unwrap();
    assert_eq!(out, "hello yes-\n");
}

proptest::proptest! {
    #[test]
    fn a_quoted_word_survives_a_shell(word in "[^\0]{0,40}") {
        let out = sh(&format!("printf %s {}", quote(&word))).run_ok(&plenty()).unwrap();
        proptest::prop_assert_eq!(out, word);
    }
}

#[test]
fn the_last_line_of_a_child_is_never_lost_on_a_busy_machine() {
    // Each child is silent for about as long as the runner waits for a line, then writes and exits.
    let once =
        |round: usize| sh(&format!("sleep 0.{:03}; echo last", 40 + round % 16)).run(&plenty()).unwrap();
    thread::scope(|scope| {
        for worker in 0..24 {
            scope.spawn(move || {
                for round in 0..8 {
                    assert_eq!(once(worker + round).stdout, "last\n");
                }
            });
        }
    });
}
