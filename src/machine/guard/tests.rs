use super::*;
use crate::machine::hypervisor::{DomainState, StopReason};
use crate::machine::ownership::tests::{Table, sample};

fn owner_alive() -> Table {
    Table::new(&[(7, 700)])
}

fn owner_dead() -> Table {
    Table::new(&[])
}

/// A VM of askari's plain cycle, in the first slot.
fn machine(name: &str, state: DomainState, lifetime: Lifetime) -> Machine {
    let ownership = Some(Ownership { lifetime, ..sample() });
    Machine { name: name.into(), state, memory: Bytes::gib(3), resident: Some(Bytes(0)), ownership }
}

/// The same of ubongo, in the second slot.
fn second(state: DomainState, lifetime: Lifetime) -> Machine {
    let mut machine = machine("boma-it-ubongo.2", state, lifetime);
    let owned = machine.ownership.as_mut().unwrap();
    (owned.host, owned.slot) = ("ubongo".parse().unwrap(), slot(1));
    machine
}

fn trial() -> Lifetime {
    Lifetime::Trial { session: "s1".into() }
}

fn kept() -> Lifetime {
    Lifetime::Kept { session: "s1".into() }
}

fn slot(number: u8) -> Slot {
    Slot::new(number).unwrap()
}

fn live(number: u8, trial: &str, session: &str) -> LiveRun {
    LiveRun {
        words: format!("{trial} of test run {session}, process 7"),
        ..LiveRun::of_this_process(slot(number), &trial.parse().unwrap(), session, Bytes::gib(3))
    }
}

/// Whether a VM of `trial` may start where `limit` may run, for test run `s1`.
fn admitted(
    limit: usize,
    trial: &str,
    machines: &[Machine],
    live: &[LiveRun],
    processes: &Table,
) -> Result<Admission, Refused> {
    admit(Request { trial: &trial.parse().unwrap(), session: "s1", limit }, machines, live, processes)
}

fn refusal(trial: &str, machines: &[Machine], processes: &Table) -> String {
    admitted(1, trial, machines, &[], processes).unwrap_err().refusal.to_string()
}

#[test]
fn an_empty_hypervisor_admits_any_vm() {
    assert_eq!(admitted(1, "x::cycle", &[], &[], &owner_alive()), Ok(Admission::default()));
}

#[rstest::rstest]
#[case::trial(trial(), ", owned by process 7 on here")]
#[case::manual(Lifetime::Manual, ", kept by the driver")]
#[case::kept(Lifetime::Kept { session: "s2".into() }, ", kept for inspection by run 20260617T120000-askari")]
fn a_vm_too_many_is_refused_with_the_owner_of_the_first_and_how_to_end_it(
    #[case] lifetime: Lifetime,
    #[case] owner: &str,
) {
    let running = [machine("boma-it-askari", DomainState::Running, lifetime)];
    assert_eq!(
        refusal("ubongo::cycle", &running, &owner_alive()),
        format!(
            "no room for another VM (`limits.vms: 1` in harness/harness.yml): boma-it-askari is running{owner}; end it \
             with `boma-it down --host askari`; or set BOMA_IT_WAIT=30m to wait"
        )
    );
}

#[test]
fn as_many_vms_as_the_limit_says_are_admitted_and_all_are_named_if_there_is_no_room() {
    let machines = [
        machine("boma-it-askari", DomainState::Running, Lifetime::Manual),
        second(DomainState::Running, trial()),
    ];
    let live = [live(1, "ubongo::cycle", "s2")];
    assert!(admitted(3, "x::cycle", &machines, &live, &owner_alive()).is_ok());
    let refused = admitted(2, "x::cycle", &machines, &live, &owner_alive()).unwrap_err();
    insta::assert_snapshot!(refused.refusal, @"no room for another VM (`limits.vms: 2` in harness/harness.yml): boma-it-askari is running, kept by the driver; end it with `boma-it down --host askari`; boma-it-ubongo.2 is running, ubongo::cycle of test run s2, process 7; end that process; or set BOMA_IT_WAIT=30m to wait");
    assert!(!refused.behind_ours);
    assert_eq!(refused.others, "the VM boma-it-askari, ubongo::cycle of test run s2, process 7");
}

#[test]
fn a_run_has_its_place_before_its_vm_exists_and_after() {
    let run = [live(0, "askari::cycle", "s1")];
    let running = [machine("boma-it-askari", DomainState::Running, trial())];
    let off = [machine("boma-it-askari", DomainState::ShutOff(StopReason::Unknown), trial())];
    for machines in [&[][..], &off, &running] {
        let refused = admitted(1, "ubongo::cycle", machines, &run, &owner_alive()).unwrap_err();
        assert!(refused.behind_ours, "{refused:?}");
        assert!(admitted(2, "ubongo::cycle", machines, &run, &owner_alive()).is_ok(), "it counts once");
    }
    let refused = admitted(1, "ubongo::cycle", &[], &run, &owner_alive()).unwrap_err();
    insta::assert_snapshot!(refused.refusal, @"no room for another VM (`limits.vms: 1` in harness/harness.yml): one is about to start, askari::cycle of test run s1, process 7; end that process; or set BOMA_IT_WAIT=30m to wait");
}

#[test]
fn a_trial_has_one_vm_at_most_however_many_there_is_room_for() {
    let run = [live(0, "askari::cycle", "s2")];
    let refused = admitted(8, "askari::cycle", &[], &run, &owner_alive()).unwrap_err();
    insta::assert_snapshot!(refused.refusal, @"askari::cycle has a VM already: one is about to start, askari::cycle of test run s2, process 7; end that process");
    assert!(admitted(8, "askari::incident", &[], &run, &owner_alive()).is_ok());
}

#[test]
fn a_panicked_vm_has_a_place_and_is_ended_with_its_scenario() {
    let mut other = machine("boma-it-askari", DomainState::Panicked, trial());
    other.ownership.as_mut().unwrap().scenario = Some("no-egress".parse().unwrap());
    insta::assert_snapshot!(refusal("ubongo::cycle", &[other], &owner_alive()), @"no room for another VM (`limits.vms: 1` in harness/harness.yml): boma-it-askari is panicked, owned by process 7 on here; end it with `boma-it down --host askari --scenario no-egress`; or set BOMA_IT_WAIT=30m to wait");
}

#[test]
fn a_vm_without_metadata_has_a_place_and_is_never_removed() {
    let unknown = Machine { ownership: None, ..machine("boma-it-x", DomainState::Running, trial()) };
    insta::assert_snapshot!(refusal("ubongo::cycle", &[unknown], &owner_dead()), @"no room for another VM (`limits.vms: 1` in harness/harness.yml): boma-it-x is running; end it with `virsh destroy boma-it-x; virsh undefine --nvram boma-it-x`; or set BOMA_IT_WAIT=30m to wait");
}

#[test]
fn orphans_are_removed_in_any_state_even_the_wanted_vm_itself() {
    let off = DomainState::ShutOff(StopReason::Unknown);
    let orphans = [machine("boma-it-askari", DomainState::Running, trial()), second(off, trial())];
    let admission = admitted(1, "askari::cycle", &orphans, &[], &owner_dead()).unwrap();
    assert_eq!(admission.orphans, ["boma-it-askari", "boma-it-ubongo.2"]);
    assert_eq!(admission.promised, Bytes(0), "what they hold is free by then");
}

#[test]
fn a_kept_vm_gives_way_to_the_same_test_run_only() {
    let ours = [machine("boma-it-askari", DomainState::Running, kept())];
    let admission = admitted(1, "ubongo::cycle", &ours, &[], &owner_dead()).unwrap();
    assert_eq!(admission.kept, ["boma-it-askari"]);
    let lifetime = Lifetime::Kept { session: "s2".into() };
    let theirs = [machine("boma-it-askari", DomainState::Running, lifetime)];
    let refused = admitted(1, "ubongo::cycle", &theirs, &[], &owner_dead()).unwrap_err();
    assert!(matches!(*refused.refusal, Refusal::Full { .. }), "{refused:?}");
}

/// Its report is still being written.
#[test]
fn a_kept_vm_stays_while_its_run_lives() {
    let machines = [machine("boma-it-askari", DomainState::Running, kept())];
    let run = [live(0, "askari::cycle", "s1")];
    let refused = admitted(1, "ubongo::cycle", &machines, &run, &owner_alive()).unwrap_err();
    assert!(refused.behind_ours, "{refused:?}");
}

#[test]
fn a_vm_that_is_off_is_no_obstacle_unless_it_is_of_the_same_trial() {
    let off = [machine("boma-it-askari", DomainState::ShutOff(StopReason::ByGuest), Lifetime::Manual)];
    for trial in ["ubongo::cycle", "askari::incident"] {
        assert_eq!(admitted(1, trial, &off, &[], &owner_alive()), Ok(Admission::default()));
    }
    insta::assert_snapshot!(refusal("askari::cycle", &off, &owner_alive()), @"askari::cycle has a VM already: boma-it-askari is off, kept by the driver; end it with `boma-it down --host askari`");
}

#[test]
fn memory_is_promised_to_a_vm_until_it_holds_it_and_to_a_run_before_its_vm_exists() {
    let mut running = machine("boma-it-askari", DomainState::Running, Lifetime::Manual);
    let promised = |running: &Machine, live: &[LiveRun]| {
        admitted(8, "x::cycle", std::slice::from_ref(running), live, &owner_alive()).unwrap().promised
    };
    assert_eq!(promised(&running, &[]), Bytes::gib(3));
    running.resident = Some(Bytes::gib(1));
    assert_eq!(promised(&running, &[]), Bytes::gib(2));
    assert_eq!(promised(&running, &[live(1, "ubongo::cycle", "s2")]), Bytes::gib(5));
    running.resident = Some(Bytes::gib(4));
    assert_eq!(promised(&running, &[]), Bytes(0), "QEMU needs some beside the guest's");
    running.resident = None;
    assert_eq!(promised(&running, &[]), Bytes::gib(3), "unknown: it may still take all");
}

#[test]
fn a_vm_does_not_start_beside_one_too_many_or_with_anothers_address() {
    let check = |limit, machines: &[Machine]| {
        let trial = "x::cycle".parse().unwrap();
        let request = Request { trial: &trial, session: "s1", limit };
        check_start(request, "boma-it-x.2", slot(1), machines, &owner_alive()).map_err(|it| it.to_string())
    };
    let ours = Machine { name: "boma-it-x.2".into(), ..second(DomainState::Running, trial()) };
    let first = machine("boma-it-askari", DomainState::Running, trial());
    assert_eq!(check(2, &[first.clone(), ours.clone()]), Ok(()));
    assert!(check(1, &[first, ours.clone()]).unwrap_err().starts_with("no room for another VM"));
    let defined = second(DomainState::ShutOff(StopReason::Unknown), trial());
    insta::assert_snapshot!(check(2, &[defined, ours]).unwrap_err(), @"another VM took the network address of this one meanwhile: boma-it-ubongo.2 is off, owned by process 7 on here; end it with `boma-it down --host ubongo`; run it again");
}

#[test]
fn too_little_memory_is_refused_with_figures() {
    assert_eq!(check_memory(Bytes::gib(3), Bytes::gib(4), Bytes(0), Bytes::gib(1)), Ok(()));
    let refusal = check_memory(Bytes::gib(3), Bytes::mib(3000), Bytes(0), Bytes::mib(512)).unwrap_err();
    insta::assert_snapshot!(refusal, @"too little free memory for a VM of 3GiB: 3000 MiB are available and 512MiB must stay free, so 584 MiB are missing; free some, or ask for less (`vm.memory` of the profile, `memory_reserve` of harness/harness.yml)");
    let refusal =
        check_memory(Bytes::gib(3), Bytes::mib(5000), Bytes::mib(2500), Bytes::mib(512)).unwrap_err();
    insta::assert_snapshot!(refusal, @"too little free memory for a VM of 3GiB: 5000 MiB are available (of which VMs that run or start will still take 2500 MiB) and 512MiB must stay free, so 1084 MiB are missing; free some, or ask for less (`vm.memory` of the profile, `memory_reserve` of harness/harness.yml)");
    assert!(check_memory(Bytes(u64::MAX), Bytes::gib(4), Bytes(0), Bytes::gib(1)).is_err());
}

proptest::proptest! {
    #[test]
    fn memory_is_admitted_exactly_when_the_reserve_and_what_is_promised_stay(
        wanted in 0u64..99, free in 0u64..99, promised in 0u64..99, reserve in 0u64..99,
    ) {
        let admitted = check_memory(Bytes(wanted), Bytes(free), Bytes(promised), Bytes(reserve)).is_ok();
        proptest::prop_assert_eq!(admitted, free >= wanted + promised + reserve);
    }
}
