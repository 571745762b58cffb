use super::*;

fn production() -> ProductionInventory {
    ProductionInventory::parse(r#"{"edge": {"hosts": ["askari"]}, "ops": {"hosts": ["ubongo"]}}"#).unwrap()
}

fn assertion(name: &str) -> Task {
    let path = format!("harness/verify.yml:{}", name.len());
    Task { name: name.into(), path, kind: TaskKind::Assertion, ..Task::default() }
}

fn tagged(task: Task, tag: &str) -> Task {
    Task { tags: [tag.to_owned()].into(), ..task }
}

/// The findings in a play for the host with `tasks`, and the assertions that are declared.
fn of(tasks: Vec<Task>, declared: &[&str]) -> Findings {
    let host = ["askari".to_owned()];
    let play = Play {
        name: "verify".into(),
        here: host.clone().into(),
        production: host.into(),
        tasks,
        ..Play::default()
    };
    let declared: Vec<_> = declared.iter().map(|name| (*name).to_owned()).collect();
    findings(&[play], "askari", &production(), &declared)
}

fn problems(tasks: Vec<Task>, declared: &[&str]) -> String {
    of(tasks, declared).problems.join("\n")
}

#[test]
fn what_can_count_has_no_findings() {
    let roles = vec![assertion("docker : up"), assertion("web : up"), assertion("port 22")];
    assert_eq!(of(roles, &["port 22", "docker : up", "from an include"]), Findings::default());
}

#[test]
fn an_assertion_that_can_never_count_is_a_problem() {
    let with = |change: fn(&mut Task)| {
        let mut task = assertion("up");
        change(&mut task);
        problems(vec![task], &[])
    };
    insta::assert_snapshot!(with(|task| task.asserts_nothing = true), @"`up` (harness/verify.yml:2): it asserts nothing: write a condition in `that`");
    insta::assert_snapshot!(with(|task| task.loops_over_nothing = true), @"`up` (harness/verify.yml:2): its loop is empty: it would be skipped");
    insta::assert_snapshot!(with(|task| task.not_waited_for = true), @"`up` (harness/verify.yml:2): `poll: 0` does not wait for its result: remove `async` and `poll`");
    insta::assert_snapshot!(with(|task| task.always_changes = true), @"`up` (harness/verify.yml:2): a command always reports a change, and an assertion that changes the host does not count: add `changed_when: false`");
}

#[test]
fn a_probe_may_change_the_host_and_need_not_be_waited_for() {
    let task = Task {
        kind: TaskKind::Probe,
        not_waited_for: true,
        always_changes: true,
        loops_over_nothing: true,
        ..assertion("ask")
    };
    assert_eq!(of(vec![task], &[]), Findings::default());
}

#[test]
fn a_declared_name_of_two_assertions_is_a_problem() {
    let twice = || vec![assertion("up"), assertion("up")];
    insta::assert_snapshot!(problems(twice(), &["up"]), @"`up` in `expect.fail.task` is the name of 2 assertions (harness/verify.yml:2, harness/verify.yml:2): give each a name of its own");
    assert_eq!(problems(twice(), &["down"]), "", "not declared");
    let in_roles = vec![assertion("docker : up"), assertion("web : up")];
    insta::assert_snapshot!(problems(in_roles, &["up"]), @"`up` in `expect.fail.task` is the name of 2 assertions (harness/verify.yml:11, harness/verify.yml:8): give each a name of its own");
    // The full name comes first.
    assert_eq!(problems(vec![assertion("up"), assertion("web : up")], &["up"]), "");
}

#[test]
fn an_assertion_tagged_never_is_a_note_and_a_problem_where_it_is_declared() {
    let task = || tagged(assertion("up"), "never");
    let found = of(vec![task()], &[]);
    assert_eq!(found.notes, ["verify.yml: does not run (tag `never`): `up`"]);
    assert_eq!(found.problems, [""; 0]);
    let of_kind = |kind| Task { kind, ..task() };
    let others = of(vec![of_kind(TaskKind::Include), of_kind(TaskKind::Probe)], &[]);
    assert_eq!(
        others.notes,
        ["verify.yml: does not run (tag `never`): `up`"],
        "an include may have assertions"
    );
    insta::assert_snapshot!(problems(vec![task()], &["up"]), @"`up` (harness/verify.yml:2): `expect.fail.task` declares it, and its tag `never` keeps it from running");
}

#[test]
fn probes_whose_failure_is_ignored_are_one_note() {
    let probe = |name| Task { kind: TaskKind::Probe, ignored: true, ..assertion(name) };
    let collects = Task { ignored: true, ..assertion("up") };
    assert_eq!(
        of(vec![probe("ask"), collects, probe("look")], &[]).notes,
        ["verify.yml: may fail unseen (`ignore_errors`, `failed_when: false`): `ask`, `look`"]
    );
}

#[test]
fn tasks_of_a_play_for_others_do_not_matter_and_those_of_an_unknown_play_do() {
    let tasks = vec![Task { asserts_nothing: true, ..assertion("up") }];
    let others = Play { production: ["ubongo".to_owned()].into(), tasks: tasks.clone(), ..Play::default() };
    assert_eq!(findings(&[others], "askari", &production(), &[]), Findings::default());
    let unknown =
        Play { name: "late".into(), unknown: Some("'x' is undefined".into()), tasks, ..Play::default() };
    let found = findings(&[unknown], "askari", &production(), &[]);
    assert_eq!(found.problems.len(), 1, "{found:?}");
    assert_eq!(
        found.notes,
        ["whom play `late` (, hosts: ``) is for is unknown until it runs: 'x' is undefined"]
    );
}
