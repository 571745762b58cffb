//! Plans of valid files.

use std::path::PathBuf;

use super::{Fixture, INCIDENT, RunOptions};
use crate::catalog::plan::Risk;
use crate::catalog::plan::{DEBIAN_IMAGES, ImageSource, Layers, Official, Packages, Release, Tier};
use crate::catalog::quantity::Bytes;
use crate::catalog::secrets::SecretPlan;

#[test]
fn a_scenario_becomes_a_plan_with_every_default_filled_in() {
    let fixture = Fixture::valid();
    let options = RunOptions { runs: Some(fixture.root().join("runs")), ..RunOptions::default() };
    let plan = fixture.plan("askari", Some("incident-2026-06-17"), &options).unwrap();
    let json = serde_json::to_string_pretty(&plan).unwrap();
    let json = json.replace(fixture.root().to_str().unwrap(), "[root]");
    insta::assert_snapshot!(json);
}

/// The shipped file writes out every default.
#[test]
fn the_shipped_harness_file_states_the_defaults() {
    let shown = |harness: &[u8]| {
        let fixture = Fixture::valid();
        fixture.write("harness/harness.yml", harness);
        let plan = fixture.plan("askari", None, &RunOptions::default()).unwrap();
        serde_json::to_string_pretty(&plan).unwrap().replace(fixture.root().to_str().unwrap(), "[root]")
    };
    // All but one: the project's own trials build their image, as they must not depend on a server's mood.
    let shipped =
        include_str!("../../../harness/harness.yml").replace("\n  source: build\n", "\n  source: official\n");
    assert_eq!(shown(shipped.as_bytes()), shown(b"version: 1\n"));
}

#[test]
fn the_plain_cycle_of_a_minimal_profile_has_the_defaults() {
    let fixture = Fixture::valid();
    fixture.write("profiles/ubongo.yml", b"---\nversion: 1\nroles: [base]\n");
    fixture.write(
        "overrides/ubongo.yml",
        b"a: !vault |\n  $ANSIBLE_VAULT;1.1\nb: '{{ a }}'\nc: !unsafe x\nd: [{e: 1}]\n",
    );
    let plan = fixture.plan("ubongo", None, &RunOptions::default()).unwrap();
    assert_eq!(plan.description, "host ubongo");
    assert_eq!((plan.vm.vcpus, plan.vm.memory, plan.vm.disk), (2, Bytes::gib(3), Bytes::gib(20)));
    assert_eq!((plan.certs, plan.egress), (Tier::Internal, true));
    let official =
        Official { release: Release::Latest, url: "https://cloud.debian.org/images/cloud".to_owned() };
    assert_eq!(official.url, DEBIAN_IMAGES);
    assert_eq!(plan.image, ImageSource::Official(official));
    assert!(plan.harness.runs.ends_with("integration-runs"), "{:?}", plan.harness.runs);
    assert_eq!(plan.site.ansible, None);
}

#[test]
fn json_and_yaml_give_the_same_plan() {
    let yaml = Fixture::valid();
    let json = Fixture::valid();
    for file in ["profiles/askari", "overrides/askari", "scenarios/incident-2026-06-17"] {
        let text = std::fs::read_to_string(json.root().join(file).with_extension("yml")).unwrap();
        let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        json.remove(&format!("{file}.yml"));
        json.write(&format!("{file}.json"), serde_json::to_string_pretty(&value).unwrap().as_bytes());
    }
    let shown = |fixture: &Fixture| {
        let plan = fixture.plan("askari", Some("incident-2026-06-17"), &RunOptions::default()).unwrap();
        let json = serde_json::to_string(&plan).unwrap();
        json.replace(fixture.root().to_str().unwrap(), "[root]").replace("askari.json", "askari.yml")
    };
    assert_eq!(shown(&json), shown(&yaml));
}

#[test]
fn options_override_files_and_a_scenario_overrides_its_profile() {
    let fixture = Fixture::valid();
    fixture.write(
        "harness/harness.yml",
        b"version: 1\nimage: {source: path, path: images/a.qcow2}\nlibvirt: {uri: 'qemu:///session'}\n\
          site: {dir: ., playbook: site/site.yml, inventory: site/inventory/production, ansible: bin}\n\
          limits: {timeouts: {up: 90s}}\n",
    );
    fixture.write("images/a.qcow2", b"");
    fixture.write("bin/ansible-playbook", b"");
    fixture.write(
        "scenarios/big.yml",
        b"version: 1\nprofile: askari\ndescription: >\n  more\n  memory\nvm: {memory: 4GiB}\n",
    );
    let plan = fixture.plan("askari", Some("big"), &RunOptions::default()).unwrap();
    assert_eq!(plan.description, "more memory");
    assert_eq!((plan.vm.vcpus, plan.vm.memory), (2, Bytes::gib(4)));
    assert_eq!(plan.image, ImageSource::Path { path: fixture.root().join("images/a.qcow2") });
    assert_eq!(plan.site.playbook, fixture.root().join("site/site.yml"));
    assert_eq!(plan.site.ansible, Some(fixture.root().join("bin")));
    assert_eq!(plan.harness.uri, "qemu:///session");
    assert_eq!((plan.harness.timeouts.up.as_secs(), plan.harness.timeouts.down.as_secs()), (90, 45));
    let options = RunOptions {
        certs: Some(Tier::LeProdWildcard),
        accept_risk: Some(Risk::R6),
        uri: Some("qemu+ssh://far/system".to_owned()),
        runs: Some(PathBuf::from("/tmp/runs")),
        layers: Some(Layers::None),
    };
    let plan = fixture.plan("askari", Some("big"), &options).unwrap();
    assert_eq!((plan.certs, plan.harness.uri.as_str()), (Tier::LeProdWildcard, "qemu+ssh://far/system"));
    assert_eq!(plan.harness.runs, PathBuf::from("/tmp/runs"));
    assert_eq!(plan.harness.layers, Layers::None);
    assert_eq!(plan.accepted_risks, [Risk::R6]);
}

/// A tier that writes records into a real zone needs the provider's token, where its source is named.
#[rstest::rstest]
#[case(Tier::Internal, "vault.gandi.pat", &[])]
#[case(Tier::Pebble, "vault.gandi.pat", &[])]
#[case(Tier::LeStaging, "vault.gandi.pat", &["vault.gandi.pat"])]
#[case(Tier::LeProdWildcard, "vault.gandi.pat", &["vault.gandi.pat"])]
#[case(Tier::LeStaging, "vault.other", &[])]
fn a_plan_has_the_token_that_its_tier_needs(
    #[case] tier: Tier,
    #[case] known: &str,
    #[case] needed: &[&str],
) {
    let fixture = Fixture::valid();
    let text = format!("version: 1\nsecrets:\n  {known}: {{env: TOKEN}}\n");
    fixture.write("harness/harness.yml", text.as_bytes());
    let options = RunOptions { certs: Some(tier), ..RunOptions::default() };
    let plan = fixture.plan("askari", None, &options).unwrap();
    let names: Vec<_> = plan.secrets.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(names, needed);
}

#[rstest::rstest]
#[case("", "image: {source: official, release: latest, url: https://cloud.debian.org/images/cloud}")]
#[case(
    "image: {release: 20251117-2299}",
    "image: {source: official, release: 20251117-2299, url: https://cloud.debian.org/images/cloud}"
)]
#[case("image: {source: build}", "image: {source: build, packages: reference-site}")]
#[case("image: {source: build, packages: [restic, g++]}", "image: {source: build, packages: [restic, g++]}")]
#[case(
    "image: {source: official, release: 20251117-2299, url: 'https://mirror.example/cloud/'}",
    "image: {source: official, release: 20251117-2299, url: https://mirror.example/cloud}"
)]
fn an_image_is_serialised_as_files_write_it(#[case] written: &str, #[case] planned: &str) {
    let fixture = Fixture::valid();
    fixture.write("harness/harness.yml", format!("version: 1\n{written}\n").as_bytes());
    let plan = fixture.plan("askari", None, &RunOptions::default()).unwrap();
    let expected: serde_json::Value = serde_yaml::from_str(planned).unwrap();
    assert_eq!(serde_json::json!({"image": plan.image}), expected);
}

#[test]
fn a_scenarios_image_overrides_the_profiles_and_that_overrides_the_harnesss() {
    let fixture = Fixture::valid();
    let image = |scenario| fixture.plan("askari", scenario, &RunOptions::default()).unwrap().image;
    fixture.write(
        "scenarios/own.yml",
        b"version: 1\nprofile: askari\ndescription: x\nimage: {source: build, packages: none}\n",
    );
    assert_eq!(image(None), ImageSource::Official(Official::default()));
    fixture.write("profiles/askari.yml", b"version: 1\nroles: [base]\nimage: {release: 20251117-2299}\n");
    let release = Release::Build("20251117-2299".parse().unwrap());
    assert_eq!(image(None), ImageSource::Official(Official { release, ..Official::default() }));
    assert_eq!(image(Some("own")), ImageSource::Build { packages: Packages::None });
}

#[rstest::rstest]
#[case("[internal]", None, Ok(Tier::Internal))]
#[case("[pebble, internal]", None, Ok(Tier::Pebble))]
#[case("[pebble, internal]", Some(Tier::Internal), Ok(Tier::Internal))]
#[case("[le-prod-wildcard, le-staging]", None, Ok(Tier::LeStaging))]
#[case("[le-prod-wildcard]", Some(Tier::LeProdWildcard), Ok(Tier::LeProdWildcard))]
#[case(
    "[le-prod-wildcard]",
    None,
    Err("trial `askari::x` runs on demand only: choose its certificate tier, CERTS=le-prod-wildcard")
)]
#[case(
    "[internal, pebble]",
    Some(Tier::LeStaging),
    Err(
        "trial `askari::x` cannot run with certificate tier `le-staging` (its scenario allows: internal, pebble)"
    )
)]
fn a_scenario_restricts_the_tiers(
    #[case] certs: &str,
    #[case] chosen: Option<Tier>,
    #[case] expected: Result<Tier, &str>,
) {
    let fixture = Fixture::valid();
    fixture.write("scenarios/x.yml", INCIDENT.replace("[internal]", certs).as_bytes());
    let plan = fixture.plan("askari", Some("x"), &RunOptions { certs: chosen, ..RunOptions::default() });
    assert_eq!(plan.map(|plan| plan.certs), expected.map_err(str::to_owned));
}

#[test]
fn a_scenario_without_egress_runs_with_the_internal_tier_only() {
    let fixture = Fixture::valid();
    fixture.write("scenarios/x.yml", b"version: 1\nprofile: askari\ndescription: x\negress: false\n");
    let plan = |certs| fixture.plan("askari", Some("x"), &RunOptions { certs, ..RunOptions::default() });
    assert_eq!(plan(None).map(|plan| (plan.certs, plan.egress)), Ok((Tier::Internal, false)));
    let refused = plan(Some(Tier::Pebble)).unwrap_err();
    assert_eq!(
        refused,
        "trial `askari::x` cannot run with certificate tier `pebble`: ACME needs egress, which its scenario cuts \
         (`egress: false`), so it runs with `internal` only"
    );
}

#[test]
fn a_plan_names_the_secrets_of_its_profile_and_where_they_come_from() {
    let fixture = Fixture::valid();
    fixture.write(
        "harness/harness.yml",
        b"version: 1\nsecrets:\n  vault.gandi.pat: {env: GANDI_PAT}\n  vault.mesh.key: {vault: site/vault.yml}\n  \
          token: {file: /run/token}\n  other: {env: OTHER}\nvault: {password_command: pass show boma/vault}\n",
    );
    fixture.write(
        "profiles/askari.yml",
        b"version: 1\nroles: [base]\nsecrets: [vault.mesh.key, vault.gandi.pat, token]\n",
    );
    let plan = fixture.plan("askari", None, &RunOptions::default()).unwrap();
    assert_eq!(plan.harness.secret_variables, ["OTHER", "GANDI_PAT"]);
    let json = serde_json::to_value(&plan).unwrap();
    let read: Vec<SecretPlan> = serde_json::from_value(json["secrets"].clone()).unwrap();
    assert_eq!(read, plan.secrets, "what a run folder says can be read again");
    let json = serde_json::to_string_pretty(&json["secrets"]).unwrap();
    insta::assert_snapshot!(json.replace(fixture.root().to_str().unwrap(), "[root]"));
}
