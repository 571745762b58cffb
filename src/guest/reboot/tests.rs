//! Restarts with a scripted guest: each way in which a reboot is proven or not.

use super::*;
use crate::guest::fixture::{Act, ScriptedGuest, access, id, settled};

fn restart(mut guest: ScriptedGuest, budget: Duration) -> Result<RebootProof, RebootError> {
    let deadline = Deadline::uninterrupted(budget, "the reboot");
    let mut context = WaitContext::new(&deadline);
    prove(&mut guest, &access(), Baseline(id(1)), &mut context, &mut |_| {}).map(|(_, _, proof)| proof)
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

#[test]
fn an_old_boot_that_answers_during_shutdown_is_waited_out() {
    let acts = vec![
        Act::Reports(settled(1)),
        Act::Reports(settled(1)),
        Act::Cut(vec![]),
        Act::AuthRefused,
        Act::Refused,
        Act::Reports(settled(2)),
    ];
    let proof = restart(ScriptedGuest::new(acts), LONG).unwrap();
    assert_eq!((proof.old, proof.new, proof.single_boot), (id(1), id(2), Err("no journal".into())));
}

#[test]
fn a_vm_that_never_restarts_is_an_error_with_the_old_boot_id() {
    let error = restart(ScriptedGuest::new(vec![Act::Reports(settled(1))]), SHORT).unwrap_err();
    let RebootError::DidNotRestart { boot_id, waited } = error else { panic!("{error:?}") };
    assert_eq!(boot_id, id(1));
    assert!(waited >= SHORT, "{waited:?}");
}

#[test]
fn a_port_that_goes_down_and_up_with_the_old_boot_proves_nothing() {
    let acts = vec![Act::Refused, Act::Reports(settled(1))];
    let error = restart(ScriptedGuest::new(acts), SHORT).unwrap_err();
    assert!(matches!(error, RebootError::DidNotRestart { .. }), "{error:?}");
}

#[rstest::rstest]
#[case(Act::Refused)]
#[case(Act::AuthRefused)]
fn a_guest_that_never_accepts_a_login_again_is_unreachable(#[case] act: Act) {
    let budget = Duration::from_millis(2600);
    let error = restart(ScriptedGuest::new(vec![Act::Reports(settled(1)), act]), budget).unwrap_err();
    let RebootError::Unreachable { old, last: Some(_), silent, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*old, id(1));
    assert!(*silent < budget);
}

#[test]
fn a_new_boot_that_does_not_settle_is_neither_unreachable_nor_proven() {
    let busy = vec![format!("boot {}", id(2)), "jobs fsck.service".into()];
    let error = restart(ScriptedGuest::new(vec![Act::Refused, Act::Hangs(busy)]), SHORT).unwrap_err();
    let RebootError::NotReady(ReadyError::NotSettled { boot_id, last, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*boot_id, last.as_str()), (id(2), "waiting for units: fsck.service"));
}

#[rstest::rstest]
#[case::one(vec![id(9), id(1), id(2)], Ok(Ok(())))]
#[case::unknown(
    vec![id(9), id(2)],
    Ok(Err("it lists 2 boots, and boot 00000001 is not among them".to_owned()))
)]
#[case::two(vec![id(1), id(7), id(2)], Err(2))]
#[case::none(vec![id(1)], Err(0))]
fn the_journal_must_list_exactly_one_new_boot(
    #[case] boots: Vec<BootId>,
    #[case] expected: Result<Result<(), String>, usize>,
) {
    let mut guest = ScriptedGuest::new(vec![Act::Reports(settled(2))]);
    guest.boots = Some(boots);
    let seen = match restart(guest, LONG) {
        Ok(proof) => Ok(proof.single_boot),
        Err(RebootError::NotOnce { boots, .. }) => Err(boots),
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(seen, expected);
}

#[test]
fn a_guest_that_is_given_up_is_unreachable_before_the_deadline() {
    let deadline = Deadline::uninterrupted(Duration::from_secs(600), "the reboot");
    let mut silences = Vec::new();
    let mut give_up = |silent: Duration| {
        silences.push(silent);
        silent >= Duration::from_millis(300)
    };
    let mut context = WaitContext::new(&deadline).with_give_up(&mut give_up);
    // Only silence counts: neither the old boot nor a busy new one is given up.
    let busy = vec![format!("boot {}", id(2)), "jobs fsck.service".into()];
    let mut guest = ScriptedGuest::new(vec![Act::Reports(settled(1)), Act::Cut(busy), Act::Refused]);
    let started = Instant::now();
    let proven = prove(&mut guest, &access(), Baseline(id(1)), &mut context, &mut |_| {});
    let error = proven.map(|(_, _, proof)| proof).unwrap_err();
    let RebootError::Unreachable { silent, .. } = error else { panic!("{error:?}") };
    assert!(silent >= Duration::from_millis(300) && started.elapsed() < Duration::from_secs(60));
    assert!(silences.len() > 1 && silences.is_sorted(), "{silences:?}");
}
