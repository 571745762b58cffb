//! What prune removes, also when it cannot remove everything.

use boma_it::cycle::{Job, Keep, Removed, prune, run};
use boma_it::machine::fake::Verb;
use boma_it::machine::teardown::PruneScope;
use boma_it::machine::{Hypervisor, Lifetime};
use rstest::Context;

use crate::fixture::{ASKARI, Fixture, assert_text};

const STRAY: &str = "boma-it-gone.seed.img";

/// Only the domain records where its keys are, so a later prune cannot find them.
#[rstest::rstest]
#[case::a_stray_volume(5, &[ASKARI], &[], &[STRAY])]
#[case::a_volume_of_the_vm(1, &[], &["boma-it-askari.qcow2", STRAY], &[])]
fn keys_and_secrets_are_removed_even_if_a_volume_stays(
    #[context] context: Context,
    #[case] nth: usize,
    #[case] machines: &[&str],
    #[case] volumes: &[&str],
    #[case] stay: &[&str],
) {
    let fixture = Fixture::new();
    let run_context = fixture.context(Keep::UntilDown);
    let mut plan = fixture.plan();
    plan.harness.timeouts.up = std::time::Duration::from_secs(1);
    assert!(run(&run_context, &plan, Job::Cycle).unwrap().kept);
    let mut owned = fixture.fake.spec(ASKARI).unwrap().ownership;
    owned.lifetime = Lifetime::Trial { session: "before".to_owned() };
    owned.owner.started += 1;
    fixture.fake.set_ownership(ASKARI, &owned).unwrap();
    fixture.fake.put_volume(STRAY, b"seed");
    let keys = owned.run_folder.join("keys");
    assert!(keys.join("client").exists());
    let secrets = owned.run_folder.join("ansible/secrets.vars.json");
    std::fs::create_dir_all(secrets.parent().unwrap()).unwrap();
    std::fs::write(&secrets, "{}").unwrap();

    fixture.fake.fail(Verb::DeleteVolume, nth);
    let (removed, done) = prune(&run_context, &fixture.path("runs"), PruneScope::Orphans);
    assert_text!(context, format!("{:#}", done.unwrap_err()));
    assert_eq!(fixture.fake.spec(ASKARI), None);
    assert!(!keys.exists() && !secrets.exists(), "{removed:?}");
    let Removed { machines: gone, volumes: deleted, secrets: forgotten, layers } = removed;
    assert_eq!(layers, []);
    assert_eq!((gone, deleted, forgotten), (texts(machines), texts(volumes), vec![secrets]));
    assert_eq!(fixture.left(), texts(stay));

    let (removed, done) = prune(&run_context, &fixture.path("runs"), PruneScope::Orphans);
    done.unwrap();
    assert_eq!((removed.volumes, fixture.left()), (texts(stay), vec![]));
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
