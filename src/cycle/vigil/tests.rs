use super::*;
use crate::machine::fake::{Fake, Verb};

const VM: &str = "boma-it-askari";
const END: &str = "[   60.000000] systemd[1]: Startup finished in 20s (kernel) + 40s (userspace) = 1min.\n";

/// A VM whose console and journal have something in them from the boot before.
fn before() -> Fake {
    let fake = Fake::new();
    let files = VmVolumes(VM);
    fake.put_volume(&files.console(), b"BdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ");
    fake.put_volume(&files.journal(), END.as_bytes());
    fake
}

#[test]
fn nothing_of_the_boot_before_shows_that_the_next_came_up() {
    let fake = before();
    let mut vigil = VmMonitor::from_now_on(&fake, VM);
    assert!(matches!(vigil.came_up(), Err(BootIncomplete::NotBegun { last: None, .. })));
    fake.log(VM, END);
    fake.print(VM, "\r\naskari login: ");
    assert!(matches!(vigil.came_up(), Err(BootIncomplete::NotBegun { last: Some(_), .. })));
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\n");
    for _ in 0..2 {
        assert!(
            matches!(vigil.came_up(), Err(BootIncomplete::NotEnded { .. })),
            "the old boot repeated itself"
        );
    }
    fake.print(VM, "\r\naskari login: ");
    assert_eq!(vigil.came_up().unwrap(), "askari login:");
    vigil.mark();
    assert!(matches!(vigil.came_up(), Err(BootIncomplete::NotBegun { .. })));
}

#[test]
fn the_end_of_a_boot_in_the_journal_shows_that_it_came_up_and_since_when() {
    let fake = before();
    let mut vigil = VmMonitor::from_now_on(&fake, VM);
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\n");
    vigil.hear();
    let (half, rest) = END.split_at(40);
    fake.log(VM, half);
    vigil.hear();
    assert!(!vigil.ended_before(Duration::ZERO), "half a line");
    fake.log(VM, rest);
    vigil.hear();
    assert!(vigil.ended_before(Duration::ZERO) && !vigil.ended_before(Duration::from_secs(3600)));
    assert_eq!(vigil.came_up().unwrap(), END.trim());
}

/// agetty prompts before a boot is over. Where the journal comes in, it must have the end of the boot, unless the console has it.
#[rstest::rstest]
#[case::nothing_more("", false)]
#[case::its_end_in_the_journal(END, true)]
fn a_prompt_is_no_end_of_a_boot_whose_journal_comes_in(#[case] streamed: &str, #[case] came_up: bool) {
    let fake = before();
    let mut vigil = VmMonitor::from_now_on(&fake, VM);
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ");
    assert_eq!(vigil.came_up().unwrap(), "askari login:", "nothing was streamed");
    fake.log(VM, &format!("[   20.0] systemd[1]: Starting slow.service...\n{streamed}"));
    assert_eq!(vigil.came_up().is_ok(), came_up);
    fake.print(VM, "\r\n[  OK  ] Reached target multi-user.target - Multi-User System.\r\n");
    assert_eq!(vigil.came_up().unwrap(), "askari login:");
}

#[test]
fn a_guest_that_boots_again_and_again_never_came_up() {
    let fake = before();
    let mut vigil = VmMonitor::from_now_on(&fake, VM);
    for _ in 0..3 {
        fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ");
    }
    let error = vigil.came_up().unwrap_err();
    assert_eq!(
        error.to_string(),
        "boma-it-askari restarts by itself: 3 boots began on its console, where one was asked for"
    );
}

/// A console that has grown long.
fn with_long_console() -> Fake {
    let fake = Fake::new();
    fake.put_volume(&VmVolumes(VM).console(), long().as_bytes());
    fake
}

fn long() -> String {
    "so it goes\r\n".repeat(100_000)
}

/// Goes on with a long console, and then with a new one, as virtlogd does.
fn begin_anew(fake: &Fake, more: &str, anew: &str) {
    let console = VmVolumes(VM).console();
    let [.., newest] = VmVolumes::rolled(&console);
    fake.put_volume(&newest, (long() + more).as_bytes());
    fake.put_volume(&console, anew.as_bytes());
}

/// virtlogd renames a log at 2 MiB and begins it anew.
#[test]
fn a_console_that_was_begun_anew_is_read_on_with_nothing_lost() {
    let fake = with_long_console();
    let mut vigil = VmMonitor::from_now_on(&fake, VM);
    begin_anew(&fake, "BdsDxe: starting Boot0001\r\n", "");
    assert!(
        matches!(vigil.came_up(), Err(BootIncomplete::NotEnded { .. })),
        "the end of the part that was renamed"
    );
    fake.print(VM, "askari login: ");
    assert_eq!(vigil.came_up().unwrap(), "askari login:");
}

/// A download may break off when it has given all that there is.
#[test]
fn what_came_before_a_download_broke_off_is_not_read_twice() {
    let fake = before();
    let mut vigil = VmMonitor::from_now_on(&fake, VM);
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\n");
    fake.hang(Verb::Download, 1);
    vigil.hear();
    assert_eq!(vigil.began_once().unwrap().boots, 1);
}

#[rstest::rstest]
#[case::of_the_part_that_was_renamed(2)]
#[case::of_what_was_begun_anew(3)]
fn nothing_of_a_console_that_was_begun_anew_is_read_twice(#[case] broken: usize) {
    let fake = with_long_console();
    let mut vigil = VmMonitor::from_now_on(&fake, VM);
    begin_anew(&fake, "BdsDxe: starting Boot0001\r\nLinux version 6.12\r\n", "askari login: ");
    fake.hang(Verb::Download, broken);
    vigil.hear();
    assert_eq!(vigil.came_up().unwrap(), "askari login:");
}

/// What stands in the journal when the new boot begins is of the old one, whenever it can be read.
#[test]
fn a_journal_that_cannot_be_read_at_once_shows_no_end_of_the_old_boot() {
    let fake = before();
    let mut vigil = VmMonitor::from_now_on(&fake, VM);
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\n");
    fake.hang(Verb::Download, 2);
    vigil.hear();
    vigil.hear();
    assert!(matches!(vigil.came_up(), Err(BootIncomplete::NotEnded { .. })));
}

/// A guest without our image has no journal, and a hypervisor may have none of either yet.
#[test]
fn what_cannot_be_read_is_no_trouble() {
    let fake = Fake::new();
    let mut vigil = VmMonitor::from_now_on(&fake, VM);
    assert!(vigil.came_up().is_err());
    fake.put_volume(&VmVolumes(VM).console(), b"BdsDxe: starting Boot0001\r\naskari login: ");
    assert!(vigil.came_up().is_ok());
}
