//! The same trial several times: what a series tells, what it leaves, and what ends it.

use std::time::Duration;

use boma_it::cycle::{CutShort, Job, Keep, Times, repeat, run};
use boma_it::event::SeriesReport;
use boma_it::machine::DomainState;
use boma_it::machine::Hypervisor;
use boma_it::machine::guard::Refusal;
use boma_it::outcome::{Outcome, Stage};

use crate::guest::{After, Guest};
use crate::lab::{ASKARI, Lab, PORTS, Task, json, record};

fn times(n: usize) -> Times {
    n.to_string().parse().unwrap()
}

/// `verify.yml` goes as `marks` say, call by call: `+` holds, `-` fails. The last goes on for ever.
fn verify_by_turns(lab: &Lab, marks: &str) {
    for (number, mark) in (1..).zip(marks.chars()) {
        let task = if mark == '+' { Task::ok(PORTS) } else { Task::failed(PORTS, "refused") };
        lab.playbook(&format!("turn-{number}"), &record("verify", &[task.asserting()]));
    }
    let count = lab.path("turns");
    let count = count.display();
    let last = marks.len();
    lab.playbook(
        "assert",
        &format!(
            "turn=$(($(cat {count} 2>/dev/null || echo 0) + 1)); echo $turn >{count}\n\
             [ $turn -le {last} ] || turn={last}\n. \"$here/turn-$turn\"\n"
        ),
    );
}

/// What is written beside the run folders.
fn written(lab: &Lab) -> Vec<std::path::PathBuf> {
    lab.runs().into_iter().filter(|path| path.extension().is_some_and(|it| it == "json")).collect()
}

fn folders(series: &SeriesReport) -> Vec<std::path::PathBuf> {
    series.runs.iter().map(|run| run.folder.clone()).collect()
}

#[test]
fn a_series_of_passes_passes_with_a_folder_for_each_run_and_the_spread_beside_them() {
    let lab = Lab::new();
    let mut world = lab.world(Keep::UntilDown);
    let _guest = Guest::of(&lab, &world, After::AnotherBoot);
    let mut plan = lab.plan();
    // Fewer than the series has: it is kept whole all the same.
    plan.harness.keep_runs = 1;
    let series = repeat(&mut world, &plan, times(3)).unwrap();
    assert_eq!(
        (series.outcome, series.flaky, series.verdict.as_str()),
        (Outcome::Passed, false, "3 of 3 passed"),
        "{series:#?}"
    );
    assert_eq!((lab.left(), world.keep), (vec![], Keep::UntilDown));
    for run in &series.runs {
        assert!(!run.differs && run.outcome == Outcome::Passed);
        assert_eq!(json(&run.folder.join("report.json"))["outcome"], "passed");
    }
    let stages: Vec<_> = series.stages.iter().map(|it| (it.stage, it.runs)).collect();
    let all = [Stage::Up, Stage::Apply, Stage::Reboot, Stage::Assert, Stage::Down];
    assert_eq!(stages, all.map(|stage| (stage, 3)));
    for stage in &series.stages {
        assert!(stage.min <= stage.median && stage.median <= stage.max, "{stage:?}");
    }
    assert!(series.stages[2].min > Duration::ZERO);
    assert_eq!(written(&lab), std::slice::from_ref(&series.file));
    let file = json(&series.file);
    assert_eq!((&file["verdict"], &file["runs"][2]["number"]), (&"3 of 3 passed".into(), &3.into()));
    assert!(file["stages"][0]["median_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(lab.heard.notes().iter().filter(|note| *note == "run 3 of 3").count(), 1);

    // The next run is none of the series: the old ones go, and the series' file with its first.
    run(&world, &plan, Job::Cycle).unwrap();
    assert!(!series.file.exists() && !series.runs[0].folder.exists());
}

#[test]
fn a_flake_is_told_as_one_with_its_folder_and_its_vm_is_not_in_the_way_of_the_next() {
    let lab = Lab::new();
    verify_by_turns(&lab, "+-+");
    let mut world = lab.world(Keep::UntilDown);
    let _guest = Guest::of(&lab, &world, After::AnotherBoot);
    let series = repeat(&mut world, &lab.plan(), times(3)).unwrap();
    assert_eq!((series.outcome, series.flaky), (Outcome::Failed, true), "{series:#?}");
    assert_eq!(series.verdict, "flaky: 2 of 3 passed");
    let differing: Vec<_> = series.runs.iter().filter(|run| run.differs).collect();
    assert_eq!(differing.len(), 1);
    assert_eq!((differing[0].number, differing[0].outcome), (2, Outcome::Failed));
    assert!(differing[0].folder.join("diagnostics").is_dir(), "what is known of it was collected");
    assert_eq!(lab.left(), Vec::<String>::new());
}

#[test]
fn the_last_run_keeps_its_vm_as_a_single_one_would() {
    for (keep, kept) in [(Keep::UntilDown, true), (Keep::ForSession, true), (Keep::Never, false)] {
        let lab = Lab::new();
        verify_by_turns(&lab, "--");
        let mut world = lab.world(keep);
        let _guest = Guest::of(&lab, &world, After::AnotherBoot);
        let series = repeat(&mut world, &lab.plan(), times(2)).unwrap();
        let seen = (series.outcome, series.verdict.as_str());
        assert_eq!(seen, (Outcome::Failed, "2 of 2 failed"), "{series:#?}");
        assert_eq!(lab.fake.state(ASKARI).unwrap() == DomainState::Running, kept);
        let reports: Vec<_> =
            folders(&series).iter().map(|folder| json(&folder.join("report.json"))["kept"].clone()).collect();
        assert_eq!(reports, [false, kept]);
    }
}

#[test]
fn an_interrupt_ends_the_series_at_once_with_what_was_seen_so_far() {
    let lab = Lab::new();
    let marker = lab.path("second");
    let script = format!(
        "if [ -e {0}.1 ]; then touch {0}; sleep 600; fi; touch {0}.1\n{1}",
        marker.display(),
        record("site", &[Task::ok("base : firewall")])
    );
    lab.playbook("apply", &script);
    let mut world = lab.world(Keep::UntilDown);
    let _guest = Guest::of(&lab, &world, After::AnotherBoot);
    let interrupt = lab.interrupt.clone();
    let raised = std::thread::spawn(move || {
        use boma_it::support::deadline::{Deadline, Progress};
        let deadline = Deadline::uninterrupted(Duration::from_secs(120), "the test");
        deadline
            .wait_for("the second run's playbook", Duration::from_millis(5), || {
                Ok(if marker.exists() { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
            })
            .unwrap();
        interrupt.raise(2);
    });
    let series = repeat(&mut world, &lab.plan(), times(50)).unwrap();
    raised.join().unwrap();
    assert_eq!(series.outcome, Outcome::Interrupted);
    assert_eq!(series.verdict, "1 of 1 passed; ended after 1 of 50 runs", "{series:#?}");
    let outcomes: Vec<_> = series.runs.iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [Outcome::Passed, Outcome::Interrupted]);
    assert_eq!((lab.left(), json(&series.file)["outcome"].clone()), (vec![], "interrupted".into()));
}

#[test]
fn a_run_that_cannot_begin_ends_the_series_and_what_was_seen_is_told_all_the_same() {
    let lab = Lab::new();
    // Memory runs out while the second run plays.
    let fake = lab.fake.clone();
    let mut world = lab.world(Keep::UntilDown);
    let _guest = Guest::of(&lab, &world, After::AnotherBoot);
    let heard = lab.heard.clone();
    let memory = std::thread::spawn(move || {
        use boma_it::support::deadline::{Deadline, Progress};
        let deadline = Deadline::uninterrupted(Duration::from_secs(120), "the test");
        deadline
            .wait_for("the second run", Duration::from_millis(5), || {
                let second = heard.notes().iter().any(|note| note == "run 2 of 5");
                Ok(if second { Progress::Ready(()) } else { Progress::Pending("not yet".into()) })
            })
            .unwrap();
        fake.set_available_memory(boma_it::catalog::quantity::Bytes::gib(1));
    });
    let error = repeat(&mut world, &lab.plan(), times(5)).unwrap_err();
    memory.join().unwrap();
    assert!(error.chain().any(|cause| cause.is::<Refusal>()), "{error:?}");
    assert!(error.is::<CutShort>(), "so nobody takes it for a trial that cannot be run here: {error:?}");
    let file = json(&written(&lab)[0]);
    assert!(file["verdict"].as_str().unwrap().contains("; ended after "), "{file}");
    assert!(file["stopped"].as_str().unwrap().contains("too little free memory"), "{file}");
    assert_eq!(file["outcome"], "errored");
    assert_eq!(lab.left(), Vec::<String>::new());
}

#[test]
fn a_first_run_that_cannot_begin_makes_no_series() {
    let lab = Lab::new();
    lab.fake.set_available_memory(boma_it::catalog::quantity::Bytes::gib(1));
    let error = repeat(&mut lab.world(Keep::Never), &lab.plan(), times(5)).unwrap_err();
    assert!(error.chain().any(|cause| cause.is::<Refusal>()) && !error.is::<CutShort>(), "{error:?}");
    assert_eq!(lab.runs().len(), 0);
}
