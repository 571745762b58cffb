use std::net::SocketAddr;

use super::*;
use crate::cycle::vm_monitor::SILENCE;
use crate::machine::VmVolumes;
use crate::machine::fake::Fake;

const VM: &str = "boma-it-askari";
const MINUTE: Duration = Duration::from_secs(60);
const OURS: [&str; 2] = ["10.213.47.1:44078", "10.213.47.1:44090"];

fn access() -> SshAccess {
    SshAccess {
        address: [10, 213, 47, 10].into(),
        port: 22,
        user: "ansible".into(),
        private_key: "k".into(),
        host_key: String::new(),
    }
}

/// A VM that is up and whose journal holds this.
fn vm(journal: &str) -> Fake {
    let fake = Fake::new();
    fake.put_volume(&VmVolumes(VM).console(), b"Linux version 6.12\r\naskari login: ");
    fake.put_volume(&VmVolumes(VM).journal(), journal.as_bytes());
    fake
}

fn ours(count: usize) -> Vec<SocketAddr> {
    OURS.iter().take(count).map(|one| one.parse().unwrap()).collect()
}

/// Both of our connections refused, in sshd's words.
fn refusals(reason: &str) -> String {
    let refusal = |(pid, ours): (usize, &&str)| {
        let port = ours.rsplit(':').next().unwrap();
        format!(
            "[  200.0] sshd-session[{pid}]: {reason}\n[  200.1] sshd-session[{pid}]: Connection closed by invalid user \
             ansible 10.213.47.1 port {port} [preauth]\n"
        )
    };
    OURS.iter().enumerate().map(refusal).collect()
}

const GROUPS: &str =
    "User ansible from 10.213.47.1 not allowed because none of user's groups are listed in AllowGroups";
const MOVED: &str = "[  200.0] sshd[900]: Server listening on 0.0.0.0 port 2222.\n";

/// What a running guest is known to be after `length` without a login, in which the journal grew by `says` after the first
/// failed login.
fn running(says: &str, length: Duration, refused: usize, answered: bool) -> (bool, Option<Closed>) {
    let (fake, access) = (vm("[    1.0] systemd[1]: hello\n"), access());
    let monitor = RefCell::new(VmMonitor::from_now_on(&fake, VM));
    let mut watch = LoginWatch::new(&monitor, &access, SILENCE);
    let refused = ours(refused);
    assert!(!watch.gives_up_running(&Silence { length: Duration::ZERO, refused: &[], answered }));
    fake.log(VM, says);
    let gives_up = watch.gives_up_running(&Silence { length, refused: &refused, answered });
    (gives_up, watch.into_closed())
}

#[test]
fn sshd_s_own_words_prove_a_lockout_within_seconds() {
    let soon = Duration::from_secs(3);
    let (gives_up, closed) = running(&refusals(GROUPS), soon, 2, true);
    assert!(gives_up);
    let Some(Closed::Proven(words)) = closed else { panic!("{closed:?}") };
    assert!(words.contains("none of user's groups are listed in AllowGroups"), "{words}");
    assert!(
        words.ends_with("[preauth]`; boma-it needs to log in as `ansible` with its key alone"),
        "{words}"
    );
    // sshd may be about to say something else, or may mean somebody else.
    assert_eq!(running(&refusals(GROUPS), soon, 1, true), (false, None));
    assert_eq!(running(&refusals(GROUPS), soon, 0, true), (false, None));
    assert_eq!(running("", soon, 2, true), (false, None));
}

#[test]
fn an_sshd_that_listens_elsewhere_proves_a_lockout_once_it_has_for_some_seconds() {
    assert_eq!(running(MOVED, STEADY - Duration::from_millis(1), 0, true), (false, None));
    let words =
        "`Server listening on 0.0.0.0 port 2222.`; boma-it needs it to listen on 10.213.47.10:22".to_owned();
    assert_eq!(running(MOVED, STEADY, 0, true), (true, Some(Closed::Proven(words))));
    // One that talked to us does listen where we knock.
    assert_eq!(running(MOVED, STEADY, 1, true), (false, None));
}

#[test]
fn a_kind_of_key_that_sshd_does_not_take_is_no_lockout() {
    let words = refusals(
        "userauth_pubkey: signature algorithm ssh-ed25519 not in PubkeyAcceptedAlgorithms [preauth]",
    );
    let (gives_up, closed) = running(&words, Duration::from_secs(3), 2, true);
    assert!(gives_up && matches!(closed, Some(Closed::KeyType(_))), "{closed:?}");
}

/// Without sshd's words, a guest must show that it is up, and stay closed for as long as ever.
#[rstest::rstest]
#[case::its_kernel_answers("", true, Some("its kernel answers"))]
#[case::its_journal_goes_on(
    "[  210.0] systemd[1]: Stopped user@1000.service.\n",
    false,
    Some("its journal goes on")
)]
#[case::sshd_said_something(
    "[  210.0] sshd[680]: Received signal 15; terminating.\n",
    false,
    Some("its journal goes on; sshd said last: `Received signal 15; terminating.`")
)]
#[case::silent_in_every_way("", false, None)]
fn a_silent_guest_is_locked_out_only_if_it_shows_that_it_is_up(
    #[case] says: &str,
    #[case] answered: bool,
    #[case] life: Option<&str>,
) {
    assert_eq!(running(says, SILENCE - Duration::from_millis(1), 0, answered), (false, None));
    let closed = life.map(|life| Closed::Silent(life.to_owned()));
    assert_eq!(running(says, SILENCE, 0, answered), (life.is_some(), closed.clone()));
    // In the end nothing is known of it.
    assert_eq!(running(says, SILENCE * LAST_CHANCE, 0, answered), (true, closed));
}

/// A playbook may restart the guest at its end. Until the guest is back, nobody can log in, and sshd may say so.
#[rstest::rstest]
#[case::on_its_way_down("[  201.0] systemd-logind[540]: System is rebooting.\n", "")]
#[case::booting("", "BdsDxe: starting Boot0001\r\nLinux version 6.12\r\n")]
fn a_guest_that_restarts_is_not_locked_out(#[case] says: &str, #[case] prints: &str) {
    let (fake, access) = (vm("[    1.0] systemd[1]: hello\n"), access());
    let monitor = RefCell::new(VmMonitor::from_now_on(&fake, VM));
    let mut watch = LoginWatch::new(&monitor, &access, SILENCE);
    fake.log(VM, &(refusals(GROUPS) + says));
    fake.print(VM, prints);
    let refused = ours(2);
    let silence = |length| Silence { length, refused: &refused, answered: true };
    assert!(!watch.gives_up_running(&silence(MINUTE)));
    assert!(watch.gives_up_running(&silence(SILENCE * LAST_CHANCE)));
    assert_eq!(watch.into_closed(), None);
}

#[test]
fn an_image_without_a_streamed_journal_is_waited_for_as_ever() {
    let (fake, access) = (vm(""), access());
    let monitor = RefCell::new(VmMonitor::from_now_on(&fake, VM));
    let mut watch = LoginWatch::new(&monitor, &access, SILENCE);
    let silence = |length| Silence { length, refused: &[], answered: false };
    assert!(!watch.gives_up_running(&silence(SILENCE - INTERVAL)));
    assert!(watch.gives_up_running(&silence(SILENCE)));
    let Some(Closed::Silent(why)) = watch.into_closed() else { panic!() };
    assert_eq!(why, "it runs, and the image streams no journal that could say more");
}

const END: &str = "[   60.000000] systemd[1]: Startup finished in 20s (kernel) + 40s (userspace) = 1min.\n";

/// What a restarted guest is known to be: it says one thing before the end of its boot, and another after it.
fn booted(before: &str, after: &str, ended: bool) -> Option<Closed> {
    watched(before, after, ended, SILENCE).1
}

/// The same, and whether it is given up.
fn watched(before: &str, after: &str, ended: bool, patience: Duration) -> (bool, Option<Closed>) {
    let (fake, access) = (vm(&refusals(GROUPS)), access());
    let monitor = RefCell::new(VmMonitor::from_now_on(&fake, VM));
    let mut watch = LoginWatch::new(&monitor, &access, patience);
    let refused = ours(if after == MOVED { 0 } else { 2 });
    let mut length = MINUTE;
    let mut gives_up = || {
        length += INTERVAL;
        monitor.borrow_mut().began_one_boot().ok();
        watch.gives_up_booted(&Silence { length, refused: &refused, answered: true })
    };
    assert!(!gives_up());
    fake.print(VM, "\r\nBdsDxe: starting Boot0001\r\nLinux version 6.12\r\n");
    assert!(!gives_up());
    fake.log(VM, &format!("[    0.0] kernel: Linux version 6.12\n{before}"));
    assert!(!gives_up());
    fake.log(VM, &format!("{}{after}", if ended { END } else { "" }));
    let is_given_up = gives_up();
    (is_given_up, watch.into_closed())
}

#[test]
fn a_restarted_guest_is_given_up_once_sshd_explains_it_or_its_boot_ended_long_ago() {
    assert!(watched("", &refusals(GROUPS), true, SILENCE).0);
    // Its boot has only just ended, however long it was silent.
    assert_eq!(watched("", "", true, SILENCE), (false, None));
    assert_eq!(watched("", "", true, Duration::ZERO), (true, None));
}

#[test]
fn the_logs_are_read_again_only_after_an_interval_or_in_a_new_silence() {
    let (fake, access) = (vm(""), access());
    let monitor = RefCell::new(VmMonitor::from_now_on(&fake, VM));
    let mut watch = LoginWatch::new(&monitor, &access, SILENCE);
    let mut is_due = |millis| {
        watch.is_due(&Silence { length: Duration::from_millis(millis), refused: &[], answered: false })
    };
    let due = [1000, 1000, 1499, 1500, 1200, 1200].map(&mut is_due);
    assert_eq!(due, [true, false, false, true, true, false]);
}

#[test]
fn a_running_guest_is_waited_for_no_longer_than_the_limit() {
    let (fake, access) = (vm(""), access());
    let monitor = RefCell::new(VmMonitor::from_now_on(&fake, VM));
    let watch = LoginWatch::new(&monitor, &access, SILENCE);
    assert_eq!(watch.limit(), SILENCE * 5);
}

#[test]
fn a_restarted_guest_is_locked_out_by_what_sshd_says_after_its_boot() {
    assert!(matches!(booted("", &refusals(GROUPS), true), Some(Closed::Proven(_))));
    assert!(booted(MOVED, "", true).is_none(), "sshd refused us, so it listens");
    assert!(matches!(booted("", MOVED, true), Some(Closed::Proven(_))));
    // Until its boot has ended, a guest may refuse logins (pam_nologin(8)).
    assert_eq!(booted(&refusals(GROUPS), "", true), None);
    assert_eq!(booted("", &refusals(GROUPS), false), None);
    // What the old boot said is no news.
    assert_eq!(booted("", "", true), None);
}
