//! Which trials there are.

use std::time::Duration;

use super::super::Project;
use super::{ASKARI, Fixture, HARNESS, INCIDENT, name};
use crate::catalog::plan::TrialName;

fn listed(fixture: &Fixture) -> Vec<String> {
    let project = fixture.load().unwrap();
    let invalid_files = project.invalid_files().iter().map(|invalid| invalid.name());
    project.trials().map(TrialName::to_string).chain(invalid_files).collect()
}

#[test]
fn every_profile_and_every_scenario_is_a_trial() {
    let fixture = Fixture::valid();
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
fn an_invalid_file_is_listed_as_a_failing_trial() {
    let fixture = Fixture::valid();
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
fn a_trial_is_found_and_a_typing_error_gets_a_suggestion() {
    let fixture = Fixture::valid();
    fixture.write("profiles/ubongo.yml", b"version: 1\nroles: [base]\n");
    let project = fixture.load().unwrap();
    let plain = TrialName { host: name("askari"), scenario: None };
    let incident = TrialName { host: name("askari"), scenario: Some(name("incident-2026-06-17")) };
    assert_eq!(project.find("askari", None).unwrap(), plain);
    assert_eq!(project.find("askari", Some("cycle")).unwrap(), plain);
    assert_eq!(project.find("askari", Some("incident-2026-06-17")).unwrap(), incident);
    let wrong = |host, scenario| project.find(host, scenario).unwrap_err().to_string();
    let told = [
        wrong("askri", None),
        wrong("zanzibar", None),
        wrong("askari", Some("incident-2026-06-71")),
        wrong("ubongo", Some("incident-2026-06-17")),
        wrong("ubongo", Some("x")),
    ];
    insta::assert_snapshot!(told.join("\n"));
}

/// Nextest lists again and again. The bound is for an unoptimised build.
#[test]
fn listing_two_thousand_scenarios_is_instant() {
    let fixture = Fixture::of(&[("harness/harness.yml", HARNESS.as_bytes())]);
    for host in 0..500 {
        fixture.write(&format!("profiles/host-{host}.yml"), ASKARI.as_bytes());
        fixture.write(&format!("overrides/host-{host}.yml"), b"{}\n");
        for scenario in 0..4 {
            let text = INCIDENT.replace("profile: askari", &format!("profile: host-{host}"));
            fixture.write(&format!("scenarios/s-{host}-{scenario}.yml"), text.as_bytes());
        }
    }
    // The machine may be busy: what counts is the time on a CPU, in nanoseconds (proc_pid_schedstat(5)), of the quickest.
    let on_cpu = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    let once = || {
        let start = on_cpu();
        let project = Project::load(fixture.root()).unwrap();
        let names: Vec<_> = project.trials().map(TrialName::to_string).collect();
        assert_eq!((names.len(), project.invalid_files().len()), (2500, 0));
        on_cpu() - start
    };
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
