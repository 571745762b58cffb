use super::*;
use crate::machine::hypervisor::{DomainState, StopReason};
use crate::machine::ownership::tests::{Table, sample};

const OWNER_LIVES: Table = Table(&[(7, 700)]);
const OWNER_DIED: Table = Table(&[]);

fn machine(name: &str, state: DomainState, lifetime: Lifetime) -> Machine {
    let ownership = Some(Ownership { lifetime, ..sample() });
    Machine { name: name.into(), state, memory: Bytes::gib(3), ownership }
}

fn trial() -> Lifetime {
    Lifetime::Trial { session: "s1".into() }
}

fn kept() -> Lifetime {
    Lifetime::Kept { session: "s1".into() }
}

#[test]
fn an_empty_hypervisor_admits() {
    assert_eq!(admit("boma-it-x", None, &[], &OWNER_LIVES), Ok(Admission::default()));
}

#[rstest::rstest]
#[case::trial(trial(), ", for process 7 on here")]
#[case::manual(Lifetime::Manual, ", left for a person by the driver")]
#[case::kept(Lifetime::Kept { session: "s2".into() }, ", kept for inspection by run 20260617T120000-askari")]
fn a_second_machine_is_refused_and_the_first_is_named_with_how_to_end_it(
    #[case] lifetime: Lifetime,
    #[case] whose: &str,
) {
    let running = [machine("boma-it-askari", DomainState::Running, lifetime)];
    let refusal = admit("boma-it-ubongo", Some("s1"), &running, &OWNER_LIVES).unwrap_err();
    let end = "end it with `boma-it down --host askari`";
    assert_eq!(
        refusal.to_string(),
        format!("the VM boma-it-askari runs already, and one runs at a time{whose}; {end}")
    );
}

#[test]
fn the_scenario_is_part_of_how_to_end_it_and_a_panicked_machine_is_in_the_way_too() {
    let mut other = machine("boma-it-askari-no-egress", DomainState::Panicked, trial());
    other.ownership.as_mut().unwrap().scenario = Some("no-egress".parse().unwrap());
    let refusal = admit("boma-it-ubongo", None, &[other], &OWNER_LIVES).unwrap_err().to_string();
    assert!(refusal.ends_with("`boma-it down --host askari --scenario no-egress`"), "{refusal}");
    assert!(refusal.contains("is there, panicked, already"), "{refusal}");
}

#[test]
fn a_machine_without_metadata_is_in_the_way_and_never_taken_away() {
    let unknown = Machine { ownership: None, ..machine("boma-it-x", DomainState::Running, trial()) };
    let refusal = admit("boma-it-ubongo", None, &[unknown], &OWNER_DIED).unwrap_err().to_string();
    assert!(refusal.contains("virsh destroy boma-it-x; virsh undefine --nvram boma-it-x"), "{refusal}");
}

#[test]
fn an_orphan_is_reaped_in_any_state_even_if_it_is_the_wanted_one() {
    let off = DomainState::ShutOff(StopReason::Unknown);
    let orphans =
        [machine("boma-it-askari", DomainState::Running, trial()), machine("boma-it-ubongo", off, trial())];
    let admission = admit("boma-it-ubongo", None, &orphans, &OWNER_DIED).unwrap();
    assert_eq!(admission.reap, ["boma-it-askari", "boma-it-ubongo"]);
}

#[test]
fn what_was_kept_is_displaced_by_the_same_test_run_only() {
    let there = [machine("boma-it-askari", DomainState::Running, kept())];
    let admission = admit("boma-it-ubongo", Some("s1"), &there, &OWNER_DIED).unwrap();
    assert_eq!(admission.displace, ["boma-it-askari"]);
    for session in [Some("s2"), None] {
        let refusal = admit("boma-it-ubongo", session, &there, &OWNER_DIED);
        assert!(matches!(refusal, Err(Refusal::Busy { .. })), "{refusal:?}");
    }
}

#[test]
fn a_machine_that_is_off_is_let_be_unless_it_is_the_wanted_one() {
    let off = [machine("boma-it-askari", DomainState::ShutOff(StopReason::ByGuest), Lifetime::Manual)];
    assert_eq!(admit("boma-it-ubongo", None, &off, &OWNER_LIVES), Ok(Admission::default()));
    let refusal = admit("boma-it-askari", None, &off, &OWNER_LIVES).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "the VM boma-it-askari is there already (off), left for a person by the driver; end it with `boma-it down --host askari`"
    );
}

#[test]
fn too_little_memory_is_refused_with_figures() {
    assert_eq!(check_memory(Bytes::gib(3), Bytes::gib(4), Bytes::gib(1)), Ok(()));
    let refusal = check_memory(Bytes::gib(3), Bytes::mib(3000), Bytes::mib(512)).unwrap_err().to_string();
    assert!(
        refusal.starts_with(
            "too little free memory for a VM of 3GiB: 3000 MiB are available and 512MiB must stay free, so 584 MiB are missing; free some"
        ),
        "{refusal}"
    );
    assert!(check_memory(Bytes(u64::MAX), Bytes::gib(4), Bytes::gib(1)).is_err());
}

proptest::proptest! {
    #[test]
    fn memory_is_admitted_exactly_when_the_reserve_stays(wanted in 0u64..99, free in 0u64..99, reserve in 0u64..99) {
        let admitted = check_memory(Bytes(wanted), Bytes(free), Bytes(reserve)).is_ok();
        proptest::prop_assert_eq!(admitted, free >= wanted + reserve);
    }
}
