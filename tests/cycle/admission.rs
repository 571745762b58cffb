//! Who is let in where one VM may run, across processes and test runs, and never without memory. `side_by_side` has the
//! cases where several may.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boma_it::catalog::Plan;
use boma_it::catalog::quantity::Bytes;
use boma_it::cycle::{Job, Keep, NoRunningVm, RunContext, down, run};
use boma_it::machine::fake::Verb;
use boma_it::machine::guard::Refusal;
use boma_it::machine::{DomainSpec, DomainState, Hypervisor, Lifetime, Owner, VmVolumes};
use boma_it::outcome::Outcome;
use boma_it::support::deadline::{Deadline, Progress};

use crate::fixture::{ASKARI, Fixture, assert_text};

/// The plan of a trial whose guest never answers, and is soon given up.
pub(crate) fn short(fixture: &Fixture, host: &str) -> Plan {
    let mut plan = fixture.plan_of(host, None);
    // The keys are made within it as well, on a machine that may be busy.
    plan.harness.timeouts.up = Duration::from_secs(1);
    plan
}

/// Lets askari run and keeps its VM.
pub(crate) fn keep_askari(fixture: &Fixture, context: &RunContext) {
    assert!(run(context, &short(fixture, "askari"), Job::Cycle).unwrap().kept);
}

fn refusal(fixture: &Fixture, context: &RunContext, plan: &Plan) -> String {
    let before = (fixture.left(), fixture.runs());
    let error = run(context, plan, Job::Cycle).unwrap_err();
    assert!(error.chain().any(|cause| cause.is::<Refusal>()), "{error:?}");
    assert_eq!((fixture.left(), fixture.runs()), before, "a refused run changes nothing");
    fixture.assert_unlocked();
    error.to_string()
}

#[test]
fn a_second_vm_is_refused_with_the_name_of_the_first_and_how_to_end_it() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    keep_askari(&fixture, &context);
    assert_eq!(
        refusal(&fixture, &context, &fixture.plan_of("ubongo", None)),
        "no room for another VM (`limits.vms: 1` in harness/harness.yml): boma-it-askari is running, kept by the driver; \
         end it with `boma-it down --host askari`; or set BOMA_IT_WAIT=30m to wait"
    );
    assert_eq!(
        refusal(&fixture, &context, &fixture.plan()),
        "askari::cycle has a VM already: boma-it-askari is running, kept by the driver; \
         end it with `boma-it down --host askari`"
    );
}

#[test]
fn a_kept_vm_is_replaced_by_the_next_trial_of_its_test_run_only() {
    let fixture = Fixture::new();
    let ours = fixture.context_of("one", Keep::ForSession);
    keep_askari(&fixture, &ours);
    assert_eq!(
        fixture.fake.spec(ASKARI).unwrap().ownership.lifetime,
        Lifetime::Kept { session: "one".to_owned() }
    );
    let keys = fixture.fake.spec(ASKARI).unwrap().ownership.run_folder.join("keys");
    assert!(keys.join("client").exists());
    let said =
        refusal(&fixture, &fixture.context_of("two", Keep::ForSession), &fixture.plan_of("ubongo", None));
    assert_text!(said);

    let report =
        run(&fixture.context_of("one", Keep::Never), &short(&fixture, "ubongo"), Job::Cycle).unwrap();
    let note = "removed the VM boma-it-askari: an earlier trial of this run kept it".to_owned();
    assert!(fixture.events.notes().contains(&note), "{:?}", fixture.events.notes());
    assert!(!keys.exists(), "they open nothing any more: {keys:?}");
    fixture.assert_nothing_left(&report);
}

#[test]
fn an_orphaned_vm_is_removed_by_the_next_run_and_a_vm_with_a_living_owner_is_not() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    keep_askari(&fixture, &context);
    let mut owned = fixture.fake.spec(ASKARI).unwrap().ownership;
    let keys = owned.run_folder.join("keys");
    assert!(keys.join("client").exists());
    owned.lifetime = Lifetime::Trial { session: "before".to_owned() };
    fixture.fake.set_ownership(ASKARI, &owned).unwrap();
    let said = refusal(&fixture, &context, &short(&fixture, "ubongo"));
    assert_text!(said.replace(&format!("process {} ", std::process::id()), "process [ours] "));

    // Another process once had our number.
    owned.owner = Owner { started: owned.owner.started + 1, ..owned.owner };
    fixture.fake.set_ownership(ASKARI, &owned).unwrap();
    let report = run(&fixture.context(Keep::Never), &short(&fixture, "ubongo"), Job::Cycle).unwrap();
    let note = "removed the VM boma-it-askari: its process is gone".to_owned();
    assert!(fixture.events.notes().contains(&note), "{:?}", fixture.events.notes());
    assert!(!keys.exists(), "they open nothing any more: {keys:?}");
    fixture.assert_nothing_left(&report);
}

/// The lock is one user's: another user's VM may start while ours is made.
#[test]
fn a_vm_that_another_user_started_meanwhile_is_noticed_before_ours_starts() {
    const UBONGO: &str = "boma-it-ubongo";
    let fixture = Fixture::new();
    let fake = fixture.fake.clone();
    fixture.fake.after(Verb::Define, move |name| {
        if name == ASKARI {
            let mut theirs = fake.spec(ASKARI).unwrap();
            theirs.ownership.host = "ubongo".parse().unwrap();
            fake.define(&DomainSpec { name: UBONGO.to_owned(), ..theirs }).unwrap();
            fake.set_state(UBONGO, DomainState::Running);
        }
    });
    let report = run(&fixture.context(Keep::Never), &fixture.plan(), Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Errored);
    let owner = [(r"process \d+ on \S+;", "process [pid] on [machine];")];
    insta::with_settings!({filters => owner}, { insta::assert_snapshot!(report.seen) });
    assert!(fixture.fake.calls().iter().all(|(verb, _)| *verb != Verb::Start), "ours was never started");
    assert_eq!(
        (fixture.fake.spec(ASKARI), fixture.fake.state(UBONGO).unwrap()),
        (None, DomainState::Running)
    );
}

/// The VM that another machine's run has of the same name, and its volumes, as one of ours shows how such a VM is made.
fn theirs(fixture: &Fixture) -> DomainSpec {
    let context = fixture.context(Keep::UntilDown);
    keep_askari(fixture, &context);
    let mut spec = fixture.fake.spec(ASKARI).unwrap();
    down(&context, &fixture.plan().trial).unwrap();
    let owned = &mut spec.ownership;
    (owned.run, owned.run_folder) = ("20260617T120000-askari".to_owned(), fixture.path("theirs"));
    fixture.write("theirs/keys/host.pub", "ssh-ed25519 AAAA");
    owned.owner = Owner { hostname: "there".to_owned(), pid: 7, ..owned.owner.clone() };
    owned.lifetime = Lifetime::Trial { session: "theirs".to_owned() };
    spec
}

/// The lock is one folder's: another user, or another machine that uses this hypervisor, may take the VM's name before ours is
/// defined, or even while ours runs, if somebody ended ours.
#[rstest::rstest]
#[case::before_ours_is_defined(
    Verb::EnsureNetwork,
    None,
    "askari::cycle has a VM already: boma-it-askari is running, owned by process 7 on there; end it with `boma-it down --host askari`"
)]
#[case::before_ours_could_be_defined(Verb::EnsureNetwork, Some((Verb::HostInfo, 2)), "told to fail at HostInfo")]
#[case::in_place_of_ours(Verb::Start, None, "no SSH session with")]
fn another_runs_vm_of_the_same_name_is_left_alone(
    #[case] comes_after: Verb,
    #[case] fails: Option<(Verb, usize)>,
    #[case] said: &str,
    #[values(Keep::Never, Keep::UntilDown)] keep: Keep,
) {
    let fixture = Fixture::new();
    let spec = theirs(&fixture);
    let files = VmVolumes(ASKARI);
    let fake = fixture.fake.clone();
    fixture.fake.after(comes_after, {
        let spec = spec.clone();
        move |_| {
            if fake.spec(ASKARI).is_none_or(|it| it.ownership != spec.ownership) {
                boma_it::machine::teardown::teardown(&*fake, ASKARI).unwrap();
                fake.define(&spec).unwrap();
                fake.put_volume(&files.overlay(), b"their disk");
                fake.put_volume(&files.seed(), b"their seed");
                fake.print(ASKARI, "their console\n");
                fake.set_state(ASKARI, DomainState::Running);
            }
        }
    });
    if let Some((verb, nth)) = fails {
        fixture.fake.fail(verb, nth);
    }
    let report = run(&fixture.context(keep), &short(&fixture, "askari"), Job::Cycle).unwrap();
    assert_eq!(fixture.fake.spec(ASKARI), Some(spec), "their VM is unchanged");
    assert_eq!(fixture.fake.state(ASKARI).unwrap(), DomainState::Running);
    assert_eq!(fixture.left(), [ASKARI.to_owned(), files.console(), files.overlay(), files.seed()]);
    assert!(!report.folder.join("console.log").exists(), "the console of their VM is not ours");
    assert_eq!((report.outcome, report.kept), (Outcome::Errored, false), "{}", report.seen);
    assert!(report.error.as_deref().unwrap().contains(said), "{:?}", report.error);
    assert!(fixture.path("theirs/keys/host.pub").exists() && !report.folder.join("keys").exists());
    fixture.assert_unlocked();
}

#[test]
fn the_keys_of_an_orphaned_vm_are_removed_even_if_a_volume_stays() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    keep_askari(&fixture, &context);
    let mut owned = fixture.fake.spec(ASKARI).unwrap().ownership;
    let keys = owned.run_folder.join("keys");
    owned.lifetime = Lifetime::Trial { session: "before".to_owned() };
    owned.owner.started += 1;
    fixture.fake.set_ownership(ASKARI, &owned).unwrap();
    fixture.fake.fail(Verb::DeleteVolume, 1);
    let error = run(&context, &short(&fixture, "ubongo"), Job::Cycle).unwrap_err();
    assert_text!(format!("{error:#}"));
    assert_eq!(fixture.fake.spec(ASKARI), None, "the record of the keys is gone");
    assert!(!keys.exists(), "and so are they: {keys:?}");
}

#[test]
fn too_little_memory_is_refused_with_figures() {
    let fixture = Fixture::new();
    fixture.fake.set_available_memory(Bytes::gib(3));
    assert_eq!(
        refusal(&fixture, &fixture.context(Keep::Never), &fixture.plan()),
        "too little free memory for a VM of 3GiB: 3072 MiB are available and 512MiB must stay free, so 512 MiB are \
         missing; free some, or ask for less (`vm.memory` of the profile, `memory_reserve` of harness/harness.yml)"
    );
}

#[test]
fn trials_of_one_test_run_queue_and_those_of_another_are_refused_at_once() {
    let fixture = Arc::new(Fixture::new());
    let first = std::thread::spawn({
        let fixture = fixture.clone();
        move || {
            let mut plan = fixture.plan();
            plan.harness.timeouts.up = Duration::from_millis(1500);
            run(&fixture.context_of("one", Keep::Never), &plan, Job::Cycle).unwrap()
        }
    });
    let deadline = Deadline::uninterrupted(Duration::from_secs(30), "the test");
    deadline
        .wait_for("the first VM", Duration::from_millis(5), || {
            let runs = fixture.fake.state(ASKARI)? == DomainState::Running;
            Ok(if runs { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
        })
        .unwrap();

    let started = Instant::now();
    let error =
        run(&fixture.context_of("two", Keep::Never), &short(&fixture, "ubongo"), Job::Cycle).unwrap_err();
    // The first VM is there for six.
    assert!(started.elapsed() < Duration::from_secs(4), "refused after {:?}", started.elapsed());
    assert!(error.is::<Refusal>(), "{error:?}");
    let owner =
        format!("boma-it-askari is running, askari::cycle of test run one, process {};", std::process::id());
    assert!(error.to_string().contains(&owner), "{error}");

    let second =
        run(&fixture.context_of("one", Keep::Never), &short(&fixture, "ubongo"), Job::Cycle).unwrap();
    assert!(first.is_finished(), "the second trial ran beside the first");
    let waiting = format!("waiting for askari::cycle of test run one, process {}", std::process::id());
    assert_eq!(fixture.events.activities().iter().filter(|doing| **doing == waiting).count(), 1);
    fixture.assert_nothing_left(&first.join().unwrap());
    fixture.assert_nothing_left(&second);
}

#[test]
fn an_interrupt_ends_the_wait_in_the_queue() {
    let fixture = Arc::new(Fixture::new());
    let lock = boma_it::support::lock::FileLock::acquire(
        &fixture.path("state/slot-1.lock"),
        "ubongo::cycle of test run one, process 1, 3GiB",
        &Deadline::uninterrupted(Duration::from_secs(5), "the test"),
        |_| boma_it::support::lock::Busy::GiveUp,
    );
    let queued = std::thread::spawn({
        let fixture = fixture.clone();
        move || run(&fixture.context(Keep::Never), &fixture.plan(), Job::Cycle)
    });
    let deadline = Deadline::uninterrupted(Duration::from_secs(30), "the test");
    deadline
        .wait_for("the queue", Duration::from_millis(5), || {
            let waits = fixture
                .events
                .activities()
                .iter()
                .any(|doing| doing.starts_with("waiting for ubongo::cycle "));
            Ok(if waits { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
        })
        .unwrap();
    fixture.interrupt.raise(2);
    let error = queued.join().unwrap().unwrap_err();
    assert!(error.chain().any(|it| it.is::<boma_it::support::interrupt::Interrupted>()), "{error:?}");
    assert_eq!(fixture.runs().len(), 0);
    drop(lock);
}

#[test]
fn a_step_without_a_running_vm_is_refused_with_the_command_to_start_one() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    for job in [Job::Apply, Job::Reboot, Job::Assert] {
        let error = run(&context, &fixture.plan(), job).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(NoRunningVm::Absent { .. })), "{error:?}");
        assert_eq!(error.to_string(), "askari::cycle has no VM; bring it up with `boma-it up --host askari`");
    }
    keep_askari(&fixture, &context);
    fixture.fake.power_off(ASKARI).unwrap();
    let error = run(&context, &fixture.plan(), Job::Apply).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the VM boma-it-askari is off; `boma-it console --host askari` shows why, `boma-it down --host askari` ends it"
    );
    fixture.assert_unlocked();
}

#[test]
fn old_run_folders_are_removed_except_those_of_existing_vms() {
    let fixture = Fixture::new();
    keep_askari(&fixture, &fixture.context(Keep::UntilDown));
    let kept = fixture.runs();
    fixture.fake.power_off(ASKARI).unwrap();
    for _ in 0..3 {
        let mut plan = short(&fixture, "ubongo");
        plan.harness.keep_runs = 2;
        let report = run(&fixture.context(Keep::Never), &plan, Job::Cycle).unwrap();
        assert_eq!(report.outcome, Outcome::Errored);
    }
    let runs = fixture.runs();
    assert!(runs.contains(&kept[0]), "the folder of the VM that is off, and not ended, is gone");
    assert!(runs.len() <= 3, "{runs:?}");
}
