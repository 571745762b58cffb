//! Whole outputs: what a person reads in each mode, the explanation of each kind of end, and the files for programs.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressDrawTarget, TermLike};
use insta::assert_snapshot;

use super::event_formatter::EventFormatter;
use super::fixtures::{self, failed, incident, kept, passed, stage, story};
use super::json::{EVENTS, JsonReporter, REPORT};
use super::output::Output;
use super::summary::explain;
use super::terminal::{Terminal, TerminalUse};
use crate::event::{Event, Reporter, RunReport};
use crate::outcome::{AssertionStatus, Outcome, Stage, TaskStatus, error_chain};

#[test]
fn every_outcome_is_explained() {
    assert_snapshot!("explain_passed", explain(&passed()));
    assert_snapshot!("explain_failed_assertion", explain(&failed()));
    assert_snapshot!("explain_expected_failure_seen", explain(&incident()));

    let mut unexpected = incident();
    unexpected.outcome = Outcome::Failed;
    unexpected.assertions = passed().assertions;
    unexpected.stages[4] = stage(Stage::Assert, Outcome::Passed, 12.4, 0.2, "3 assertions");
    unexpected.compared[1] = fixtures::compared(Stage::Assert, fixtures::PORTS, "fails", "passed", false);
    unexpected.seen = "an unexpected pass: 3 of 3 assertions passed".into();
    assert_snapshot!("explain_unexpected_pass", explain(&unexpected));

    let mut another = incident();
    another.outcome = Outcome::Failed;
    another.assertions[1].status = AssertionStatus::Failed;
    another.assertions[1].message = Some("PasswordAuthentication yes".into());
    another.assertions[2] = passed().assertions[2].clone();
    another.seen =
        "`sshd refuses passwords` failed instead of `published ports answer from outside the VM`".into();
    let line = fixtures::compared;
    another.compared.splice(
        1..,
        [
            line(Stage::Assert, fixtures::PORTS, "fails", "passed", false),
            line(Stage::Assert, "sshd refuses passwords", "passes", "failed", false),
            line(Stage::Assert, "every other assertion", "passes", "1 passed", true),
        ],
    );
    assert_snapshot!("explain_another_assertion_failed", explain(&another));

    let mut errored = passed();
    errored.compared = vec![fixtures::compared(
        Stage::Assert,
        "every assertion",
        "passes",
        "not known: an error at up",
        false,
    )];
    errored.outcome = Outcome::Errored;
    errored.stages.truncate(1);
    errored.stages[0] = stage(Stage::Up, Outcome::Errored, 300.2, 1.5, "");
    errored.stages.push(stage(Stage::Down, Outcome::Errored, 30.0, 30.0, "boma-it-askari.qcow2 is left"));
    errored.assertions.clear();
    errored.seen = "the guest never became ready".into();
    let chain = anyhow::anyhow!("connection refused")
        .context("timed out after 5m waiting for SSH on 10.213.47.10")
        .context("starting boma-it-askari");
    errored.error = Some(error_chain(&chain));
    assert_snapshot!("explain_errored", explain(&errored));

    let mut interrupted = passed();
    interrupted.outcome = Outcome::Interrupted;
    interrupted.stages.truncate(2);
    interrupted.stages[1] = stage(Stage::Apply, Outcome::Interrupted, 40.0, 0.1, "7 tasks, 4 changed");
    interrupted.assertions.clear();
    interrupted.error = Some("interrupted by signal 2".into());
    assert_snapshot!("explain_interrupted", explain(&interrupted));

    let mut left = failed();
    left.kept = true;
    assert_snapshot!(
        "explain_kept",
        output_of(|out| lines(out, TerminalUse::Driver), &[kept(), Event::RunFinished(Box::new(left))])
    );
}

#[test]
fn a_long_message_is_cut_with_a_hint() {
    let mut run = failed();
    run.assertions[2].message = Some((1..=90).map(|n| format!("line {n}\n")).collect());
    assert_snapshot!(explain(&run));
}

#[test]
fn a_skipped_assertion_is_shown_even_if_the_run_passed() {
    let mut run = passed();
    run.assertions[0].status = AssertionStatus::Skipped;
    assert_snapshot!(explain(&run));
}

#[test]
fn lines_report_a_whole_run_of_the_driver() {
    let mut run = failed();
    run.kept = true;
    assert_snapshot!("lines_driver_failed", output_of(|out| lines(out, TerminalUse::Driver), &story(run)));
    assert_snapshot!(
        "lines_driver_passed",
        output_of(|out| lines(out, TerminalUse::Driver), &story(passed()))
    );
}

#[test]
fn under_libtest_the_output_starts_on_a_new_line_and_ends_with_a_headline() {
    let text = output_of(|out| lines(out, TerminalUse::Trial), &story(failed()));
    assert_snapshot!("lines_trial_failed", format!("test askari::cycle ... {text}FAILED"));
}

/// As two threads print it, one event of each in turn.
#[test]
fn beside_other_trials_each_line_begins_with_its_trial() {
    let out = Buffer::default();
    let reporter = |trial: &str| {
        let beside = TerminalUse::SideBySide { trial: trial.to_owned(), width: 26 };
        lines(Box::new(out.clone()), beside)
    };
    let (one, other) = (reporter("askari::cycle"), reporter("askari::incident-2026-06-17"));
    let (passed, mut kept_one) = (passed(), incident());
    kept_one.kept = true;
    let mut second = story(kept_one).into_iter();
    for event in story(passed) {
        one.on_event(&event);
        second.by_ref().take(2).for_each(|event| other.on_event(&event));
    }
    second.for_each(|event| other.on_event(&event));
    let text = out.text();
    assert!(text.lines().all(|line| line.starts_with("askari::")), "{text}");
    assert_snapshot!("lines_side_by_side", text);
}

#[test]
fn quiet_prints_only_the_end_of_a_run_that_did_not_pass() {
    let quiet = |out| Terminal::new(Output::new(out, None), false, TerminalUse::Driver, true);
    assert_eq!(output_of(quiet, &story(passed())), "");
    assert_eq!(output_of(quiet, &story(failed())), format!("\n{}\n", explain(&failed())));
}

#[test]
fn a_heartbeat_shows_the_time_and_what_ansible_has_done() {
    let second = Duration::from_secs;
    let mut formatter = EventFormatter::new(TerminalUse::Driver);
    assert_eq!(formatter.heartbeat(second(1)), None);
    let mut beats = Vec::new();
    let mut beat = |formatter: &EventFormatter, now| {
        beats.push(formatter.heartbeat(second(now)).map(|line| line.paint(false)).unwrap_or_default());
    };
    formatter.format(&Event::StageStarted(Stage::Up), second(100));
    beat(&formatter, 115);
    formatter.format(&Event::Doing("building the golden image: packages".into()), second(116));
    beat(&formatter, 130);
    formatter.format(&Event::StageStarted(Stage::Apply), second(200));
    let statuses = [TaskStatus::Ok, TaskStatus::Ok, TaskStatus::Skipped, TaskStatus::Failed];
    for (index, status) in statuses.into_iter().enumerate() {
        let done = fixtures::task("base : a task", status, index == 0);
        formatter.format(&Event::TaskFinished(done), second(210));
    }
    formatter.format(&Event::TaskStarted { task: "docker_host : install Docker".into() }, second(211));
    beat(&formatter, 287);
    assert_snapshot!(beats.join("\n"), @r"
              up  … 15s
              up  … 30s: building the golden image: packages
           apply  … 1m27s: 3 tasks, 1 changed, 1 failed · docker_host : install Docker
    ");
}

#[test]
fn the_heartbeat_appears_without_other_output_and_ends_with_the_reporter() {
    let out = Buffer::default();
    let interval = Duration::from_millis(20);
    let terminal = Terminal::lines(Box::new(out.clone()), false, TerminalUse::Driver, interval);
    terminal.on_event(&Event::StageStarted(Stage::Apply));
    terminal.on_event(&Event::Doing("docker_host : install Docker".into()));
    let patience = Instant::now() + Duration::from_secs(20);
    while out.text().matches("… 0s: docker_host : install Docker").count() < 2 {
        assert!(Instant::now() < patience, "no heartbeat: {}", out.text());
        std::thread::yield_now();
    }
    let dropping = Instant::now();
    drop(terminal);
    assert!(dropping.elapsed() < Duration::from_secs(5), "dropping the reporter hung on its ticker");
    assert_eq!(Arc::strong_count(&out.0), 1, "the ticker still holds the writer");
}

#[test]
fn a_broken_stderr_does_not_fail_a_run() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let terminal = Terminal::lines(Box::new(Broken), false, TerminalUse::Driver, Duration::from_secs(60));
    story(failed()).iter().for_each(|event| terminal.on_event(event));
}

#[test]
fn on_a_terminal_the_running_stage_has_a_spinner_and_a_finished_one_a_line() {
    let page = Page::default();
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(page.clone()), 255);
    let output = Output::new(Box::new(page.0.clone()), Some(target));
    let terminal = Terminal::new(output, false, TerminalUse::Driver, false);
    let mut events = story(passed()).into_iter();
    for event in events.by_ref().take_while(|event| !matches!(event, Event::StageFinished(_))) {
        terminal.on_event(&event);
    }
    let sees = |what: &str| {
        let patience = Instant::now() + Duration::from_secs(20);
        while !console::strip_ansi_codes(&page.0.text()).contains(what) {
            assert!(Instant::now() < patience, "{what:?} was never drawn: {}", page.0.text());
            std::thread::yield_now();
        }
    };
    sees("up  0s  waiting for SSH on 10.213.47.10");
    assert!(!page.0.text().contains("started"), "the spinner itself says that a stage runs");
    terminal.on_event(&Event::StageFinished(passed().stages[0].clone()));
    sees("          up  passed in 59s (57s waiting, 1.4s own): settled: running");
    events.for_each(|event| terminal.on_event(&event));
    sees("      passed  askari::cycle in 5m13s (5m09s waiting, 3.8s own)\n");
}

#[test]
fn the_run_folder_holds_the_report_and_every_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = failed();
    run.kept = true;
    run.folder = folder.path().to_owned();
    record(run);
    insta::with_settings!({filters => [
        (as_pattern(folder.path()), "[folder]"),
        (r#""time":"\d{4}-[^"]+Z""#.to_owned(), r#""time":"[time]""#),
        (r#""at":\d+\.\d+"#.to_owned(), r#""at":"[at]""#),
    ].iter().map(|(a, b)| (a.as_str(), *b)).collect::<Vec<_>>()}, {
        assert_snapshot!("report_json", std::fs::read_to_string(folder.path().join(REPORT)).unwrap());
        assert_snapshot!("events_jsonl", std::fs::read_to_string(folder.path().join(EVENTS)).unwrap());
    });
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only the two files are left: {left:?}");
}

#[test]
fn a_later_step_appends_its_events_and_replaces_the_report() {
    let folder = tempfile::tempdir().unwrap();
    for outcome in [Outcome::Failed, Outcome::Passed] {
        let mut run = passed();
        run.outcome = outcome;
        run.folder = folder.path().to_owned();
        record(run);
    }
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join(REPORT)).unwrap()).unwrap();
    assert_eq!(report["outcome"], "passed");
    let events = std::fs::read_to_string(folder.path().join(EVENTS)).unwrap();
    assert_eq!(events.matches(r#""event":"run-finished""#).count(), 2);
}

#[test]
fn a_run_folder_that_is_gone_does_not_fail_the_run() {
    let mut run = passed();
    run.folder = "/nonexistent/run".into();
    record(run);
}

fn record(run: RunReport) {
    let record = JsonReporter::default();
    story(run).iter().for_each(|event| record.on_event(event));
}

fn lines(out: Box<dyn Write + Send>, terminal_use: TerminalUse) -> Terminal {
    Terminal::lines(out, false, terminal_use, Duration::from_secs(600))
}

fn output_of(terminal: impl FnOnce(Box<dyn Write + Send>) -> Terminal, events: &[Event]) -> String {
    let out = Buffer::default();
    let terminal = terminal(Box::new(out.clone()));
    events.iter().for_each(|event| terminal.on_event(event));
    drop(terminal);
    out.text()
}

/// A path as a regular expression that matches it.
fn as_pattern(path: &std::path::Path) -> String {
    path.display().to_string().replace('.', r"\.")
}

#[derive(Clone, Debug, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A terminal that remembers everything that was drawn.
#[derive(Clone, Debug, Default)]
struct Page(Buffer);

impl TermLike for Page {
    fn width(&self) -> u16 {
        120
    }
    fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn write_line(&self, line: &str) -> std::io::Result<()> {
        self.write_str(line)?;
        self.write_str("\n")
    }
    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.0.clone().write_all(text.as_bytes())
    }
    fn clear_line(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
}
