use proptest::prelude::*;

use super::*;

/// The ownership of a trial's VM. Its owner is process 7 of machine `here`, started at tick 700, boot `b1`.
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
        layer: None,
        makes: Vec::new(),
    }
}

/// Marks a hidden process in a [`Table`].
const HIDDEN: u64 = 0;

/// Machine `here`, with these processes: id and start time.
pub(in crate::machine) struct Table {
    this: Owner,
    processes: &'static [(u32, u64)],
}

impl Table {
    /// In boot `b1`.
    pub(in crate::machine) fn new(processes: &'static [(u32, u64)]) -> Self {
        Self::in_boot("b1", processes)
    }

    pub(in crate::machine) fn in_boot(boot_id: &str, processes: &'static [(u32, u64)]) -> Self {
        let this = Owner { boot_id: boot_id.to_owned(), pid_namespace: Some(1), ..sample().owner };
        Self { this, processes }
    }
}

impl Processes for Table {
    fn this_process(&self) -> &Owner {
        &self.this
    }

    fn look(&self, pid: u32) -> ProcessState {
        match self.processes.iter().find(|(id, _)| *id == pid) {
            Some((_, HIDDEN)) => ProcessState::Hidden,
            Some((_, started)) => ProcessState::Alive(*started),
            None => ProcessState::Gone,
        }
    }
}

#[rstest::rstest]
#[case::its_owner_is_alive(&[(7, 700)], false)]
#[case::its_owner_is_gone(&[(8, 700)], true)]
#[case::another_process_has_its_id(&[(7, 701)], true)]
#[case::the_process_with_its_id_is_hidden(&[(7, HIDDEN)], false)]
fn a_trials_vm_is_an_orphan_once_its_owner_is_dead(
    #[case] processes: &'static [(u32, u64)],
    #[case] orphan: bool,
) {
    assert_eq!(sample().is_orphan(&Table::new(processes)), orphan);
}

#[test]
fn a_reboot_of_the_owners_machine_makes_an_orphan_but_another_machines_process_is_unknown() {
    let everyone = Table::new(&[(7, 700)]);
    let mut before = sample();
    before.owner.boot_id = "b0".into();
    assert!(before.is_orphan(&everyone));
    let mut elsewhere = sample();
    elsewhere.owner.hostname = "there".into();
    assert!(!elsewhere.is_orphan(&Table::new(&[])));
}

#[rstest::rstest]
#[case::same(Some(1), true)]
#[case::unknown(None, true)]
#[case::different(Some(2), false)]
fn a_process_id_of_another_namespace_is_not_looked_up_in_ours(
    #[case] theirs: Option<u64>,
    #[case] orphan: bool,
) {
    let mut owned = sample();
    owned.owner.pid_namespace = theirs;
    assert_eq!(owned.is_orphan(&Table::new(&[])), orphan);
    owned.owner.boot_id = "b0".into();
    assert!(owned.is_orphan(&Table::new(&[])), "no process outlives a boot");
}

#[rstest::rstest]
#[case(Lifetime::Manual)]
#[case(Lifetime::Kept { session: "s1".into() })]
fn a_kept_vm_is_never_an_orphan(#[case] lifetime: Lifetime) {
    let kept = Ownership { lifetime, ..sample() };
    assert!(!kept.is_orphan(&Table::new(&[])));
}

#[test]
fn the_start_time_follows_a_command_with_blanks_and_parentheses() {
    let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
    assert_eq!(start_time(&format!("7 (a) b (c)) S {tail}")), Some(4711));
    assert_eq!(start_time(&format!("7 (a) Z {tail}")), None);
    assert_eq!(start_time("7 (a"), None);
}

/// With `hidepid=invisible`, `/proc` has no file for it, but a signal shows that it exists.
#[rstest::rstest]
#[case::this_process(|| std::process::id(), ProcessState::Hidden)]
#[case::init_of_another_user(|| 1, ProcessState::Hidden)]
#[case::ended(|| ended(), ProcessState::Gone)]
#[case::zero(|| 0, ProcessState::Gone)]
#[case::beyond_all_ids(|| u32::MAX, ProcessState::Gone)]
fn a_process_without_a_stat_file_is_hidden_if_it_exists(
    #[case] pid: fn() -> u32,
    #[case] state: ProcessState,
) {
    assert_eq!(without_stat(pid()), state);
}

/// The id of a process that has ended and was waited for.
fn ended() -> u32 {
    let deadline =
        crate::support::deadline::Deadline::uninterrupted(std::time::Duration::from_secs(10), "sh");
    let shell = crate::support::process::Process::new("sh").args(["-c", "echo $$"]);
    shell.run_ok(&deadline).unwrap().trim().parse().unwrap()
}

#[test]
fn this_process_is_alive() {
    let here = ProcFs::new().unwrap();
    assert!(here.this_process().started > 0 && here.this_process().pid_namespace.is_some());
    assert_eq!(here.this_process().is_alive(&here), Some(true));
}

#[test]
fn missing_or_foreign_metadata_has_no_ownership() {
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
    fn ownership_written_to_xml_is_read_back_unchanged(
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

#[rstest::rstest]
#[case(None, &[])]
#[case(None, &["ready-3f2a91c0", "applied-00000000"])]
#[case(Some("ready-3f2a91c0"), &["applied-00000000"])]
fn the_metadata_says_what_a_vm_has_to_do_with_layers(#[case] layer: Option<&str>, #[case] makes: &[&str]) {
    let made = "2026-06-17T12:03:00.5Z".parse().unwrap();
    let layer = layer.map(|name| LayerOrigin { name: name.parse().unwrap(), made });
    let makes: Vec<LayerName> = makes.iter().map(|name| name.parse().unwrap()).collect();
    let ownership = Ownership { layer, makes, ..sample() };
    assert_eq!(Ownership::read(&ownership.element().render()), Some(ownership));
}
