//! Several VMs at a time: as many as `limits.vms` says, each with a slot and memory of its own, and no run touches what
//! belongs to another.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boma_it::catalog::Plan;
use boma_it::catalog::quantity::Bytes;
use boma_it::cycle::{Job, Keep, LockHeld, prune, run};
use boma_it::event::RunReport;
use boma_it::machine::fake::Verb;
use boma_it::machine::guard::Refusal;
use boma_it::machine::teardown::PruneScope;
use boma_it::machine::{DomainState, Hypervisor};
use boma_it::outcome::Outcome;
use boma_it::support::deadline::{Deadline, Progress};
use boma_it::support::process::Process;

use crate::fixture::{ASKARI, Fixture};

/// The domain of ubongo in the second slot.
const SECOND: &str = "boma-it-ubongo.2";

/// The plan of a trial whose guest never answers, where two VMs may run.
fn plan(fixture: &Fixture, host: &str, up: Duration) -> Plan {
    let mut plan = fixture.plan_of(host, None);
    plan.harness.vms = 2;
    plan.harness.timeouts.up = up;
    plan
}

/// Long enough for a test to look at it, short enough to wait for its end. Under TCG it is four times as long.
const WHILE: Duration = Duration::from_millis(1500);
const SHORT: Duration = Duration::from_millis(500);

fn start(fixture: &Arc<Fixture>, session: &'static str, host: &'static str) -> JoinHandle<RunReport> {
    let fixture = fixture.clone();
    std::thread::spawn(move || {
        run(&fixture.context_of(session, Keep::Never), &plan(&fixture, host, WHILE), Job::Cycle).unwrap()
    })
}

#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Deadline::uninterrupted(Duration::from_secs(60), "the test");
    let waited = deadline.wait_for(what, Duration::from_millis(5), || {
        Ok(if is_so() { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
    });
    waited.unwrap();
}

fn wait_for_vm(fixture: &Fixture, name: &str) {
    wait_until("the VM", || fixture.fake.state(name).unwrap() == DomainState::Running);
}

/// A context with room for waiting.
fn refused(fixture: &Fixture, plan: &Plan) -> String {
    let error = run(&fixture.context_of("another", Keep::Never), plan, Job::Cycle).unwrap_err();
    assert!(error.chain().any(|it| it.is::<Refusal>()), "{error:?}");
    error.to_string().replace(&format!("process {}", std::process::id()), "process [pid]")
}

#[test]
fn two_trials_run_at_once_in_slots_of_their_own_and_a_third_queues_or_is_refused() {
    let fixture = Arc::new(Fixture::new());
    fixture.write("scenarios/third.yml", "version: 1\nprofile: askari\ndescription: x\n");
    let first = start(&fixture, "one", "askari");
    wait_for_vm(&fixture, ASKARI);
    let second = start(&fixture, "one", "ubongo");
    wait_for_vm(&fixture, SECOND);
    assert_eq!(fixture.fake.state(ASKARI).unwrap(), DomainState::Running, "both run");
    let [one, two] = [ASKARI, SECOND].map(|name| fixture.fake.spec(name).unwrap().ownership);
    assert_eq!((one.slot.number(), one.address.octets()[3]), (0, 10));
    assert_eq!((two.slot.number(), two.address.octets()[3]), (1, 11));
    let mut third = fixture.plan_of("askari", Some("third"));
    (third.harness.vms, third.harness.timeouts.up) = (2, SHORT);
    assert_eq!(
        refused(&fixture, &third),
        "no room for another VM (`limits.vms: 2` in harness/harness.yml): boma-it-askari is running, askari::cycle of \
         test run one, process [pid]; end that process; boma-it-ubongo.2 is running, ubongo::cycle of test run one, \
         process [pid]; end that process; or set BOMA_IT_WAIT=30m to wait"
    );
    let report = run(&fixture.context_of("one", Keep::Never), &third, Job::Cycle).unwrap();
    assert!(first.is_finished() || second.is_finished(), "the third ran beside both");
    assert_eq!(report.machine, ASKARI, "it got the first slot back");
    let waited = fixture.events.activities().into_iter().any(|doing| {
        doing.starts_with("waiting for askari::cycle of test run one, ") && doing.contains("ubongo::cycle")
    });
    assert!(waited, "{:?}", fixture.events.activities());
    let [first, second] = [first, second].map(|thread| thread.join().unwrap());
    assert_eq!((&*first.machine, &*second.machine), (ASKARI, SECOND));
    fixture.assert_nothing_left(&report);
}

#[test]
fn whoever_waits_gets_a_place_once_there_is_one_or_is_refused_at_the_end() {
    let fixture = Arc::new(Fixture::new());
    let first = start(&fixture, "one", "askari");
    wait_for_vm(&fixture, ASKARI);
    let mut one_at_a_time = plan(&fixture, "ubongo", SHORT);
    one_at_a_time.harness.vms = 1;
    let mut context = fixture.context_of("two", Keep::Never);
    context.wait = Duration::from_secs(1);
    let started = Instant::now();
    let error = run(&context, &one_at_a_time, Job::Cycle).unwrap_err();
    assert!(started.elapsed() >= context.wait && error.is::<Refusal>(), "{error:?}");
    context.wait = Duration::from_secs(120);
    let report = run(&context, &one_at_a_time, Job::Cycle).unwrap();
    assert!(first.is_finished(), "it did not wait");
    first.join().unwrap();
    fixture.assert_nothing_left(&report);
}

/// Lets the first two runs that call `verb` wait for each other, unless only one can get that far.
fn meet_at(fixture: &Fixture, verb: Verb) {
    let asked = AtomicUsize::new(0);
    fixture.fake.after(verb, move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) < 2 {
            let together = Instant::now() + Duration::from_secs(2);
            while asked.load(Ordering::SeqCst) < 2 && Instant::now() < together {
                std::thread::yield_now();
            }
        }
    });
}

/// Both see 4 GiB, and each needs 3 and a reserve.
#[test]
fn two_runs_that_start_at_once_do_not_both_get_the_memory_for_one() {
    let fixture = Arc::new(Fixture::new());
    fixture.fake.set_available_memory(Bytes::gib(4));
    meet_at(&fixture, Verb::HostInfo);
    let at_once = Arc::new(Barrier::new(2));
    let run_at_once = |host: &'static str, session: &'static str| {
        let (fixture, at_once) = (fixture.clone(), at_once.clone());
        std::thread::spawn(move || {
            let (context, plan) = (fixture.context_of(session, Keep::Never), plan(&fixture, host, WHILE));
            at_once.wait();
            run(&context, &plan, Job::Cycle)
        })
    };
    let ends = [run_at_once("askari", "one"), run_at_once("ubongo", "two")].map(|it| it.join().unwrap());
    let refused: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
    assert_eq!(refused.len(), 1, "{ends:?}");
    let told = refused[0].to_string();
    assert!(told.contains("(of which VMs that run or start will still take 3072 MiB)"), "{told}");

    // In one test run, the second waits until the first has given its memory back.
    let ends = [run_at_once("askari", "one"), run_at_once("ubongo", "one")].map(|it| it.join().unwrap());
    assert!(ends.iter().all(|end| end.as_ref().is_ok_and(|it| it.machine.find('.').is_none())), "{ends:?}");
}

/// A second upload would take the first one, half done, for one that was cut short, and delete it.
#[test]
fn two_runs_that_start_at_once_upload_the_golden_image_once() {
    let fixture = Arc::new(Fixture::new());
    meet_at(&fixture, Verb::Volumes);
    let runs = [start(&fixture, "one", "askari"), start(&fixture, "one", "ubongo")];
    let machines = runs.map(|run| run.join().unwrap().machine);
    assert!(machines.iter().any(|name| name.ends_with(".2")), "one waited for the other: {machines:?}");
    let calls = fixture.fake.calls();
    let touched = |verb| calls.iter().filter(|(it, name)| *it == verb && name.starts_with("golden-")).count();
    assert_eq!((touched(Verb::Upload), touched(Verb::DeleteVolume)), (1, 1));
}

#[test]
fn what_a_vm_already_holds_is_not_promised_again() {
    let fixture = Arc::new(Fixture::new());
    fixture.fake.set_available_memory(Bytes::gib(4));
    let first = start(&fixture, "one", "askari");
    wait_for_vm(&fixture, ASKARI);
    assert!(refused(&fixture, &plan(&fixture, "ubongo", SHORT)).starts_with("too little free memory"));
    fixture.fake.set_resident(ASKARI, Bytes::gib(3));
    run(&fixture.context_of("two", Keep::Never), &plan(&fixture, "ubongo", SHORT), Job::Cycle).unwrap();
    first.join().unwrap();
}

/// Another process of this user that runs a trial in the first slot, until it is killed.
struct OtherProcess {
    pid: PathBuf,
    thread: JoinHandle<()>,
}

impl OtherProcess {
    fn start(fixture: &Fixture, line: &str) -> Self {
        let (lock, pid) = (fixture.path("state/slot-1.lock"), fixture.path("pid"));
        fixture.write("state/slot-1.lock", "");
        let script = format!(
            "exec 9<>{lock}; flock 9; echo '{line}' >&9; echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 600",
            lock = lock.display(),
            pid = pid.display()
        );
        let thread = std::thread::spawn(move || {
            let deadline = Deadline::uninterrupted(Duration::from_secs(300), "the test");
            drop(Process::new("sh").args(["-c", &script]).run(&deadline));
        });
        wait_until("the other process", || pid.exists());
        Self { pid, thread }
    }

    fn kill(self) {
        let pid = std::fs::read_to_string(&self.pid).unwrap();
        let deadline = Deadline::uninterrupted(Duration::from_secs(30), "the test");
        Process::new("kill").args(["-KILL", pid.trim()]).run_ok(&deadline).unwrap();
        self.thread.join().unwrap();
    }
}

#[test]
fn a_killed_process_leaves_its_slot_free() {
    let fixture = Fixture::new();
    let other = OtherProcess::start(&fixture, "ubongo::cycle of test run theirs, process 7, 3GiB");
    let mut plan = plan(&fixture, "askari", SHORT);
    plan.harness.vms = 1;
    assert_eq!(
        refused(&fixture, &plan),
        "no room for another VM (`limits.vms: 1` in harness/harness.yml): one is about to start, ubongo::cycle of test \
         run theirs, process 7; end that process; or set BOMA_IT_WAIT=30m to wait"
    );
    plan.harness.vms = 2;
    let context = fixture.context(Keep::Never);
    assert_eq!(run(&context, &plan, Job::Cycle).unwrap().machine, "boma-it-askari.2");
    other.kill();
    plan.harness.vms = 1;
    assert_eq!(run(&context, &plan, Job::Cycle).unwrap().machine, ASKARI);
}

#[test]
fn a_vm_that_another_process_works_on_is_left_to_it() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    let plan = plan(&fixture, "askari", SHORT);
    assert!(run(&context, &plan, Job::Cycle).unwrap().kept);
    let other = OtherProcess::start(&fixture, "askari::cycle of test run theirs, process 7, 0B");
    for error in [
        boma_it::cycle::down(&context, &plan.trial).unwrap_err(),
        run(&context, &plan, Job::Apply).unwrap_err(),
    ] {
        assert!(error.is::<LockHeld>(), "{error:?}");
        assert_eq!(
            error.to_string(),
            "another boma-it process works on the VM boma-it-askari: askari::cycle of test run theirs, process 7; end \
             that process, or set BOMA_IT_WAIT=30m to wait for it"
        );
    }
    other.kill();
    assert!(boma_it::cycle::down(&context, &plan.trial).unwrap().is_some());
}

/// The secrets of a run that lives, in its folder.
fn secrets(fixture: &Fixture, run: &Path) -> PathBuf {
    let name = run.file_name().unwrap().to_str().unwrap();
    fixture.write(&format!("runs/{name}/ansible/secrets.vars.json"), "{}");
    run.join("ansible/secrets.vars.json")
}

#[test]
fn the_secrets_and_the_folder_of_a_run_that_lives_survive_every_sweep() {
    let fixture = Arc::new(Fixture::new());
    let first = start(&fixture, "one", "askari");
    wait_for_vm(&fixture, ASKARI);
    let folder = fixture.runs()[0].clone();
    let secrets = secrets(&fixture, &folder);
    let context = fixture.context_of("two", Keep::Never);
    let mut second = plan(&fixture, "ubongo", SHORT);
    second.harness.keep_runs = 1;
    assert_eq!(run(&context, &second, Job::Cycle).unwrap().outcome, Outcome::Errored);
    let (removed, done) = prune(&context, &fixture.path("runs"), PruneScope::Orphans);
    done.unwrap();
    assert!(secrets.exists(), "{removed:?}");
    first.join().unwrap();
    let (removed, done) = prune(&context, &fixture.path("runs"), PruneScope::Orphans);
    done.unwrap();
    assert_eq!(removed.secrets, [secrets], "once the run is over, they are leftovers");
    run(&context, &second, Job::Cycle).unwrap();
    assert!(!folder.exists(), "and the folder is old");
}

#[test]
fn timeouts_grow_with_the_vms_that_may_share_a_cpu() {
    let fixture = Fixture::new();
    let mut context = fixture.context(Keep::Never);
    context.cores = Some(2);
    let report = run(&context, &plan(&fixture, "askari", SHORT), Job::Cycle).unwrap();
    let error = report.error.unwrap();
    // Four times for TCG, and twice for two VMs of two virtual CPUs on two CPUs.
    assert!(error.starts_with("timed out after 4.0s: no SSH session"), "{error}");
    let note = "up to 2 VMs share the CPUs (`limits.vms`), so timeouts are x2".to_owned();
    assert!(fixture.events.notes().contains(&note), "{:?}", fixture.events.notes());
}
