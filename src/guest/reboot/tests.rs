//! Restarts with a scripted guest: each way in which a reboot is proven or not.

use super::*;
use crate::guest::Silence;
use crate::guest::fixture::{Act, ScriptedGuest, access, id, settled};

fn restart(mut guest: ScriptedGuest, budget: Duration) -> Result<RebootProof, RebootError> {
    let deadline = Deadline::uninterrupted(budget, "the reboot");
    let mut context = WaitContext::new(&deadline);
    prove(&mut guest, &access(), baseline(), &mut context, &mut |_| {}).map(|(_, _, proof)| proof)
}

fn baseline() -> Baseline {
    Baseline { boot_id: id(1), wtmp: Ok(7) }
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
    assert_eq!((proof.old, proof.new), (id(1), id(2)));
    let unconfirmed: Vec<_> = proof.unconfirmed().collect();
    assert_eq!(unconfirmed, [(Witness::Journal, "no journal"), (Witness::Wtmp, "no wtmp")]);
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

/// What each witness counted, `None` where it cannot tell; and whether that proves a single boot.
#[rstest::rstest]
#[case::all(&[9, 1, 2], Some(8), Some(1), Some(1), true)]
#[case::the_journal_counts_two(&[1, 7, 2], Some(8), Some(1), Some(1), false)]
#[case::the_journal_counts_three(&[1, 7, 8, 2], None, None, None, false)]
#[case::a_volatile_journal(&[2], Some(8), Some(1), Some(1), true)]
#[case::a_volatile_journal_and_two_on_the_console(&[2], Some(8), Some(2), Some(1), false)]
#[case::a_volatile_journal_and_two_in_the_stream(&[2], Some(8), Some(1), Some(2), false)]
#[case::a_volatile_journal_and_two_in_wtmp(&[2], Some(9), Some(1), Some(1), false)]
#[case::only_wtmp_counts_two(&[1, 2], Some(9), None, None, false)]
#[case::a_journal_without_the_new_boot(&[1], Some(8), Some(1), None, true)]
#[case::a_wtmp_that_was_rotated(&[1, 2], Some(1), Some(1), Some(1), true)]
#[case::a_wtmp_without_the_new_boot(&[1, 2], Some(7), Some(1), Some(1), true)]
#[case::a_silent_console(&[1, 2], Some(8), Some(0), Some(1), true)]
#[case::a_silent_console_and_two_in_the_stream(&[2], None, Some(0), Some(2), false)]
#[case::nobody_can_tell(&[2], None, None, None, true)]
fn one_boot_is_proven_only_if_no_witness_counted_more(
    #[case] journal: &[u32],
    #[case] wtmp: Option<usize>,
    #[case] console: Option<usize>,
    #[case] streamed: Option<usize>,
    #[case] is_once: bool,
) {
    let mut guest = ScriptedGuest::new(vec![Act::Reports(settled(2))]);
    guest.boots = Some(journal.iter().copied().map(id).collect());
    guest.wtmp = wtmp;
    let count = |witness, boots: Option<usize>| BootCount::new(witness, boots.ok_or("nothing".to_owned()));
    let others = vec![count(Witness::Console, console), count(Witness::StreamedJournal, streamed)];
    let confirmed = restart(guest, LONG).unwrap().confirm(others);
    assert_eq!(confirmed.is_ok(), is_once, "{confirmed:?}");
}

#[test]
fn more_boots_than_one_are_an_error_that_says_who_counted_what() {
    let mut guest = ScriptedGuest::new(vec![Act::Reports(settled(2))]);
    guest.boots = Some(vec![id(2)]);
    let others =
        vec![BootCount::new(Witness::Console, Ok(2)), BootCount::new(Witness::StreamedJournal, Ok(1))];
    let proof = restart(guest, LONG).unwrap();
    let error = proof.confirm(others).unwrap_err();
    insta::assert_snapshot!(error, @"the VM booted more than once, expected exactly once: 00000001-0000-4000-8000-000000000000 → 00000002-0000-4000-8000-000000000000; the guest's journal cannot tell (it lists 1 boots, and boot 00000001 is not among them), wtmp cannot tell (no wtmp), the console shows 2, the streamed journal shows 1; it restarts by itself");
}

#[test]
fn a_proof_names_those_who_confirm_it_and_why_the_others_cannot() {
    let proof = restart(ScriptedGuest::new(vec![Act::Reports(settled(2))]), LONG).unwrap();
    assert_eq!(proof.confirmed_by(), "nobody");
    let proof = proof.confirm(vec![BootCount::new(Witness::Console, Ok(1))]).unwrap();
    assert_eq!(proof.confirmed_by(), "the console");
    let proof = proof.confirm(vec![BootCount::new(Witness::StreamedJournal, Ok(1))]).unwrap();
    assert_eq!(proof.confirmed_by(), "the console and the streamed journal");
    let proof = proof.confirm(vec![BootCount::new(Witness::Wtmp, Ok(0))]).unwrap();
    let why: Vec<_> = proof.unconfirmed().map(|(_, why)| why).collect();
    assert_eq!(why, ["no journal", "no wtmp", "it shows no boot since the restart"]);
}

#[test]
fn a_guest_that_is_given_up_is_unreachable_before_the_deadline() {
    let deadline = Deadline::uninterrupted(Duration::from_secs(600), "the reboot");
    let (mut silences, mut answers) = (Vec::new(), Vec::new());
    let mut give_up = |silence: &Silence<'_>| {
        assert!(silence.refused.is_empty());
        // A connection that was cut may have been cut on the way.
        answers.push(silence.answered);
        silences.push(silence.length);
        silence.length >= Duration::from_millis(300)
    };
    let mut context = WaitContext::new(&deadline).with_give_up(&mut give_up);
    // Only silence counts: neither the old boot nor a busy new one is given up.
    let busy = vec![format!("boot {}", id(2)), "jobs fsck.service".into()];
    let mut guest = ScriptedGuest::new(vec![Act::Reports(settled(1)), Act::Cut(busy), Act::Refused]);
    let started = Instant::now();
    let proven = prove(&mut guest, &access(), baseline(), &mut context, &mut |_| {});
    let error = proven.map(|(_, _, proof)| proof).unwrap_err();
    let RebootError::Unreachable { silent, .. } = error else { panic!("{error:?}") };
    assert!(silent >= Duration::from_millis(300) && started.elapsed() < Duration::from_secs(60));
    assert!(silences.len() > 1 && silences.is_sorted(), "{silences:?}");
    assert!(answers.iter().all(|answered| *answered), "a refused connection is an answer");
}
