//! A playbook after which nobody can log in, though Ansible's own connection does not notice. A real sshd, changed as a playbook
//! would, says what happened.

use std::time::Duration;

use boma_it::catalog::plan::{ExpectedFailure, ExpectedFault};
use boma_it::cycle::{Job, Keep, run};
use boma_it::event::RunReport;
use boma_it::machine::DomainState;
use boma_it::machine::fake::Verb;
use boma_it::machine::hypervisor::{PauseReason, StopReason};
use boma_it::outcome::{Outcome, Stage};

use crate::fixture::{ASKARI, Fixture, Task, assert_within, record, stage};
use crate::guest::{BEGUN, Guest, OnRestart};
use crate::lockout::NO_GROUP;
use crate::restart::SHORT;

/// What a playbook does to the configuration of sshd: these lines come before its own.
fn sshd_gets(fixture: &Fixture, lines: &str) -> String {
    let at = |name: &str| fixture.path(&format!("guest/{name}")).display().to_string();
    let (config, pid) = (at("config"), at("pid"));
    let mut script =
        format!("printf '%s\\n' '{lines}' | cat - {config} >{config}.new && mv {config}.new {config}\n");
    // A second one of these would be in addition.
    for key in ["Port ", "ListenAddress "].iter().filter(|key| lines.contains(**key)) {
        script += &format!("awk '!/^{key}/ || !seen++' {config} >{config}.new && mv {config}.new {config}\n");
    }
    format!("{script}kill -HUP $(cat {pid})\n")
}

/// A cycle whose playbook passes and changes the guest by `script`.
fn cycle_after(script: impl Fn(&Fixture) -> String, declared: Option<ExpectedFault>) -> (Fixture, RunReport) {
    let fixture = Fixture::new();
    let passes = record("site", &[Task::ok("base : sshd")]);
    fixture.playbook("apply", &(script(&fixture) + &passes));
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start_with_journal(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = fixture.plan();
    plan.expect.fail = declared.map(|what| ExpectedFailure { at: Stage::Apply, what });
    let report = run(&context, &plan, Job::Cycle).unwrap_or_else(|error| panic!("{error:#}"));
    fixture.assert_nothing_left(&report);
    (fixture, report)
}

const LOGIN: &str = "`; boma-it needs to log in as `USER` with its key alone";
const KEY: &str = "` and names no reason; boma-it needs its key in the authorized_keys of `USER` (`exclusive: false` keeps \
    it), and a login with that key alone";
const SHELL: &str = "`; boma-it needs a shell of `USER` that runs its commands: ";
const LISTENS: &str = "`; boma-it needs it to listen on 127.";

/// The figure: within 20 s, four times that under emulation. Where sshd says it all, the client's guess is left out.
#[rstest::rstest]
#[case::no_group(NO_GROUP, "not allowed because none of user", LOGIN)]
#[case::another_user("AllowUsers backup", "not listed in AllowUsers", LOGIN)]
#[case::denied_user("DenyUsers *", "listed in DenyUsers", LOGIN)]
#[case::denied_group("DenyGroups *", "DenyGroups", LOGIN)]
#[case::no_keys("AuthorizedKeysFile none", " 127.0.0.1 port ", KEY)]
#[case::another_file_of_keys("AuthorizedKeysFile /etc/ssh/authorized/%u", " 127.0.0.1 port ", KEY)]
#[case::no_public_keys("PubkeyAuthentication no", " 127.0.0.1 port ", KEY)]
#[case::passwords_too("AuthenticationMethods publickey,password", " 127.0.0.1 port ", LOGIN)]
#[case::one_root_key_only("PermitRootLogin no\nAllowUsers backup", "because not listed in AllowUsers", LOGIN)]
#[case::a_shell_that_refuses("ForceCommand echo Password change required. >&2; exit 1", "session", SHELL)]
#[case::a_login_that_only_says_no("ForceCommand /usr/sbin/nologin", "session", SHELL)]
#[case::moved_port("Port 2", "Server listening on 127.", LISTENS)]
#[case::moved_address("ListenAddress 127.0.0.1", "Server listening on 127.0.0.1 port", LISTENS)]
fn a_playbook_after_which_sshd_refuses_the_account_locks_it_out(
    #[case] config: &str,
    #[case] words: &str,
    #[case] needs: &str,
) {
    let (fixture, report) = cycle_after(|fixture| sshd_gets(fixture, config), None);
    assert_eq!(report.outcome, Outcome::Failed, "{}", report.seen);
    let start = "at apply, the guest was unreachable: the apply locked out the account `";
    assert!(report.seen.starts_with(start) && report.seen.contains("`: sshd says `"), "{}", report.seen);
    assert!(report.seen.contains(words), "{}", report.seen);
    let seen = report.seen.replace(&fixture.context(Keep::Never).login.user, "USER");
    let is_told = if [LOGIN, KEY].contains(&needs) { seen.ends_with(needs) } else { seen.contains(needs) };
    assert!(is_told, "{seen}");
    let apply = stage(&report, Stage::Apply);
    assert_eq!(apply.outcome, Outcome::Failed);
    assert_within(Duration::from_secs(20), apply.took, &report);
    assert!(
        !report.stages.iter().any(|it| it.stage == Stage::Reboot),
        "a guest that is locked out is not restarted"
    );
}

/// As `ansible.posix.authorized_key` does it: with `exclusive: true`, and beside the keys that are there.
#[rstest::rstest]
#[case::instead_of_ours(">", Outcome::Failed)]
#[case::beside_ours(">>", Outcome::Passed)]
fn a_playbook_that_replaces_the_keys_of_the_account_locks_it_out(
    #[case] into: &str,
    #[case] outcome: Outcome,
) {
    let writes_keys = |fixture: &Fixture| {
        let at = |name: &str| fixture.path(&format!("guest/{name}")).display().to_string();
        let (key, keys) = (at("operator"), at("authorized"));
        format!("ssh-keygen -q -t ed25519 -N '' -f {key} && cat {key}.pub {into}{keys}\n")
    };
    let (fixture, report) = cycle_after(writes_keys, None);
    assert_eq!(report.outcome, outcome, "{}", report.seen);
    if let Some(error) = report.error {
        let error = error.replace(&fixture.context(Keep::Never).login.user, "USER");
        assert!(error.contains("`Failed publickey for USER from 127.0.0.1 port "), "{error}");
        // The journal may have the end of the connection already.
        let filters = [(r"sshd says `.*` and names", "sshd says `[its last lines]` and names")];
        insta::with_settings!({filters => filters}, { insta::assert_snapshot!(error, @"the apply locked out the account `USER`: sshd says `[its last lines]` and names no reason; boma-it needs its key in the authorized_keys of `USER` (`exclusive: false` keeps it), and a login with that key alone") });
    }
}

#[rstest::rstest]
#[case::declared(Some(ExpectedFault::Unreachable), Outcome::Passed)]
#[case::a_task_is_declared(Some(ExpectedFault::Tasks(vec!["base : sshd".into()])), Outcome::Failed)]
#[case::undeclared(None, Outcome::Failed)]
fn a_lockout_by_the_playbook_passes_only_if_it_is_declared(
    #[case] declared: Option<ExpectedFault>,
    #[case] outcome: Outcome,
) {
    let (_fixture, report) = cycle_after(|fixture| sshd_gets(fixture, NO_GROUP), declared);
    assert_eq!(report.outcome, outcome, "{}", report.seen);
    if outcome == Outcome::Passed {
        assert_eq!(report.seen, "at apply, the guest was unreachable, as declared");
        assert!(report.error.unwrap().contains("AllowGroups"));
    }
}

/// Of its own: sshd works, and clients that know its algorithms get in.
#[rstest::rstest]
#[case::key_exchange("KexAlgorithms sntrup761x25519-sha512@openssh.com", "has no key exchange in common")]
#[case::integrity("Ciphers aes256-ctr\nMACs umac-64-etm@openssh.com", "has no MAC in common")]
#[case::kind_of_key("PubkeyAcceptedAlgorithms rsa-sha2-512", "sshd does not take our kind of key: ")]
fn algorithms_that_only_other_clients_know_are_no_lockout(
    #[case] config: &str,
    #[case] says: &str,
    #[values(None, Some(ExpectedFault::Unreachable))] declared: Option<ExpectedFault>,
) {
    let (_fixture, report) = cycle_after(|fixture| sshd_gets(fixture, config), declared);
    assert_eq!(report.outcome, Outcome::Errored, "{}", report.seen);
    assert!(report.seen.contains(says), "{}", report.seen);
    assert_within(Duration::from_secs(20), stage(&report, Stage::Apply).took, &report);
}

#[test]
fn an_sshd_that_restarts_or_drops_one_login_locks_nobody_out() {
    let (_fixture, report) = cycle_after(|fixture| sshd_gets(fixture, "LoginGraceTime 60"), None);
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
    // It refuses us, and then somebody corrects that.
    let (_fixture, report) = cycle_after(
        |fixture| {
            let config = fixture.path("guest/config").display().to_string();
            let keep = format!("cp {config} {config}.good\n");
            let restore = format!(
                "(sleep 0.3; cp {config}.good {config}; kill -HUP $(cat {})) >/dev/null 2>&1 &\n",
                fixture.path("guest/pid").display()
            );
            keep + &sshd_gets(fixture, "Port 2") + &restore
        },
        None,
    );
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
}

/// A playbook may restart the guest. A boot that takes its time is no lockout.
#[test]
fn a_guest_that_restarts_during_the_playbook_is_not_locked_out() {
    let fixture = Fixture::new();
    let at = |name: &str| fixture.path(&format!("guest/{name}")).display().to_string();
    let stops = format!("touch {}; kill $(cat {})\n", at("may-end"), at("pid"));
    let lost = record("site", &[Task::unreachable("base : reboot", "Connection reset by peer")]);
    fixture.playbook("apply", &(stops + "sleep 1\n" + &lost));
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start_with_journal(&fixture, &context, OnRestart::AnotherBoot);
    let (fake, may_end) = (fixture.fake.clone(), fixture.path("guest/may-end"));
    let once = std::sync::Once::new();
    fixture.fake.after(Verb::State, move |_| {
        if may_end.exists() {
            once.call_once(|| fake.print(ASKARI, BEGUN));
        }
    });
    let mut plan = fixture.plan();
    plan.harness.timeouts.apply = Duration::from_secs(2);
    plan.expect.fail = Some(ExpectedFailure { at: Stage::Apply, what: ExpectedFault::Unreachable });
    let report = run(&context, &plan, Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Errored, "{}", report.seen);
    assert!(report.seen.contains("the guest restarted during or after the playbook"), "{}", report.seen);
}

/// Without a word of sshd, it takes as long as any silent guest: here, no longer than the stage may.
#[rstest::rstest]
#[case::declared(Some(ExpectedFault::Unreachable), Outcome::Passed)]
#[case::undeclared(None, Outcome::Failed)]
fn a_playbook_that_stops_sshd_locks_everybody_out(
    #[case] declared: Option<ExpectedFault>,
    #[case] outcome: Outcome,
) {
    let fixture = Fixture::new();
    let at = |name: &str| fixture.path(&format!("guest/{name}")).display().to_string();
    let stops = format!("touch {}; kill $(cat {})\n", at("may-end"), at("pid"));
    fixture.playbook("apply", &(stops + &record("site", &[Task::ok("base : sshd")])));
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start_with_journal(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = fixture.plan();
    plan.harness.timeouts.apply = SHORT;
    plan.expect.fail = declared.map(|what| ExpectedFailure { at: Stage::Apply, what });
    let report = run(&context, &plan, Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, outcome, "{}", report.seen);
    let error = report.error.unwrap();
    let why = "nobody can log in, though the guest is up: its kernel answers; sshd said last: `Received signal 15; terminating.`";
    assert!(error.contains(why), "{error}");
}

/// What happens to the VM is not the site's doing.
#[rstest::rstest]
#[case::crashed(DomainState::ShutOff(StopReason::Crashed))]
#[case::frozen(DomainState::Paused(PauseReason::DiskError))]
#[case::panicked(DomainState::Panicked)]
fn a_vm_that_dies_after_its_playbook_is_an_error_whatever_sshd_says(#[case] state: DomainState) {
    let fixture = Fixture::new();
    let passes = record("site", &[Task::ok("base : sshd")]);
    fixture.playbook("apply", &(sshd_gets(&fixture, "PubkeyAuthentication no") + &passes));
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = fixture.plan();
    plan.expect.fail = Some(ExpectedFailure { at: Stage::Apply, what: ExpectedFault::Unreachable });
    // Once the playbook has ended, its VM dies.
    let fake = fixture.fake.clone();
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let config = fixture.path("guest/config");
    fixture.fake.after(Verb::State, move |_| {
        let is_applied =
            std::fs::read_to_string(&config).is_ok_and(|text| text.contains("PubkeyAuthentication"));
        if is_applied && calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2 {
            fake.set_state(ASKARI, state.clone());
        }
    });
    let report = run(&context, &plan, Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Errored, "{}", report.seen);
    assert_eq!(stage(&report, Stage::Apply).outcome, Outcome::Errored);
}
