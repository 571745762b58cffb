use super::*;

const BEGIN: &str = r#"{"event":"ansible","version":"2.19.14"}
{"event":"play","play":"edge hosts"}"#;

fn result(extra: &str) -> String {
    format!(
        r#"{{"event":"result","play":"edge hosts","task":"base : rules","path":"/srv/site/roles/base/tasks/main.yml:3","action":"ansible.builtin.template","tags":["base"],"host":"askari","status":"ok","changed":true,"ignored":false,"assertion":false,"seconds":1.5{extra}}}"#
    )
}

fn failed(extra: &str) -> String {
    result(extra)
        .replace(r#""status":"ok""#, r#""status":"failed""#)
        .replace(r#""changed":true"#, r#""changed":false"#)
}

fn stats(text: &str) -> String {
    format!(r#"{{"event":"stats","hosts":{text}}}"#)
}

fn conclude(phase: Phase, lines: &[&str], exit: Option<&str>) -> Result<PlaybookReport, String> {
    let mut collector = Collector::new("askari", &[Path::new("/srv")]);
    for line in lines.iter().flat_map(|lines| lines.lines()) {
        collector.add(line);
    }
    collector.conclude(phase, exit, "  [ERROR]: as Ansible says", 2.0).map_err(|error| error.to_string())
}

const FINE: &str =
    r#"{"askari":{"ok":1,"failures":0,"unreachable":0,"changed":1,"skipped":0,"rescued":0,"ignored":0}}"#;

#[test]
fn a_successful_run_is_reported_with_paths_relative_to_the_repository() {
    let report = conclude(Phase::Apply, &[BEGIN, &result(""), &stats(FINE)], None).unwrap();
    assert_eq!((report.ok, report.changed, report.failed, report.skipped), (1, 1, 0, 0));
    assert_eq!(report.tasks[0].path, "site/roles/base/tasks/main.yml:3");
}

#[test]
fn events_of_the_host_are_returned_and_those_of_other_hosts_are_not() {
    let mut collector = Collector::new("askari", &[]);
    let start = r#"{"event":"start","play":"p","task":"base : rules","path":"","action":"copy"}"#;
    assert_eq!(collector.add(start), Some(TaskEvent::Started { task: "base : rules".into() }));
    assert!(matches!(collector.add(&result("")), Some(TaskEvent::Finished(_))));
    assert_eq!(collector.add(&result("").replace("askari", "added")), None);
    assert_eq!(collector.report.tasks.len(), 1);
}

#[rstest::rstest]
#[case::empty("", None, "cannot trust the record of tasks: Ansible never called the callback plugin")]
#[case::parse_error(
    "",
    Some("exit status 4"),
    "ansible-playbook could not start (exit status 4)\n  [ERROR]: as Ansible says"
)]
#[case::no_play(
    r#"{"event":"ansible","version":"2.19.14"}"#,
    None,
    "no task ran on host `askari`, and that never passes (do the tags select any task?)"
)]
#[case::no_host(
    "BEGIN\n{\"event\":\"no_hosts_matched\",\"play\":\"edge hosts\"}\nSTATS{}",
    None,
    "no play matched host `askari`: nothing ran, and that never passes"
)]
#[case::empty_stats(
    "BEGIN\nSTATS{}",
    None,
    "no task ran on host `askari`, and that never passes (do the tags select any task?)"
)]
#[case::only_facts(
    "BEGIN\nFACTS\nFINE",
    None,
    "no task ran on host `askari`, and that never passes (do the tags select any task?)"
)]
#[case::killed(
    "BEGIN\nOK",
    Some("signal 9"),
    "ansible-playbook ended with signal 9, and no failed task explains it\n  [ERROR]: as Ansible says"
)]
#[case::cut_short(
    "BEGIN\nOK",
    None,
    "ansible-playbook ended with exit status 0, and no failed task explains it\n  [ERROR]: as Ansible says"
)]
#[case::unexplained(
    "BEGIN\nOK\nFINE",
    Some("exit status 2"),
    "ansible-playbook ended with exit status 2, and no failed task explains it\n  [ERROR]: as Ansible says"
)]
#[case::other_host(
    "BEGIN\nOK\nSTATS{\"askari\":{\"ok\":1},\"added\":{\"unreachable\":1}}",
    Some("exit status 4"),
    "ansible-playbook ended with exit status 4, and no failed task explains it\n  hosts that failed: added\n  [ERROR]: as Ansible says"
)]
#[case::garbage(
    "BEGIN\nOK\n{\"event\":\"resu\nFINE",
    None,
    "cannot trust the record of tasks: unreadable line `{\"event\":\"resu`: EOF while parsing a string at line 1 column 14"
)]
#[case::problem(
    "BEGIN\nOK\n{\"event\":\"problem\",\"what\":\"v2_runner_on_ok: KeyError\"}\nFINE",
    None,
    "cannot trust the record of tasks: v2_runner_on_ok: KeyError"
)]
fn a_run_that_did_nothing_or_has_a_bad_record_never_passes(
    #[case] lines: &str,
    #[case] exit: Option<&str>,
    #[case] expected: &str,
) {
    let facts = result("").replace("ansible.builtin.template", "ansible.builtin.gather_facts");
    let lines = lines
        .replace("BEGIN", BEGIN)
        .replace("FACTS", &facts)
        .replace("FINE", &stats(FINE))
        .replace("OK", &result(""));
    let lines: String = lines
        .lines()
        .map(|line| line.strip_prefix("STATS").map_or_else(|| line.to_owned(), stats) + "\n")
        .collect();
    for phase in [Phase::Apply, Phase::Assert] {
        assert_eq!(conclude(phase, &[&lines], exit).unwrap_err(), expected);
    }
}

const FAILED: &str = r#"{"askari":{"ok":1,"failures":1,"rescued":0}}"#;

#[test]
fn a_failed_task_of_the_site_is_an_error_with_what_it_said_and_one_of_verify_is_a_result() {
    let said = r#","output":{"msg":"non-zero return code","rc":"3","stderr":"no such table","stdout":""},"delegate":"localhost""#;
    let lines = [BEGIN, &failed(said), &stats(FAILED)];
    let error = conclude(Phase::Apply, &lines, Some("exit status 2")).unwrap_err();
    assert_eq!(
        error,
        "task `base : rules` (site/roles/base/tasks/main.yml:3) failed: on localhost: non-zero return code · exit status 3\nno such table"
    );
    assert_eq!(conclude(Phase::Assert, &lines, Some("exit status 2")).unwrap().failed, 1);
}

#[test]
fn what_the_playbook_ignored_or_rescued_does_not_fail_the_site() {
    let ignored = failed("").replace(r#""ignored":false"#, r#""ignored":true"#);
    let rescued = failed(r#","rescued":true"#);
    let one = stats(r#"{"askari":{"ok":1,"failures":0,"rescued":1}}"#);
    let report = conclude(Phase::Apply, &[BEGIN, &ignored, &rescued, &result(""), &one], None).unwrap();
    assert_eq!(report.failed, 0);
    assert!(report.tasks[1].ignored);
    // As where an `always` section rescues something of its own, the first failure is not the one that was rescued.
    let one_rescued = stats(r#"{"askari":{"ok":1,"failures":1,"rescued":1}}"#);
    let lines = [BEGIN, &failed("").replace("base : rules", "first"), &rescued, &one_rescued];
    let error = conclude(Phase::Apply, &lines, Some("exit status 2")).unwrap_err();
    assert!(error.starts_with("task `first`"), "{error}");
}

#[test]
fn no_task_is_named_unless_all_rescued_failures_are_known() {
    let lines = [BEGIN, &failed(""), &failed(""), &stats(r#"{"askari":{"ok":1,"failures":1,"rescued":1}}"#)];
    let error = conclude(Phase::Apply, &lines, Some("exit status 2")).unwrap_err();
    assert_eq!(
        error,
        "cannot trust the record of tasks: Ansible counts 1 rescued failures, the record has 0"
    );
}

#[test]
fn an_unreachable_host_is_an_error_even_if_the_playbook_ignores_it() {
    let gone = failed(r#","output":{"msg":"timed out"}"#).replace("failed", "unreachable");
    let gone = gone.replace(r#""ignored":false"#, r#""ignored":true"#);
    for phase in [Phase::Apply, Phase::Assert] {
        let error = conclude(phase, &[BEGIN, &gone, &result(""), &stats(FINE)], None).unwrap_err();
        assert!(error.starts_with("the VM was unreachable at task `base : rules`"), "{error}");
    }
}

#[test]
fn a_refused_connection_is_out_of_scope_even_if_its_task_is_ignored() {
    let refused = r#"{"event":"refused","wanted":"203.0.113.9 by connection plugin paramiko"}"#;
    let ignored = failed("").replace(r#""ignored":false"#, r#""ignored":true"#);
    let lines = [BEGIN, &result(""), refused, &ignored, &result("").replace("rules", "next"), &stats(FINE)];
    let error = conclude(Phase::Assert, &lines, None).unwrap_err();
    assert!(
        error.starts_with("task `base : rules` (site/roles/base/tasks/main.yml:3) tried to reach `203.0.113.9 by connection plugin paramiko`"),
        "{error}"
    );
    let error = conclude(Phase::Assert, &[BEGIN, refused, &stats(FINE)], None).unwrap_err();
    assert!(error.ends_with("was refused, and has no result"), "{error}");
}

#[test]
fn an_unreachable_vm_and_a_refused_host_are_different_errors() {
    let gone = |msg: &str| {
        let said = format!(r#","output":{{"msg":"{msg}"}}"#);
        failed(&said).replace("failed", "unreachable")
    };
    let stats = stats(r#"{"askari":{"unreachable":1}}"#);
    let timed_out = gone("Failed to connect to the host via ssh: timed out");
    insta::assert_snapshot!(
        conclude(Phase::Assert, &[BEGIN, &timed_out, &stats], Some("exit status 4")).unwrap_err(),
        @"the VM was unreachable at task `base : rules` (site/roles/base/tasks/main.yml:3): Failed to connect to the host via ssh: timed out"
    );
    let refused = gone(
        "Failed to connect to the host via ssh: Bad remote protocol version identification: 'SSH-boma-it: refused to reach 203.0.113.9 (only the VM",
    );
    insta::assert_snapshot!(
        conclude(Phase::Apply, &[BEGIN, &refused, &stats], Some("exit status 4")).unwrap_err(),
        @"task `base : rules` (site/roles/base/tasks/main.yml:3) tried to reach `203.0.113.9`, but only the VM is in scope: stub it in the host's override, or skip it if `boma_it` is set"
    );
}

#[test]
fn failed_items_of_a_loop_are_shown_and_what_no_log_hides_is_not() {
    let items = r#","output":{"msg":"One or more items failed"},"items":[{"item":"80","failed":false,"output":{}},{"item":"443","failed":true,"output":{"msg":"closed","condition":"item in open"}}]"#;
    let looped = failed(items).replace(r#""assertion":false"#, r#""kind":"assert""#);
    let report = conclude(Phase::Assert, &[BEGIN, &looped, &stats(FAILED)], Some("exit status 2")).unwrap();
    assert_eq!(report.tasks[0].message.as_deref(), Some("443: closed · did not hold: item in open"));
    let hidden = failed(r#","no_log":true,"output":{"msg":"hunter2"}"#);
    let report = conclude(Phase::Assert, &[BEGIN, &hidden, &stats(FAILED)], Some("exit status 2")).unwrap();
    assert_eq!(report.tasks[0].message, None);
}

#[test]
fn rounds_belong_to_the_next_result_of_their_task_on_their_host() {
    let round = |uuid: &str, host: &str| {
        format!(
            r#"{{"event":"round","uuid":"{uuid}","host":"{host}","action":"returned","is_complete":true,"held":1,"broke":0,"odd":0,"false":0,"errors":0,"parsed":0,"garbled":0,"commands":0,"become":false,"returned":{{}},"failed":false,"changed":false,"skipped":false}}"#
        )
    };
    let mut collector = Collector::new("askari", &[]);
    let of = |uuid: &str| result(&format!(r#","uuid":"{uuid}","kind":"assert""#));
    for line in [
        round("a", "askari"),
        round("a", "askari"),
        round("b", "askari"),
        round("a", "added"),
        of("a"),
        of("a"),
        of("b"),
    ] {
        collector.add(&line);
    }
    assert_eq!(collector.problem, None);
    let counts: Vec<_> = collector.report.evidence.iter().map(|it| it.rounds.len()).collect();
    assert_eq!(counts, [2, 0, 1]);
    assert!(collector.report.tasks[0].assertion);
}

#[test]
fn a_declared_task_has_its_path_relative_to_the_repository() {
    let mut collector = Collector::new("askari", &[Path::new("/srv")]);
    collector.add(
        r#"{"event":"declared","uuid":"a","kind":"assertion","task":"sshd","path":"/srv/verify.yml:3"}"#,
    );
    assert_eq!(collector.report.declared[0].path, "verify.yml:3");
}

#[test]
fn the_last_task_is_the_one_that_started_last() {
    let mut collector = Collector::new("askari", &[]);
    for task in ["first", "last"] {
        collector.add(&format!(r#"{{"event":"start","task":"{task}"}}"#));
    }
    assert_eq!(collector.last_task().as_deref(), Some("last"));
}

#[test]
fn only_a_task_that_ended_well_counts_as_a_change() {
    let unchanged = result("").replace(r#""changed":true"#, r#""changed":false"#);
    let ignored = result("")
        .replace(r#""status":"ok""#, r#""status":"failed""#)
        .replace(r#""ignored":false"#, r#""ignored":true"#);
    let lines = [BEGIN, &result(""), &unchanged, &ignored, &stats(FINE)];
    let report = conclude(Phase::Apply, &lines, None).unwrap();
    assert_eq!((report.ok, report.changed), (2, 1));
}

#[test]
fn only_a_failure_names_the_host_that_a_task_was_delegated_to() {
    let said = r#","output":{"msg":"All assertions passed"},"delegate":"localhost""#;
    let report = conclude(Phase::Assert, &[BEGIN, &result(said), &stats(FINE)], None).unwrap();
    assert_eq!(report.tasks[0].message.as_deref(), Some("All assertions passed"));
}

#[test]
fn output_that_the_message_has_is_not_repeated() {
    let said = r#","output":{"msg":"cannot start: no such file","stderr":"no such file","stdout":"trying"}"#;
    let lines = [BEGIN, &failed(said), &stats(FAILED)];
    let report = conclude(Phase::Assert, &lines, Some("exit status 2")).unwrap();
    assert_eq!(report.tasks[0].message.as_deref(), Some("cannot start: no such file\ntrying"));
}

#[test]
fn facts_that_cannot_be_gathered_are_not_nothing_in_a_verification() {
    let facts = failed("").replace("ansible.builtin.template", "ansible.builtin.gather_facts");
    let report = conclude(Phase::Assert, &[BEGIN, &facts, &stats(FAILED)], Some("exit status 2")).unwrap();
    assert_eq!(report.failed, 1);
    let error = conclude(Phase::Apply, &[BEGIN, &facts, &stats(FAILED)], Some("exit status 2")).unwrap_err();
    assert!(error.starts_with("task `base : rules`"), "{error}");
}

#[test]
fn an_apply_that_skips_every_task_never_passes() {
    let skipped = result("").replace(r#""status":"ok""#, r#""status":"skipped""#);
    let facts = result("").replace("ansible.builtin.template", "ansible.builtin.gather_facts");
    let all = |lines: &[&str]| conclude(Phase::Apply, lines, None);
    let error = all(&[BEGIN, &facts, &skipped, &skipped, &stats(FINE)]).unwrap_err();
    insta::assert_snapshot!(error, @"all 2 tasks were skipped on host `askari`, and that never passes (first `base : rules`: do its conditions hold in a run?)");
    // One that ran, or whose failure is ignored, is enough.
    assert_eq!(all(&[BEGIN, &skipped, &result(""), &stats(FINE)]).unwrap().skipped, 1);
    let ignored = failed("").replace(r#""ignored":false"#, r#""ignored":true"#);
    assert_eq!(all(&[BEGIN, &skipped, &ignored, &stats(FINE)]).unwrap().skipped, 1);
}

#[test]
fn an_apply_that_ignores_that_it_has_no_facts_and_does_nothing_else_says_why() {
    let facts = failed(r#","output":{"msg":"no sudo"}"#)
        .replace("ansible.builtin.template", "ansible.builtin.gather_facts")
        .replace(r#""ignored":false"#, r#""ignored":true"#);
    let error = conclude(Phase::Apply, &[BEGIN, &facts, &stats(FINE)], None).unwrap_err();
    insta::assert_snapshot!(error, @"no task ran on the host but `base : rules`, which failed: no sudo");
}

proptest::proptest! {
    #[test]
    fn no_record_panics_or_passes_with_a_bad_exit(lines in proptest::collection::vec(".{0,60}", 0..6)) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        proptest::prop_assert!(conclude(Phase::Apply, &lines, Some("exit status 2")).is_err());
        proptest::prop_assert!(conclude(Phase::Apply, &lines, None).is_err());
    }
}
