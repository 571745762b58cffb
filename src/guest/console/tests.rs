//! Consoles as they were captured, shortened.

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

fn boot(rest: &str) -> String {
    format!("{FIRMWARE}{KERNEL}{rest}")
}

/// As captured under QEMU 10.0.2, of two CPUs, in the initramfs.
const STALL: &str = "[   23.175270] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\r\n\
    [   23.178856] rcu: rcu_preempt kthread timer wakeup didn't happen for 5254 jiffies! g-1147 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x402\r\n\
    [   23.178856] rcu: \tPossible timer handling issue on cpu=0 timer-softirq=27\r\n";

#[test]
fn an_ordinary_boot_has_no_fault() {
    let console = boot(
        "Gave up waiting for suspend/resume device\r\n[  OK  ] Reached target multi-user.target\r\naskari login: ",
    );
    assert_eq!(fault(&console, 0), None);
    assert_eq!(fault("", 0), None);
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
fn each_lost_boot_is_told_by_its_kind(#[case] console: &str, #[case] kind: BootFaultKind) {
    assert_eq!(fault(console, 0).map(|fault| fault.kind), Some(kind));
}

#[test]
fn a_fault_names_what_failed_before_it() {
    insta::assert_snapshot!(fault(&boot(EMERGENCY), 0).unwrap().to_string(), @r#"the guest is in emergency mode: the console says `You are in emergency mode. After logging in, type "journalctl -xb" to view`; before it: [ TIME ] Timed out waiting for device /dev/disk/by-uuid/0000. / [DEPEND] Dependency failed for local-fs.target - Local File Systems."#);
}

#[test]
fn a_boot_option_that_is_not_there_is_no_fault_while_another_boots() {
    let skipped = "BdsDxe: failed to load Boot0000 \"UEFI QEMU DVD-ROM\" from PciRoot(0x0): Not Found\r\n";
    assert_eq!(fault(&format!("{skipped}{}", boot("")), 0), None);
    let denied = "BdsDxe: failed to load Boot0001 \"x\": Access Denied\r\n";
    assert_eq!(fault(&format!("{denied}{}", boot("")), 0), None, "a kernel runs all the same");
}

#[test]
fn a_kernel_that_stalls_again_stands_still_and_once_it_may_have_been_the_host() {
    assert_eq!(fault(&boot(STALL), 0), None);
    let again = format!("{}{STALL}", boot(STALL));
    let told = hear(&again, 0);
    let fault = told.fault.unwrap();
    assert_eq!((fault.kind, told.init), (BootFaultKind::Stalled, false));
    assert!(fault.line.starts_with("[   23.178856] rcu: rcu_preempt kthread timer wakeup"), "{fault}");
    assert_eq!(hear(&format!("{again}{}", boot(STALL)), 0).fault, None, "the next boot counts anew");
}

#[test]
fn the_end_of_the_boot_before_is_none_of_the_next() {
    let end =
        format!("{STALL}[  OK  ] Reached target reboot.target.\r\n[  158.3] systemd[1]: Rebooting.\r\n");
    assert!(hear(&end, 0).init);
    let told = hear(&format!("{end}{}", boot(STALL)), 0);
    assert_eq!((told.fault, told.init, told.boots), (None, false, 1));
    let told = hear(&format!("{end}{FIRMWARE}Welcome to GRUB!\r\n{KERNEL}{STALL}{STALL}"), 0);
    assert_eq!((told.fault.unwrap().kind, told.init), (BootFaultKind::Stalled, false));
}

#[rstest::rstest]
#[case::systemd("systemd[1]: systemd 257.9 running in system mode\r\n")]
#[case::its_greeting("Welcome to \u{1b}[1mDebian GNU/Linux 13 (trixie)\u{1b}[0m!\r\n")]
#[case::a_unit("[\u{1b}[0;32m  OK  \u{1b}[0m] Created slice system.slice.\r\n")]
fn from_its_inits_first_word_on_the_guest_itself_runs(#[case] word: &str) {
    assert!(!hear(&boot("Run /init as init process\r\n"), 0).init, "the initramfs has one too");
    assert!(hear(&boot(word), 0).init);
}

#[test]
fn only_the_latest_boot_counts() {
    assert_eq!(fault(&format!("{}{}", boot(PANIC), boot("")), 0), None);
    assert_eq!(fault(&format!("{}{KERNEL}", boot(PANIC)), 0), None, "a kernel that was started directly");
    let console = format!("{}{}", boot(""), boot(PANIC));
    assert_eq!(fault(&console, 0).map(|fault| fault.kind), Some(BootFaultKind::Panic));
}

#[test]
fn what_was_there_before_the_marker_does_not_count() {
    let before = boot(PANIC);
    assert_eq!(fault(&before, before.len()), None);
    assert_eq!(fault(&before, usize::MAX), None);
    let after = format!("{before}{EMERGENCY}");
    assert_eq!(fault(&after, before.len()).map(|fault| fault.kind), Some(BootFaultKind::Emergency));
}

const PROMPT: &str = "\r\nDebian GNU/Linux 13 askari ttyS0\r\n\r\naskari login: ";

#[rstest::rstest]
#[case::a_prompt(&boot(PROMPT), Some("askari login:"))]
#[case::a_kernel_speaks_into_the_prompt(&boot("\r\naskari login: [   97.376556] evm: overlay not supported\r\n"), Some("askari login: [   97.376556] evm: overlay not supported"))]
#[case::a_kernel_that_says_little(&format!("{FIRMWARE}{PROMPT}"), Some("askari login:"))]
#[case::the_target(
    &boot("[\u{1b}[0;32m  OK  \u{1b}[0m] Reached target \u{1b}[0;1;39mmulti-user.target\u{1b}[0m - Multi-User System.\r\n"),
    Some("[  OK  ] Reached target multi-user.target - Multi-User System.")
)]
#[case::not_yet(&boot("[  OK  ] Reached target getty.target - Login Prompts.\r\n"), None)]
#[case::no_prompt(&boot("[    4.2] sshd: failed login: root\r\nPermit root login: no\r\n"), None)]
#[case::no_boot(PROMPT, None)]
#[case::the_boot_before(&format!("{}{}", boot(PROMPT), boot("")), None)]
fn a_boot_came_up_when_its_console_says_so(#[case] console: &str, #[case] up: Option<&str>) {
    assert_eq!(hear(console, 0).up.as_deref(), up);
}

#[test]
fn boots_are_counted_by_where_firmware_or_kernel_begin() {
    assert_eq!(hear("", 0).boots, 0);
    assert_eq!(hear(PROMPT, 0).boots, 0);
    assert_eq!(hear(&boot(PROMPT), 0).boots, 1, "firmware and kernel of one boot");
    assert_eq!(hear(&format!("{}{}", boot(PANIC), boot("")), 0).boots, 2);
    assert_eq!(hear(&format!("{KERNEL}{KERNEL}"), 0).boots, 2);
    assert_eq!(hear(&format!("{FIRMWARE}{PROMPT}\r\n{FIRMWARE}{PROMPT}"), 0).boots, 2, "quiet kernels");
    let before = boot(PROMPT);
    assert_eq!(hear(&format!("{before}{}", boot("")), before.len()).boots, 1);
    assert_eq!(
        hear(&boot("[  ***  ] A start job is running\r\n\r\n"), 0).last.unwrap(),
        "[  ***  ] A start job is running"
    );
}

proptest::proptest! {
    #[test]
    fn no_console_and_no_marker_makes_it_panic(console in "(\u{1b}|\\[|é|[ -~]|\n){0,80}", since in 0usize..120) {
        let _ = fault(&console, since);
    }
}
