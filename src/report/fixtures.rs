//! Reports and events for tests.

use std::path::PathBuf;
use std::time::Duration;

use crate::event::{Compared, Event, RunReport, StageReport};
use crate::outcome::{Assertion, AssertionStatus, Outcome, Stage, TaskResult, TaskStatus};

pub(super) fn stage(stage: Stage, outcome: Outcome, seconds: f64, own: f64, summary: &str) -> StageReport {
    let [took, own] = [seconds, own].map(Duration::from_secs_f64);
    StageReport { stage, outcome, took, waited: took - own, own, summary: summary.into() }
}

pub(super) fn assertion(name: &str, status: AssertionStatus, line: u32, message: Option<&str>) -> Assertion {
    let path = format!("harness/verify.yml:{line}");
    Assertion { name: name.into(), role: None, status, path, message: message.map(Into::into) }
}

pub(super) fn compared(at: Stage, what: &str, expected: &str, seen: &str, holds: bool) -> Compared {
    Compared { at, what: what.into(), expected: expected.into(), seen: seen.into(), holds }
}

/// askari's plain cycle, passed.
pub(super) fn passed() -> RunReport {
    use Outcome::Passed;
    RunReport {
        version: 1,
        trial: "askari::cycle".into(),
        host: "askari".into(),
        scenario: None,
        machine: "boma-it-askari".into(),
        started: "2026-06-17T12:00:00+02:00[Europe/Berlin]".into(),
        accelerator: Some("tcg".into()),
        image: Some("debian-13-4f2a9c, built here".into()),
        bytecode_cache: Some("on".into()),
        layer: None,
        expected: "every assertion passes after the reboot".into(),
        seen: "3 of 3 assertions passed".into(),
        compared: vec![compared(Stage::Assert, "every assertion", "passes", "3 passed", true)],
        outcome: Passed,
        error: None,
        stages: vec![
            stage(Stage::Up, Passed, 59.3, 1.4, "settled: running"),
            stage(Stage::Apply, Passed, 187.2, 0.3, "23 tasks, 11 changed"),
            stage(Stage::Reboot, Passed, 53.0, 0.1, "boot id 3fe1… → 92ab…"),
            stage(Stage::Assert, Passed, 12.4, 0.2, "3 assertions"),
            stage(Stage::Down, Passed, 1.84, 1.84, ""),
        ],
        before: vec![],
        assertions: vec![
            assertion("the firewall drops by default", AssertionStatus::Passed, 12, None),
            assertion("sshd refuses passwords", AssertionStatus::Passed, 20, None),
            assertion(PORTS, AssertionStatus::Passed, 31, None),
        ],
        peak_memory: Some(20 << 20),
        kept: false,
        folder: PathBuf::from("/home/op/integration-runs/20260617T120000-askari"),
    }
}

pub(super) const PORTS: &str = "published ports answer from outside the VM";

/// The published port is dead after the reboot, and the assertion that needs it was skipped.
pub(super) fn failed() -> RunReport {
    let mut run = passed();
    run.outcome = Outcome::Failed;
    run.seen = format!("1 assertion failed after the reboot: {PORTS}");
    run.stages[3] = stage(Stage::Assert, Outcome::Failed, 12.4, 0.2, "1 of 4 assertions failed");
    run.assertions[2] = assertion(
        PORTS,
        AssertionStatus::Failed,
        31,
        Some("8080/tcp on 10.213.47.10: connection refused\nis the container-forward rule in place?"),
    );
    run.assertions.push(assertion("the mesh server answers", AssertionStatus::Skipped, 44, None));
    run.compared = vec![
        compared(Stage::Assert, PORTS, "passes", "failed", false),
        compared(Stage::Assert, "every other assertion", "passes", "2 passed, 1 skipped", true),
    ];
    run
}

/// The scenario that expects that failure.
pub(super) fn incident() -> RunReport {
    let mut run = failed();
    run.trial = "askari::incident-2026-06-17".into();
    run.scenario = Some("incident-2026-06-17".into());
    run.machine = "boma-it-askari.2".into();
    run.expected = format!("at assert, `{PORTS}` fails and nothing else does");
    run.seen = format!("at assert, `{PORTS}` failed");
    run.outcome = Outcome::Passed;
    run.before = passed().assertions;
    run.compared = vec![
        compared(Stage::Before, "every assertion", "passes", "3 passed", true),
        compared(Stage::Assert, PORTS, "fails", "failed", true),
        compared(Stage::Assert, "every other assertion", "passes", "2 passed", true),
    ];
    run.stages.insert(2, stage(Stage::Before, Outcome::Passed, 11.0, 0.2, "3 assertions"));
    run.assertions.pop();
    run
}

pub(super) fn task(task: &str, status: TaskStatus, changed: bool) -> TaskResult {
    TaskResult {
        role: None,
        play: "site".into(),
        task: task.into(),
        path: "roles/docker_host/tasks/main.yml:7".into(),
        action: "ansible.builtin.apt".into(),
        host: "askari".into(),
        status,
        changed,
        ignored: false,
        assertion: false,
        seconds: 3.2,
        message: None,
    }
}

pub(super) fn kept() -> Event {
    let commands = [
        ("virsh console boma-it-askari", "its serial console, live"),
        ("boma-it ssh --host askari", "a shell inside"),
        ("boma-it down --host askari", "destroy it"),
    ];
    let commands = commands.map(|(command, purpose)| (command.into(), purpose.into())).to_vec();
    Event::Kept { machine: "boma-it-askari".into(), commands }
}

/// The events of `run`, which is askari's cycle.
pub(super) fn story(run: RunReport) -> Vec<Event> {
    let ended = |index: usize| Event::StageFinished(run.stages[index].clone());
    let mut failing = task(PORTS, TaskStatus::Failed, false);
    failing.path = "harness/verify.yml:31".into();
    failing.message = Some("8080/tcp on 10.213.47.10: connection refused".into());
    (failing.assertion, failing.ignored) = (true, true);
    let mut probe = task("base : look for an old firewall", TaskStatus::Failed, false);
    probe.ignored = true;
    let mut events = vec![
        Event::RunStarted { trial: run.trial.clone(), folder: run.folder.clone() },
        Event::StageStarted(Stage::Up),
        Event::Note(
            "accelerator tcg: a real kernel does not run under this machine's kvm; timeouts × 6".into(),
        ),
        Event::Doing("waiting for SSH on 10.213.47.10".into()),
        ended(0),
        Event::StageStarted(Stage::Apply),
        Event::TaskStarted { task: "base : install the firewall".into() },
        Event::TaskFinished(task("base : install the firewall", TaskStatus::Ok, true)),
        Event::TaskFinished(probe),
        Event::TaskFinished(task("base : only on Debian 12", TaskStatus::Skipped, false)),
        Event::TaskStarted { task: "docker_host : install Docker".into() },
        ended(1),
        Event::StageStarted(Stage::Reboot),
        ended(2),
        Event::StageStarted(Stage::Assert),
    ];
    if run.outcome == Outcome::Failed {
        events.push(Event::TaskFinished(failing));
    }
    events.extend([ended(3), Event::StageStarted(Stage::Down), ended(4)]);
    if run.kept {
        events.push(kept());
    }
    events.push(Event::RunFinished(Box::new(run)));
    events
}
