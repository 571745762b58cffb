//! Failures of each hypervisor call that the stage `up` makes.

use std::fmt::Write as _;

use boma_it::catalog::plan::{ImageSource, Official};
use boma_it::cycle::{Job, Keep, run};
use boma_it::machine::fake::{Fake, Verb};
use boma_it::outcome::{Outcome, Stage};

use crate::fixture::{ASKARI, Fixture};

type Fault = fn(&Fake, Verb, usize);

/// Every call from the run folder to the power button, with the number (from 1) of the stage's own call.
const UP: [(Verb, usize); 11] = [
    (Verb::EnsurePool, 1),
    (Verb::EnsureNetwork, 1),
    (Verb::Volumes, 1),
    (Verb::DeleteVolume, 1),
    (Verb::Upload, 1),
    // The first two are admission's and the retention's.
    (Verb::Machines, 3),
    (Verb::Define, 1),
    (Verb::Upload, 2),
    (Verb::CreateOverlay, 1),
    (Verb::Start, 1),
    (Verb::State, 1),
];

#[test]
fn a_failed_call_is_reported_with_its_object_and_leaves_nothing() {
    let mut told = String::new();
    for (verb, nth) in UP {
        let mut faults: Vec<(&str, Fault)> = vec![("fails", Fake::fail), ("hangs", Fake::hang)];
        if matches!(verb, Verb::Upload | Verb::CreateOverlay | Verb::Start) {
            faults.push(("finds the disk full", Fake::fill_disk));
        }
        for (how, inject) in faults {
            let fixture = Fixture::new();
            inject(&fixture.fake, verb, nth);
            // A VM that never started is removed even where VMs are kept: there is nothing to inspect.
            let runs = matches!(verb, Verb::Start | Verb::State);
            let keep = if runs { Keep::Never } else { Keep::UntilDown };
            let report = run(&fixture.context(keep), &fixture.plan(), Job::Up).unwrap();
            fixture.assert_nothing_left(&report);
            assert_eq!(report.outcome, Outcome::Errored);
            let stages: Vec<_> = report.stages.iter().map(|it| (it.stage, it.outcome)).collect();
            assert_eq!(stages, [(Stage::Up, Outcome::Errored), (Stage::Down, Outcome::Passed)]);
            let error = report.error.as_deref().unwrap_or("nothing is told");
            let _ = writeln!(told, "{verb:?} {nth} {how}:\n  {}", fixture.plain(error).replace('\n', "\n  "));
        }
    }
    // The image's name has its digest, which is another with another version of qemu-img.
    insta::with_settings!({filters => [("-[0-9a-f]{12}\\b", "-[digest]")]}, { insta::assert_snapshot!(told) });
}

#[test]
fn a_failed_call_at_admission_creates_no_run() {
    let mut told = String::new();
    for verb in [Verb::Machines, Verb::HostInfo] {
        let fixture = Fixture::new();
        fixture.fake.fail(verb, 1);
        let error = run(&fixture.context(Keep::UntilDown), &fixture.plan(), Job::Cycle).unwrap_err();
        let _ = writeln!(told, "{verb:?}: {error:#}");
        assert_eq!((fixture.left(), fixture.runs().len()), (vec![], 0));
        fixture.assert_unlocked();
    }
    insta::assert_snapshot!(told);
}

#[test]
fn the_image_is_uploaded_once_and_again_only_if_the_upload_was_cut_short() {
    let fixture = Fixture::new();
    let uploads = || {
        let is_image = |(verb, name): &&(Verb, String)| *verb == Verb::Upload && name.starts_with("golden-");
        fixture.fake.calls().iter().filter(is_image).count()
    };
    let bring = || {
        fixture.fake.fail(Verb::Start, 1);
        let report = run(&fixture.context(Keep::Never), &fixture.plan(), Job::Cycle).unwrap();
        fixture.assert_nothing_left(&report);
    };
    bring();
    bring();
    assert_eq!(uploads(), 1);
    let is_image = |(verb, name): &(Verb, String)| *verb == Verb::Upload && name.starts_with("golden-");
    let volume = fixture.fake.calls().into_iter().find(is_image).unwrap().1;
    fixture.fake.put_volume(&volume, b"half an image");
    bring();
    assert_eq!(uploads(), 2);
}

#[test]
fn an_official_image_that_cannot_be_downloaded_ends_the_run_with_a_remedy() {
    let fixture = Fixture::new();
    let mut plan = fixture.plan();
    // Nothing listens there: the port is taken, and given back.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    plan.image = ImageSource::Official(Official { url: url.clone(), ..Official::default() });
    let report = run(&fixture.context(Keep::UntilDown), &plan, Job::Up).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!((report.outcome, report.image), (Outcome::Errored, None));
    insta::assert_snapshot!(report.error.unwrap().replace(&url, "SERVER"));
}

#[test]
fn a_failed_teardown_is_named_and_does_not_hide_the_first_error() {
    let fixture = Fixture::new();
    fixture.fake.fail(Verb::Start, 1);
    fixture.fake.fail(Verb::Undefine, 1);
    let report = run(&fixture.context(Keep::Never), &fixture.plan(), Job::Cycle).unwrap();
    insta::assert_snapshot!(report.seen);
    let down = report.stages.last().unwrap();
    assert_eq!((down.stage, down.outcome), (Stage::Down, Outcome::Errored));
    assert_eq!(
        down.summary,
        format!(
            "cannot remove the VM {ASKARI}; `boma-it prune` tries again: cannot deal with {ASKARI}: \
             the fake was told to fail at Undefine"
        )
    );
    assert_eq!(fixture.left(), [ASKARI], "its volumes are gone all the same");
    assert!(!report.folder.join("keys").exists());
}
