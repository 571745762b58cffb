//! Each verb of the hypervisor that bringing a VM up needs, failing.

use std::fmt::Write as _;

use boma_it::catalog::plan::{ImageSource, Official};
use boma_it::cycle::{Job, Keep, run};
use boma_it::machine::fake::{Fake, Verb};
use boma_it::outcome::{Outcome, Stage};

use crate::lab::{ASKARI, Lab};

type Fault = fn(&Fake, Verb, usize);

/// Every verb from the run folder to the power button, with the call (from 1) that is the stage's.
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
fn a_verb_that_fails_is_told_with_its_object_and_leaves_nothing() {
    let mut told = String::new();
    for (verb, nth) in UP {
        let mut faults: Vec<(&str, Fault)> = vec![("fails", Fake::fail), ("hangs", Fake::hang)];
        if matches!(verb, Verb::Upload | Verb::CreateOverlay | Verb::Start) {
            faults.push(("finds the disk full", Fake::fill_disk));
        }
        for (how, inject) in faults {
            let lab = Lab::new();
            inject(&lab.fake, verb, nth);
            // A VM that was not started is nothing to look at: it goes, even where VMs are kept.
            let runs = matches!(verb, Verb::Start | Verb::State);
            let keep = if runs { Keep::Never } else { Keep::UntilDown };
            let report = run(&lab.world(keep), &lab.plan(), Job::Up).unwrap();
            lab.assert_nothing_left(&report);
            assert_eq!(report.outcome, Outcome::Errored);
            let stages: Vec<_> = report.stages.iter().map(|it| (it.stage, it.outcome)).collect();
            assert_eq!(stages, [(Stage::Up, Outcome::Errored), (Stage::Down, Outcome::Passed)]);
            let error = report.error.as_deref().unwrap_or("nothing is told");
            let _ = writeln!(told, "{verb:?} {nth} {how}:\n  {}", lab.plain(error).replace('\n', "\n  "));
        }
    }
    // The image's name has its digest, which is another with another version of qemu-img.
    insta::with_settings!({filters => [("-[0-9a-f]{12}\\b", "-[digest]")]}, { insta::assert_snapshot!(told) });
}

#[test]
fn what_breaks_before_anything_exists_is_an_error_and_makes_no_run() {
    for verb in [Verb::Machines, Verb::HostInfo] {
        let lab = Lab::new();
        lab.fake.fail(verb, 1);
        let error = run(&lab.world(Keep::UntilDown), &lab.plan(), Job::Cycle).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("cannot ") && error.contains("told to fail"), "{error}");
        assert_eq!((lab.left(), lab.runs().len()), (vec![], 0));
        lab.assert_unlocked();
    }
}

#[test]
fn the_image_is_brought_once_and_again_only_if_it_was_cut_short() {
    let lab = Lab::new();
    let uploads = || {
        let is_image = |(verb, name): &&(Verb, String)| *verb == Verb::Upload && name.starts_with("golden-");
        lab.fake.calls().iter().filter(is_image).count()
    };
    let bring = || {
        lab.fake.fail(Verb::Start, 1);
        let report = run(&lab.world(Keep::Never), &lab.plan(), Job::Cycle).unwrap();
        lab.assert_nothing_left(&report);
    };
    bring();
    bring();
    assert_eq!(uploads(), 1);
    let is_image = |(verb, name): &(Verb, String)| *verb == Verb::Upload && name.starts_with("golden-");
    let volume = lab.fake.calls().into_iter().find(is_image).unwrap().1;
    lab.fake.put_volume(&volume, b"half an image");
    bring();
    assert_eq!(uploads(), 2);
}

#[test]
fn an_official_image_that_is_not_to_be_had_ends_the_run_with_what_to_do_next() {
    let lab = Lab::new();
    let mut plan = lab.plan();
    // Nothing listens there: the port is taken, and given back.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    plan.image = ImageSource::Official(Official { url: url.clone(), ..Official::default() });
    let report = run(&lab.world(Keep::UntilDown), &plan, Job::Up).unwrap();
    lab.assert_nothing_left(&report);
    assert_eq!((report.outcome, report.image), (Outcome::Errored, None));
    insta::assert_snapshot!(report.error.unwrap().replace(&url, "SERVER"));
}

#[test]
fn what_cannot_be_removed_is_named_and_turns_no_error_into_another() {
    let lab = Lab::new();
    lab.fake.fail(Verb::Start, 1);
    lab.fake.fail(Verb::Undefine, 1);
    let report = run(&lab.world(Keep::Never), &lab.plan(), Job::Cycle).unwrap();
    assert!(report.seen.contains("cannot start the VM"), "{}", report.seen);
    let down = report.stages.last().unwrap();
    assert_eq!((down.stage, down.outcome), (Stage::Down, Outcome::Errored));
    assert_eq!(
        down.summary,
        format!(
            "the VM {ASKARI} could not be removed; `boma-it prune` tries again: cannot deal with {ASKARI}: \
             the fake was told to fail at Undefine"
        )
    );
    assert_eq!(lab.left(), [ASKARI], "its volumes are gone all the same");
    assert!(!report.folder.join("keys").exists());
}
