use super::*;
use crate::event::StageReport;
use crate::outcome::Assertion;

/// A run of `+`: passed; `-name`: that assertion failed; `!`: errored at the reboot; `^`: interrupted at apply. Its `up` took as
/// many seconds as its number says.
fn run(number: u64, mark: &str) -> RunReport {
    let (outcome, at, failed) = match mark.split_at(1) {
        ("+", _) => (Outcome::Passed, None, vec![]),
        ("-", name) => (Outcome::Failed, Some(Stage::Assert), vec![name]),
        ("!", _) => (Outcome::Errored, Some(Stage::Reboot), vec![]),
        _ => (Outcome::Interrupted, Some(Stage::Apply), vec![]),
    };
    let stage = |stage, outcome, seconds| StageReport {
        stage,
        outcome,
        took: Duration::from_secs(seconds),
        waited: Duration::ZERO,
        own: Duration::ZERO,
        summary: String::new(),
    };
    let mut stages = vec![stage(Stage::Up, Outcome::Passed, number)];
    stages.extend(at.map(|at| stage(at, outcome, 100)));
    let assertions = failed.into_iter().map(|name| Assertion {
        name: name.to_owned(),
        status: AssertionStatus::Failed,
        path: "verify.yml:7".to_owned(),
        message: None,
    });
    RunReport {
        version: 1,
        trial: "askari::cycle".into(),
        host: "askari".into(),
        scenario: None,
        machine: "boma-it-askari".into(),
        started: format!("run {number}"),
        accelerator: None,
        image: None,
        expected: String::new(),
        seen: format!("took {number}"),
        compared: vec![],
        outcome,
        error: None,
        stages,
        before: vec![],
        assertions: assertions.collect(),
        peak_memory: None,
        kept: false,
        folder: format!("/runs/{number}").into(),
    }
}

fn series(marks: &[&str], planned: usize) -> SeriesReport {
    let runs: Vec<_> = (1..).zip(marks).map(|(number, mark)| run(number, mark)).collect();
    spread(&runs, planned, None, "/runs/1-repeat.json".into()).unwrap()
}

#[rstest::rstest]
#[case(&["+", "+", "+"], Outcome::Passed, "3 of 3 passed", &[])]
#[case(&["+", "-ports", "+"], Outcome::Failed, "flaky: 2 of 3 passed", &[2])]
#[case(&["-ports", "+", "+"], Outcome::Failed, "flaky: 2 of 3 passed", &[1])]
#[case(&["+", "!", "+"], Outcome::Errored, "flaky: 2 of 3 passed", &[2])]
#[case(&["+", "!", "-ports"], Outcome::Failed, "flaky: 1 of 3 passed", &[2, 3])]
#[case(&["-ports", "-ports", "-ports"], Outcome::Failed, "3 of 3 failed", &[])]
#[case(&["-ports", "-sshd", "-ports"], Outcome::Failed, "3 of 3 failed, in 2 ways", &[2])]
#[case(&["!", "!", "!"], Outcome::Errored, "3 of 3 errored", &[])]
#[case(&["!", "-ports", "!"], Outcome::Failed, "1 of 3 failed, 2 errored, in 2 ways", &[2])]
#[case(&["+", "+", "^"], Outcome::Interrupted, "2 of 2 passed; ended after 2 of 3 runs", &[3])]
#[case(&["+", "-ports", "^"], Outcome::Interrupted, "flaky: 1 of 2 passed; ended after 2 of 3 runs", &[2, 3])]
#[case(&["^"], Outcome::Interrupted, "no run came to its end; ended after 0 of 3 runs", &[])]
#[case(&["+", "+"], Outcome::Errored, "2 of 2 passed; ended after 2 of 3 runs", &[])]
fn a_series_passes_only_if_every_run_does(
    #[case] marks: &[&str],
    #[case] outcome: Outcome,
    #[case] verdict: &str,
    #[case] differing: &[usize],
) {
    let whole = marks.len() == 3 && !marks.contains(&"^");
    let runs: Vec<_> = (1..).zip(marks).map(|(number, mark)| run(number, mark)).collect();
    let stopped = (!whole && !marks.contains(&"^")).then(|| "no memory".to_owned());
    let series = spread(&runs, 3, stopped, "/runs/1-repeat.json".into()).unwrap();
    assert_eq!((series.outcome, series.verdict.as_str()), (outcome, verdict));
    assert_eq!(series.flaky, verdict.starts_with("flaky"));
    let differs: Vec<_> = series.runs.iter().filter(|run| run.differs).map(|run| run.number).collect();
    assert_eq!(differs, differing);
}

#[test]
fn an_interrupted_run_makes_no_series_whole() {
    assert_eq!(series(&["+", "^"], 2).verdict, "1 of 1 passed; ended after 1 of 2 runs");
}

#[rstest::rstest]
#[case(&["+"], (1, 1.0, 1.0, 1.0))]
#[case(&["+", "+"], (2, 1.0, 1.5, 2.0))]
#[case(&["+", "-x", "!", "^", "+"], (5, 1.0, 3.0, 5.0))]
#[case(&["+", "+", "+", "+"], (4, 1.0, 2.5, 4.0))]
fn times_are_the_shortest_the_middle_and_the_longest(
    #[case] marks: &[&str],
    #[case] expected: (usize, f64, f64, f64),
) {
    let series = series(marks, marks.len());
    let up = &series.stages[0];
    let seconds = [up.min, up.median, up.max].map(|time| time.as_secs_f64());
    assert_eq!((up.stage, up.runs, seconds[0], seconds[1], seconds[2]), {
        let (runs, min, median, max) = expected;
        (Stage::Up, runs, min, median, max)
    });
}

#[test]
fn stages_are_told_in_their_order_with_how_often_they_ran_and_none_that_was_cut_short() {
    let series = series(&["-x", "!", "^", "+"], 4);
    let told: Vec<_> = series.stages.iter().map(|it| (it.stage, it.runs)).collect();
    assert_eq!(told, [(Stage::Up, 4), (Stage::Reboot, 1), (Stage::Assert, 1)]);
    let counts: Vec<_> = series.outcomes.iter().map(|it| (it.outcome, it.runs)).collect();
    let one = |outcome| (outcome, 1);
    assert_eq!(
        counts,
        [one(Outcome::Passed), one(Outcome::Failed), one(Outcome::Errored), one(Outcome::Interrupted)]
    );
    assert_eq!(series.runs[0].took, Duration::from_secs(101));
}

#[test]
fn of_no_run_there_is_nothing_to_tell() {
    assert_eq!(spread(&[], 3, None, PathBuf::new()), None);
}
