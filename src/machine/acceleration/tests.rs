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
    fn with(kvm: Kvm) -> Self {
        let fake = Fake::new();
        fake.set_kvm(kvm);
        fake.put_volume("golden-1.qcow2", b"image");
        let subnet = Subnet { network: std::net::Ipv4Addr::new(10, 213, 47, 0), prefix: 24 };
        fake.ensure_network(&NetworkSpec { subnet }).unwrap();
        Self { fake, cache: tempfile::tempdir().unwrap() }
    }

    fn ask<T>(&self, boot_id: &str, what: impl FnOnce(KvmProbe<'_>) -> T) -> T {
        what(KvmProbe {
            hypervisor: &self.fake,
            facts: &self.fake.facts().unwrap(),
            realm: &NamePrefix::default(),
            image_volume: "golden-1.qcow2",
            ownership: &sample(),
            processes: &Table(&[(7, 700)]),
            boot_id,
            cache: self.cache.path(),
        })
    }

    fn probe(&self, budget: Duration) -> Result<AcceleratorChoice> {
        let deadline = Deadline::uninterrupted(budget, "the test");
        let verdict = self.ask("b1", |question| question.probe(&deadline));
        assert_eq!(self.fake.machines().unwrap(), [], "nothing is left of the probe");
        assert_eq!(self.fake.volumes().unwrap().len(), 1, "but the image");
        verdict
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_is_forced_or_needs_no_probe_is_known_at_once() {
    let world = Fixture::with(Kvm::Absent);
    let known = |forced| world.ask("b1", |question| question.known(forced)).unwrap();
    assert_eq!(known(Some(Accelerator::Kvm)).to_string(), "accelerator KVM: as BOMA_IT_ACCEL says");
    assert_eq!(
        known(None).to_string(),
        "accelerator TCG, several times slower, time-outs x4: the hypervisor offers no KVM"
    );
}

#[test]
fn kvm_that_boots_a_kernel_is_taken_and_remembered_until_the_host_reboots() {
    let world = Fixture::with(Kvm::Works);
    assert_eq!(world.ask("b1", |question| question.known(None)), None);
    let verdict = world.probe(LONG).unwrap();
    assert_eq!(verdict.accelerator, Accelerator::Kvm);
    assert_eq!(world.ask("b1", |question| question.known(None)), Some(verdict));
    assert_eq!(world.ask("b2", |question| question.known(None)), None);
}

#[test]
fn kvm_that_lies_is_found_out() {
    let verdict = Fixture::with(Kvm::Lies).probe(LONG).unwrap();
    assert_eq!(
        verdict.to_string(),
        "accelerator TCG, several times slower, time-outs x4: KVM is offered but a stock kernel dies under it (the VM is paused)"
    );
}

/// None of it is KVM's doing, and a verdict would be remembered until the host reboots.
#[rstest::rstest]
#[case(DomainState::Absent)]
#[case(DomainState::ShutOff(StopReason::Destroyed))]
#[case(DomainState::Paused(PauseReason::ByUser))]
#[case(DomainState::Paused(PauseReason::DiskError))]
fn a_probe_that_somebody_ended_or_a_full_disk_is_no_verdict(#[case] state: DomainState) {
    let world = Arc::new(Fixture::with(Kvm::Stalls));
    let (inside, state) = (Arc::downgrade(&world), state);
    world.fake.after(Verb::Start, move |name| {
        let world = inside.upgrade().unwrap();
        match state {
            DomainState::Absent => teardown(&world.fake, name).unwrap(),
            ref state => world.fake.set_state(name, state.clone()),
        }
    });
    let error = world.probe(LONG).unwrap_err();
    assert!(matches!(error, HypervisorError::Ended { .. }), "{error:?}");
    assert_eq!(world.ask("b1", |question| question.known(None)), None);
}

/// The machine's name is the same for all: another user, or another machine, may be probing.
#[test]
fn anothers_probe_is_let_be_and_what_is_left_of_a_dead_one_is_not() {
    let world = Fixture::with(Kvm::Works);
    const NAME: &str = "boma-it-kvm-probe";
    let mut theirs = world.ask("b1", |question| question.machine(NAME));
    theirs.ownership.owner.hostname = "there".to_owned();
    theirs.ownership.run = "20260617T120000-ubongo".to_owned();
    world.fake.define(&theirs).unwrap();
    world.fake.set_state(NAME, DomainState::Running);
    let deadline = Deadline::uninterrupted(LONG, "the test");
    let error = world.ask("b1", |question| question.probe(&deadline)).unwrap_err();
    assert_eq!(world.fake.spec(NAME), Some(theirs.clone()));
    assert_eq!(world.fake.state(NAME).unwrap(), DomainState::Running);
    assert!(error.to_string().contains(NAME), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("process 7 on there"), "{cause}");

    theirs.ownership.owner = Owner { pid: 8, ..sample().owner };
    world.fake.set_ownership(NAME, &theirs.ownership).unwrap();
    assert_eq!(world.probe(LONG).unwrap().accelerator, Accelerator::Kvm);
}

#[test]
fn a_deadline_that_passes_is_no_verdict_and_nothing_is_remembered() {
    let world = Fixture::with(Kvm::Stalls);
    let error = world.probe(Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, HypervisorError::Ended { .. }), "{error:?}");
    assert_eq!(world.ask("b1", |question| question.known(None)), None);
}

#[test]
fn a_vm_that_kvm_keeps_from_starting_is_a_verdict() {
    let verdict = Fixture::with(Kvm::Refuses).probe(LONG).unwrap();
    let why = "no VM starts under KVM: error: failed to set MSR 0x10a to 0xc000069";
    assert_eq!((verdict.accelerator, verdict.why.as_str()), (Accelerator::Tcg, why));
}

#[test]
fn a_vm_that_does_not_start_for_another_reason_is_an_error_and_nothing_is_remembered() {
    let world = Fixture::with(Kvm::Works);
    world.fake.fail(Verb::Start, 1);
    assert!(matches!(world.probe(LONG), Err(HypervisorError::Other { .. })));
    world.fake.fill_disk(Verb::CreateOverlay, 1);
    assert!(matches!(world.probe(LONG), Err(HypervisorError::DiskFull { .. })));
    assert_eq!(world.ask("b1", |question| question.known(None)), None);
}

#[test]
fn a_memory_that_is_damaged_is_as_good_as_none() {
    let world = Fixture::with(Kvm::Works);
    std::fs::write(world.cache.path().join(MEMORY), "{").unwrap();
    assert_eq!(world.ask("b1", |question| question.known(None)), None);
}
