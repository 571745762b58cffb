use super::*;
use crate::machine::network::Slot;
use crate::machine::ownership::tests::sample as ownership;

/// The VM of askari's plain cycle.
pub(in crate::machine) fn sample() -> DomainSpec {
    DomainSpec {
        name: "boma-it-askari".into(),
        vcpus: 2,
        memory: Bytes::gib(3),
        accelerator: Accelerator::Tcg,
        mac: Slot::new(0).unwrap().mac(),
        egress: Egress::Internet,
        seed: true,
        disk: DiskCache::Unsafe,
        ownership: ownership(),
    }
}

#[test]
fn a_domain_under_tcg() {
    insta::assert_snapshot!(sample().render(&NamePrefix::default(), "/var/lib/libvirt/boma-it"));
}

#[test]
fn a_domain_under_kvm_without_egress_and_seed_and_with_writeback() {
    let spec = DomainSpec {
        accelerator: Accelerator::Kvm,
        egress: Egress::None,
        seed: false,
        disk: DiskCache::Writeback,
        ..sample()
    };
    insta::assert_snapshot!(spec.render(&NamePrefix::default(), "/var/lib/libvirt/boma-it"));
}

#[test]
fn the_rendered_domain_carries_its_ownership() {
    let xml = sample().render(&NamePrefix::default(), "/pool");
    assert_eq!(Ownership::read(&xml), Some(ownership()));
}
