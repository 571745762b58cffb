use super::*;
use crate::machine::hypervisor::{DomainState, StopReason};
use crate::machine::ownership::tests::{Table, sample};

fn owner_alive() -> Table {
    Table::new(&[(7, 700)])
}

fn owner_dead() -> Table {
    Table::new(&[])
}

fn machine(name: &str, state: DomainState, lifetime: Lifetime) -> Machine {
    let ownership = Some(Ownership { lifetime, ..sample() });
    Machine { name: name.into(), state, memory: Bytes::gib(3), ownership }
}

fn wanted(name: &str) -> TrialName {
    let (host, scenario) = name.split_once("::").unwrap();
    let scenario = (scenario != "cycle").then(|| scenario.parse().unwrap());
    TrialName { host: host.parse().unwrap(), scenario }
}

fn trial() -> Lifetime {
    Lifetime::Trial { session: "s1".into() }
}

fn kept() -> Lifetime {
    Lifetime::Kept { session: "s1".into() }
}

#[test]
fn an_empty_hypervisor_admits_any_vm() {
    assert_eq!(admit(&wanted("x::cycle"), None, &[], &owner_alive()), Ok(Admission::default()));
}

#[rstest::rstest]
#[case::trial(trial(), ", owned by process 7 on here")]
#[case::manual(Lifetime::Manual, ", kept by the driver")]
#[case::kept(Lifetime::Kept { session: "s2".into() }, ", kept for inspection by run 20260617T120000-askari")]
fn a_second_vm_is_refused_with_the_owner_of_the_first_and_how_to_end_it(
    #[case] lifetime: Lifetime,
    #[case] owner: &str,
) {
    let running = [machine("boma-it-askari", DomainState::Running, lifetime)];
    let refusal = admit(&wanted("ubongo::cycle"), Some("s1"), &running, &owner_alive()).unwrap_err();
    let expected = Refusal::Busy {
        machine: "boma-it-askari".into(),
        state: DomainState::Running,
        owner: owner.into(),
        end: "boma-it down --host askari".into(),
    };
    assert_eq!(refusal, expected);
}

#[test]
fn a_panicked_vm_refuses_another_and_is_ended_with_its_scenario() {
    let mut other = machine("boma-it-askari", DomainState::Panicked, trial());
    other.ownership.as_mut().unwrap().scenario = Some("no-egress".parse().unwrap());
    let refusal = admit(&wanted("ubongo::cycle"), None, &[other], &owner_alive()).unwrap_err();
    insta::assert_snapshot!(refusal, @"another VM is panicked, and only one may run at a time: boma-it-askari, owned by process 7 on here; end it with `boma-it down --host askari --scenario no-egress`");
}

#[test]
fn a_vm_without_metadata_refuses_another_and_is_never_removed() {
    let unknown = Machine { ownership: None, ..machine("boma-it-x", DomainState::Running, trial()) };
    let refusal = admit(&wanted("ubongo::cycle"), None, &[unknown], &owner_dead()).unwrap_err();
    insta::assert_snapshot!(refusal, @"another VM is running, and only one may run at a time: boma-it-x; end it with `virsh destroy boma-it-x; virsh undefine --nvram boma-it-x`");
}

#[test]
fn orphans_are_removed_in_any_state_even_the_wanted_vm_itself() {
    let off = DomainState::ShutOff(StopReason::Unknown);
    let orphans =
        [machine("boma-it-askari", DomainState::Running, trial()), machine("boma-it-ubongo", off, trial())];
    let admission = admit(&wanted("askari::cycle"), None, &orphans, &owner_dead()).unwrap();
    assert_eq!(admission.orphans, ["boma-it-askari", "boma-it-ubongo"]);
}

#[test]
fn a_kept_vm_gives_way_to_the_same_test_run_only() {
    let machines = [machine("boma-it-askari", DomainState::Running, kept())];
    let admission = admit(&wanted("ubongo::cycle"), Some("s1"), &machines, &owner_dead()).unwrap();
    assert_eq!(admission.kept, ["boma-it-askari"]);
    for session in [Some("s2"), None] {
        let refusal = admit(&wanted("ubongo::cycle"), session, &machines, &owner_dead());
        assert!(matches!(refusal, Err(Refusal::Busy { .. })), "{refusal:?}");
    }
}

#[test]
fn a_vm_that_is_off_is_no_obstacle_unless_it_is_of_the_same_trial() {
    let off = [machine("boma-it-askari", DomainState::ShutOff(StopReason::ByGuest), Lifetime::Manual)];
    assert_eq!(admit(&wanted("ubongo::cycle"), None, &off, &owner_alive()), Ok(Admission::default()));
    assert_eq!(admit(&wanted("askari::incident"), None, &off, &owner_alive()), Ok(Admission::default()));
    let refusal = admit(&wanted("askari::cycle"), None, &off, &owner_alive()).unwrap_err();
    insta::assert_snapshot!(refusal, @"askari::cycle has a VM already: boma-it-askari is off, kept by the driver; end it with `boma-it down --host askari`");
}

#[test]
fn too_little_memory_is_refused_with_figures() {
    assert_eq!(check_memory(Bytes::gib(3), Bytes::gib(4), Bytes::gib(1)), Ok(()));
    let refusal = check_memory(Bytes::gib(3), Bytes::mib(3000), Bytes::mib(512)).unwrap_err();
    insta::assert_snapshot!(refusal, @"too little free memory for a VM of 3GiB: 3000 MiB are available and 512MiB must stay free, so 584 MiB are missing; free some, or ask for less (`vm.memory` of the profile, `memory_reserve` of harness/harness.yml)");
    assert!(check_memory(Bytes(u64::MAX), Bytes::gib(4), Bytes::gib(1)).is_err());
}

proptest::proptest! {
    #[test]
    fn memory_is_admitted_exactly_when_the_reserve_stays(wanted in 0u64..99, free in 0u64..99, reserve in 0u64..99) {
        let admitted = check_memory(Bytes(wanted), Bytes(free), Bytes(reserve)).is_ok();
        proptest::prop_assert_eq!(admitted, free >= wanted + reserve);
    }
}
