use super::*;
use crate::machine::fake::{Fake, Verb};

const VM: &str = "boma-it-askari";
const END: &str = "[   60.000000] systemd[1]: Startup finished in 20s (kernel) + 40s (userspace) = 1min.\n";

/// A VM whose console and journal hold the output of an old boot.
fn before() -> Fake {
    let fake = Fake::new();
    let files = VmVolumes(VM);
    fake.put_volume(&files.console(), b"BdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ");
    fake.put_volume(&files.journal(), END.as_bytes());
    fake
}

#[test]
fn output_of_the_old_boot_does_not_count_for_the_new_one() {
    let fake = before();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    assert!(matches!(monitor.ended_boot(), Err(BootIncomplete::NotBegun { last: None, .. })));
    fake.log(VM, END);
    fake.print(VM, "\r\naskari login: ");
    assert!(matches!(monitor.ended_boot(), Err(BootIncomplete::NotBegun { last: Some(_), .. })));
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\n");
    for _ in 0..2 {
        assert!(
            matches!(monitor.ended_boot(), Err(BootIncomplete::NotEnded { .. })),
            "the old boot repeated itself"
        );
    }
    fake.print(VM, "\r\naskari login: ");
    assert_eq!(monitor.ended_boot().unwrap(), "askari login:");
    monitor.mark();
    assert!(matches!(monitor.ended_boot(), Err(BootIncomplete::NotBegun { .. })));
}

#[test]
fn the_journal_shows_that_a_boot_ended_and_when() {
    let fake = before();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\n");
    monitor.read_logs();
    let (half, rest) = END.split_at(40);
    fake.log(VM, half);
    monitor.read_logs();
    assert!(!monitor.boot_ended_before(Duration::ZERO), "half a line");
    fake.log(VM, rest);
    monitor.read_logs();
    assert!(
        monitor.boot_ended_before(Duration::ZERO) && !monitor.boot_ended_before(Duration::from_secs(3600))
    );
    assert_eq!(monitor.ended_boot().unwrap(), END.trim());
}

/// agetty prompts before the boot ends. A journal that is received must show the end of the boot, unless the console does.
#[rstest::rstest]
#[case::without_more("", false)]
#[case::with_the_end_in_the_journal(END, true)]
fn a_login_prompt_alone_is_not_enough_where_the_journal_is_received(
    #[case] streamed: &str,
    #[case] came_up: bool,
) {
    let fake = before();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ");
    assert_eq!(monitor.ended_boot().unwrap(), "askari login:", "nothing was streamed");
    fake.log(VM, &format!("[   20.0] systemd[1]: Starting slow.service...\n{streamed}"));
    assert_eq!(monitor.ended_boot().is_ok(), came_up);
    fake.print(VM, "\r\n[  OK  ] Reached target multi-user.target - Multi-User System.\r\n");
    assert_eq!(monitor.ended_boot().unwrap(), "askari login:");
}

#[test]
fn a_boot_loop_never_counts_as_a_finished_boot() {
    let fake = before();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    for _ in 0..3 {
        fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ");
    }
    let error = monitor.ended_boot().unwrap_err();
    assert_eq!(
        error.to_string(),
        "boma-it-askari restarts by itself: 3 boots began on its console, expected one"
    );
}

/// A console that is long enough to be rotated.
fn with_long_console() -> Fake {
    let fake = Fake::new();
    fake.put_volume(&VmVolumes(VM).console(), long().as_bytes());
    fake
}

fn long() -> String {
    "so it goes\r\n".repeat(100_000)
}

/// Appends to the long console and then starts a new one, as virtlogd does.
fn rotate(fake: &Fake, more: &str, new: &str) {
    let console = VmVolumes(VM).console();
    let [.., newest] = VmVolumes::rolled(&console);
    fake.put_volume(&newest, (long() + more).as_bytes());
    fake.put_volume(&console, new.as_bytes());
}

/// virtlogd renames a log at 2 MiB and starts a new one.
#[test]
fn a_rotated_console_is_read_on_without_a_gap() {
    let fake = with_long_console();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    rotate(&fake, "BdsDxe: starting Boot0001\r\n", "");
    assert!(
        matches!(monitor.ended_boot(), Err(BootIncomplete::NotEnded { .. })),
        "the end of the part that was renamed"
    );
    fake.print(VM, "askari login: ");
    assert_eq!(monitor.ended_boot().unwrap(), "askari login:");
}

/// A download may break off after it gave everything.
#[test]
fn a_download_that_broke_off_is_not_read_twice() {
    let fake = before();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\n");
    fake.hang(Verb::Download, 1);
    monitor.read_logs();
    assert_eq!(monitor.began_one_boot().unwrap().boots, 1);
}

#[rstest::rstest]
#[case::in_the_renamed_part(2)]
#[case::in_the_new_part(3)]
fn a_rotated_console_is_not_read_twice(#[case] broken: usize) {
    let fake = with_long_console();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    rotate(&fake, "BdsDxe: starting Boot0001\r\nLinux version 6.12\r\n", "askari login: ");
    fake.hang(Verb::Download, broken);
    monitor.read_logs();
    assert_eq!(monitor.ended_boot().unwrap(), "askari login:");
}

/// What the journal holds when the new boot begins belongs to the old one, whenever it can be read.
#[test]
fn a_journal_that_is_readable_late_does_not_show_the_end_of_the_old_boot() {
    let fake = before();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\n");
    fake.hang(Verb::Download, 2);
    monitor.read_logs();
    monitor.read_logs();
    assert!(matches!(monitor.ended_boot(), Err(BootIncomplete::NotEnded { .. })));
}

/// A guest without our image has no journal, and a new VM has no console yet.
#[test]
fn logs_that_do_not_exist_yet_are_no_error() {
    let fake = Fake::new();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    assert!(monitor.ended_boot().is_err());
    fake.put_volume(&VmVolumes(VM).console(), b"BdsDxe: starting Boot0001\r\naskari login: ");
    assert!(monitor.ended_boot().is_ok());
}

const KERNEL: &str = "[   64.027209] kernel: Linux version 6.12\n";

fn counts(monitor: &mut VmMonitor<'_>) -> [Option<usize>; 2] {
    let counts = monitor.boot_counts();
    assert_eq!(
        counts.iter().map(|it| it.witness).collect::<Vec<_>>(),
        [Witness::Console, Witness::StreamedJournal]
    );
    [counts[0].boots.clone().ok(), counts[1].boots.clone().ok()]
}

#[test]
fn boots_are_counted_by_the_console_and_by_the_streamed_journal() {
    let fake = before();
    fake.log(VM, "[   39.033990] kernel: Linux version 6.12\n");
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    assert_eq!(counts(&mut monitor), [None, None], "nobody saw a boot yet");
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\n");
    assert_eq!(counts(&mut monitor), [Some(1), None]);
    fake.log(VM, KERNEL);
    assert_eq!(counts(&mut monitor), [Some(1), Some(1)]);
    fake.log(VM, KERNEL);
    assert_eq!(counts(&mut monitor), [Some(1), Some(1)], "the stream started anew");
    fake.print(VM, "Linux version 6.12\r\n");
    fake.log(VM, "[   65.000000] kernel: Linux version 6.12\n");
    assert_eq!(counts(&mut monitor), [Some(2), Some(2)]);
}

#[test]
fn without_a_stream_or_without_a_readable_one_nobody_counts_in_it() {
    let fake = Fake::new();
    fake.put_volume(&VmVolumes(VM).console(), b"");
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    let why = |monitor: &mut VmMonitor<'_>| monitor.boot_counts()[1].boots.clone().unwrap_err();
    assert_eq!(why(&mut monitor), "the image streams none");
    // What could not be read at the mark may be of the old boot.
    let fake = before();
    fake.log(VM, KERNEL);
    fake.hang(Verb::Download, 1);
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    assert_eq!(why(&mut monitor), "it could not be read");
}

const STALLS: &str = "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\nrcu: kthread timer wakeup didn't happen for 9\r\nrcu: kthread timer wakeup didn't happen for 99\r\n";

/// The reset is the harness's own doing; a boot of the guest's own before it is not.
#[rstest::rstest]
#[case::one_reset("", 1, 1)]
#[case::two_resets("", 2, 1)]
#[case::a_boot_of_its_own_before_it(
    "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ",
    1,
    2
)]
#[case::and_two_resets("\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ", 2, 2)]
fn exactly_the_boots_that_were_reset_here_do_not_count(
    #[case] earlier: &str,
    #[case] resets: usize,
    #[case] boots: usize,
) {
    let fake = before();
    let note = |_| {};
    let mut monitor = VmMonitor::from_now_on(&fake, VM).resetting_stalled_boots(Accelerator::Tcg, &note);
    fake.print(VM, earlier);
    for _ in 0..resets {
        fake.print(VM, STALLS);
        let boots = monitor.read_logs().boots;
        // This hypervisor has no such domain, which the count does not mind.
        assert!(monitor.reset(boots).is_err());
    }
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\naskari login: ");
    assert_eq!(counts(&mut monitor)[0], Some(boots));
}

#[test]
fn the_job_that_a_silent_boot_waits_for_must_have_waited_long_and_be_the_site_s() {
    let fake = before();
    let mut monitor = VmMonitor::from_now_on(&fake, VM);
    let minute = Duration::from_secs(60);
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\n");
    assert_eq!(monitor.stuck_job(minute), None);
    fake.print(VM, "[ *** ] A start job is running for slow.service (59s / no limit)\r\n");
    assert_eq!(monitor.stuck_job(minute), None, "not long enough");
    fake.print(VM, "[ *** ] A start job is running for slow.service (1min / no limit)\r\n");
    assert_eq!(
        monitor.stuck_job(minute).unwrap(),
        "the boot does not end: its console says that it has waited for `slow.service` for 1m00s"
    );
    fake.print(VM, "[ *** ] A start job is running for Cloud-init: Final Stage (5min / no limit)\r\n");
    assert_eq!(monitor.stuck_job(minute), None, "the harness's own");
    fake.print(
        VM,
        "[ *** ] A start job is running for slow.service (6min / no limit)\r\nLinux version 6.12\r\n",
    );
    assert_eq!(monitor.stuck_job(minute), None, "another boot");
}
