//! A project and a context of fakes for a real cycle: the hypervisor in memory, a small qcow2 as golden image, scripts for
//! Ansible's programs, temporary folders. Tests inspect from here what a run reports and leaves.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boma_it::catalog::plan::{Layers, Subnet, TrialName};
use boma_it::catalog::{Plan, Project, RunOptions};
use boma_it::cycle::{GuestLogin, Keep, RunContext};
use boma_it::event::{Event, Reporter, RunReport, StageReport};
use boma_it::machine::fake::Fake;
use boma_it::machine::image::ImageStore;
use boma_it::machine::ownership::ProcFs;
use boma_it::machine::{Accelerator, Hypervisor, NamePrefix};
use boma_it::outcome::Stage;
use boma_it::report::json::JsonReporter;
use boma_it::support::deadline::Deadline;
use boma_it::support::interrupt::Interrupt;
use boma_it::support::lock::{Busy, FileLock};
use boma_it::support::process::Process;
use serde_json::json;

/// The domain of askari's plain cycle.
pub(crate) const ASKARI: &str = "boma-it-askari";
/// The assertion that the scripted `verify.yml` makes.
pub(crate) const PORTS: &str = "published ports answer";

/// Claims a loopback network, 127.83.N.0/24, while the listener lives. No other fixture gets it, in this process or in
/// another: nextest runs each test in its own process.
fn claim_network() -> (u8, TcpListener) {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let mut networks = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(256);
    let claim = |network| Some((network, TcpListener::bind(format!("127.83.{network}.254:14083")).ok()?));
    networks.find_map(claim).expect("a network of loopback that no fixture has")
}

pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    pub(crate) fake: Arc<Fake>,
    pub(crate) events: Arc<RecordedEvents>,
    pub(crate) interrupt: Interrupt,
    network: u8,
    _claim: TcpListener,
    port: u16,
}

/// Remembers every event.
#[derive(Default)]
pub(crate) struct RecordedEvents(Mutex<Vec<Event>>);

impl Reporter for RecordedEvents {
    fn on_event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

struct Shared(Arc<RecordedEvents>);

impl Reporter for Shared {
    fn on_event(&self, event: &Event) {
        self.0.on_event(event);
    }
}

impl RecordedEvents {
    pub(crate) fn notes(&self) -> Vec<String> {
        let note = |event: &Event| match event {
            Event::Note(text) => Some(text.clone()),
            _ => None,
        };
        self.0.lock().unwrap().iter().filter_map(note).collect()
    }

    pub(crate) fn activities(&self) -> Vec<String> {
        let doing = |event: &Event| match event {
            Event::Doing(text) => Some(text.clone()),
            _ => None,
        };
        self.0.lock().unwrap().iter().filter_map(doing).collect()
    }

    /// The reported commands for a kept VM.
    pub(crate) fn commands(&self) -> Vec<String> {
        let commands = |event: &Event| match event {
            Event::Kept { commands, .. } => Some(commands.clone()),
            _ => None,
        };
        let told = self.0.lock().unwrap().iter().find_map(commands).unwrap_or_default();
        told.into_iter().map(|(command, _)| command).collect()
    }
}

impl Fixture {
    /// A project with askari and ubongo, whose playbooks succeed.
    pub(crate) fn new() -> Self {
        let (network, claim) = claim_network();
        let port = TcpListener::bind(format!("127.83.{network}.10:0")).unwrap().local_addr().unwrap().port();
        let fixture = Self {
            folder: tempfile::tempdir().unwrap(),
            fake: Arc::new(Fake::new()),
            events: Arc::default(),
            interrupt: Interrupt::never(),
            network,
            _claim: claim,
            port,
        };
        fixture.write(
            "harness/harness.yml",
            "version: 1\nsite: {ansible: ansible}\nansible: {bytecode_cache: off}\n",
        );
        for host in ["askari", "ubongo"] {
            fixture.write(&format!("profiles/{host}.yml"), "version: 1\nroles: [base]\n");
            fixture.write(&format!("overrides/{host}.yml"), "stub: true\n");
        }
        for file in ["harness/verify.yml", "site/site.yml", "site/inventory/production"] {
            fixture.write(file, "");
        }
        fixture.write_ansible();
        fixture.playbook("apply", &record("site", &[Task::ok("base : firewall")]));
        fixture.playbook("assert", &record("verify", &[Task::ok(PORTS).asserting()]));
        fixture.playbook("before", &record("verify", &[Task::ok(PORTS).asserting()]));
        let image = fixture.path("golden.qcow2");
        let make = Process::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("1M");
        make.run_ok(&Deadline::uninterrupted(Duration::from_secs(30), "the image")).unwrap();
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn write_ansible(&self) {
        let both = ["askari", "ubongo"];
        let play = |playbook: &str| {
            json!([{
                "name": playbook, "path": format!("{playbook}.yml:1"), "pattern": ["all"], "here": both,
                "production": both, "local": false, "unmatched": [], "tags": ["base"], "tasks": [],
            }])
        };
        self.write("ansible/plays", &json!([play("site"), play("verify")]).to_string());
        let programs = [
            // It reads the playbooks.
            ("python3", "cp \"$(dirname \"$0\")/plays\" \"$3\"\n"),
            (
                "ansible-inventory",
                "printf '%s\\n' 'ansible-inventory [core 2.19.4]' '  ansible python module location = /nowhere/ansible' \\\n  '  ansible collection location = /nowhere' \\\n  \"  python version = 3 (main) [GCC] ($(dirname \"$0\")/python3)\" >&2\necho '{\"all\": {\"hosts\": [\"askari\", \"ubongo\"]}}'\n",
            ),
            (
                "ansible-playbook",
                "here=$(dirname \"$0\")\n\
                 phase=$(printf '%s\\n' \"$@\" | sed -n 's,^@.*/\\(apply\\|before\\|assert\\)\\.vars\\.json$,\\1,p')\n\
                 . \"$here/$phase\"\n",
            ),
        ];
        for (name, text) in programs {
            self.write(&format!("ansible/{name}.body"), text);
            // A link to a program, as a file that was just written may still be open in another thread (`ETXTBSY`).
            let scripted = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ansible/scripted_program.sh");
            symlink(scripted, self.path(&format!("ansible/{name}"))).unwrap();
        }
    }

    /// What `ansible-playbook` does in a phase, in shell; it writes its record to `$BOMA_IT_RECORD`.
    pub(crate) fn playbook(&self, phase: &str, script: &str) {
        self.write(&format!("ansible/{phase}"), script);
    }

    pub(crate) fn plan(&self) -> Plan {
        self.plan_of("askari", None)
    }

    /// The plan of a trial, on a network of loopback and with deadlines of seconds.
    pub(crate) fn plan_of(&self, host: &str, scenario: Option<&str>) -> Plan {
        let choices = RunOptions { runs: Some(self.path("runs")), ..RunOptions::default() };
        let trial =
            TrialName { host: host.parse().unwrap(), scenario: scenario.map(|name| name.parse().unwrap()) };
        let mut plan = Project::load(self.folder.path()).unwrap().plan(&trial, &choices).unwrap();
        plan.image = boma_it::catalog::plan::ImageSource::Path { path: self.path("golden.qcow2") };
        // Where layers are not under test, every run is one from the image.
        plan.harness.layers = Layers::None;
        plan.harness.subnet = Subnet { network: [127, 83, self.network, 0].into(), prefix: 24 };
        let timeouts = &mut plan.harness.timeouts;
        for timeout in [&mut timeouts.up, &mut timeouts.reboot, &mut timeouts.apply, &mut timeouts.assert] {
            *timeout = Duration::from_secs(30);
        }
        plan
    }

    pub(crate) fn context(&self, keep: Keep) -> RunContext {
        self.context_of("one", keep)
    }

    /// The context of a process of test run `session`.
    pub(crate) fn context_of(&self, session: &str, keep: Keep) -> RunContext {
        let reporters: Vec<Box<dyn Reporter>> =
            vec![Box::new(Shared(self.events.clone())), Box::new(JsonReporter::default())];
        RunContext {
            hypervisor: self.fake.clone(),
            prefix: NamePrefix::default(),
            images: ImageStore::new(self.path("images")),
            state: self.path("state"),
            processes: ProcFs::new().unwrap(),
            session: session.to_owned(),
            wait: Duration::ZERO,
            // So many that VMs do not slow each other down.
            cores: Some(64),
            accelerator: Some(Accelerator::Tcg),
            login: GuestLogin { user: whoami(), port: self.port },
            is_ci: false,
            keep,
            interrupt: self.interrupt.clone(),
            reporter: Arc::new(reporters),
        }
    }

    /// The address that serves the guests, up to the port.
    pub(crate) fn gateway(&self) -> String {
        format!("127.83.{}.1:", self.network)
    }

    /// The run folders, oldest first.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("runs")).into_iter().flatten();
        let mut runs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        runs.sort();
        runs
    }

    /// `text` without the parts that differ from run to run.
    pub(crate) fn plain(&self, text: &str) -> String {
        let run = self.runs().last().and_then(|run| Some(run.file_name()?.to_str()?.to_owned()));
        let text = text.replace(self.folder.path().to_str().unwrap(), "[fixture]");
        match run {
            Some(run) => text.replace(&run, "[run]"),
            None => text,
        }
    }

    /// Names of everything on the hypervisor but golden images: domains, then volumes.
    pub(crate) fn left(&self) -> Vec<String> {
        let machines = self.fake.machines().unwrap().into_iter().map(|machine| machine.name);
        // No pool, no volumes.
        let volumes = self.fake.volumes().unwrap_or_default().into_iter().map(|volume| volume.name);
        machines.chain(volumes.filter(|name| !name.starts_with("golden-"))).collect()
    }

    /// After a run that created something, whatever its outcome: nothing is left but its folder, which describes the run.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self, report: &RunReport) {
        assert_eq!(self.left(), Vec::<String>::new());
        self.assert_unlocked();
        assert!(!report.kept);
        assert!(!report.folder.join("keys").exists(), "keys are left in the run folder");
        let written: serde_json::Value = json(&report.folder.join("report.json"));
        assert_eq!(written["outcome"], report.outcome.to_string());
        assert_eq!(written["stages"].as_array().unwrap().len(), report.stages.len());
    }

    #[track_caller]
    pub(crate) fn assert_unlocked(&self) {
        let soon = Deadline::uninterrupted(Duration::from_secs(1), "the test");
        for name in ["admission", "shared", "slot-1", "slot-2"] {
            let path = self.path(&format!("state/{name}.lock"));
            let lock = FileLock::acquire(&path, "a test", &soon, |_| Busy::GiveUp);
            drop(lock.unwrap_or_else(|error| panic!("the lock {name} is not free: {error}")));
        }
    }
}

/// The report of a stage that ran.
#[track_caller]
pub(crate) fn stage(report: &RunReport, stage: Stage) -> &StageReport {
    let found = report.stages.iter().find(|it| it.stage == stage);
    found.unwrap_or_else(|| panic!("the stage {stage} did not run: {:#?}", report.stages))
}

/// Compares with a figure that holds where the machine has time for a test. Where it has not, everything is slower, also the
/// run's first stage.
#[track_caller]
pub(crate) fn assert_within(figure: Duration, took: Duration, report: &RunReport) {
    let up = stage(report, Stage::Up).took;
    assert!(took < figure.max(10 * up), "it took {took:?}, and `up` {up:?}");
}

/// What differs from run to run in a text of ours, as a regular expression, and what a snapshot has instead.
pub(crate) const VARYING: &[(&str, &str)] = &[
    (r"127\.83\.\d+\.10:\d+", "[guest]"),
    (r"(after|for the last) [\d.]+m?s\b", "$1 [time]"),
    // The deadline cuts an attempt short, or ends the pause after one.
    (
        "the last attempt had come to an SSH connection",
        "[guest] refused the connection: no sshd listens there",
    ),
    (r"\d{8}T\d{6}", "[time]"),
    (r"(process \[ours\]) on [^;]+", "$1 on [host]"),
];

/// Compares a text with the snapshot of a test. With the context of an rstest each of its cases has one, and all its
/// `#[values]` have the same.
macro_rules! assert_text {
    ($text:expr) => {
        insta::with_settings!({filters => crate::fixture::VARYING.to_vec()}, { insta::assert_snapshot!($text) })
    };
    ($context:expr, $text:expr) => {
        insta::with_settings!({filters => crate::fixture::VARYING.to_vec()}, {
            let case = $context.description.map(|case| format!("__{case}")).unwrap_or_default();
            insta::assert_snapshot!(format!("{}{case}", $context.name), $text)
        })
    };
}
pub(crate) use assert_text;

pub(crate) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn whoami() -> String {
    let deadline = Deadline::uninterrupted(Duration::from_secs(10), "id");
    Process::new("id").arg("-un").run_ok(&deadline).unwrap().trim().to_owned()
}

/// One task's result as the callback plugin records it.
pub(crate) struct Task {
    name: &'static str,
    status: &'static str,
    assertion: bool,
    message: &'static str,
}

impl Task {
    pub(crate) fn ok(name: &'static str) -> Self {
        Self { name, status: "ok", assertion: false, message: "" }
    }

    pub(crate) fn with_message(name: &'static str, message: &'static str) -> Self {
        Self { name, status: "ok", assertion: false, message }
    }

    pub(crate) fn failed(name: &'static str, message: &'static str) -> Self {
        Self { name, status: "failed", assertion: false, message }
    }

    pub(crate) fn skipped(name: &'static str) -> Self {
        Self { name, status: "skipped", assertion: false, message: "Conditional result was False" }
    }

    pub(crate) fn unreachable(name: &'static str, message: &'static str) -> Self {
        Self { name, status: "unreachable", assertion: false, message }
    }

    pub(crate) fn asserting(self) -> Self {
        Self { assertion: true, ..self }
    }
}

/// A script that records a play of these tasks, its assertions declared beforehand, to the end, and exits as Ansible does.
pub(crate) fn record(play: &str, tasks: &[Task]) -> String {
    let (mut script, mut worst) = (begin(play), 0);
    let path = format!("/p/{play}.yml:7");
    for Task { name, .. } in tasks.iter().filter(|task| task.assertion) {
        let line = serde_json::json!({
            "event": "declared", "kind": "assertion", "uuid": name, "play": play, "task": name, "path": path,
        });
        let _ = writeln!(script, "{line}");
    }
    for task in tasks {
        let Task { name, status, assertion, message } = task;
        let (is_skipped, has_failed) = (*status == "skipped", *status == "failed");
        let round = serde_json::json!({
            "event": "round", "uuid": name, "host": "askari", "action": if is_skipped { "none" } else { "returned" },
            "is_complete": true, "held": 1, "broke": usize::from(has_failed), "odd": 0, "false": usize::from(is_skipped),
            "errors": 0, "parsed": 1, "garbled": 0, "commands": 0, "become": false, "returned": {"failed": has_failed, "own": true},
            "failed": has_failed, "changed": false, "skipped": is_skipped,
        });
        let _ = writeln!(script, "{round}");
        let line = serde_json::json!({
            "event": "result", "play": play, "uuid": name, "kind": if *assertion { "assert" } else { "probe" },
            "task": name, "path": path, "action": "ansible.builtin.command", "host": "askari", "status": status,
            "changed": *status == "ok", "ignored": false, "seconds": 0.1, "output": {"msg": message},
        });
        let _ = writeln!(script, "{line}");
        worst = worst.max(match *status {
            "failed" => 2,
            "unreachable" => 4,
            _ => 0,
        });
    }
    let (failures, unreachable) = (usize::from(worst == 2), usize::from(worst == 4));
    let stats = serde_json::json!({"event": "stats", "hosts": {"askari": {"failures": failures, "unreachable": unreachable}}});
    format!("{script}{stats}\nEOF\nexit {worst}\n")
}

/// The beginning of a script that records: a play, and a here-document to go on in.
pub(crate) fn begin(play: &str) -> String {
    let lines = [
        serde_json::json!({"event": "ansible", "version": "2.19.4"}),
        serde_json::json!({"event": "play", "play": play}),
        serde_json::json!({"event": "start", "task": "base : firewall"}),
    ];
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    format!("cat >\"$BOMA_IT_RECORD\" <<'EOF'\n{lines}")
}
