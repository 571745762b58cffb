use std::sync::Arc;

use super::*;
use crate::catalog::plan::Subnet;
use crate::machine::fake::{Fake, Kvm, Verb};
use crate::machine::network::NetworkSpec;
use crate::machine::ownership::Owner;
use crate::machine::ownership::tests::{Table, sample};

struct Fixture {
    fake: Fake,
    cache: tempfile::TempDir,
}

impl Fixture {
    fn new(kvm: Kvm) -> Self {
        let fake = Fake::new();
        fake.set_kvm(kvm);
        fake.put_volume("golden-1.qcow2", b"image");
        let subnet = Subnet { network: std::net::Ipv4Addr::new(10, 213, 47, 0), prefix: 24 };
        fake.ensure_network(&NetworkSpec { subnet }).unwrap();
        Self { fake, cache: tempfile::tempdir().unwrap() }
    }

    fn with_probe<T>(&self, boot_id: &str, act: impl FnOnce(KvmProbe<'_>) -> T) -> T {
        act(KvmProbe {
            hypervisor: &self.fake,
            host: &self.fake.host_info().unwrap(),
            prefix: &NamePrefix::default(),
            image_volume: "golden-1.qcow2",
            ownership: &sample(),
            processes: &Table::in_boot(boot_id, &[(7, 700)]),
            cache: self.cache.path(),
        })
    }

    fn probe(&self, budget: Duration) -> Result<AcceleratorChoice> {
        let deadline = Deadline::uninterrupted(budget, "the test");
        let choice = self.with_probe("b1", |probe| probe.run(&deadline));
        assert_eq!(self.fake.machines().unwrap(), [], "the probe left a VM");
        assert_eq!(self.fake.volumes().unwrap().len(), 1, "only the image is left");
        choice
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_forced_accelerator_or_a_host_without_kvm_needs_no_probe() {
    let fixture = Fixture::new(Kvm::Absent);
    let known = |forced| fixture.with_probe("b1", |probe| probe.known(forced)).unwrap();
    assert_eq!(known(Some(Accelerator::Kvm)).to_string(), "accelerator KVM: set by BOMA_IT_ACCEL");
    assert_eq!(
        known(None).to_string(),
        "accelerator TCG, several times slower, timeouts x4: the hypervisor does not offer KVM"
    );
}

#[test]
fn kvm_that_boots_a_kernel_is_chosen_and_cached_until_the_host_reboots() {
    let fixture = Fixture::new(Kvm::Works);
    assert_eq!(fixture.with_probe("b1", |probe| probe.known(None)), None);
    let choice = fixture.probe(LONG).unwrap();
    assert_eq!(choice.accelerator, Accelerator::Kvm);
    assert_eq!(fixture.with_probe("b1", |probe| probe.known(None)), Some(choice));
    assert_eq!(fixture.with_probe("b2", |probe| probe.known(None)), None);
}

#[test]
fn kvm_under_which_a_kernel_dies_is_not_used() {
    let choice = Fixture::new(Kvm::Broken).probe(LONG).unwrap();
    assert_eq!(
        choice.to_string(),
        "accelerator TCG, several times slower, timeouts x4: the hypervisor offers KVM but a stock kernel dies under it (the VM is paused)"
    );
}

/// KVM causes none of these, and a choice would be cached until the host reboots.
#[rstest::rstest]
#[case(DomainState::Absent)]
#[case(DomainState::ShutOff(StopReason::Destroyed))]
#[case(DomainState::Paused(PauseReason::ByUser))]
#[case(DomainState::Paused(PauseReason::DiskError))]
fn a_probe_ended_from_outside_or_by_a_full_disk_makes_no_choice(#[case] state: DomainState) {
    let fixture = Arc::new(Fixture::new(Kvm::Stalls));
    let (inside, state) = (Arc::downgrade(&fixture), state);
    fixture.fake.after(Verb::Start, move |name| {
        let fixture = inside.upgrade().unwrap();
        match state {
            DomainState::Absent => teardown(&fixture.fake, name).unwrap(),
            ref state => fixture.fake.set_state(name, state.clone()),
        }
    });
    let error = fixture.probe(LONG).unwrap_err();
    assert!(matches!(error, HypervisorError::GaveUp { .. }), "{error:?}");
    assert_eq!(fixture.with_probe("b1", |probe| probe.known(None)), None);
}

/// The probing VM has the same name for everybody: another user, or another machine, may be probing.
#[test]
fn a_foreign_probe_is_left_alone_and_the_remains_of_a_dead_one_are_removed() {
    let fixture = Fixture::new(Kvm::Works);
    const NAME: &str = "boma-it-kvm.probe";
    let mut theirs = fixture.with_probe("b1", |probe| probe.domain(NAME));
    theirs.ownership.owner.hostname = "there".to_owned();
    theirs.ownership.run = "20260617T120000-ubongo".to_owned();
    fixture.fake.define(&theirs).unwrap();
    fixture.fake.set_state(NAME, DomainState::Running);
    let deadline = Deadline::uninterrupted(LONG, "the test");
    let error = fixture.with_probe("b1", |probe| probe.run(&deadline)).unwrap_err();
    assert_eq!(fixture.fake.spec(NAME), Some(theirs.clone()));
    assert_eq!(fixture.fake.state(NAME).unwrap(), DomainState::Running);
    insta::assert_snapshot!(format!("{:#}", anyhow::Error::from(error)), @"cannot probe KVM with domain boma-it-kvm.probe: process 7 on there is probing; try again in a minute, remove it with `boma-it prune --all`, or set BOMA_IT_ACCEL to skip the probe");

    theirs.ownership.owner = Owner { pid: 8, ..sample().owner };
    fixture.fake.set_ownership(NAME, &theirs.ownership).unwrap();
    assert_eq!(fixture.probe(LONG).unwrap().accelerator, Accelerator::Kvm);
}

#[test]
fn a_deadline_that_passes_makes_no_choice() {
    let fixture = Fixture::new(Kvm::Stalls);
    let error = fixture.probe(Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, HypervisorError::GaveUp { .. }), "{error:?}");
    assert_eq!(fixture.with_probe("b1", |probe| probe.known(None)), None);
}

#[test]
fn a_vm_that_cannot_start_because_of_kvm_chooses_tcg() {
    let choice = Fixture::new(Kvm::Crashes).probe(LONG).unwrap();
    let why = "no VM starts under KVM: error: failed to set MSR 0x10a to 0xc000069";
    assert_eq!((choice.accelerator, choice.why.as_str()), (Accelerator::Tcg, why));
}

#[test]
fn a_vm_that_cannot_start_for_another_reason_makes_no_choice() {
    let fixture = Fixture::new(Kvm::Works);
    fixture.fake.fail(Verb::Start, 1);
    assert!(matches!(fixture.probe(LONG), Err(HypervisorError::Other { .. })));
    fixture.fake.fill_disk(Verb::CreateOverlay, 1);
    assert!(matches!(fixture.probe(LONG), Err(HypervisorError::DiskFull { .. })));
    assert_eq!(fixture.with_probe("b1", |probe| probe.known(None)), None);
}

#[test]
fn a_damaged_cache_is_ignored() {
    let fixture = Fixture::new(Kvm::Works);
    std::fs::write(fixture.cache.path().join(CACHE_FILE), "{").unwrap();
    assert_eq!(fixture.with_probe("b1", |probe| probe.known(None)), None);
}
