//! Restarts played through: each way in which a reboot is, and is not, proven.

use super::*;
use crate::guest::scripted::{Act, Scripted, id, settled};

fn play(mut guest: Scripted, budget: Duration) -> Result<RebootProof, RebootError> {
    let deadline = Deadline::uninterrupted(budget, "the reboot");
    let peer = ([192, 0, 2, 1], 22).into();
    let mut watch = WaitContext::over(&deadline);
    prove(&mut guest, peer, Baseline::of(id(1)), &mut watch, &mut |_| {}).map(|(_, _, proof)| proof)
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

#[test]
fn the_old_boot_answering_during_shutdown_is_waited_out() {
    let acts = vec![
        Act::Says(settled(1)),
        Act::Says(settled(1)),
        Act::Cut(vec![]),
        Act::AuthRefused,
        Act::Refused,
        Act::Says(settled(2)),
    ];
    let proof = play(Scripted::new(acts), LONG).unwrap();
    assert_eq!((proof.old, proof.new, proof.boots), (id(1), id(2), None));
    assert_eq!(proof.uncounted.as_deref(), Some("no journal"));
}

#[test]
fn a_vm_that_was_never_restarted_is_told_as_such() {
    let error = play(Scripted::new(vec![Act::Says(settled(1))]), SHORT).unwrap_err();
    let RebootError::DidNotRestart { boot_id, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*boot_id, id(1));
    assert!(error.to_string().starts_with("the VM did not restart: after "), "{error}");
}

#[test]
fn a_port_that_went_down_and_up_with_the_old_boot_proves_nothing() {
    let acts = vec![Act::Refused, Act::Says(settled(1))];
    let error = play(Scripted::new(acts), SHORT).unwrap_err();
    assert!(matches!(error, RebootError::DidNotRestart { .. }), "{error:?}");
}

#[rstest::rstest]
#[case(Act::Refused)]
#[case(Act::AuthRefused)]
fn a_guest_that_never_lets_us_in_again_is_a_lockout(#[case] act: Act) {
    let error =
        play(Scripted::new(vec![Act::Says(settled(1)), act]), Duration::from_millis(2600)).unwrap_err();
    let RebootError::Unreachable { old, last: Some(_), silent, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*old, id(1));
    assert!(*silent < Duration::from_millis(2600));
}

#[test]
fn a_new_boot_that_does_not_settle_is_neither_a_lockout_nor_a_pass() {
    let busy = vec![format!("boot {}", id(2)), "jobs fsck.service".into()];
    let error = play(Scripted::new(vec![Act::Refused, Act::Hangs(busy)]), SHORT).unwrap_err();
    let RebootError::NotReady(ReadyError::NotSettled { boot_id, last, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!((boot_id, last.as_str()), (&id(2), "waiting for units: fsck.service"));
}

#[rstest::rstest]
#[case(vec![id(9), id(1), id(2)], Ok(Some(1)))]
#[case(vec![id(9), id(2)], Ok(None))]
#[case(vec![id(1), id(7), id(2)], Err(2))]
#[case(vec![id(1)], Err(0))]
fn the_journal_is_held_to_exactly_one_new_boot(
    #[case] boots: Vec<BootId>,
    #[case] expected: Result<Option<usize>, usize>,
) {
    let mut guest = Scripted::new(vec![Act::Says(settled(2))]);
    guest.boots = Some(boots);
    let seen = match play(guest, LONG) {
        Ok(proof) => {
            let unknown = "it knows of 2 boots, and not of boot ".to_owned() + id(1).short();
            assert_eq!(proof.uncounted, proof.boots.is_none().then_some(unknown));
            Ok(proof.boots)
        }
        Err(RebootError::NotOnce { boots, .. }) => Err(boots),
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(seen, expected);
}

#[test]
fn a_guest_that_is_given_up_on_counts_as_unreachable_before_the_deadline() {
    let deadline = Deadline::uninterrupted(Duration::from_secs(600), "the reboot");
    let mut asked = Vec::new();
    let mut give_up = |silent: Duration| {
        asked.push(silent);
        silent >= Duration::from_millis(300)
    };
    let mut health_check = || Ok(());
    let mut watch = WaitContext::with_alive(&deadline, &mut health_check).or_resign(&mut give_up);
    // What answers is not silent: the old boot, and a new one that is busy, are not given up on.
    let busy = vec![format!("boot {}", id(2)), "jobs fsck.service".into()];
    let acts = vec![Act::Says(settled(1)), Act::Cut(busy), Act::Refused];
    let started = Instant::now();
    let peer = ([192, 0, 2, 1], 22).into();
    let told = prove(&mut Scripted::new(acts), peer, Baseline::of(id(1)), &mut watch, &mut |_| {});
    let error = told.map(|(_, _, proof)| proof).unwrap_err();
    let RebootError::Unreachable { silent, .. } = error else { panic!("{error:?}") };
    assert!(silent >= Duration::from_millis(300) && started.elapsed() < Duration::from_secs(60));
    assert!(asked.len() > 1 && asked.is_sorted(), "{asked:?}");
}
