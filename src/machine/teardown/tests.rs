use super::*;
use crate::catalog::quantity::Bytes;
use crate::machine::domain::tests::sample;
use crate::machine::fake::{Fake, Verb};
use crate::machine::ownership::tests::Table;

const NAME: &str = "boma-it-askari";

fn built() -> Fake {
    let fake = Fake::new();
    fake.put_volume("golden-1.qcow2", b"image");
    fake.define(&sample()).unwrap();
    fake.create_overlay(&VmVolumes(NAME).overlay(), "golden-1.qcow2", Bytes::gib(20)).unwrap();
    fake.put_volume(&VmVolumes(NAME).seed(), b"seed");
    fake
}

fn remaining_volumes(fake: &Fake) -> Vec<String> {
    fake.volumes().unwrap().into_iter().map(|volume| volume.name).collect()
}

/// A second teardown removes what the failed step left.
#[rstest::rstest]
#[case(Verb::PowerOff, 1)]
#[case(Verb::DeleteVolume, 1)]
#[case(Verb::DeleteVolume, 4)]
#[case(Verb::Undefine, 1)]
fn a_failed_step_does_not_stop_the_teardown_which_can_be_repeated(#[case] verb: Verb, #[case] nth: usize) {
    let fake = built();
    fake.fail(verb, nth);
    assert!(teardown(&fake, NAME).is_err());
    let tried = |verb| fake.calls().iter().filter(|(called, _)| *called == verb).count();
    assert_eq!((tried(Verb::PowerOff), tried(Verb::DeleteVolume), tried(Verb::Undefine)), (1, 4, 1));
    teardown(&fake, NAME).unwrap();
    assert_eq!(remaining_volumes(&fake), ["golden-1.qcow2"]);
    assert_eq!(fake.spec(NAME), None);
}

/// virtlogd renames a console or journal log that grows beyond 2 MiB.
#[test]
fn the_old_parts_of_long_logs_are_removed_but_not_those_of_another_vm() {
    let fake = built();
    for part in ["console.log.0", "journal.log.0", "journal.log.1"] {
        fake.put_volume(&format!("{NAME}.{part}"), b"said long ago");
        fake.put_volume(&format!("{NAME}-incident.{part}"), b"said by another");
    }
    teardown(&fake, NAME).unwrap();
    let namesakes = ["console.log.0", "journal.log.0", "journal.log.1"];
    let namesakes = namesakes.map(|part| format!("{NAME}-incident.{part}"));
    assert_eq!(remaining_volumes(&fake), [&namesakes[..], &["golden-1.qcow2".to_owned()]].concat());
    let pruned = prune(&fake, &NamePrefix::default(), &Table::new(&[]), PruneScope::Orphans).unwrap();
    assert_eq!(pruned.volumes, namesakes);
}

#[test]
fn a_teardown_after_its_deadline_calls_nothing() {
    let fake = built();
    let error = teardown_within(&fake, NAME, &Deadline::uninterrupted(Duration::ZERO, "down")).unwrap_err();
    assert!(matches!(error, HypervisorError::GaveUp { .. }), "{error}");
    assert_eq!(error.to_string(), "timed out: stop domain boma-it-askari");
    assert_eq!(fake.calls().len(), 2, "{:?}", fake.calls());
}

#[test]
fn the_domain_is_removed_last() {
    let fake = built();
    teardown(&fake, NAME).unwrap();
    let calls = fake.calls();
    assert_eq!(calls.first().map(|call| call.0), Some(Verb::Define));
    assert_eq!(calls.last().map(|call| call.0), Some(Verb::Undefine));
}

#[test]
fn prune_reports_the_first_error_and_removes_the_rest() {
    let fake = built();
    fake.put_volume("boma-it-gone.seed.img", b"seed");
    fake.fail(Verb::Undefine, 1);
    let prefix = NamePrefix::default();
    assert!(prune(&fake, &prefix, &Table::new(&[]), PruneScope::Orphans).is_err());
    assert_eq!(remaining_volumes(&fake), ["golden-1.qcow2"]);
    let pruned = prune(&fake, &prefix, &Table::new(&[]), PruneScope::Orphans).unwrap();
    assert_eq!(pruned.machines, [NAME]);
}

#[test]
fn prune_without_a_pool_removes_nothing() {
    let pruned =
        prune(&Fake::new(), &NamePrefix::default(), &Table::new(&[]), PruneScope::Everything).unwrap();
    assert_eq!(pruned, Pruned::default());
}
