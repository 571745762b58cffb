//! Who is let in: one VM at a time, across processes and test runs, and never without memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boma_it::catalog::Plan;
use boma_it::catalog::quantity::Bytes;
use boma_it::cycle::{Job, Keep, LockHeld, NoRunningVm, RunContext, down, run};
use boma_it::machine::fake::Verb;
use boma_it::machine::guard::Refusal;
use boma_it::machine::{DomainSpec, DomainState, Hypervisor, Lifetime, Owner, VmVolumes};
use boma_it::outcome::Outcome;
use boma_it::support::deadline::{Deadline, Progress};

use crate::lab::{ASKARI, Lab};

/// The plan of a trial whose guest never answers, and is soon given up.
fn short(lab: &Lab, host: &str) -> Plan {
    let mut plan = lab.plan_of(host, None);
    // The keys are made within it as well, on a machine that may be busy.
    plan.harness.timeouts.up = Duration::from_secs(1);
    plan
}

/// Lets askari run and keeps its VM.
fn keep_askari(lab: &Lab, world: &RunContext) {
    assert!(run(world, &short(lab, "askari"), Job::Cycle).unwrap().kept);
}

fn refusal(lab: &Lab, world: &RunContext, plan: &Plan) -> String {
    let before = (lab.left(), lab.runs());
    let error = run(world, plan, Job::Cycle).unwrap_err();
    assert!(error.chain().any(|cause| cause.is::<Refusal>()), "{error:?}");
    assert_eq!((lab.left(), lab.runs()), before, "who is refused changes nothing");
    lab.assert_unlocked();
    error.to_string()
}

#[test]
fn a_second_vm_is_refused_naming_the_first_and_how_to_end_it() {
    let lab = Lab::new();
    let world = lab.world(Keep::UntilDown);
    keep_askari(&lab, &world);
    assert_eq!(
        refusal(&lab, &world, &lab.plan_of("ubongo", None)),
        "another VM is running, and only one may run at a time: boma-it-askari, kept by the driver; \
         end it with `boma-it down --host askari`"
    );
    assert_eq!(
        refusal(&lab, &world, &lab.plan()),
        "the VM boma-it-askari exists already (running), kept by the driver; \
         end it with `boma-it down --host askari`"
    );
}

#[test]
fn a_vm_kept_in_this_test_run_makes_room_for_the_next_trial_and_for_nobody_else() {
    let lab = Lab::new();
    let ours = lab.world_of("one", Keep::ForSession);
    keep_askari(&lab, &ours);
    assert_eq!(
        lab.fake.spec(ASKARI).unwrap().ownership.lifetime,
        Lifetime::Kept { session: "one".to_owned() }
    );
    let keys = lab.fake.spec(ASKARI).unwrap().ownership.run_folder.join("keys");
    assert!(keys.join("client").exists());
    let said = refusal(&lab, &lab.world_of("two", Keep::ForSession), &lab.plan_of("ubongo", None));
    assert!(said.contains("kept for inspection by run 20") && said.contains("--host askari"), "{said}");

    let report = run(&lab.world_of("one", Keep::Never), &short(&lab, "ubongo"), Job::Cycle).unwrap();
    let note = "reaped the VM boma-it-askari: an earlier trial of this run kept it".to_owned();
    assert!(lab.heard.notes().contains(&note), "{:?}", lab.heard.notes());
    assert!(!keys.exists(), "they open nothing any more: {keys:?}");
    lab.assert_nothing_left(&report);
}

#[test]
fn what_a_dead_process_left_behind_is_reaped_with_a_note_and_what_a_living_one_has_is_not() {
    let lab = Lab::new();
    let world = lab.world(Keep::UntilDown);
    keep_askari(&lab, &world);
    let mut owned = lab.fake.spec(ASKARI).unwrap().ownership;
    let keys = owned.run_folder.join("keys");
    assert!(keys.join("client").exists());
    owned.lifetime = Lifetime::Trial { session: "before".to_owned() };
    lab.fake.set_ownership(ASKARI, &owned).unwrap();
    let said = refusal(&lab, &world, &short(&lab, "ubongo"));
    assert!(said.contains(&format!("owned by process {} on ", std::process::id())), "{said}");

    // Another process once had our number.
    owned.owner = Owner { started: owned.owner.started + 1, ..owned.owner };
    lab.fake.set_ownership(ASKARI, &owned).unwrap();
    let report = run(&lab.world(Keep::Never), &short(&lab, "ubongo"), Job::Cycle).unwrap();
    let note = "reaped the VM boma-it-askari: its process is gone".to_owned();
    assert!(lab.heard.notes().contains(&note), "{:?}", lab.heard.notes());
    assert!(!keys.exists(), "they open nothing any more: {keys:?}");
    lab.assert_nothing_left(&report);
}

/// The lock is a user's, and somebody else's VM came up while ours was made.
#[test]
fn a_vm_that_appeared_meanwhile_is_noticed_before_ours_is_started() {
    const UBONGO: &str = "boma-it-ubongo";
    let lab = Lab::new();
    let fake = lab.fake.clone();
    lab.fake.after(Verb::Define, move |name| {
        if name == ASKARI {
            let theirs = fake.spec(ASKARI).unwrap();
            fake.define(&DomainSpec { name: UBONGO.to_owned(), ..theirs }).unwrap();
            fake.set_state(UBONGO, DomainState::Running);
        }
    });
    let report = run(&lab.world(Keep::Never), &lab.plan(), Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Errored);
    assert!(
        report.seen.contains("another VM is running, and only one may run at a time: boma-it-ubongo"),
        "{}",
        report.seen
    );
    assert!(lab.fake.calls().iter().all(|(verb, _)| *verb != Verb::Start), "ours was never started");
    assert_eq!((lab.fake.spec(ASKARI), lab.fake.state(UBONGO).unwrap()), (None, DomainState::Running));
}

/// The VM that another machine's run has of the same name, and its volumes, as one of ours shows how such a VM is made.
fn theirs(lab: &Lab) -> DomainSpec {
    let world = lab.world(Keep::UntilDown);
    keep_askari(lab, &world);
    let mut spec = lab.fake.spec(ASKARI).unwrap();
    down(&world, &lab.plan().trial).unwrap();
    let owned = &mut spec.ownership;
    (owned.run, owned.run_folder) = ("20260617T120000-askari".to_owned(), lab.path("theirs"));
    lab.write("theirs/keys/host.pub", "ssh-ed25519 AAAA");
    owned.owner = Owner { hostname: "there".to_owned(), pid: 7, ..owned.owner.clone() };
    owned.lifetime = Lifetime::Trial { session: "theirs".to_owned() };
    spec
}

/// The lock is a folder's: another user, or another machine at this hypervisor, may have a VM of the same name by the time ours is
/// made, or even while ours runs, if somebody ended that.
#[rstest::rstest]
#[case::before_ours_is_defined(
    Verb::EnsureNetwork,
    None,
    "the VM boma-it-askari exists already (running), owned by process 7 on there; end it with `boma-it down --host askari`"
)]
#[case::before_we_came_to_define_ours(Verb::EnsureNetwork, Some((Verb::HostInfo, 2)), "told to fail at HostInfo")]
#[case::in_the_place_of_ours(Verb::Start, None, "no SSH session with")]
fn another_partys_vm_of_the_same_name_is_let_be(
    #[case] comes_after: Verb,
    #[case] fails: Option<(Verb, usize)>,
    #[case] said: &str,
    #[values(Keep::Never, Keep::UntilDown)] keep: Keep,
) {
    let lab = Lab::new();
    let spec = theirs(&lab);
    let files = VmVolumes(ASKARI);
    let fake = lab.fake.clone();
    lab.fake.after(comes_after, {
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
        lab.fake.fail(verb, nth);
    }
    let report = run(&lab.world(keep), &short(&lab, "askari"), Job::Cycle).unwrap();
    assert_eq!(lab.fake.spec(ASKARI), Some(spec), "it is theirs as it was");
    assert_eq!(lab.fake.state(ASKARI).unwrap(), DomainState::Running);
    assert_eq!(lab.left(), [ASKARI.to_owned(), files.console(), files.overlay(), files.seed()]);
    assert!(!report.folder.join("console.log").exists(), "what their VM said is none of ours");
    assert_eq!((report.outcome, report.kept), (Outcome::Errored, false), "{}", report.seen);
    assert!(report.error.as_deref().unwrap().contains(said), "{:?}", report.error);
    assert!(lab.path("theirs/keys/host.pub").exists() && !report.folder.join("keys").exists());
    lab.assert_unlocked();
}

#[test]
fn the_keys_of_a_reaped_vm_go_even_if_a_volume_of_it_stays() {
    let lab = Lab::new();
    let world = lab.world(Keep::UntilDown);
    keep_askari(&lab, &world);
    let mut owned = lab.fake.spec(ASKARI).unwrap().ownership;
    let keys = owned.run_folder.join("keys");
    owned.lifetime = Lifetime::Trial { session: "before".to_owned() };
    owned.owner.started += 1;
    lab.fake.set_ownership(ASKARI, &owned).unwrap();
    lab.fake.fail(Verb::DeleteVolume, 1);
    let error = run(&world, &short(&lab, "ubongo"), Job::Cycle).unwrap_err();
    assert!(format!("{error:#}").contains("cannot reap boma-it-askari"), "{error:#}");
    assert_eq!(lab.fake.spec(ASKARI), None, "the record of the keys is gone");
    assert!(!keys.exists(), "and so are they: {keys:?}");
}

#[test]
fn too_little_memory_is_refused_with_the_figures() {
    let lab = Lab::new();
    lab.fake.set_available_memory(Bytes::gib(3));
    assert_eq!(
        refusal(&lab, &lab.world(Keep::Never), &lab.plan()),
        "too little free memory for a VM of 3GiB: 3072 MiB are available and 512MiB must stay free, so 512 MiB are \
         missing; free some, or ask for less (`vm.memory` of the profile, `memory_reserve` of harness/harness.yml)"
    );
}

#[test]
fn trials_of_one_test_run_queue_and_those_of_another_are_refused_at_once() {
    let lab = Arc::new(Lab::new());
    let first = std::thread::spawn({
        let lab = lab.clone();
        move || {
            let mut plan = lab.plan();
            plan.harness.timeouts.up = Duration::from_millis(1500);
            run(&lab.world_of("one", Keep::Never), &plan, Job::Cycle).unwrap()
        }
    });
    let deadline = Deadline::uninterrupted(Duration::from_secs(30), "the test");
    deadline
        .wait_for("the first VM", Duration::from_millis(5), || {
            let runs = lab.fake.state(ASKARI)? == DomainState::Running;
            Ok(if runs { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
        })
        .unwrap();

    let started = Instant::now();
    let error = run(&lab.world_of("two", Keep::Never), &short(&lab, "ubongo"), Job::Cycle).unwrap_err();
    // The first VM is there for six.
    assert!(started.elapsed() < Duration::from_secs(4), "refused after {:?}", started.elapsed());
    assert!(error.is::<LockHeld>(), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "one VM runs at a time, and another is in the works: boma-it-askari for askari::cycle of test run one, process {}; wait for it, or end that process",
            std::process::id()
        )
    );

    let second = run(&lab.world_of("one", Keep::Never), &short(&lab, "ubongo"), Job::Cycle).unwrap();
    assert!(first.is_finished(), "the second trial ran beside the first");
    let waiting = format!(
        "waiting for boma-it-askari for askari::cycle of test run one, process {}",
        std::process::id()
    );
    assert_eq!(lab.heard.doings().iter().filter(|doing| **doing == waiting).count(), 1);
    lab.assert_nothing_left(&first.join().unwrap());
    lab.assert_nothing_left(&second);
}

#[test]
fn an_interrupt_ends_the_wait_in_the_queue() {
    let lab = Arc::new(Lab::new());
    let lock = boma_it::support::lock::FileLock::acquire(
        &lab.path("state/vm.lock"),
        "boma-it-ubongo for ubongo::cycle of test run one, process 1",
        &Deadline::uninterrupted(Duration::from_secs(5), "the test"),
        |_| boma_it::support::lock::Busy::GiveUp,
    );
    let queued = std::thread::spawn({
        let lab = lab.clone();
        move || run(&lab.world(Keep::Never), &lab.plan(), Job::Cycle)
    });
    let deadline = Deadline::uninterrupted(Duration::from_secs(30), "the test");
    deadline
        .wait_for("the queue", Duration::from_millis(5), || {
            let waits =
                lab.heard.doings().iter().any(|doing| doing.starts_with("waiting for boma-it-ubongo"));
            Ok(if waits { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
        })
        .unwrap();
    lab.interrupt.raise(2);
    let error = queued.join().unwrap().unwrap_err();
    assert!(error.chain().any(|it| it.is::<boma_it::support::interrupt::Interrupted>()), "{error:?}");
    assert_eq!(lab.runs().len(), 0);
    drop(lock);
}

#[test]
fn a_step_needs_a_vm_that_runs_and_says_how_to_get_one() {
    let lab = Lab::new();
    let world = lab.world(Keep::UntilDown);
    for job in [Job::Apply, Job::Reboot, Job::Assert] {
        let error = run(&world, &lab.plan(), job).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(NoRunningVm::Absent { .. })), "{error:?}");
        assert_eq!(
            error.to_string(),
            "there is no VM boma-it-askari; bring it up with `boma-it up --host askari`"
        );
    }
    keep_askari(&lab, &world);
    lab.fake.power_off(ASKARI).unwrap();
    let error = run(&world, &lab.plan(), Job::Apply).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the VM boma-it-askari is off; look at `boma-it console --host askari`, end it with `boma-it down --host askari`"
    );
    lab.assert_unlocked();
}

#[test]
fn the_newest_run_folders_are_kept_and_never_that_of_a_living_vm_taken() {
    let lab = Lab::new();
    keep_askari(&lab, &lab.world(Keep::UntilDown));
    let kept = lab.runs();
    lab.fake.power_off(ASKARI).unwrap();
    for _ in 0..3 {
        let mut plan = short(&lab, "ubongo");
        plan.harness.keep_runs = 2;
        let report = run(&lab.world(Keep::Never), &plan, Job::Cycle).unwrap();
        assert_eq!(report.outcome, Outcome::Errored);
    }
    let runs = lab.runs();
    assert!(runs.contains(&kept[0]), "the folder of the VM that is off, and not ended, is gone");
    assert!(runs.len() <= 3, "{runs:?}");
}
