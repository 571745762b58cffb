//! Layers that two runs make at once.

use std::sync::atomic::{AtomicBool, Ordering};

use boma_it::catalog::Plan;
use boma_it::catalog::plan::Layers;
use boma_it::cycle::{Job, Keep, run};
use boma_it::machine::fake::Verb;
use boma_it::outcome::{Outcome, Stage};

use crate::fixture::{ASKARI, Fixture, stage};
use crate::guest::{Guest, OnRestart};
use crate::layers::{assert_passed, count, layers, left_beside, only_layer, plan};
use crate::side_by_side::wait_until;

/// The plan of another trial of the same VM.
fn sibling(fixture: &Fixture) -> Plan {
    fixture.write("scenarios/sibling.yml", "version: 1\nprofile: askari\ndescription: x\n");
    let mut plan = fixture.plan_of("askari", Some("sibling"));
    plan.harness.layers = Layers::Ready;
    plan
}

#[test]
fn of_two_trials_that_could_make_one_layer_at_once_the_second_goes_on_from_the_firsts() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let reports = std::thread::scope(|scope| {
        let runs = [plan(&fixture), sibling(&fixture)];
        let runs = runs.map(|plan| scope.spawn(|| run(&context, &{ plan }, Job::Cycle).unwrap()));
        runs.map(|run| run.join().unwrap())
    });
    reports.iter().for_each(assert_passed);
    let layer = only_layer(&context);
    let calls = [Verb::Start, Verb::Save, Verb::Restore].map(|verb| count(&fixture, verb));
    assert_eq!((calls, layer.user), ([1, 1, 1], None));
    assert_eq!(left_beside(&fixture, &layer.name), [""; 0]);
}

#[test]
fn two_trials_make_two_layers_at_once() {
    const SECOND: &str = "boma-it-askari.2";
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guests = [(ASKARI, "guest"), (SECOND, "second")]
        .map(|(domain, folder)| Guest::start_as(domain, folder, &fixture, &context, OnRestart::AnotherBoot));
    let plans = [plan(&fixture), sibling(&fixture)];
    // Neither is kept before both run, and the first one gets the first slot.
    let fake = fixture.fake.clone();
    let is_called = move |verb, name| fake.calls().contains(&(verb, String::from(name)));
    let also_called = is_called.clone();
    fixture.fake.after(Verb::Start, move |name| {
        if name == ASKARI {
            wait_until("the second VM", || also_called(Verb::Start, SECOND));
        }
    });
    let (fixture, context) = (&fixture, &context);
    let reports = std::thread::scope(|scope| {
        let runs = plans.map(|mut plan| {
            plan.harness.vms = 2;
            let run = scope.spawn(move || run(context, &plan, Job::Cycle).unwrap());
            wait_until("the first VM", || is_called(Verb::Define, ASKARI));
            run
        });
        runs.map(|run| run.join().unwrap())
    });
    reports.iter().for_each(assert_passed);
    assert_eq!(reports.map(|report| report.machine), [ASKARI, SECOND]);
    let made = layers(context);
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(made.iter().all(|it| it.made.is_some() && it.user.is_none()), "{made:?}");
    assert_eq!((count(fixture, Verb::Save), fixture.left().len()), (2, 6), "{:?}", fixture.left());
}

/// The locks are one user's, and the VM's name is the hypervisor's. Whoever comes second leaves alone what the first one has.
#[rstest::rstest]
fn of_two_users_who_make_one_layer_at_once_one_is_refused_and_spoils_nothing(
    #[values(Verb::CreateOverlay, Verb::Start, Verb::Save, Verb::Upload)] meets_at: Verb,
    #[values(1, 2)] vms: u8,
) {
    let fixture = Fixture::new();
    let (context, mut other) = (fixture.context(Keep::Never), fixture.context_of("two", Keep::Never));
    other.state = fixture.path("state-of-another-user");
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    // The other one was admitted before there was a VM.
    let fake = fixture.fake.clone();
    let is_admitted = AtomicBool::new(false);
    fixture.fake.after(Verb::EnsureNetwork, move |_| {
        if !is_admitted.swap(true, Ordering::SeqCst) {
            let is_met = |(verb, name): &(Verb, String)| {
                *verb == meets_at && (*verb != Verb::Upload || name.starts_with("layer-"))
            };
            wait_until("the first one", || fake.calls().iter().any(is_met));
        }
    });
    let mut theirs = sibling(&fixture);
    theirs.harness.vms = vms.into();
    let fake = fixture.fake.clone();
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| run(&other, &theirs, Job::Cycle).unwrap());
        wait_until("the other one", || fake.calls().iter().any(|(verb, _)| *verb == Verb::EnsureNetwork));
        (run(&context, &plan(&fixture), Job::Cycle).unwrap(), second.join().unwrap())
    });
    assert_passed(&first);
    assert_eq!(second.outcome, Outcome::Errored, "{}", second.seen);
    assert_eq!(stage(&second, Stage::Up).outcome, Outcome::Errored, "{}", second.seen);
    let layer = only_layer(&context);
    assert!(layer.made.is_some() && layer.user.is_none(), "{layer:?}");
    assert_eq!((count(&fixture, Verb::Start), count(&fixture, Verb::Restore)), (1, 0));
    assert_eq!(left_beside(&fixture, &layer.name), [""; 0]);
}
