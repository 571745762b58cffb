//! The byte-code cache in a cycle: put into the guest before each playbook, named in the report, and never the reason why a
//! run fails.

use boma_it::catalog::plan::BytecodeCache;
use boma_it::cycle::{Job, Keep, run};
use boma_it::event::RunReport;
use boma_it::machine::Accelerator;
use boma_it::machine::fake::Kvm;
use boma_it::outcome::Outcome;

use crate::fixture::{Fixture, json};
use crate::guest::{Guest, OnRestart};

/// What a guest's Python says where the cache works.
const WORKS: &str = "compile_or_load\n";

/// A cycle on an emulated machine whose guest says `words` to every command.
fn cycle(fixture: &Fixture, cache: BytecodeCache, words: &str) -> RunReport {
    fixture.write("guest/words", words);
    let context = fixture.context(Keep::Never);
    let _guest = Guest::start(fixture, &context, OnRestart::AnotherBoot);
    let mut plan = fixture.plan();
    plan.site.bytecode_cache = cache;
    let report = run(&context, &plan, Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
    let written = json(&report.folder.join("report.json"));
    assert_eq!(written["bytecode_cache"].as_str(), report.bytecode_cache.as_deref());
    report
}

/// Python in the guest, as the last playbook had it.
fn interpreter(report: &RunReport) -> String {
    let inventory = json(&report.folder.join("ansible/inventory.json"));
    inventory["all"]["hosts"]["askari"]["ansible_python_interpreter"].as_str().unwrap().to_owned()
}

fn notes(fixture: &Fixture) -> Vec<String> {
    fixture.events.notes().into_iter().filter(|note| note.contains("byte-code")).collect()
}

#[test]
fn an_emulated_guest_gets_the_cache_before_each_playbook_and_the_run_says_so_once() {
    let fixture = Fixture::new();
    let report = cycle(&fixture, BytecodeCache::Auto, WORKS);
    assert_eq!(report.bytecode_cache.as_deref(), Some("on"));
    assert_eq!(interpreter(&report), "/usr/libexec/boma-it/python3");
    assert_eq!(notes(&fixture), ["byte-code cache for Ansible's modules on"]);
    let installed = fixture.events.activities().iter().filter(|it| it.contains("byte-code")).count();
    assert_eq!(installed, 2, "before and after the reboot");
}

#[test]
fn a_guest_that_cannot_have_the_cache_runs_without_it_and_the_run_says_why() {
    let fixture = Fixture::new();
    let report = cycle(&fixture, BytecodeCache::On, "no room\n");
    let expected = "off: in the guest: its Python compiles in another way";
    assert_eq!(report.bytecode_cache.as_deref(), Some(expected));
    assert_eq!(interpreter(&report), "/usr/bin/python3");
    assert_eq!(notes(&fixture), [format!("byte-code cache for Ansible's modules {expected}")]);
}

#[test]
fn a_role_that_reads_the_variable_runs_without_the_cache_and_the_run_names_the_file() {
    let fixture = Fixture::new();
    fixture
        .write("site/roles/base/templates/unit.j2", "ExecStart={{ ansible_python_interpreter }} /opt/job\n");
    let report = cycle(&fixture, BytecodeCache::On, WORKS);
    let expected = "off: site/roles/base/templates/unit.j2:1 has `ansible_python_interpreter`";
    assert_eq!(report.bytecode_cache.as_deref(), Some(expected));
    assert_eq!(interpreter(&report), "/usr/bin/python3");
    assert_eq!(notes(&fixture), [format!("byte-code cache for Ansible's modules {expected}")]);
}

#[rstest::rstest]
#[case::off(BytecodeCache::Off, Accelerator::Tcg, Some("off: harness.yml"), 0)]
#[case::not_emulated(BytecodeCache::Auto, Accelerator::Kvm, Some("off: KVM"), 0)]
#[case::asked_for(BytecodeCache::On, Accelerator::Kvm, Some("on"), 1)]
fn without_emulation_the_cache_is_only_on_where_it_is_asked_for(
    #[case] cache: BytecodeCache,
    #[case] accelerator: Accelerator,
    #[case] reported: Option<&str>,
    #[case] notes_expected: usize,
) {
    let fixture = Fixture::new();
    fixture.write("guest/words", WORKS);
    fixture.fake.set_kvm(Kvm::Works);
    let mut context = fixture.context(Keep::Never);
    context.accelerator = Some(accelerator);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let mut plan = fixture.plan();
    plan.site.bytecode_cache = cache;
    let report = run(&context, &plan, Job::Cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
    assert_eq!(report.bytecode_cache.as_deref(), reported);
    assert_eq!(notes(&fixture).len(), notes_expected);
}
