//! Certificate tiers in a cycle: what is refused before anything exists, the variables for Ansible, and the real ACME server
//! on loopback, which runs from the first stage that needs it to the end of the run.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use boma_it::catalog::Plan;
use boma_it::catalog::plan::{Expectation, ExpectedResult, Risk, Tier};
use boma_it::catalog::secrets::{SecretPlan, SecretSource};
use boma_it::cycle::{Job, Keep, RunContext, run};
use boma_it::event::RunReport;
use boma_it::outcome::Outcome;
use boma_it::site::certs::UnmetRequirement;
use boma_it::support::deadline::{Deadline, Progress};
use boma_it::support::process::is_available;
use serde_json::Value;

use crate::fixture::{Fixture, PORTS, Task, json, record};
use crate::guest::{Guest, OnRestart};

fn plan_with(fixture: &Fixture, tier: Tier) -> Plan {
    Plan { certs: tier, ..fixture.plan() }
}

/// With the DNS provider's token at hand, in a file.
fn plan_with_token(fixture: &Fixture, tier: Tier) -> Plan {
    let path = fixture.path("token");
    std::fs::write(&path, "no-real-token-of-gandis").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let token = SecretPlan { name: "vault.gandi.pat".to_owned(), source: SecretSource::File(path) };
    Plan { secrets: vec![token], ..plan_with(fixture, tier) }
}

/// What a run is refused for; nothing may have been asked or made.
fn refusal(context: &RunContext, fixture: &Fixture, plan: &Plan, job: Job) -> String {
    let started = Instant::now();
    let error = run(context, plan, job).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1), "refused after {:?}", started.elapsed());
    assert!(error.is::<UnmetRequirement>(), "{error:?}");
    assert_eq!((fixture.fake.calls(), fixture.runs().len()), (Vec::new(), 0), "a refused run starts nothing");
    error.to_string()
}

#[test]
fn a_tier_with_an_unmet_requirement_is_refused_at_once_by_every_step_that_needs_it() {
    let fixture = Fixture::new();
    let bare = fixture.context(Keep::Never);
    let mut other_token = plan_with_token(&fixture, Tier::LeStaging);
    other_token.harness.certs.dns.token = "vault.dns.token".to_owned();
    let mut without_egress = plan_with_token(&fixture, Tier::LeStaging);
    without_egress.egress = false;
    let plans = [
        plan_with(&fixture, Tier::LeStaging),
        other_token,
        plan_with_token(&fixture, Tier::LeProdWildcard),
        without_egress,
    ];
    let refusals = |job| plans.each_ref().map(|plan| refusal(&bare, &fixture, plan, job)).join("\n\n");
    let of_cycle = refusals(Job::Cycle);
    assert_eq!([Job::Up, Job::Apply].map(refusals), [of_cycle.clone(), of_cycle.clone()]);
    insta::assert_snapshot!(of_cycle);
}

/// Whether this machine has the ACME server; where CI looks it must.
fn has_pebble() -> bool {
    let has = ["pebble", "pebble-challtestsrv"].into_iter().all(is_available);
    assert!(has || !boma_it::support::env::is_ci(), "no pebble on PATH: `make setup` installs it");
    if !has {
        eprintln!("skipped: no pebble on PATH; `make setup` installs it");
    }
    has
}

/// A cycle of `plan` in which every phase leaves what it was told in a file, and whether the ACME server answered to it. Nothing
/// may be left.
fn cycle(fixture: &Fixture, context: &RunContext, plan: &Plan) -> (RunReport, Vec<Value>) {
    let phases = ["apply", "before", "assert"];
    for phase in phases {
        let (play, task) = match phase {
            "apply" => ("site", Task::ok("base : firewall")),
            _ => ("verify", Task::ok(PORTS).asserting()),
        };
        let seen = fixture.path(&format!("{phase}.seen"));
        let script = format!(
            "vars=$(printf '%s\\n' \"$@\" | sed -n 's/^@\\(.*{phase}.vars.json\\)$/\\1/p')\n\
             url=$(sed -n 's/.*\"boma_it_acme_directory\": \"\\(.*\\)\",/\\1/p' \"$vars\")\n\
             run=$(dirname \"$vars\")/..\n\
             if [ -n \"$url\" ] && [ -e \"$run/certs/ca.pem\" ]; then\n\
             curl -sS --cacert \"$run/certs/ca.pem\" \"$url\" >'{0}.directory' 2>&1\nfi\n\
             cp \"$vars\" '{0}'\n{1}",
            seen.display(),
            record(play, &[task])
        );
        fixture.playbook(phase, &script);
    }
    let _guest = Guest::start(fixture, context, OnRestart::AnotherBoot);
    let expect = Expectation { before_reboot: Some(ExpectedResult::Pass), fail: None };
    let plan = Plan { expect, ..plan.clone() };
    let report = run(context, &plan, Job::Cycle).unwrap();
    fixture.assert_nothing_left(&report);
    let vars = phases.map(|phase| json(&fixture.path(&format!("{phase}.seen"))));
    (report, vars.into())
}

#[test]
fn the_acme_server_runs_from_apply_to_the_last_assert() {
    if !has_pebble() {
        return;
    }
    let fixture = Fixture::new();
    let (report, told) = cycle(&fixture, &fixture.context(Keep::Never), &plan_with(&fixture, Tier::Pebble));
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
    let value = |phase: usize, name: &str| told[phase][name].as_str().unwrap().to_owned();
    let directory = value(0, "boma_it_acme_directory");
    assert!(directory.starts_with("https://127.83.") && directory.ends_with(".1:14000/dir"), "{directory}");
    assert_eq!(told[0]["boma_it_dns_provider"]["name"], "challtestsrv");
    for phase in 0..3 {
        assert_eq!(value(phase, "boma_it_acme_directory"), directory);
        assert_eq!(value(phase, "boma_it_acme_root"), value(0, "boma_it_acme_root"), "one server, one root");
        let name = ["apply", "before", "assert"][phase];
        let answer = std::fs::read_to_string(fixture.path(&format!("{name}.seen.directory"))).unwrap();
        assert!(answer.contains("newOrder"), "at {name}: {answer}");
    }
    let log = std::fs::read_to_string(report.folder.join("certs/pebble.log")).unwrap();
    assert!(log.matches("GET /dir").count() >= 3, "{log}");
    assert!(report.folder.join("certs/challtestsrv.log").is_file());
    assert_eq!(servers(&fixture.gateway()), Vec::<String>::new());
}

/// The servers that run on a fixture's address, by their command lines.
fn servers(gateway: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path().join("cmdline");
        Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).replace('\0', " "))
    });
    processes.filter(|line| line.starts_with("pebble") && line.contains(gateway)).collect()
}

#[rstest::rstest]
#[case::a_failing_playbook(false, Outcome::Errored)]
#[case::an_interrupt(true, Outcome::Interrupted)]
fn the_acme_server_is_gone_however_the_run_ends(#[case] interrupted: bool, #[case] outcome: Outcome) {
    if !has_pebble() {
        return;
    }
    let fixture = Fixture::new();
    let mark = fixture.path("mark");
    let script = format!("touch {}\nsleep 60\n", mark.display());
    fixture.playbook("apply", if interrupted { &script } else { "exit 2\n" });
    let context = fixture.context(Keep::UntilDown);
    let _guest = Guest::start(&fixture, &context, OnRestart::AnotherBoot);
    let (interrupt, gateway) = (fixture.interrupt.clone(), fixture.gateway());
    let raiser = std::thread::spawn(move || {
        let begun =
            || Ok(if mark.exists() { Progress::Ready(()) } else { Progress::Pending("not yet".into()) });
        let patience = Duration::from_secs(if interrupted { 60 } else { 0 });
        let deadline = Deadline::uninterrupted(patience, "the test");
        if deadline.wait_for("the playbook", Duration::from_millis(5), begun).is_ok() {
            let running = servers(&gateway);
            interrupt.raise(2);
            assert_eq!(running.len(), 2, "the one and its companion: {running:?}");
        }
    });
    let report = run(&context, &plan_with(&fixture, Tier::Pebble), Job::Cycle).unwrap();
    raiser.join().unwrap();
    assert_eq!(report.outcome, outcome, "{}", report.seen);
    assert!(report.folder.join("certs/pebble.log").is_file());
    assert_eq!(servers(&fixture.gateway()), Vec::<String>::new());
}

#[test]
fn pebble_is_refused_for_a_vm_on_another_machine() {
    if !has_pebble() {
        return;
    }
    let fixture = Fixture::new();
    fixture.fake.place_elsewhere("qemu+ssh://far/system");
    let error =
        run(&fixture.context(Keep::Never), &plan_with(&fixture, Tier::Pebble), Job::Cycle).unwrap_err();
    assert!(error.is::<UnmetRequirement>(), "{error:?}");
    insta::assert_snapshot!(error);
    assert_eq!((fixture.left(), fixture.runs().len()), (Vec::new(), 0));
}

#[test]
fn a_lets_encrypt_tier_uses_the_configured_directory_or_else_the_real_one() {
    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    let plan = Plan { accepted_risks: vec![Risk::R6], ..plan_with_token(&fixture, Tier::LeProdWildcard) };
    let (report, told) = cycle(&fixture, &context, &plan);
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.seen);
    assert_eq!(told[0]["boma_it_acme_directory"], "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!(told[0]["boma_it_dns_provider"], serde_json::json!({"name": "gandi"}));
    assert_eq!(
        (&told[2]["boma_it_acme_root"], &told[2]["boma_it_certs_domain"]),
        (&Value::Null, &Value::Null)
    );
    assert!(!report.folder.join("certs").exists(), "no ACME server of ours was asked for");

    let fixture = Fixture::new();
    let context = fixture.context(Keep::Never);
    fixture.write("roots.pem", "-----BEGIN CERTIFICATE-----\n");
    let mut plan = plan_with_token(&fixture, Tier::LeStaging);
    plan.harness.certs.directory = Some("https://127.0.0.1:14000/dir".to_owned());
    plan.harness.certs.root = Some(fixture.path("roots.pem"));
    plan.harness.certs.domain = Some("trial.example.org".to_owned());
    let (_, told) = cycle(&fixture, &context, &plan);
    assert_eq!(told[0]["boma_it_acme_directory"], "https://127.0.0.1:14000/dir");
    assert_eq!(told[0]["boma_it_acme_root"], "-----BEGIN CERTIFICATE-----\n");
    assert_eq!(told[0]["boma_it_certs_domain"], "trial.example.org");
}
