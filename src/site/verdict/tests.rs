use super::*;
use Reason::*;

/// A round of an action that returned, and whose task is as its action says.
fn returned(of: Returned) -> Round {
    Round {
        action: Action::Returned,
        is_complete: true,
        held: 0,
        broke: 0,
        odd: 0,
        refused: 0,
        errors: 0,
        parsed: 0,
        garbled: 0,
        commands: 0,
        becomes: false,
        failed: of.failed,
        changed: false,
        skipped: false,
        returned: of,
    }
}

/// Of an `assert`, with this many conditions that were true and false.
fn asserted(held: u32, broke: u32) -> Round {
    Round { held, broke, ..returned(Returned { failed: broke > 0, own: broke > 0, ..Returned::default() }) }
}

/// Of a command that ended with this exit status.
fn command(rc: &str) -> Round {
    let failed = rc != "0";
    let of = Returned { failed, rc: Some(rc.into()), ended: Some(true), own: true, ..Returned::default() };
    Round { parsed: 1, ..returned(of) }
}

/// Of another module that failed, with values of its own.
fn module() -> Round {
    Round { parsed: 1, ..returned(Returned { failed: true, own: true, ..Returned::default() }) }
}

fn with(round: Round, change: impl FnOnce(&mut Round)) -> Round {
    let mut round = round;
    change(&mut round);
    round
}

/// A skip by `when`.
fn skipped() -> Round {
    with(asserted(0, 0), |it| {
        (it.action, it.skipped, it.refused) = (Action::None, true, 1);
    })
}

fn evidence(kind: TaskKind, rounds: impl IntoIterator<Item = Round>) -> Evidence {
    Evidence { kind, rounds: rounds.into_iter().collect(), ..Evidence::default() }
}

fn task(status: TaskStatus) -> TaskResult {
    serde_json::from_value(serde_json::json!({
        "play": "verify", "task": "t", "path": "verify.yml:1", "action": "x", "host": "askari", "status": status,
        "changed": false, "ignored": true, "seconds": 0.1, "message": null,
    }))
    .unwrap()
}

#[track_caller]
fn assert_verdict(kind: TaskKind, status: TaskStatus, rounds: &[Round], expected: Verdict) {
    let seen = verdict(&task(status), &evidence(kind, rounds.to_vec()));
    assert_eq!(seen, expected, "{kind:?} {status:?} {rounds:#?}");
}

use TaskStatus::{Failed, Ok, Skipped};

#[rstest::rstest]
#[case::held(Ok, &[asserted(1, 0)], Verdict::Passed)]
#[case::all_held(Ok, &[asserted(3, 0)], Verdict::Passed)]
#[case::one_broke(Failed, &[asserted(2, 1)], Verdict::Failed)]
#[case::no_condition(Ok, &[asserted(0, 0)], Verdict::Unknown(NoCondition))]
#[case::no_boolean(Ok, &[with(asserted(2, 0), |it| it.odd = 1)], Verdict::Unknown(NotBoolean))]
#[case::undefined(Failed, &[with(asserted(0, 0), |it| { it.errors = 1; it.action = Action::Raised; it.failed = true })], Verdict::Unknown(NotEvaluated))]
#[case::bad_arguments(Failed, &[with(asserted(0, 0), |it| { it.action = Action::None; it.failed = true })], Verdict::Unknown(NotEvaluated))]
#[case::raised(Failed, &[with(asserted(0, 0), |it| { it.action = Action::Raised; it.failed = true })], Verdict::Unknown(NotEvaluated))]
#[case::excused(Ok, &[with(asserted(0, 1), |it| it.failed = false)], Verdict::Unknown(Overruled))]
#[case::blamed(Failed, &[with(asserted(1, 0), |it| it.failed = true)], Verdict::Unknown(Overruled))]
#[case::off(Skipped, &[skipped()], Verdict::Skipped)]
#[case::skipped_by_nothing(Skipped, &[with(skipped(), |it| it.refused = 0)], Verdict::Unknown(EmptyLoop))]
#[case::incomplete_skip(Skipped, &[with(skipped(), |it| it.is_complete = false)], Verdict::Unknown(NotEvaluated))]
#[case::incomplete(Ok, &[with(asserted(1, 0), |it| it.is_complete = false)], Verdict::Unknown(NotEvaluated))]
#[case::skipped_itself(Skipped, &[with(asserted(1, 0), |it| it.skipped = true)], Verdict::Unknown(SkippedItself))]
#[case::no_evidence(Ok, &[], Verdict::Unknown(Unexplained))]
#[case::no_evidence_of_a_failure(Failed, &[], Verdict::Unknown(NotEvaluated))]
#[case::one_item_off(Ok, &[asserted(1, 0), skipped()], Verdict::Passed)]
#[case::all_items_off(Skipped, &[skipped(), skipped()], Verdict::Skipped)]
#[case::one_item_broke(Failed, &[asserted(1, 0), asserted(0, 1), asserted(1, 0)], Verdict::Failed)]
#[case::one_item_empty(Failed, &[asserted(0, 1), asserted(0, 0)], Verdict::Unknown(NoCondition))]
#[case::another_end(Failed, &[asserted(1, 0)], Verdict::Unknown(Unexplained))]
#[case::ok_with_a_broken_one(Ok, &[asserted(0, 1)], Verdict::Unknown(Unexplained))]
#[case::skipped_with_one_that_held(Skipped, &[asserted(1, 0)], Verdict::Unknown(Unexplained))]
fn an_assert_passed_or_failed_only_by_its_conditions(
    #[case] status: TaskStatus,
    #[case] rounds: &[Round],
    #[case] expected: Verdict,
) {
    assert_verdict(TaskKind::Assert, status, rounds, expected);
}

#[rstest::rstest]
#[case::ran(module(), Failed, Verdict::Failed)]
#[case::only_a_message(with(module(), |it| it.returned.own = false), Failed, Verdict::Failed)]
#[case::excused(with(module(), |it| it.failed = false), Ok, Verdict::Unknown(Overruled))]
#[case::did_not_fail(returned(Returned::default()), Ok, Verdict::Unknown(Overruled))]
#[case::off(skipped(), Skipped, Verdict::Skipped)]
#[case::guard_undefined(with(skipped(), |it| it.errors = 1), Failed, Verdict::Unknown(NotEvaluated))]
fn a_fail_failed_only_if_it_ran(#[case] round: Round, #[case] status: TaskStatus, #[case] expected: Verdict) {
    assert_verdict(TaskKind::Fail, status, &[round], expected);
}

/// `raw`, by its exit status.
fn raw(rc: &str) -> Round {
    with(command(rc), |it| (it.parsed, it.commands, it.returned.ended) = (0, 1, None))
}

#[rstest::rstest]
#[case::exits_0(command("0"), Verdict::Passed)]
#[case::exits_1(command("1"), Verdict::Failed)]
#[case::changed(with(command("0"), |it| it.changed = true), Verdict::Unknown(Changed))]
#[case::failed_and_changed(with(command("1"), |it| it.changed = true), Verdict::Failed)]
#[case::excused(with(command("1"), |it| it.failed = false), Verdict::Passed)]
#[case::blamed(with(command("0"), |it| it.failed = true), Verdict::Failed)]
#[case::no_program(with(command("2"), |it| it.returned.ended = Some(false)), Verdict::Unknown(NotRun))]
#[case::no_program_but_excused(with(command("2"), |it| { it.returned.ended = None; it.failed = false }), Verdict::Unknown(NotRun))]
#[case::not_found_in_a_shell(with(command("127"), |it| it.returned.stderr = true), Verdict::Unknown(NoProgram))]
#[case::not_executable(with(command("126"), |it| it.returned.stderr = true), Verdict::Unknown(NoProgram))]
#[case::command_v(command("127"), Verdict::Failed)]
#[case::words_of_a_program(with(command("127"), |it| it.returned.stdout = true), Verdict::Failed)]
#[case::not_found_on_a_terminal(with(raw("127"), |it| it.returned.stdout = true), Verdict::Unknown(NoProgram))]
#[case::creates(with(command("0"), |it| it.returned.ended = Some(false)), Verdict::Unknown(NotRun))]
#[case::of_another_module(module(), Verdict::Failed)]
#[case::only_a_message(with(module(), |it| it.returned.own = false), Verdict::Unknown(NotRun))]
#[case::program_of_a_module(with(module(), |it| { it.returned.rc = Some("2".into()); it.returned.stderr = true }), Verdict::Failed)]
#[case::program_that_said_nothing(with(module(), |it| it.returned.rc = Some("2".into())), Verdict::Unknown(NotRun))]
#[case::garbled(with(module(), |it| it.garbled = 1), Verdict::Unknown(NotRun))]
#[case::pending(with(command("0"), |it| it.returned.pending = true), Verdict::Unknown(Pending))]
#[case::no_module(returned(Returned { own: true, ..Returned::default() }), Verdict::Unknown(NoModule))]
#[case::pause(with(raw("0"), |it| it.commands = 0), Verdict::Unknown(NoModule))]
#[case::raw_exits_0(raw("0"), Verdict::Passed)]
#[case::raw_exits_1(raw("1"), Verdict::Failed)]
#[case::raw_with_sudo(with(raw("1"), |it| it.becomes = true), Verdict::Unknown(NotRun))]
#[case::raw_of_ssh(raw("255"), Verdict::Unknown(NotRun))]
#[case::raised(with(module(), |it| it.action = Action::Raised), Verdict::Unknown(NotRun))]
#[case::undefined(with(command("0"), |it| { it.errors = 1; it.failed = true }), Verdict::Unknown(NotEvaluated))]
#[case::skipped_itself(with(command("0"), |it| it.skipped = true), Verdict::Unknown(SkippedItself))]
fn a_tagged_task_passed_or_failed_only_if_its_module_ran(#[case] round: Round, #[case] expected: Verdict) {
    let status = if round.failed { Failed } else { Ok };
    assert_verdict(TaskKind::Tagged, status, &[round], expected);
}

#[test]
fn of_a_loop_a_failed_item_is_a_failure_though_another_reports_a_change() {
    let changed = with(command("0"), |it| it.changed = true);
    let failed = [changed.clone(), command("1")];
    assert_verdict(TaskKind::Tagged, Failed, &failed, Verdict::Failed);
    assert_verdict(TaskKind::Tagged, Ok, &[changed.clone(), command("0")], Verdict::Unknown(Changed));
    let pending = with(command("0"), |it| it.returned.pending = true);
    assert_verdict(TaskKind::Tagged, Failed, &[pending, command("1")], Verdict::Unknown(Pending));
}

#[test]
fn an_assertion_that_cannot_fail_asserts_nothing() {
    for kind in [TaskKind::Assert, TaskKind::Fail, TaskKind::Tagged] {
        for round in [command("0"), asserted(1, 0), with(module(), |it| it.failed = false)] {
            let seen = Evidence { never_fails: true, ..evidence(kind, [round]) };
            assert_eq!(verdict(&task(Ok), &seen), Verdict::Unknown(NeverFails));
        }
        let failed = Evidence { never_fails: true, ..evidence(kind, [command("1")]) };
        assert_ne!(verdict(&task(Failed), &failed), Verdict::Unknown(NeverFails), "it did fail");
        let off = Evidence { never_fails: true, ..evidence(kind, [skipped()]) };
        assert_eq!(verdict(&task(Skipped), &off), Verdict::Skipped);
    }
}

#[rstest::rstest]
#[case::fine(Ok, true, false, false, command("0"), Verdict::Nothing)]
#[case::failed(Failed, true, false, false, command("1"), Verdict::Unknown(FailedProbe))]
#[case::its_own(Failed, true, true, false, command("1"), Verdict::Told)]
#[case::its_own_is_off(Failed, false, true, false, command("1"), Verdict::Unknown(FailedProbe))]
#[case::rescued(Failed, true, true, true, command("1"), Verdict::Unknown(RescuedProbe))]
#[case::skipped_by_its_module(Skipped, false, false, false, with(command("0"), |it| it.skipped = true), Verdict::Unknown(SkippedProbe))]
#[case::skipped_by_its_module_and_may(Skipped, false, true, false, with(command("0"), |it| it.skipped = true), Verdict::Told)]
#[case::skipped_by_its_condition(Skipped, false, false, false, skipped(), Verdict::Nothing)]
#[case::not_needed(Ok, false, false, false, with(command("0"), |it| it.returned.ended = Some(false)), Verdict::Told)]
#[case::excused(Ok, false, false, false, with(command("1"), |it| it.failed = false), Verdict::Nothing)]
#[case::excused_but_no_program(Ok, false, false, false, with(command("2"), |it| { it.returned.ended = None; it.failed = false }), Verdict::Unknown(HiddenProbe))]
#[case::excused_after_retries(Ok, false, false, false, with(command("2"), |it| it.returned.ended = None), Verdict::Unknown(HiddenProbe))]
#[case::excused_and_of_this_machine(Ok, false, false, false, with(module(), |it| { it.parsed = 0; it.failed = false }), Verdict::Unknown(HiddenProbe))]
#[case::its_own_too(Ok, false, true, false, with(command("2"), |it| { it.returned.ended = None; it.failed = false }), Verdict::Told)]
#[case::tried_again(Ok, false, false, false, with(command("0"), |it| it.garbled = 1), Verdict::Nothing)]
fn a_probe_may_fail_only_where_its_own_task_says_so(
    #[case] status: TaskStatus,
    #[case] ignored: bool,
    #[case] ignores_itself: bool,
    #[case] rescued: bool,
    #[case] round: Round,
    #[case] expected: Verdict,
) {
    let seen = Evidence { ignores_itself, rescued, ..evidence(TaskKind::Probe, [round]) };
    assert_eq!(verdict(&TaskResult { ignored, ..task(status) }, &seen), expected);
}

#[rstest::rstest]
#[case(Ok, vec![], Verdict::Nothing)]
#[case(Failed, vec![], Verdict::Unknown(FailedInclude))]
#[case(Skipped, vec![skipped()], Verdict::Nothing)]
#[case(Skipped, vec![with(skipped(), |it| it.refused = 0)], Verdict::Unknown(EmptyLoop))]
fn an_include_that_hides_its_assertions_is_unknown(
    #[case] status: TaskStatus,
    #[case] rounds: Vec<Round>,
    #[case] expected: Verdict,
) {
    assert_verdict(TaskKind::Include, status, &rounds, expected);
}

/// Numbers of conditions, flags, and statuses.
fn any_round() -> impl proptest::strategy::Strategy<Value = Round> {
    use proptest::prelude::*;
    let counts = (0u32..3, 0u32..2, 0u32..2, 0u32..2, 0u32..2, 0u32..2, 0u32..2, 0u32..2);
    let action = prop_oneof![Just(Action::None), Just(Action::Raised), Just(Action::Returned)];
    let rc = prop_oneof![Just(None), Just(Some("0")), Just(Some("1")), Just(Some("127"))];
    let ended = prop_oneof![Just(None), Just(Some(true)), Just(Some(false))];
    let flags = proptest::collection::vec(any::<bool>(), 10);
    (counts, action, rc, ended, flags).prop_map(|(counts, action, rc, ended, flags)| {
        let (held, broke, odd, refused, errors, parsed, garbled, commands) = counts;
        let returned = Returned {
            failed: flags[0],
            rc: rc.map(str::to_owned),
            ended,
            stdout: flags[1],
            stderr: flags[2],
            own: flags[3],
            pending: flags[4],
        };
        let (is_complete, becomes, failed, changed, skipped) =
            (flags[5], flags[6], flags[7], flags[8], flags[9]);
        Round {
            action,
            is_complete,
            held,
            broke,
            odd,
            refused,
            errors,
            parsed,
            garbled,
            commands,
            becomes,
            returned,
            failed,
            changed,
            skipped,
        }
    })
}

proptest::proptest! {
    #[test]
    fn nothing_passed_or_failed_that_did_not_run(rounds in proptest::collection::vec(any_round(), 0..3), kind in 0..3usize, status in 0..3usize) {
        let kind = [TaskKind::Assert, TaskKind::Fail, TaskKind::Tagged][kind];
        let status = [Ok, Failed, Skipped][status];
        let seen = verdict(&task(status), &evidence(kind, rounds.clone()));
        let ran = |it: &Round| it.action == Action::Returned && it.is_complete && it.errors == 0 && !it.skipped;
        if let Verdict::Passed | Verdict::Failed = seen {
            proptest::prop_assert!(rounds.iter().any(ran));
            proptest::prop_assert_eq!(status == Failed, seen == Verdict::Failed);
            for it in rounds.iter().filter(|it| it.action != Action::None) {
                proptest::prop_assert!(ran(it));
                proptest::prop_assert!(kind != TaskKind::Assert || it.held + it.broke > 0 && it.odd == 0);
                proptest::prop_assert!(kind != TaskKind::Tagged || !it.returned.pending && it.parsed + it.commands > 0);
            }
        }
    }
}

#[rstest::rstest]
#[case(TaskKind::Assert, true)]
#[case(TaskKind::Fail, true)]
#[case(TaskKind::Tagged, true)]
#[case(TaskKind::Include, false)]
#[case(TaskKind::Probe, false)]
fn an_include_and_a_probe_are_no_assertions(#[case] kind: TaskKind, #[case] is_assertion: bool) {
    assert_eq!(kind.is_assertion(), is_assertion);
}
