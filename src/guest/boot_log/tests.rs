//! Captured consoles, shortened.

use super::*;

const FIRMWARE: &str = "BdsDxe: loading Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x2,0x3)/Pci(0x0,0x0)\r\n\
    BdsDxe: starting Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x2,0x3)/Pci(0x0,0x0)\r\n";
const KERNEL: &str =
    "[    0.000000] Linux version 6.12.48+deb13-cloud-amd64 (debian-kernel@lists.debian.org)\r\n";
const PANIC: &str =
    "[    1.204112] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n";
const EMERGENCY: &str = "[\u{1b}[0;1;31m TIME \u{1b}[0m] Timed out waiting for device \u{1b}[0;1;39m/dev/disk/by-uuid/0000\u{1b}[0m.\r\n\
    [\u{1b}[0;1;38:5:185mDEPEND\u{1b}[0m] Dependency failed for \u{1b}[0;1;39mlocal-fs.target\u{1b}[0m - Local File Systems.\r\n\
    You are in emergency mode. After logging in, type \"journalctl -xb\" to view\r\nsystem logs.\r\n";
/// Captured under QEMU 10.0.2 with two vCPUs, in the initramfs.
const STALL: &str = "[   23.175270] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\r\n\
    [   23.178856] rcu: rcu_preempt kthread timer wakeup didn't happen for 5254 jiffies! g-1147 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x402\r\n\
    [   23.178856] rcu: \tPossible timer handling issue on cpu=0 timer-softirq=27\r\n";
const PROMPT: &str = "\r\nDebian GNU/Linux 13 askari ttyS0\r\n\r\naskari login: ";

fn boot(rest: &str) -> String {
    format!("{FIRMWARE}{KERNEL}{rest}")
}

fn read(console: &str) -> BootLog {
    BootLog::read(console, 0)
}

fn fault_kind(console: &str, since: usize) -> Option<BootFaultKind> {
    BootLog::read(console, since).fault.map(|fault| fault.kind)
}

#[test]
fn an_ordinary_boot_has_no_fault() {
    let console = boot(
        "Gave up waiting for suspend/resume device\r\n[  OK  ] Reached target multi-user.target\r\naskari login: ",
    );
    assert_eq!(read(&console).fault, None);
    assert_eq!(read("").fault, None);
}

#[rstest::rstest]
#[case(&boot(PANIC), BootFaultKind::Panic)]
#[case(&boot(EMERGENCY), BootFaultKind::Emergency)]
#[case(&boot("Cannot open access to console, the root account is locked.\r\n"), BootFaultKind::Emergency)]
#[case(&boot("[  OK  ] Started emergency.service - Emergency Shell.\r\n"), BootFaultKind::Emergency)]
#[case(&boot("You are in rescue mode. After logging in, type\r\n"), BootFaultKind::Emergency)]
#[case(&boot("ALERT!  /dev/vda9 does not exist.  Dropping to a shell!\r\n(initramfs) "), BootFaultKind::Initramfs)]
#[case(&boot("Gave up waiting for root file system device.  Common problems:\r\n"), BootFaultKind::Initramfs)]
#[case(
    "BdsDxe: failed to load Boot0001 \"UEFI Misc Device\" from PciRoot(0x0): Access Denied\r\n",
    BootFaultKind::Firmware
)]
#[case("BdsDxe: No bootable option or device was found.\r\n", BootFaultKind::Firmware)]
fn each_kind_of_failed_boot_is_recognised(#[case] console: &str, #[case] kind: BootFaultKind) {
    assert_eq!(fault_kind(console, 0), Some(kind));
}

#[rstest::rstest]
#[case::another_reason("BdsDxe: failed to load Boot0002 \"UEFI PXEv4\": Not Found\r\n")]
#[case::somebody_else("BdsDxe: loading Boot0001\r\nsmb: Access Denied\r\n")]
fn a_boot_entry_is_denied_only_if_the_firmware_says_both(#[case] console: &str) {
    assert_eq!(fault_kind(console, 0), None);
}

#[test]
fn a_fault_lists_the_failures_before_it() {
    insta::assert_snapshot!(read(&boot(EMERGENCY)).fault.unwrap(), @r#"the guest is in emergency mode: the console says `You are in emergency mode. After logging in, type "journalctl -xb" to view`; before it: [ TIME ] Timed out waiting for device /dev/disk/by-uuid/0000. / [DEPEND] Dependency failed for local-fs.target - Local File Systems."#);
}

#[test]
fn a_boot_entry_that_cannot_be_loaded_is_no_fault_if_another_one_boots() {
    let skipped = "BdsDxe: failed to load Boot0000 \"UEFI QEMU DVD-ROM\" from PciRoot(0x0): Not Found\r\n";
    assert_eq!(read(&format!("{skipped}{}", boot(""))).fault, None);
    let denied = "BdsDxe: failed to load Boot0001 \"x\": Access Denied\r\n";
    assert_eq!(read(&format!("{denied}{}", boot(""))).fault, None, "a kernel runs all the same");
}

#[test]
fn a_second_stall_report_in_one_boot_is_a_fault_and_the_first_is_not() {
    assert_eq!(read(&boot(STALL)).fault, None);
    let again = format!("{}{STALL}", boot(STALL));
    let log = read(&again);
    let fault = log.fault.unwrap();
    assert_eq!((fault.kind, log.init_started), (BootFaultKind::Stalled, false));
    assert_eq!(fault.line, STALL.lines().nth(1).unwrap());
    assert_eq!(read(&format!("{again}{}", boot(STALL))).fault, None, "the next boot starts at zero");
}

#[test]
fn output_from_the_shutdown_of_the_old_boot_does_not_count_for_the_next() {
    let end =
        format!("{STALL}[  OK  ] Reached target reboot.target.\r\n[  158.3] systemd[1]: Rebooting.\r\n");
    assert!(read(&end).init_started);
    let log = read(&format!("{end}{}", boot(STALL)));
    assert_eq!((log.fault, log.init_started, log.boots), (None, false, 1));
    let log = read(&format!("{end}{FIRMWARE}Welcome to GRUB!\r\n{KERNEL}{STALL}{STALL}"));
    assert_eq!((log.fault.unwrap().kind, log.init_started), (BootFaultKind::Stalled, false));
}

#[rstest::rstest]
#[case::systemd("systemd[1]: systemd 257.9 running in system mode\r\n")]
#[case::its_greeting("Welcome to \u{1b}[1mDebian GNU/Linux 13 (trixie)\u{1b}[0m!\r\n")]
#[case::a_unit("[\u{1b}[0;32m  OK  \u{1b}[0m] Created slice system.slice.\r\n")]
fn init_has_started_once_it_prints_its_first_line(#[case] line: &str) {
    assert!(!read(&boot("Run /init as init process\r\n")).init_started, "the initramfs has an init too");
    assert!(read(&boot(line)).init_started);
}

#[test]
fn only_the_latest_boot_counts() {
    assert_eq!(read(&format!("{}{}", boot(PANIC), boot(""))).fault, None);
    assert_eq!(read(&format!("{}{KERNEL}", boot(PANIC))).fault, None, "a kernel booted without firmware");
    assert_eq!(fault_kind(&format!("{}{}", boot(""), boot(PANIC)), 0), Some(BootFaultKind::Panic));
}

#[test]
fn output_before_the_given_offset_does_not_count() {
    let before = boot(PANIC);
    assert_eq!(fault_kind(&before, before.len()), None);
    assert_eq!(fault_kind(&before, usize::MAX), None);
    let after = format!("{before}{EMERGENCY}");
    assert_eq!(fault_kind(&after, before.len()), Some(BootFaultKind::Emergency));
}

#[rstest::rstest]
#[case::a_prompt(&boot(PROMPT), Some("askari login:"))]
#[case::a_kernel_message_inside_the_prompt(&boot("\r\naskari login: [   97.376556] evm: overlay not supported\r\n"), Some("askari login: [   97.376556] evm: overlay not supported"))]
#[case::a_quiet_kernel(&format!("{FIRMWARE}{PROMPT}"), Some("askari login:"))]
#[case::the_target(
    &boot("[\u{1b}[0;32m  OK  \u{1b}[0m] Reached target \u{1b}[0;1;39mmulti-user.target\u{1b}[0m - Multi-User System.\r\n"),
    Some("[  OK  ] Reached target multi-user.target - Multi-User System.")
)]
#[case::the_target_by_its_unit(&boot("Reached target multi-user.target.\r\n"), Some("Reached target multi-user.target."))]
#[case::the_target_by_its_description(&boot("Reached target Multi-User System.\r\n"), Some("Reached target Multi-User System."))]
#[case::another_target(&boot("[  OK  ] Reached target getty.target - Login Prompts.\r\n"), None)]
#[case::no_prompt(&boot("[    4.2] sshd: failed login: root\r\nPermit root login: no\r\n"), None)]
#[case::no_boot(PROMPT, None)]
#[case::the_boot_before(&format!("{}{}", boot(PROMPT), boot("")), None)]
fn a_prompt_or_the_multi_user_target_shows_that_the_guest_came_up(
    #[case] console: &str,
    #[case] up: Option<&str>,
) {
    assert_eq!(read(console).up.as_deref(), up);
}

#[test]
fn a_boot_is_counted_where_firmware_or_kernel_begin() {
    assert_eq!(read("").boots, 0);
    assert_eq!(read(PROMPT).boots, 0);
    assert_eq!(read(&boot(PROMPT)).boots, 1, "firmware and kernel of one boot");
    assert_eq!(read(&format!("{}{}", boot(PANIC), boot(""))).boots, 2);
    assert_eq!(read(&format!("{KERNEL}{KERNEL}")).boots, 2);
    assert_eq!(read(&format!("{FIRMWARE}{PROMPT}\r\n{FIRMWARE}{PROMPT}")).boots, 2, "quiet kernels");
    let before = boot(PROMPT);
    assert_eq!(BootLog::read(&format!("{before}{}", boot("")), before.len()).boots, 1);
}

#[test]
fn the_last_line_is_the_last_one_that_is_not_blank() {
    let log = read(&boot("[  ***  ] A start job is running\r\n\r\n"));
    assert_eq!(log.last_line.unwrap(), "[  ***  ] A start job is running");
}

/// Lines as systemd 257 prints them on a serial console.
#[rstest::rstest]
#[case::endless("[   \u{1b}[0;31m*\u{1b}[0;1;31m*\u{1b}[0m\u{1b}[0;31m*\u{1b}[0m] A start job is running for slow.service - Slow (3min 20s / no limit)\r\n", Some(("slow.service - Slow", 200)))]
#[case::seconds("[***   ] A start job is running for /dev/disk/by-uuid/0 (6s / 1min 30s)\r\n", Some(("/dev/disk/by-uuid/0", 6)))]
#[case::hours("[***   ] A start job is running for x (2h 3min 4s / no limit)\r\n", Some(("x", 7384)))]
#[case::days("[***   ] A start job is running for x (1d 1s / no limit)\r\n", Some(("x", 86_401)))]
#[case::several("[***   ] (1 of 2) A start job is running for b (and more) (1min / no limit)\r\n", Some(("b (and more)", 60)))]
#[case::the_last("[***   ] A start job is running for a (5s / no limit)\r\n[***   ] A start job is running for b (9s / no limit)\r\n", Some(("b", 9)))]
#[case::among_kernel_messages("[***   ] A start job is running for a (59s / no limit)\r\n[   97.37] evm: overlay not supported\r\n", Some(("a", 59)))]
#[case::it_ended("[***   ] A start job is running for a (5s / no limit)\r\n[  OK  ] Finished a.\r\n", None)]
#[case::it_failed("[***   ] A start job is running for a (5s / 6s)\r\n[FAILED] Failed to start a.\r\n", None)]
#[case::it_timed_out(
    "[***   ] A start job is running for a (5s / 6s)\r\n[ TIME ] Timed out waiting for device a.\r\n",
    None
)]
#[case::a_stop_job("[***   ] A stop job is running for a (5s / 1min 30s)\r\n", None)]
#[case::no_time("[  ***  ] A start job is running for data.mount\r\n", None)]
#[case::no_span("[  ***  ] A start job is running for data.mount (soon / no limit)\r\n", None)]
#[case::too_long("[***   ] A start job is running for a (99999999999999999999s / no limit)\r\n", None)]
#[case::a_prompt_meanwhile("[***   ] A start job is running for a (9s / no limit)\r\naskari login: \r\n", Some(("a", 9)))]
fn the_job_that_a_boot_waits_for_is_read_with_its_time(
    #[case] text: &str,
    #[case] expected: Option<(&str, u64)>,
) {
    let job = read(&boot(text)).job;
    let expected =
        expected.map(|(name, seconds)| StartJob { name: name.into(), elapsed: Duration::from_secs(seconds) });
    assert_eq!(job, expected);
}

#[test]
fn a_job_of_the_boot_before_is_forgotten() {
    let waits = boot("[***   ] A start job is running for a (5s / no limit)\r\n");
    assert_eq!(read(&format!("{waits}{}", boot(""))).job, None);
}

/// A panic may be the emulator's, until something of the disk has run or is missing.
#[rstest::rstest]
#[case::no_root("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", true)]
#[case::no_init("Kernel panic - not syncing: No working init found.", true)]
#[case::a_wrong_init("Kernel panic - not syncing: Requested init /bin/no failed (error -2).", true)]
#[case::init_died("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", true)]
#[case::after_init(
    "Welcome to Debian GNU/Linux 13!\r\nKernel panic - not syncing: sysrq triggered crash",
    true
)]
#[case::a_timer("Kernel panic - not syncing: IO-APIC + timer doesn't work!", false)]
#[case::a_machine_check("Kernel panic - not syncing: Fatal machine check", false)]
#[case::early("Kernel panic - not syncing: Fatal exception in interrupt", false)]
#[case::emergency("You are in emergency mode.", true)]
#[case::initramfs("ALERT! UUID=1 does not exist.  Dropping to a shell!\r\n(initramfs) ", true)]
#[case::no_loader("BdsDxe: No bootable option or device was found.", false)]
#[case::denied("BdsDxe: failed to load Boot0001: Access Denied", false)]
fn a_fault_is_the_guest_s_own_doing_only_if_its_disk_is_at_fault(
    #[case] text: &str,
    #[case] is_own_doing: bool,
) {
    assert_eq!(read(&boot(text)).fault.unwrap().is_own_doing, is_own_doing);
}

#[rstest::rstest]
#[case::power_button("[  231.0] systemd-logind[540]: System is powering down.\n", true)]
#[case::reboot("[  231.0] systemd-logind[540]: System is rebooting.\n", true)]
#[case::scheduled(
    "[  231.0] systemd-logind[540]: The system will reboot at Thu 2026-11-26 12:00:00 UTC!\n",
    true
)]
#[case::without_logind("[  231.0] systemd[1]: Stopped target multi-user.target - Multi-User System.\n", true)]
#[case::another_target("[  231.0] systemd[1]: Stopped target sound.target - Sound Card.\n", false)]
#[case::a_session("[  231.0] systemd-logind[540]: Removed session 4.\n", false)]
#[case::a_users_manager("[  231.0] systemd[626]: Stopped target multi-user.target\n", false)]
#[case::somebody_else("[  231.0] app[9]: systemd-logind[540]: System is rebooting.\n", false)]
#[case::the_boot_before(
    "[  231.0] systemd-logind[540]: System is rebooting.\n[   30.0] kernel: Linux version 6.12\n",
    false
)]
fn a_guest_on_its_way_down_says_so(#[case] says: &str, #[case] is_so: bool) {
    assert_eq!(goes_down(&format!("[   39.0] kernel: Linux version 6.12\n{says}")), is_so);
}

#[test]
fn a_boot_of_a_stream_is_counted_once_though_the_stream_starts_anew() {
    let boot = |time: &str| format!("[{time}] kernel: Linux version 6.12\n[{time}] systemd[1]: hello\n");
    let (old, new) = (boot("   39.033990"), boot("   64.027209"));
    assert_eq!(kernels(""), []);
    assert_eq!(kernels(&old).len(), 1);
    let both = format!("{old}{new}");
    assert_eq!(kernels(&both), [(0, "[   39.033990"), (old.len(), "[   64.027209")]);
    assert_eq!(kernels(&format!("{both}{new}{new}")), kernels(&both));
    let quoted = "[   70.0] app[9]: kernel: Linux version 6.12\n  [   71.0] kernel: Linux version 6.12\n";
    assert_eq!(kernels(&format!("{both}{quoted}")), kernels(&both));
}

#[rstest::rstest]
#[case(
    "[  107.310673] systemd[1]: Startup finished in 16.476s (kernel) + 1min 30.833s (userspace) = 1min 47.310s.\n",
    true
)]
#[case("[  105.286610] systemd[1]: Reached target multi-user.target - Multi-User System.\n", true)]
#[case("[   89.502425] systemd[718]: Startup finished in 2.662s.\n", false)]
#[case("[   76.254154] systemd[1]: Reached target sockets.target - Socket Units.\n", false)]
#[case("[    9.000000] sshd[700]: Startup finished in ] systemd[1]: a log\n", false)]
#[case("", false)]
fn only_the_system_manager_logs_the_end_of_a_boot(#[case] line: &str, #[case] ends: bool) {
    let journal = format!("[    1.000000] kernel: Linux version 6.12\n{line}");
    assert_eq!(end_of_boot(&journal).is_some(), ends);
}

proptest::proptest! {
    #[test]
    fn no_console_and_no_offset_cause_a_panic(console in "(\u{1b}|\\[|é|[ -~]|\n){0,80}", since in 0usize..120) {
        let _ = BootLog::read(&console, since);
        let _ = kernels(&console);
    }
}
