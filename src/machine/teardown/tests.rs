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

fn left(fake: &Fake) -> Vec<String> {
    fake.volumes().unwrap().into_iter().map(|volume| volume.name).collect()
}

/// What one failing step leaves, a second teardown takes.
#[rstest::rstest]
#[case(Verb::PowerOff, 1)]
#[case(Verb::DeleteVolume, 1)]
#[case(Verb::DeleteVolume, 4)]
#[case(Verb::Undefine, 1)]
fn a_teardown_that_failed_midway_tried_every_step_and_can_be_run_again(
    #[case] verb: Verb,
    #[case] nth: usize,
) {
    let fake = built();
    fake.fail(verb, nth);
    assert!(teardown(&fake, NAME).is_err());
    let tried = |verb| fake.calls().iter().filter(|(called, _)| *called == verb).count();
    assert_eq!((tried(Verb::PowerOff), tried(Verb::DeleteVolume), tried(Verb::Undefine)), (1, 4, 1));
    teardown(&fake, NAME).unwrap();
    assert_eq!(left(&fake), ["golden-1.qcow2"]);
    assert_eq!(fake.spec(NAME), None);
}

/// virtlogd renames a console's or a journal's log that grows beyond 2 MiB.
#[test]
fn the_earlier_parts_of_long_logs_go_too_and_a_namesakes_do_not() {
    let fake = built();
    for part in ["console.log.0", "journal.log.0", "journal.log.1"] {
        fake.put_volume(&format!("{NAME}.{part}"), b"said long ago");
        fake.put_volume(&format!("{NAME}-incident.{part}"), b"said by another");
    }
    teardown(&fake, NAME).unwrap();
    let namesakes = ["console.log.0", "journal.log.0", "journal.log.1"];
    let namesakes = namesakes.map(|part| format!("{NAME}-incident.{part}"));
    assert_eq!(left(&fake), [&namesakes[..], &["golden-1.qcow2".to_owned()]].concat());
    let pruned = prune(&fake, &NamePrefix::default(), &Table(&[]), PruneScope::Orphans).unwrap();
    assert_eq!(pruned.volumes, namesakes);
}

#[test]
fn what_a_teardown_has_no_time_for_is_left_and_named() {
    let fake = built();
    let error = teardown_within(&fake, NAME, &Deadline::uninterrupted(Duration::ZERO, "down")).unwrap_err();
    assert!(matches!(error, HypervisorError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("cannot stop domain boma-it-askari"), "{error}");
    assert_eq!(fake.calls().len(), 2, "nothing was asked for: {:?}", fake.calls());
}

#[test]
fn the_domain_goes_last_as_it_is_the_record_of_the_volumes() {
    let fake = built();
    teardown(&fake, NAME).unwrap();
    let calls = fake.calls();
    assert_eq!(calls.first().map(|call| call.0), Some(Verb::Define));
    assert_eq!(calls.last().map(|call| call.0), Some(Verb::Undefine));
}

#[test]
fn pruning_reports_the_first_error_and_still_takes_the_rest() {
    let fake = built();
    fake.put_volume("boma-it-gone.seed.img", b"seed");
    fake.fail(Verb::Undefine, 1);
    let realm = NamePrefix::default();
    assert!(prune(&fake, &realm, &Table(&[]), PruneScope::Orphans).is_err());
    assert_eq!(left(&fake), ["golden-1.qcow2"]);
    let pruned = prune(&fake, &realm, &Table(&[]), PruneScope::Orphans).unwrap();
    assert_eq!(pruned.machines, [NAME]);
}

#[test]
fn pruning_where_there_is_no_pool_yet_finds_nothing() {
    let pruned = prune(&Fake::new(), &NamePrefix::default(), &Table(&[]), PruneScope::Everything).unwrap();
    assert!(pruned.is_empty());
}
