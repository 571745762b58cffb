//! What a VM is called, and how it is found: its name tells host and slot, its metadata the trial.

use std::time::Duration;

use boma_it::catalog::plan::TrialName;
use boma_it::cycle::{Job, Keep, RunningVm, down, run};
use boma_it::machine::{Hypervisor, VmVolumes};

use crate::admission::{keep_askari, short};
use crate::fixture::{ASKARI, Fixture, json};

/// The domain of askari in the second slot.
const SECOND: &str = "boma-it-askari.2";

/// The plain cycle's VM is off and keeps its slot.
#[test]
fn the_vm_of_a_scenario_is_named_after_its_slot_and_found_by_its_metadata() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    keep_askari(&fixture, &context);
    fixture.fake.power_off(ASKARI).unwrap();
    fixture.write("scenarios/incident.yml", "version: 1\nprofile: askari\ndescription: x\n");
    let mut plan = fixture.plan_of("askari", Some("incident"));
    plan.harness.timeouts.up = Duration::from_secs(1);
    let report = run(&context, &plan, Job::Cycle).unwrap();
    assert_eq!((report.kept, &*report.machine), (true, SECOND));
    let label = report.folder.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(label.ends_with("-askari-incident"), "{label}");
    let written = json(&report.folder.join("report.json"));
    let commands = written["commands"].as_array().unwrap().iter().map(|it| it["command"].as_str().unwrap());
    assert_eq!(
        commands.collect::<Vec<_>>(),
        [
            "boma-it ssh --host askari --scenario incident",
            "virsh -c fake:///system console boma-it-askari.2",
            "boma-it console --host askari --scenario incident",
            "boma-it down --host askari --scenario incident"
        ]
    );
    let owned = fixture.fake.spec(SECOND).unwrap().ownership;
    assert_eq!((owned.slot.number(), owned.address.octets()[3]), (1, 11));
    let vm = RunningVm::find(&context, &plan.trial).unwrap();
    assert_eq!((&*vm.machine, vm.folder.path()), (SECOND, &*report.folder));

    let ended = down(&context, &plan.trial).unwrap().unwrap();
    assert_eq!((&*ended.machine, &ended.folder), (SECOND, &report.folder));
    assert!(fixture.left().iter().all(|name| !name.starts_with(SECOND)), "{:?}", fixture.left());
    assert!(fixture.fake.spec(ASKARI).is_some(), "the VM of another trial is left alone");
    let error = RunningVm::find(&context, &plan.trial).unwrap_err();
    assert_eq!(
        error.to_string(),
        "askari::incident has no VM; bring it up with `boma-it up --host askari --scenario incident`"
    );
}

#[test]
fn down_removes_the_volumes_that_no_vm_of_the_host_has_any_more() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    keep_askari(&fixture, &context);
    for leftover in ["boma-it-askari.3.qcow2", "boma-it-askari.3.console.log.0", "boma-it-ubongo.qcow2"] {
        fixture.fake.put_volume(leftover, b"left");
    }
    let incident = TrialName { scenario: Some("incident".parse().unwrap()), ..fixture.plan().trial };
    assert_eq!(down(&context, &incident).unwrap(), None);
    let files = VmVolumes(ASKARI);
    let volumes =
        [files.console(), files.journal(), files.overlay(), files.seed(), "boma-it-ubongo.qcow2".to_owned()];
    assert_eq!(fixture.left(), [&[ASKARI.to_owned()], &volumes[..]].concat());
}

#[test]
fn a_vm_of_the_hosts_name_without_metadata_is_never_taken_for_the_trials() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::UntilDown);
    keep_askari(&fixture, &context);
    fixture.fake.power_off(ASKARI).unwrap();
    fixture.fake.damage_metadata(ASKARI);
    for error in [
        down(&context, &fixture.plan().trial).unwrap_err(),
        run(&context, &fixture.plan(), Job::Apply).unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "the VM boma-it-askari has no metadata of boma-it; end it with `boma-it prune --all`"
        );
    }
    let report = run(&context, &short(&fixture, "askari"), Job::Cycle).unwrap();
    assert_eq!(report.machine, SECOND, "its slot is unknown, but its name is taken");
}
