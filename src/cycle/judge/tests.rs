use rstest::rstest;

use super::*;

const PORTS: &str = "published ports answer from outside the VM";

fn assertion(name: &str, status: AssertionStatus) -> Assertion {
    // `role : name`.
    let role = name.split_once(" : ").map(|(role, _)| role.to_owned());
    Assertion { name: name.into(), role, status, path: "verify.yml:7".into(), message: None }
}

/// `+name` passed, `-name` failed, `~name` skipped.
fn asserted(marks: &[&str]) -> Vec<Assertion> {
    let status = |mark: &str| match mark.as_bytes()[0] {
        b'+' => AssertionStatus::Passed,
        b'-' => AssertionStatus::Failed,
        _ => AssertionStatus::Skipped,
    };
    marks.iter().map(|mark| assertion(&mark[1..], status(mark))).collect()
}

fn end(marks: &[&str]) -> Observed {
    Observed { before: None, end: Some(TrialEnd::Asserted(asserted(marks))) }
}

fn passes() -> Expectation {
    Expectation { before_reboot: None, fail: None }
}

fn fails(at: Stage, what: ExpectedFault) -> Expectation {
    Expectation { before_reboot: None, fail: Some(ExpectedFailure { at, what }) }
}

fn incident() -> Expectation {
    fails(Stage::Assert, ExpectedFault::Tasks(vec![PORTS.into()]))
}

fn lockout() -> Expectation {
    fails(Stage::Reboot, ExpectedFault::Unreachable)
}

fn fault(at: Stage, fault: ExpectedFault) -> Observed {
    Observed {
        before: None,
        end: Some(TrialEnd::Stopped { at, why: StageError::Fault(fault, anyhow::anyhow!("timed out")) }),
    }
}

fn error(at: Stage) -> Observed {
    Observed {
        before: None,
        end: Some(TrialEnd::Stopped { at, why: StageError::Error(anyhow::anyhow!("libvirt is gone")) }),
    }
}

/// A task of the site playbook failed.
fn failed_task(name: &str) -> Observed {
    let why = StageError::TaskFailed {
        role: name.split_once(" : ").map(|(role, _)| role.to_owned()),
        task: name.into(),
        message: "bad".into(),
    };
    Observed { before: None, end: Some(TrialEnd::Stopped { at: Stage::Apply, why }) }
}

fn interrupted(at: Stage) -> Observed {
    let why = StageError::Interrupted(anyhow::anyhow!("interrupted by signal 2"));
    Observed { before: None, end: Some(TrialEnd::Stopped { at, why }) }
}

#[rstest]
#[case::all_pass(passes(), end(&["+ports", "+sshd"]), Outcome::Passed)]
#[case::one_fails(passes(), end(&["-ports", "+sshd"]), Outcome::Failed)]
#[case::skipped_is_no_failure(passes(), end(&["+ports", "~mesh"]), Outcome::Passed)]
#[case::the_incident(incident(), end(&["-published ports answer from outside the VM", "+sshd"]), Outcome::Passed)]
#[case::the_incident_passes(incident(), end(&["+published ports answer from outside the VM", "+sshd"]), Outcome::Failed)]
#[case::another_fails(incident(), end(&["+published ports answer from outside the VM", "-sshd"]), Outcome::Failed)]
#[case::another_fails_too(incident(), end(&["-published ports answer from outside the VM", "-sshd"]), Outcome::Failed)]
#[case::no_such_assertion(incident(), end(&["+sshd"]), Outcome::Failed)]
#[case::a_boot_that_never_ends(incident(), fault(Stage::Reboot, ExpectedFault::Unreachable), Outcome::Failed)]
#[case::an_error_is_an_error(incident(), error(Stage::Assert), Outcome::Errored)]
#[case::the_lockout(lockout(), fault(Stage::Reboot, ExpectedFault::Unreachable), Outcome::Passed)]
#[case::a_lockout_too_early(lockout(), fault(Stage::Apply, ExpectedFault::Unreachable), Outcome::Failed)]
#[case::emergency_is_no_lockout(lockout(), fault(Stage::Reboot, ExpectedFault::Emergency), Outcome::Failed)]
#[case::a_lockout_in_a_plain_cycle(
    passes(),
    fault(Stage::Reboot, ExpectedFault::Unreachable),
    Outcome::Failed
)]
#[case::a_lockout_at_apply(passes(), fault(Stage::Apply, ExpectedFault::Unreachable), Outcome::Failed)]
#[case::emergency_in_a_plain_cycle(passes(), fault(Stage::Reboot, ExpectedFault::Emergency), Outcome::Failed)]
#[case::a_panic_in_a_plain_cycle(passes(), fault(Stage::Reboot, ExpectedFault::Panic), Outcome::Failed)]
#[case::no_root_in_a_plain_cycle(passes(), fault(Stage::Reboot, ExpectedFault::Initramfs), Outcome::Failed)]
#[case::a_hung_boot_in_a_plain_cycle(passes(), fault(Stage::Reboot, ExpectedFault::Hung), Outcome::Failed)]
#[case::the_declared_panic(
    fails(Stage::Reboot, ExpectedFault::Panic),
    fault(Stage::Reboot, ExpectedFault::Panic),
    Outcome::Passed
)]
#[case::the_declared_hung_boot(
    fails(Stage::Reboot, ExpectedFault::Hung),
    fault(Stage::Reboot, ExpectedFault::Hung),
    Outcome::Passed
)]
#[case::a_panic_instead_of_a_hung_boot(
    fails(Stage::Reboot, ExpectedFault::Hung),
    fault(Stage::Reboot, ExpectedFault::Panic),
    Outcome::Failed
)]
#[case::no_hung_boot(fails(Stage::Reboot, ExpectedFault::Hung), end(&["+sshd"]), Outcome::Failed)]
#[case::a_declared_lockout_that_nobody_could_prove(lockout(), error(Stage::Reboot), Outcome::Errored)]
#[case::every_assertion_was_skipped(passes(), end(&["~ports"]), Outcome::Errored)]
#[case::the_declared_one_was_skipped(incident(), end(&["~published ports answer from outside the VM", "+sshd"]), Outcome::Errored)]
#[case::the_declared_one_was_skipped_and_another_failed(incident(), end(&["~published ports answer from outside the VM", "-sshd"]), Outcome::Errored)]
#[case::of_two_that_name_one_fails(incident(), end(&["-published ports answer from outside the VM", "+published ports answer from outside the VM"]), Outcome::Failed)]
#[case::both_that_name_fail(incident(), end(&["-a : published ports answer from outside the VM", "-b : published ports answer from outside the VM"]), Outcome::Failed)]
#[case::of_two_that_name_one_was_skipped(incident(), end(&["~published ports answer from outside the VM", "-published ports answer from outside the VM"]), Outcome::Passed)]
#[case::the_exact_name_is_preferred_to_a_role_s(incident(), end(&["-published ports answer from outside the VM", "+a : published ports answer from outside the VM"]), Outcome::Passed)]
#[case::a_role_s_fails_too(incident(), end(&["-published ports answer from outside the VM", "-a : published ports answer from outside the VM"]), Outcome::Failed)]
#[case::stopped_early(passes(), Observed { before: None, end: None }, Outcome::Errored)]
#[case::no_lockout(lockout(), end(&["+sshd"]), Outcome::Failed)]
#[case::an_interrupt(lockout(), interrupted(Stage::Reboot), Outcome::Interrupted)]
fn an_expected_failure_counts_only_where_it_was_declared(
    #[case] expect: Expectation,
    #[case] seen: Observed,
    #[case] outcome: Outcome,
) {
    let judgement = judge(&expect, &seen);
    assert_eq!(judgement.outcome, outcome, "{judgement:#?}");
}

#[rstest]
#[case("base : Validate the ruleset", Outcome::Passed)]
#[case("Validate the ruleset", Outcome::Passed)]
#[case("base : Install the ruleset", Outcome::Failed)]
fn a_task_of_the_site_may_be_declared_with_or_without_its_role(#[case] task: &str, #[case] outcome: Outcome) {
    let expect = fails(Stage::Apply, ExpectedFault::Tasks(vec!["Validate the ruleset".into()]));
    assert_eq!(judge(&expect, &failed_task(task)).outcome, outcome);
}

#[rstest]
#[case(ExpectedResult::Pass, &["+ports"], Outcome::Passed)]
#[case(ExpectedResult::Pass, &["-ports"], Outcome::Failed)]
#[case(ExpectedResult::Fail, &["-ports"], Outcome::Passed)]
#[case(ExpectedResult::Fail, &["+ports"], Outcome::Failed)]
fn assertions_before_the_reboot_are_judged_first(
    #[case] verdict: ExpectedResult,
    #[case] before: &[&str],
    #[case] outcome: Outcome,
) {
    let expect = Expectation { before_reboot: Some(verdict), fail: None };
    let seen = Observed { before: Some(asserted(before)), ..end(&["+ports"]) };
    assert_eq!(judge(&expect, &seen).outcome, outcome);
}

/// A colon is part of a name, unless what is before it is the role of the task.
#[test]
fn a_name_with_a_colon_is_no_task_of_a_role() {
    let task = |name: &str, role: Option<&str>| Assertion {
        role: role.map(str::to_owned),
        ..assertion(name, AssertionStatus::Failed)
    };
    let judged = |declared: &str, name: &str, role: Option<&str>| {
        let all = vec![task(name, role), assertion("sshd", AssertionStatus::Passed)];
        let seen = Observed { before: None, end: Some(TrialEnd::Asserted(all)) };
        let apply = StageError::TaskFailed {
            task: name.into(),
            role: role.map(str::to_owned),
            message: "bad".into(),
        };
        let apply = Observed { before: None, end: Some(TrialEnd::Stopped { at: Stage::Apply, why: apply }) };
        let tasks = ExpectedFault::Tasks(vec![declared.into()]);
        let outcomes =
            [judge(&fails(Stage::Assert, tasks.clone()), &seen), judge(&fails(Stage::Apply, tasks), &apply)];
        assert_eq!(outcomes[0].outcome, outcomes[1].outcome);
        outcomes[0].outcome
    };
    for (declared, name, role, outcome) in [
        ("x", "y : x", None, Outcome::Failed),
        ("y : x", "y : x", None, Outcome::Passed),
        ("x", "y : x", Some("y"), Outcome::Passed),
        ("y : x", "y : x", Some("y"), Outcome::Passed),
        ("x", "r : y : x", Some("r"), Outcome::Failed),
        ("y : x", "r : y : x", Some("r"), Outcome::Passed),
        ("x", "y : x", Some("r"), Outcome::Failed),
        ("x", "a.b.y : x", Some("a.b.y"), Outcome::Passed),
    ] {
        assert_eq!(judged(declared, name, role), outcome, "{declared} {name} {role:?}");
    }
}

#[rstest]
#[case::both(&["+ports", "+sshd"], &["-ports", "+sshd"], Outcome::Passed)]
#[case::another_is_skipped_after(&["+ports", "+sshd"], &["-ports", "~sshd"], Outcome::Errored)]
#[case::another_is_gone_after(&["+ports", "+sshd"], &["-ports"], Outcome::Errored)]
#[case::another_only_after(&["+ports", "~sshd"], &["-ports", "+sshd"], Outcome::Passed)]
#[case::the_declared_one_is_skipped_after(&["+ports", "+sshd"], &["~ports", "+sshd"], Outcome::Errored)]
#[case::the_declared_one_was_skipped_before(&["~ports", "+sshd"], &["-ports", "+sshd"], Outcome::Errored)]
#[case::the_declared_one_was_not_there_before(&["+sshd"], &["-ports", "+sshd"], Outcome::Errored)]
#[case::another_failed_before(&["+ports", "-sshd"], &["-ports", "+sshd"], Outcome::Failed)]
fn an_assertion_that_only_one_side_of_the_reboot_evaluated_is_unknown(
    #[case] before: &[&str],
    #[case] after: &[&str],
    #[case] outcome: Outcome,
) {
    let declared = ExpectedFault::Tasks(vec!["ports".into()]);
    let expect = Expectation { before_reboot: Some(ExpectedResult::Pass), ..fails(Stage::Assert, declared) };
    let seen = Observed { before: Some(asserted(before)), ..end(after) };
    let judgement = judge(&expect, &seen);
    assert_eq!(judgement.outcome, outcome, "{judgement:#?}");
    let all = judgement.compared.iter().all(|it| it.holds);
    assert_eq!(all, outcome == Outcome::Passed, "the two must agree:\n{judgement:#?}");
}

#[test]
fn what_the_reboot_took_away_has_one_line_each() {
    let declared = ExpectedFault::Tasks(vec!["ports".into()]);
    let before = asserted(&["+ports", "+sshd", "+mesh"]);
    let seen = Observed { before: Some(before), ..end(&["~ports", "~sshd", "+mesh"]) };
    let judgement = judge(&fails(Stage::Assert, declared), &seen);
    let lines: Vec<_> = judgement.compared.iter().map(|it| (it.what.as_str(), it.seen.as_str())).collect();
    let away = "skipped, but not before the reboot";
    let rest = ("every other assertion", "1 passed, 1 skipped");
    assert_eq!(lines, [("ports", "skipped"), ("sshd", away), rest]);
}

#[rstest]
#[case(&["~ports", "+sshd"], "skipped")]
#[case(&["+sshd"], "no such assertion")]
fn a_declared_assertion_that_did_not_pass_before_is_named_with_the_reason(
    #[case] before: &[&str],
    #[case] how: &str,
) {
    let declared = ExpectedFault::Tasks(vec!["ports".into()]);
    let expect = Expectation { before_reboot: Some(ExpectedResult::Pass), ..fails(Stage::Assert, declared) };
    let seen = Observed { before: Some(asserted(before)), ..end(&["-ports", "+sshd"]) };
    let says = format!("before the reboot `ports`: {how}, so it is unknown whether the reboot makes it fail");
    assert_eq!(judge(&expect, &seen).seen, says);
}

#[test]
fn in_a_plain_expectation_a_failure_is_one_whatever_is_unknown_beside_it() {
    let expect = Expectation { before_reboot: Some(ExpectedResult::Pass), fail: None };
    let of = |after: &[&str]| Observed { before: Some(asserted(&["+ports", "+sshd"])), ..end(after) };
    for (after, outcome) in [(["+ports", "~sshd"], Outcome::Errored), (["-ports", "~sshd"], Outcome::Failed)]
    {
        let judgement = judge(&expect, &of(&after));
        assert_eq!(judgement.outcome, outcome, "{judgement:#?}");
        assert!(judgement.compared.iter().any(|it| !it.holds));
    }
    // Names may have the phase in them: what counts is how many of one place were evaluated.
    let mut renamed = of(&["+ports after", "+sshd after"]);
    assert_eq!(judge(&expect, &renamed).outcome, Outcome::Passed);
    renamed.end = Some(TrialEnd::Asserted(asserted(&["+ports after"])));
    assert_eq!(judge(&expect, &renamed).outcome, Outcome::Errored);
}

#[rstest]
#[case(&["-ports", "-sshd"], Outcome::Passed, "`ports`, `sshd` failed after the reboot, as declared (0 of 2")]
#[case(&["-ports", "+sshd"], Outcome::Failed, "`ports` failed as declared, but `sshd` did not (1 of 2")]
#[case(&["+ports", "+sshd"], Outcome::Failed, "an unexpected pass: 2 of 2")]
#[case(&["+ports", "+mesh"], Outcome::Failed, "no assertion is named `sshd`")]
fn of_two_declared_assertions_each_must_fail(
    #[case] marks: &[&str],
    #[case] outcome: Outcome,
    #[case] says: &str,
) {
    let both = ExpectedFault::Tasks(vec!["ports".into(), "sshd".into()]);
    let judgement = judge(&fails(Stage::Assert, both), &end(marks));
    assert_eq!(judgement.outcome, outcome, "{judgement:#?}");
    assert!(judgement.seen.starts_with(says), "{}", judgement.seen);
}

#[test]
fn the_error_of_a_trial_is_that_of_the_stage_that_stopped_short() {
    assert!(matches!(error(Stage::Up).error(), Some(StageError::Error(_))));
    assert!(end(&["+ports"]).error().is_none());
    assert!(Observed { before: None, end: None }.error().is_none());
}

#[test]
fn each_verdict_is_explained() {
    let told = |expect: &Expectation, seen: &Observed| {
        let judgement = judge(expect, seen);
        format!("{}\n  expected: {}\n  seen:     {}\n", judgement.outcome, judgement.expected, judgement.seen)
    };
    let port = "published ports answer from outside the VM";
    let marks = |mark: &str| format!("{mark}{port}");
    let expect_before = Expectation { before_reboot: Some(ExpectedResult::Pass), ..incident() };
    let text = [
        told(&passes(), &end(&["+ports", "+sshd", "~mesh"])),
        told(&incident(), &end(&[&marks("-"), "+sshd"])),
        told(&incident(), &end(&[&marks("+"), "+sshd"])),
        told(&incident(), &end(&[&marks("+"), "-sshd"])),
        told(&incident(), &end(&[&marks("-"), "-sshd"])),
        told(&incident(), &end(&["+sshd"])),
        told(&incident(), &end(&[&marks("~"), "+sshd"])),
        told(&incident(), &end(&[&marks("-a : "), &marks("+b : "), "+sshd"])),
        told(&expect_before, &Observed { before: Some(asserted(&["-ports"])), ..end(&["+ports"]) }),
        told(&lockout(), &fault(Stage::Reboot, ExpectedFault::Unreachable)),
        told(&lockout(), &end(&["+sshd"])),
        told(&passes(), &error(Stage::Up)),
        told(&passes(), &interrupted(Stage::Apply)),
    ]
    .concat();
    insta::assert_snapshot!(text);
}

/// Every kind of end, line by line: `=` where both agree.
#[test]
fn expected_is_compared_with_observed() {
    let told = |expect: &Expectation, seen: &Observed| {
        let judgement = judge(expect, seen);
        let line = |it: &Compared| {
            let sign = if it.holds { "=" } else { "≠" };
            format!("  {sign} {} | {} | {} | {}\n", it.at, it.what, it.expected, it.seen)
        };
        let lines: String = judgement.compared.iter().map(line).collect();
        let all = judgement.compared.iter().all(|it| it.holds);
        assert_eq!(all, judgement.outcome == Outcome::Passed, "the two must agree:\n{judgement:#?}");
        format!("{}: {}\n{lines}", judgement.outcome, judgement.expected)
    };
    let marks = |mark: &str| format!("{mark}{PORTS}");
    let expect_before = Expectation { before_reboot: Some(ExpectedResult::Pass), ..incident() };
    let before =
        |marks: &[&str], then: Option<TrialEnd>| Observed { before: Some(asserted(marks)), end: then };
    let at_apply = fails(Stage::Apply, ExpectedFault::Tasks(vec!["Validate the ruleset".into()]));
    let text = [
        told(&passes(), &end(&["+ports", "+sshd", "~mesh"])),
        told(&passes(), &end(&["-ports", "+sshd"])),
        told(&passes(), &end(&["~ports"])),
        told(&passes(), &error(Stage::Up)),
        told(&expect_before, &before(&[&marks("+")], end(&[&marks("-"), "+sshd"]).end)),
        told(&expect_before, &before(&["+sshd"], end(&[&marks("-"), "+sshd"]).end)),
        told(&expect_before, &before(&[&marks("+"), "+mesh"], end(&[&marks("-"), "~mesh"]).end)),
        // The step `assert` alone, without the assertions before the reboot.
        told(&expect_before, &end(&[&marks("-"), "+sshd"])),
        told(&expect_before, &before(&["-sshd", &marks("+")], None)),
        told(&incident(), &end(&[&marks("+"), "+sshd"])),
        told(&incident(), &end(&[&marks("+"), "-sshd", "+mesh"])),
        told(&incident(), &end(&[&marks("-"), "-sshd"])),
        told(&incident(), &end(&[&marks("~"), "+sshd"])),
        told(&incident(), &end(&["+sshd"])),
        told(&incident(), &end(&[&marks("-a : "), &marks("+b : "), "+sshd"])),
        told(&incident(), &fault(Stage::Reboot, ExpectedFault::Unreachable)),
        told(&lockout(), &fault(Stage::Reboot, ExpectedFault::Unreachable)),
        told(&lockout(), &fault(Stage::Apply, ExpectedFault::Unreachable)),
        told(&lockout(), &fault(Stage::Reboot, ExpectedFault::Emergency)),
        told(&lockout(), &error(Stage::Reboot)),
        told(&lockout(), &end(&["+sshd"])),
        told(&at_apply, &failed_task("base : Validate the ruleset")),
        told(&at_apply, &failed_task("base : Install the ruleset")),
        told(&at_apply, &end(&["+sshd"])),
    ]
    .concat();
    insta::assert_snapshot!(text);
}

#[test]
fn of_many_declared_assertions_the_words_name_the_first() {
    let expect = |names: &[&str]| {
        let tasks = names.iter().map(|name| (*name).to_owned()).collect();
        judge(&fails(Stage::Assert, ExpectedFault::Tasks(tasks)), &end(&["-a"])).expected
    };
    assert_eq!(expect(&["a", "b", "c", "d"]), "at assert, `a`, `b`, `c`, `d` fail and nothing else");
    assert_eq!(
        expect(&["a", "b", "c", "d", "e"]),
        "at assert, `a`, `b`, `c` and 2 more fail and nothing else"
    );
}
