use proptest::prelude::*;

use super::*;

/// A machine of a trial whose owner is process 7 of machine `here`, started at tick 700, boot `b1`.
pub(in crate::machine) fn sample() -> Ownership {
    Ownership {
        run: "20260617T120000-askari".into(),
        host: "askari".parse().unwrap(),
        scenario: None,
        owner: Owner {
            hostname: "here".into(),
            boot_id: "b1".into(),
            pid_namespace: None,
            pid: 7,
            started: 700,
        },
        lifetime: Lifetime::Trial { session: "s1".into() },
        run_folder: "/home/op/integration-runs/20260617T120000-askari".into(),
        slot: Slot::new(0).unwrap(),
        address: Ipv4Addr::new(10, 213, 47, 10),
        accelerator: Accelerator::Tcg,
        image: "0123abcd".into(),
    }
}

/// When a process started that nothing is shown of.
const HIDDEN: u64 = 0;

/// Machine `here`, boot `b1`, with these processes.
pub(in crate::machine) struct Table(pub(in crate::machine) &'static [(u32, u64)]);

impl Processes for Table {
    fn hostname(&self) -> &str {
        "here"
    }

    fn boot_id(&self) -> &str {
        "b1"
    }

    fn pid_namespace(&self) -> Option<u64> {
        Some(1)
    }

    fn look(&self, pid: u32) -> ProcessState {
        match self.0.iter().find(|(id, _)| *id == pid) {
            Some((_, HIDDEN)) => ProcessState::Hidden,
            Some((_, started)) => ProcessState::Lives(*started),
            None => ProcessState::Gone,
        }
    }
}

#[rstest::rstest]
#[case::its_owner_lives(&[(7, 700)], false)]
#[case::its_owner_is_gone(&[(8, 700)], true)]
#[case::another_process_got_the_id(&[(7, 701)], true)]
#[case::a_process_of_the_id_is_hidden_from_us(&[(7, HIDDEN)], false)]
fn a_trials_machine_is_an_orphan_once_its_owner_is_dead(
    #[case] processes: &'static [(u32, u64)],
    #[case] orphan: bool,
) {
    assert_eq!(sample().is_orphan(&Table(processes)), orphan);
}

#[test]
fn a_reboot_of_the_owners_machine_orphans_and_another_machine_is_not_judged() {
    let everyone = Table(&[(7, 700)]);
    let mut before = sample();
    before.owner.boot_id = "b0".into();
    assert!(before.is_orphan(&everyone));
    let mut elsewhere = sample();
    elsewhere.owner.hostname = "there".into();
    assert!(!elsewhere.is_orphan(&Table(&[])));
}

#[rstest::rstest]
#[case::the_same(Some(1), true)]
#[case::not_known(None, true)]
#[case::anothers(Some(2), false)]
fn an_id_of_another_namespace_is_not_looked_for_among_ours(
    #[case] theirs: Option<u64>,
    #[case] orphan: bool,
) {
    let mut owned = sample();
    owned.owner.pid_namespace = theirs;
    assert_eq!(owned.is_orphan(&Table(&[])), orphan);
    owned.owner.boot_id = "b0".into();
    assert!(owned.is_orphan(&Table(&[])), "no process outlives a boot");
}

#[rstest::rstest]
#[case(Lifetime::Manual)]
#[case(Lifetime::Kept { session: "s1".into() })]
fn what_a_person_keeps_is_never_an_orphan(#[case] lifetime: Lifetime) {
    let kept = Ownership { lifetime, ..sample() };
    assert!(!kept.is_orphan(&Table(&[])));
}

#[test]
fn the_start_time_is_read_behind_a_command_with_blanks_and_parentheses() {
    let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
    assert_eq!(start_time(&format!("7 (a) b (c)) S {tail}")), Some(4711));
    assert_eq!(start_time(&format!("7 (a) Z {tail}")), None);
    assert_eq!(start_time("7 (a"), None);
}

/// As it is where `/proc` is mounted with `hidepid=invisible`: no file, and whether there is a process is told by a signal.
#[rstest::rstest]
#[case::ours(|| std::process::id(), ProcessState::Hidden)]
#[case::an_init_that_may_be_anothers(|| 1, ProcessState::Hidden)]
#[case::none(|| ended(), ProcessState::Gone)]
#[case::no_process_id(|| 0, ProcessState::Gone)]
#[case::beyond_all_process_ids(|| u32::MAX, ProcessState::Gone)]
fn a_process_without_a_file_is_hidden_and_not_gone(#[case] pid: fn() -> u32, #[case] sight: ProcessState) {
    assert_eq!(unshown(pid()), sight);
}

/// The id of a process that has ended and was waited for.
fn ended() -> u32 {
    let deadline =
        crate::support::deadline::Deadline::uninterrupted(std::time::Duration::from_secs(10), "sh");
    let shell = crate::support::process::Process::new("sh").args(["-c", "echo $$"]);
    shell.run_ok(&deadline).unwrap().trim().parse().unwrap()
}

#[test]
fn this_process_lives() {
    let here = ProcFs::here().unwrap();
    assert!(here.this_process().started > 0 && here.this_process().pid_namespace.is_some());
    assert_eq!(here.this_process().is_alive(&here), Some(true));
}

#[test]
fn metadata_that_is_missing_or_not_ours_gives_nothing() {
    assert_eq!(Ownership::read("<domain/>"), None);
    assert_eq!(Ownership::read("<domain><metadata><machine xmlns='urn:other'/></metadata></domain>"), None);
    assert_eq!(Ownership::read("<domain"), None);
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    let session = "[ -~ä]{0,20}";
    prop_oneof![
        session.prop_map(|session| Lifetime::Trial { session }),
        Just(Lifetime::Manual),
        session.prop_map(|session| Lifetime::Kept { session }),
    ]
}

proptest! {
    #[test]
    fn ownership_survives_the_way_through_xml(
        run in "[ -~ä<>&\"']{0,30}",
        scenario in proptest::option::of("[a-z][a-z0-9]{0,20}"),
        lifetime in lifetime(),
        pid_namespace: Option<u64>,
        pid: u32,
        started: u64,
        folder in "/[ -~ß]{0,40}",
        slot in 0u8..4,
    ) {
        let scenario = scenario.map(|name| name.parse().unwrap());
        let owner = Owner { pid_namespace, pid, started, ..sample().owner };
        let slot = Slot::new(slot).unwrap();
        let run_folder = folder.into();
        let written = Ownership { run, scenario, lifetime, owner, run_folder, slot, ..sample() };
        let xml = el("domain").with(el("metadata").with(written.element())).render();
        prop_assert_eq!(Ownership::read(&xml), Some(written));
    }
}
