use super::*;

const USER: &str = "ansible";
const OURS: [&str; 2] = ["10.213.47.1:44078", "10.213.47.1:44090"];
const KERNEL: &str = "[   23.090446] kernel: Linux version 6.12.118+deb13-cloud-amd64\n";

fn connections(ours: &[&str]) -> Vec<SocketAddr> {
    ours.iter().map(|one| one.parse().unwrap()).collect()
}

/// Two logins, each in a process of its own, with these lines; `PORT` is our end.
fn journal(lines: &str) -> String {
    let mut journal = KERNEL.to_owned();
    for (index, ours) in OURS.iter().enumerate() {
        let port = ours.rsplit(':').next().unwrap();
        for line in lines.lines() {
            let line = line.replace("PORT", port);
            journal += &format!("[  107.{index}00001] sshd-session[70{index}]: {line}\n");
        }
        journal += "[  108.000000] systemd-logind[540]: New session 7 of user ansible.\n";
    }
    journal
}

/// sshd's words of OpenSSH 9.2 and 10.0, from Debian 12 and 13.
#[rstest::rstest]
#[case::no_group(
    "User ansible from 10.213.47.1 not allowed because none of user's groups are listed in AllowGroups\nConnection closed by invalid user ansible 10.213.47.1 port PORT [preauth]"
)]
#[case::a_denied_group(
    "User ansible from 10.213.47.1 not allowed because a group is listed in DenyGroups\nConnection closed by invalid user ansible 10.213.47.1 port PORT [preauth]"
)]
#[case::not_an_allowed_user(
    "User ansible from 10.213.47.1 not allowed because not listed in AllowUsers\nConnection reset by invalid user ansible 10.213.47.1 port PORT [preauth]"
)]
#[case::a_denied_user(
    "User ansible from 10.213.47.1 not allowed because listed in DenyUsers\nConnection closed by invalid user ansible 10.213.47.1 port PORT [preauth]"
)]
#[case::locked(
    "User ansible not allowed because account is locked\nDisconnected from invalid user ansible 10.213.47.1 port PORT [preauth]"
)]
#[case::no_such_shell(
    "User ansible not allowed because shell /bin/fish does not exist\nConnection closed by invalid user ansible 10.213.47.1 port PORT [preauth]"
)]
#[case::gone(
    "Invalid user ansible from 10.213.47.1 port PORT\nConnection closed by invalid user ansible 10.213.47.1 port PORT [preauth]"
)]
#[case::an_expired_account(
    "pam_unix(sshd:account): account ansible has expired (account expired)\nfatal: Access denied for user ansible by PAM account configuration [preauth]\nConnection closed by 10.213.47.1 port PORT [preauth]"
)]
#[case::an_expired_password(
    "pam_unix(sshd:account): expired password for user ansible (password aged)\nAccepted publickey for ansible from 10.213.47.1 port PORT ssh2: ED25519 SHA256:yBh4\npam_unix(sshd:session): session opened for user ansible(uid=1000) by ansible(uid=0)"
)]
#[case::bad_modes(
    "Authentication refused: bad ownership or modes for directory /home/ansible\nConnection closed by authenticating user ansible 10.213.47.1 port PORT [preauth]"
)]
#[case::no_key("Connection closed by authenticating user ansible 10.213.47.1 port PORT [preauth]")]
#[case::verbose(
    "Connection from 10.213.47.1 port PORT on 10.213.47.10 port 22 rdomain \"\"\nFailed publickey for ansible from 10.213.47.1 port PORT ssh2: ED25519 SHA256:yBh4\nConnection closed by authenticating user ansible 10.213.47.1 port PORT [preauth]"
)]
#[case::pam_access(
    "pam_access(sshd:account): access denied for user `ansible' from `10.213.47.1'\nfatal: Access denied for user ansible by PAM account configuration [preauth]\nConnection closed by 10.213.47.1 port PORT"
)]
fn connections_that_sshd_ended_prove_a_lockout_in_its_own_words(#[case] lines: &str) {
    let journal = journal(lines);
    let refusal = SshdLog::read(&journal).refusal(USER, &connections(&OURS));
    let Some(Refusal::Account(words, cause)) = refusal else { panic!("{refusal:?}") };
    // The reason comes first. Where sshd gives none, there are only the last lines about the connection.
    let shown = |line: &str| format!("`{}`", line.replace("PORT", "44090"));
    let reason = lines.lines().find(|line| !line.contains("PORT"));
    let about: Vec<_> = lines.lines().filter(|line| line.contains("PORT")).map(shown).collect();
    assert!(words.starts_with(&reason.map_or(about[0].clone(), shown)), "{words}");
    assert!(words.ends_with(&about.join(", ")), "{words}");
    let is_accepted = lines.contains("Accepted publickey for ansible");
    let expected = match reason {
        _ if is_accepted => RefusalCause::NoShell,
        Some(_) => RefusalCause::Named,
        None => RefusalCause::Unnamed,
    };
    assert_eq!(cause, expected);
}

/// Neither the harness's own trouble nor a single bad moment is one.
#[rstest::rstest]
#[case::nothing("")]
#[case::another_client("Connection closed by authenticating user ansible 10.213.47.1 port 44077 [preauth]")]
#[case::a_port_that_only_begins_so(
    "Connection closed by authenticating user ansible 10.213.47.1 port PORT1 [preauth]"
)]
#[case::another_address("Connection closed by authenticating user ansible 110.213.47.1 port PORT [preauth]")]
#[case::another_user("Connection closed by authenticating user backup 10.213.47.1 port PORT [preauth]")]
#[case::a_user_that_only_begins_so(
    "Connection closed by authenticating user ansible-two 10.213.47.1 port PORT [preauth]"
)]
#[case::a_penalty(
    "drop connection #0 from [10.213.47.1]:PORT on [10.213.47.10]:22 penalty: failed authentication for ansible"
)]
#[case::too_many(
    "beginning MaxStartups throttling\ndrop connection #10 from [10.213.47.1]:PORT on [10.213.47.10]:22 past MaxStartups"
)]
#[case::too_slow("fatal: Timeout before authentication for 10.213.47.1 port PORT")]
#[case::no_algorithm(
    "Unable to negotiate with 10.213.47.1 port PORT: no matching key exchange method found. Their offer: curve25519-sha256 [preauth]"
)]
#[case::cut("banner exchange: Connection from 10.213.47.1 port PORT: could not read protocol version")]
fn anything_else_that_sshd_says_proves_no_lockout(#[case] lines: &str) {
    let journal = journal(lines);
    assert_eq!(SshdLog::read(&journal).refusal(USER, &connections(&OURS)), None);
}

#[test]
fn one_connection_is_not_enough() {
    let journal = journal("Connection closed by authenticating user ansible 10.213.47.1 port PORT [preauth]");
    assert_eq!(SshdLog::read(&journal).refusal(USER, &connections(&OURS[..1])), None);
    assert_eq!(SshdLog::read(&journal).refusal(USER, &connections(&[OURS[0], "10.213.47.1:5"])), None);
    assert_eq!(SshdLog::read(&journal).refusal(USER, &[]), None);
}

#[test]
fn the_process_of_another_login_does_not_name_our_account() {
    let ours = journal("Connection closed by authenticating user backup 10.213.47.1 port PORT [preauth]");
    let other = "[  109.0] sshd-session[900]: Failed publickey for ansible from 10.213.47.9 port 5 ssh2\n";
    assert_eq!(SshdLog::read(&(ours + other)).refusal(USER, &connections(&OURS)), None);
}

#[test]
fn only_sshd_of_the_last_boot_counts() {
    let lines = "Connection closed by authenticating user ansible 10.213.47.1 port PORT [preauth]";
    let of_the_old_boot = journal(lines) + "[   30.500000] kernel: Linux version 6.12.118\n";
    assert_eq!(SshdLog::read(&of_the_old_boot).refusal(USER, &connections(&OURS)), None);
    // A stream that starts anew repeats its boot.
    let repeated = journal(lines) + &journal(lines);
    assert!(SshdLog::read(&repeated).refusal(USER, &connections(&OURS)).is_some());
    let others = journal(lines).replace("sshd-session[", "sshd-imitation[");
    assert_eq!(SshdLog::read(&others).refusal(USER, &connections(&OURS)), None);
    // The second line of somebody's message.
    let within = journal(lines).replace("[  107.", "     [  107.");
    assert_eq!(SshdLog::read(&within).refusal(USER, &connections(&OURS)), None);
}

#[test]
fn a_kind_of_key_that_sshd_does_not_take_says_nothing_about_other_keys() {
    let journal = journal(
        "userauth_pubkey: signature algorithm ssh-ed25519 not in PubkeyAcceptedAlgorithms [preauth]\n\
         Connection closed by authenticating user ansible 10.213.47.1 port PORT [preauth]",
    );
    let refusal = SshdLog::read(&journal).refusal(USER, &connections(&OURS));
    assert!(matches!(refusal, Some(Refusal::KeyType(_))), "{refusal:?}");
}

/// Lines of the listener, `PID message`.
#[rstest::rstest]
#[case::where_we_knock("680 Server listening on 0.0.0.0 port 22.\n680 Server listening on :: port 22.", None)]
#[case::our_address_only("680 Server listening on 10.213.47.10 port 22.", None)]
#[case::moved(
    "680 Server listening on 0.0.0.0 port 22.\n680 Received signal 15; terminating.\n990 Server listening on 0.0.0.0 port 2222.\n990 Server listening on :: port 2222.",
    Some("`Server listening on 0.0.0.0 port 2222.`, `Server listening on :: port 2222.`")
)]
#[case::moved_by_a_reload(
    "680 Server listening on 0.0.0.0 port 22.\n680 Received SIGHUP; restarting.\n680 Server listening on 0.0.0.0 port 2222.",
    Some("`Server listening on 0.0.0.0 port 2222.`")
)]
#[case::another_address(
    "680 Server listening on 192.0.2.53 port 22.",
    Some("`Server listening on 192.0.2.53 port 22.`")
)]
#[case::loopback_only(
    "680 Server listening on 127.0.0.1 port 22.\n680 Server listening on ::1 port 22.",
    Some("`Server listening on 127.0.0.1 port 22.`, `Server listening on ::1 port 22.`")
)]
#[case::ipv6_only("680 Server listening on :: port 22.", Some("`Server listening on :: port 22.`"))]
#[case::on_both("680 Server listening on 0.0.0.0 port 2222.\n680 Server listening on 0.0.0.0 port 22.", None)]
#[case::two_daemons(
    "680 Server listening on 0.0.0.0 port 22.\n990 Server listening on 0.0.0.0 port 2222.",
    None
)]
#[case::the_port_only_begins_so(
    "680 Server listening on 0.0.0.0 port 2200.",
    Some("`Server listening on 0.0.0.0 port 2200.`")
)]
#[case::ended("680 Server listening on 0.0.0.0 port 2222.\n680 Received signal 15; terminating.", None)]
#[case::failed(
    "680 error: Bind to port 22 on 192.0.2.53 failed: Cannot assign requested address.\n680 fatal: Cannot bind any address.",
    None
)]
#[case::silent("", None)]
#[case::not_understood("680 Server listening on somewhere port 2222.", None)]
fn sshd_that_listens_somewhere_else_proves_a_lockout(#[case] lines: &str, #[case] words: Option<&str>) {
    let mut journal = KERNEL.to_owned();
    for line in lines.lines() {
        let (pid, message) = line.split_once(' ').unwrap();
        journal += &format!("[  106.099517] sshd[{pid}]: {message}\n");
    }
    let peer = "10.213.47.10:22".parse().unwrap();
    assert_eq!(SshdLog::read(&journal).listens_elsewhere(peer).as_deref(), words);
    let last = lines.lines().last().and_then(|line| Some(line.split_once(' ')?.1));
    assert_eq!(SshdLog::read(&journal).last_words(), last);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_panic(text: String, lines in "(\\[[ 0-9.]{0,9}\\] ?(sshd|kernel)(\\[[0-9]{0,3}\\])?: ?[ -~é]{0,40}\n){0,5}") {
        for text in [text, lines] {
            let log = SshdLog::read(&text);
            let _ = log.refusal(USER, &connections(&OURS));
            let _ = log.listens_elsewhere("10.213.47.10:22".parse().unwrap());
        }
    }

    /// Whatever else sshd says in between, and to whomever.
    #[test]
    fn other_lines_never_prove_a_lockout(ports in proptest::collection::vec(1024_u16..44_000, 0..9)) {
        let lines: Vec<_> = ports.iter().map(|port| {
            format!("[  107.754363] sshd-session[{port}]: Connection closed by authenticating user ansible 10.213.47.1 port {port} [preauth]\n")
        }).collect();
        proptest::prop_assert_eq!(SshdLog::read(&lines.concat()).refusal(USER, &connections(&OURS)), None);
    }
}
