use super::*;
use crate::machine::network::Slot;
use crate::machine::ownership::tests::sample as ownership;

/// The plain machine of askari.
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
fn a_machine_under_tcg() {
    insta::assert_snapshot!(sample().render(&NamePrefix::default(), "/var/lib/libvirt/boma-it"));
}

#[test]
fn a_machine_under_kvm_without_egress_or_seed_and_with_a_careful_disk() {
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
fn what_is_rendered_says_whose_it_is() {
    let xml = sample().render(&NamePrefix::default(), "/pool");
    assert_eq!(Ownership::read(&xml), Some(ownership()));
}
