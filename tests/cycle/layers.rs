//! Layers: the first run keeps its settled first boot, later ones go on from it, and whatever is wrong with a layer, the run is
//! one from the image.

use boma_it::catalog::Plan;
use boma_it::catalog::plan::{ExpectedFailure, ExpectedFault, Layers, Restart, Tier};
use boma_it::catalog::quantity::Bytes;
use boma_it::catalog::secrets::{SecretPlan, SecretSource};
use boma_it::cycle::{Job, Keep, RunContext, down, prune, run};
use boma_it::event::RunReport;
use boma_it::machine::Hypervisor;
use boma_it::machine::fake::Verb;
use boma_it::machine::layer::{Layer, LayerKind, LayerName};
use boma_it::machine::teardown::PruneScope;
use boma_it::outcome::{Outcome, Stage};

use crate::fixture::{ASKARI, Fixture, PORTS, Task, record, stage};
use crate::guest::{Guest, OnRestart};

pub(crate) fn plan(fixture: &Fixture) -> Plan {
    let mut plan = fixture.plan();
    plan.harness.layers = Layers::Ready;
    plan
}

/// The plan of a run that also keeps the state after the playbook.
fn second_look(fixture: &Fixture) -> Plan {
    let mut plan = fixture.plan();
    plan.harness.layers = Layers::Applied;
    plan
}

pub(crate) fn layers(context: &RunContext) -> Vec<Layer> {
    context.layers().list().unwrap()
}

pub(crate) fn only_layer(context: &RunContext) -> Layer {
    let mut layers = layers(context);
    assert_eq!(layers.len(), 1, "{layers:?}");
    layers.remove(0)
}

pub(crate) fn count(fixture: &Fixture, verb: Verb) -> usize {
    fixture.fake.calls().iter().filter(|(called, _)| *called == verb).count()
}

/// Everything on the hypervisor but images and the volumes of this layer.
pub(crate) fn left_beside(fixture: &Fixture, layer: &LayerName) -> Vec<String> {
    let volumes = [layer.disk(), layer.memory(), layer.record()];
    fixture.left().into_iter().filter(|name| !volumes.contains(name)).collect()
}

#[track_caller]
pub(crate) fn assert_passed(report: &RunReport) {
    assert_eq!(report.outcome, Outcome::Passed, "{:?}", report.error);
}

/// A run that makes a layer.
fn make(fixture: &Fixture, context: &RunContext) -> Layer {
    assert_passed(&run(context, &plan(fixture), Job::Cycle).unwrap());
    only_layer(context)
}

#[test]
fn the_first_run_keeps_its_first_boot_and_the_next_two_go_on_from_it() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let first = run(&context, &plan(&fixture), Job::Cycle).unwrap();
    assert_passed(&first);
    let layer = only_layer(&context);
    assert!(stage(&first, Stage::Up).summary.ends_with(&format!(", kept as layer {}", layer.name)));
    assert_eq!((first.layer, layer.user), (None, None));
    assert_eq!(layer.made.unwrap().0, "askari");
    assert_eq!(left_beside(&fixture, &layer.name), [""; 0]);
    // Its disk was the layer's until the memory was saved, and its own after that.
    let created = fixture.fake.calls().into_iter().find(|(verb, _)| *verb == Verb::CreateOverlay).unwrap().1;
    assert_eq!(created, layer.name.disk());

    for restores in 1..=2 {
        let report = run(&context, &plan(&fixture), Job::Cycle).unwrap();
        assert_passed(&report);
        assert_eq!((count(&fixture, Verb::Start), count(&fixture, Verb::Restore)), (1, restores));
        let origin = report.layer.clone().unwrap();
        assert!(origin.starts_with(&format!("layer {}, first boot ", layer.name)), "{origin}");
        assert!(stage(&report, Stage::Up).summary.ends_with(&format!(", from {origin}")));
        // The boot id is the layer's; the reboot was proven all the same.
        assert!(stage(&report, Stage::Reboot).summary.starts_with("boot 11111111 → 22222222"));
        let console = std::fs::read_to_string(report.folder.join("layer-console.log")).unwrap();
        assert!(console.starts_with("BdsDxe"), "{console}");
        assert!(report.folder.join("layer-journal.log").exists());
        assert!(!report.folder.join("keys").exists());
        assert_eq!(left_beside(&fixture, &layer.name), [""; 0]);
    }
    let renewal = std::fs::read_to_string(fixture.path("guest/renewal")).unwrap();
    assert!(renewal.starts_with("now=1"), "{renewal}");
    drop(guest);
}

#[test]
fn a_run_without_layers_neither_uses_nor_makes_one() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    make(&fixture, &context);
    let mut plan = plan(&fixture);
    plan.harness.layers = Layers::None;
    let report = run(&context, &plan, Job::Cycle).unwrap();
    assert_passed(&report);
    let calls = [Verb::Start, Verb::Restore, Verb::Save].map(|verb| count(&fixture, verb));
    assert_eq!((report.layer, calls), (None, [2, 0, 1]));
}

/// How a layer becomes useless.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Memory,
    Restore,
    Keys,
}

#[rstest::rstest]
#[case::its_memory_is_damaged(Damage::Memory)]
#[case::the_hypervisor_cannot_restore_it(Damage::Restore)]
#[case::the_guest_does_not_take_the_runs_identity(Damage::Keys)]
fn a_layer_that_cannot_be_restored_is_removed_and_the_vm_boots_from_the_image(#[case] damage: Damage) {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let layer = make(&fixture, &context);
    let refuses = fixture.path("guest/refuses");
    match damage {
        Damage::Memory => fixture.fake.put_volume(&layer.name.memory(), b"damaged"),
        Damage::Restore => fixture.fake.fail(Verb::Restore, 1),
        Damage::Keys => std::fs::write(&refuses, "").unwrap(),
    }
    let report = run(&context, &plan(&fixture), Job::Cycle).unwrap();
    assert_passed(&report);
    let notes: Vec<_> =
        fixture.events.notes().into_iter().filter(|note| note.contains("could not be restored")).collect();
    insta::assert_snapshot!(format!("{damage:?}"), fixture.plain(&notes.join("\n")));
    assert_eq!((report.layer, count(&fixture, Verb::Start)), (None, 2));
    // It was made anew.
    let again = only_layer(&context);
    assert_eq!(again.name, layer.name);
    assert!(again.made.unwrap().1 > layer.made.unwrap().1);
    assert_eq!(left_beside(&fixture, &layer.name), [""; 0]);
}

#[test]
fn an_interrupt_while_a_layer_is_restored_ends_the_run_and_leaves_the_layer() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let layer = make(&fixture, &context);
    let interrupt = fixture.interrupt.clone();
    fixture.fake.after(Verb::Restore, move |_| interrupt.raise(2));
    let report = run(&context, &plan(&fixture), Job::Cycle).unwrap();
    assert_eq!((report.outcome, count(&fixture, Verb::Start)), (Outcome::Interrupted, 1));
    assert_eq!(only_layer(&context).made, layer.made);
    assert_eq!(left_beside(&fixture, &layer.name), [""; 0]);
}

#[rstest::rstest]
#[case::the_memory(Verb::Save, 1)]
#[case::the_record(Verb::Upload, 3)]
fn a_first_boot_that_cannot_be_kept_is_a_note_and_leaves_nothing(#[case] verb: Verb, #[case] nth: usize) {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    fixture.fake.fail(verb, nth);
    let report = run(&context, &plan(&fixture), Job::Cycle).unwrap();
    assert_passed(&report);
    let noted =
        fixture.events.notes().into_iter().find(|note| note.starts_with("cannot keep this state as layer "));
    assert!(noted.is_some(), "{:?}", fixture.events.notes());
    assert_eq!(layers(&context), []);
    fixture.assert_nothing_left(&report);
}

#[test]
fn a_first_boot_with_a_failed_unit_is_not_kept() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let says = fixture.path("guest/says");
    fixture.fake.after(Verb::Start, move |_| {
        // The guest writes it right after the start.
        while !says.exists() {
            std::thread::yield_now();
        }
        let text = std::fs::read_to_string(&says).unwrap();
        std::fs::write(&says, text.replace("state running", "failed mesh.service\nstate degraded")).unwrap();
    });
    let report = run(&context, &plan(&fixture), Job::Cycle).unwrap();
    assert_passed(&report);
    assert_eq!((count(&fixture, Verb::Save), layers(&context)), (0, vec![]));
    fixture.assert_nothing_left(&report);
}

#[test]
fn a_layer_of_yesterday_is_made_anew() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let layer = make(&fixture, &context);
    let mut bytes = Vec::new();
    fixture.fake.download(&layer.name.record(), 0, &mut bytes).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let old = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(25);
    record["made"] = old.to_string().into();
    fixture.fake.put_volume(&layer.name.record(), &serde_json::to_vec(&record).unwrap());
    let report = run(&context, &plan(&fixture), Job::Cycle).unwrap();
    assert_passed(&report);
    assert_eq!((report.layer, count(&fixture, Verb::Restore)), (None, 0));
    assert!(only_layer(&context).made.unwrap().1 > old);
}

#[test]
fn prune_removes_what_a_killed_run_left_of_a_layer_and_with_all_every_layer() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let layer = make(&fixture, &context);
    let unfinished: LayerName = "ready-00000000".parse().unwrap();
    fixture.fake.put_volume(&unfinished.disk(), b"QFI");
    fixture.fake.put_volume(&unfinished.memory(), b"state");
    let runs = fixture.path("runs");
    let (removed, result) = prune(&context, &runs, PruneScope::Orphans);
    result.unwrap();
    assert_eq!(removed.layers, [unfinished]);
    assert_eq!(only_layer(&context).name, layer.name);
    let (removed, result) = prune(&context, &runs, PruneScope::Everything);
    result.unwrap();
    assert_eq!(removed.layers, [layer.name]);
    assert_eq!(fixture.left(), [""; 0]);
}

/// Another version of boma-it may have made it.
#[test]
fn a_vm_whose_metadata_cannot_be_read_keeps_every_layer_from_being_removed() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    assert_passed(&run(&context, &plan(&fixture), Job::Up).unwrap());
    fixture.fake.damage_metadata(ASKARI);
    let unfinished: LayerName = "ready-00000000".parse().unwrap();
    fixture.fake.put_volume(&unfinished.disk(), b"QFI");
    assert_eq!(prune(&context, &fixture.path("runs"), PruneScope::Orphans).0.layers, []);
    assert!(layers(&context).iter().all(|it| it.user.as_deref() == Some(ASKARI)));
}

#[test]
fn a_vm_that_is_up_keeps_its_layer_from_being_removed_until_down() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = plan(&fixture);
    // No layer fits in there.
    plan.harness.layer_space = Bytes(1);
    assert_passed(&run(&context, &plan, Job::Up).unwrap());
    let layer = only_layer(&context);
    assert_eq!(layer.user.as_deref(), Some(ASKARI));
    assert_eq!(prune(&context, &fixture.path("runs"), PruneScope::Orphans).0.layers, []);
    assert_eq!(only_layer(&context).name, layer.name);
    down(&context, &plan.trial).unwrap().unwrap();
    assert_eq!(left_beside(&fixture, &layer.name), [""; 0]);
    // It goes when another layer is made.
    let mut other = fixture.plan();
    (other.harness.layers, other.harness.layer_space) = (Layers::Ready, Bytes(1));
    other.vm.vcpus += 1;
    assert_passed(&run(&context, &other, Job::Cycle).unwrap());
    assert!(layers(&context).iter().all(|it| it.name != layer.name));
}

#[test]
fn a_second_look_goes_on_from_the_applied_state_and_asserts_anew() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let first = run(&context, &second_look(&fixture), Job::Cycle).unwrap();
    assert_passed(&first);
    let names: Vec<_> = layers(&context).into_iter().map(|it| it.name).collect();
    let [applied, ready] = &names[..] else { panic!("{names:?}") };
    assert_eq!((applied.kind(), ready.kind()), (LayerKind::Applied, LayerKind::Ready));
    assert!(stage(&first, Stage::Up).summary.ends_with(&format!(", kept as layer {ready}")));
    assert!(stage(&first, Stage::Apply).summary.ends_with(&format!(", kept as layer {applied}")));
    // Each disk lies on the one before.
    let backing = |volume: &str| {
        let volumes = fixture.fake.volumes().unwrap();
        volumes.into_iter().find(|it| it.name == volume).unwrap().backing.unwrap()
    };
    assert!(backing(&applied.disk()).ends_with(&ready.disk()));

    // The playbook must not run again, and `verify.yml` must.
    fixture.playbook("apply", "exit 1\n");
    fixture.playbook("assert", &record("verify", &[Task::failed(PORTS, "refused").asserting()]));
    let second = run(&context, &second_look(&fixture), Job::Cycle).unwrap();
    assert_eq!(second.outcome, Outcome::Failed, "{:?}", second.error);
    let origin = second.layer.clone().unwrap();
    assert!(origin.starts_with(&format!("layer {applied}, applied ")), "{origin}");
    assert_eq!(stage(&second, Stage::Apply).summary, "1 tasks, 1 changed, in the layer");
    assert!(stage(&second, Stage::Reboot).summary.starts_with("boot 11111111 → 22222222"));
    let tasks = std::fs::read_to_string(second.folder.join("ansible/apply.tasks.jsonl")).unwrap();
    assert!(tasks.contains("base : firewall"), "{tasks}");
    assert_eq!(count(&fixture, Verb::Start), 1);
    let renewal = std::fs::read_to_string(fixture.path("guest/renewal")).unwrap();
    assert!(renewal.contains("\nhost_key=''\n"), "the host key stays: {renewal}");
    assert!(fixture.left().iter().all(|name| name.starts_with("layer-")), "{:?}", fixture.left());

    // A ready layer that goes takes the applied one with it.
    context.layers().remove(ready).unwrap();
    assert_eq!(fixture.left(), [""; 0]);
}

#[rstest::rstest]
#[case::a_file_of_the_site("site/roles/base/tasks/main.yml", "- debug:\n")]
#[case::the_override("overrides/askari.yml", "stub: false\n")]
#[case::the_settings_of_ansible("site/ansible.cfg", "[defaults]\nforks = 1\n")]
fn a_change_of_what_is_applied_applies_it_again(#[case] file: &str, #[case] text: &str) {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    assert_passed(&run(&context, &second_look(&fixture), Job::Cycle).unwrap());
    fixture.write(file, text);
    let report = run(&context, &second_look(&fixture), Job::Cycle).unwrap();
    assert_passed(&report);
    let origin = report.layer.clone().unwrap();
    assert!(origin.starts_with("layer ready-"), "{origin}");
    assert!(stage(&report, Stage::Apply).summary.contains(", kept as layer applied-"));
}

#[rstest::rstest]
#[case::verify("harness/verify.yml", "# another look\n")]
#[case::another_host("overrides/ubongo.yml", "stub: false\n")]
fn a_change_of_what_is_not_applied_goes_on_from_the_applied_state(#[case] file: &str, #[case] text: &str) {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    assert_passed(&run(&context, &second_look(&fixture), Job::Cycle).unwrap());
    fixture.write(file, text);
    let mut plan = second_look(&fixture);
    plan.restart = Restart::Reset;
    let report = run(&context, &plan, Job::Cycle).unwrap();
    assert_passed(&report);
    assert!(report.layer.as_ref().unwrap().starts_with("layer applied-"));
}

#[rstest::rstest]
#[case::ci("no applied layer: this is CI")]
#[case::secrets("no applied layer: the run has secrets, and they would be in the memory that is kept")]
#[case::pebble("no applied layer: the certificate tier is pebble")]
#[case::declared("no applied layer: the scenario declares a failure at apply")]
#[case::vault("no applied layer: site/group_vars/all.yml is encrypted, and the guest's memory would have it")]
fn an_applied_state_that_must_not_be_kept_is_not(#[case] reason: &str) {
    let fixture = Fixture::new();
    let mut context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = second_look(&fixture);
    if reason.ends_with("CI") {
        context.is_ci = true;
    } else if reason.contains("secrets") {
        let file = fixture.path("token");
        std::fs::write(&file, "obviously-fake-token").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        plan.secrets = vec![SecretPlan { name: "vault.token".into(), source: SecretSource::File(file) }];
    } else if reason.contains("pebble") {
        plan.certs = Tier::Pebble;
    } else if reason.contains("declares") {
        plan.expect.fail = Some(ExpectedFailure { at: Stage::Apply, what: ExpectedFault::Unreachable });
    } else {
        fixture.write("site/group_vars/all.yml", "$ANSIBLE_VAULT;1.1;AES256\n3061\n");
    }
    run(&context, &plan, Job::Cycle).unwrap();
    assert!(fixture.events.notes().iter().any(|note| note == reason), "{:?}", fixture.events.notes());
    assert!(layers(&context).iter().all(|it| it.name.kind() == LayerKind::Ready));
}
