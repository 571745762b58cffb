//! Which trials there are.

use std::time::{Duration, Instant};

use super::super::Project;
use super::{ASKARI, Fixture, HARNESS, INCIDENT, name};
use crate::catalog::plan::TrialName;

fn listed(fixture: &Fixture) -> Vec<String> {
    let catalog = fixture.load().unwrap();
    let strays = catalog.strays().iter().map(|stray| stray.name());
    catalog.trials().map(TrialName::to_string).chain(strays).collect()
}

#[test]
fn every_profile_and_every_scenario_is_a_trial() {
    let fixture = Fixture::sound();
    fixture.write("profiles/ubongo.json", br#"{"version": 1, "roles": ["base"]}"#);
    fixture.write("scenarios/quoted.yaml", b"version: 1\nprofile: 'askari' # the edge\ndescription: x\n");
    fixture.write("scenarios/flow.json", br#"{"version": 1, "profile": "ubongo", "description": "x"}"#);
    fixture.write("scenarios/README.md", b"notes");
    fixture.write("scenarios/.hidden.yml", b"");
    fixture.write("scenarios/old.yml~", b"");
    let expected =
        ["askari::cycle", "askari::incident-2026-06-17", "askari::quoted", "ubongo::cycle", "ubongo::flow"];
    assert_eq!(listed(&fixture), expected);
}

#[test]
fn a_slip_of_the_pen_takes_no_test_away() {
    let fixture = Fixture::sound();
    fixture.write("profiles/Ubongo.yml", b"version: 1\nroles: [base]\n");
    fixture.write("profiles/ubongo.yml.off", b"version: 1\nroles: [base]\n");
    fixture.write("scenarios/deeper/x.yml", INCIDENT.as_bytes());
    fixture.write("scenarios/cycle.yml", INCIDENT.as_bytes());
    fixture.write("scenarios/a b.yml", INCIDENT.as_bytes());
    fixture.write("scenarios/nobodys.yml", b"version: 1\ndescription: x\n");
    fixture.write("scenarios/broken.yml", b"version: 1\nprofile: askari\n  bad: [\n");
    fixture.write("scenarios/misspelt.yml", INCIDENT.replace("profile: askari", "profile: askri").as_bytes());
    fixture.write("scenarios/empty.yml", b"# nothing yet\n");
    let told = format!("{}\n---\n{}", listed(&fixture).join("\n"), fixture.errors());
    insta::assert_snapshot!(told);
}

#[test]
fn a_trial_is_found_and_a_near_miss_is_named() {
    let fixture = Fixture::sound();
    fixture.write("profiles/ubongo.yml", b"version: 1\nroles: [base]\n");
    let catalog = fixture.load().unwrap();
    let plain = TrialName { host: name("askari"), scenario: None };
    let incident = TrialName { host: name("askari"), scenario: Some(name("incident-2026-06-17")) };
    assert_eq!(catalog.find("askari", None).unwrap(), plain);
    assert_eq!(catalog.find("askari", Some("cycle")).unwrap(), plain);
    assert_eq!(catalog.find("askari", Some("incident-2026-06-17")).unwrap(), incident);
    let wrong = |host, scenario| catalog.find(host, scenario).unwrap_err().to_string();
    let told = [
        wrong("askri", None),
        wrong("zanzibar", None),
        wrong("askari", Some("incident-2026-06-71")),
        wrong("ubongo", Some("incident-2026-06-17")),
        wrong("ubongo", Some("x")),
    ];
    insta::assert_snapshot!(told.join("\n"));
}

/// Nextest lists again and again, so listing must not be felt. The figure is that of an unoptimised build.
#[test]
fn two_thousand_scenarios_are_listed_at_once() {
    let fixture = Fixture::of(&[("harness/harness.yml", HARNESS.as_bytes())]);
    for host in 0..500 {
        fixture.write(&format!("profiles/host-{host}.yml"), ASKARI.as_bytes());
        fixture.write(&format!("overrides/host-{host}.yml"), b"{}\n");
        for scenario in 0..4 {
            let text = INCIDENT.replace("profile: askari", &format!("profile: host-{host}"));
            fixture.write(&format!("scenarios/s-{host}-{scenario}.yml"), text.as_bytes());
        }
    }
    let once = || {
        let start = Instant::now();
        let catalog = Project::load(fixture.root()).unwrap();
        let names: Vec<_> = catalog.trials().map(TrialName::to_string).collect();
        assert_eq!((names.len(), catalog.strays().len()), (2500, 0));
        start.elapsed()
    };
    // The machine may be busy: what listing itself takes shows in the quickest, and that may be long in coming.
    let bound = Duration::from_millis(150);
    let mut best = once();
    for _ in 0..40 {
        if best < bound {
            return;
        }
        best = best.min(once());
    }
    panic!("the quickest took {best:?}");
}
