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
        overlay: VmVolumes("boma-it-askari").overlay(),
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

/// As libvirt returns it with the saved state: completed, with the paths of the VM that was saved.
const SAVED: &str = include_str!("saved.xml");

#[test]
fn a_saved_domain_gets_this_owner_disk_and_filter_and_nothing_else() {
    let spec = DomainSpec { egress: Egress::None, disk: DiskCache::Writeback, ..sample() };
    let adapted = spec.adapt(SAVED, &NamePrefix::default(), "/pool").unwrap();
    assert_eq!(Ownership::read(&adapted), Some(ownership()));
    insta::assert_snapshot!(adapted);
}

#[test]
fn a_text_that_is_no_domain_of_ours_is_not_adapted() {
    for text in ["", "<domain/>", &SAVED.replace("vda", "sda"), &SAVED.replace("<name>", "<name>x")] {
        assert_eq!(sample().adapt(text, &NamePrefix::default(), "/pool"), None);
    }
}

#[test]
fn the_guest_side_of_a_domain_names_no_owner_and_no_place() {
    insta::assert_snapshot!(sample().guest_side());
}
