use std::path::Path;

use super::*;
use crate::machine::Accelerator;
use crate::machine::Ownership;
use crate::machine::domain::DiskCache;
use crate::machine::domain::tests::sample as domain;
use crate::machine::image::sample;
use crate::machine::network::{Egress, Slot};
use crate::machine::ownership::tests::sample as ownership;

fn image() -> Image {
    sample(Path::new("/cache"))
}

fn host() -> HostInfo {
    HostInfo {
        uri: "qemu:///system".into(),
        version: "QEMU 10.0.2".into(),
        libvirt: "9.0.0".into(),
        cpu: "<cpu><model>EPYC</model></cpu>".into(),
        hostname: "here".into(),
        local: true,
        available_memory: Bytes::gib(8),
        offers_kvm: false,
    }
}

fn seed() -> SeedSpec {
    SeedSpec { hostname: "askari".into(), user: "ansible".into(), ..SeedSpec::default() }
}

fn name_of(image: &Image, disk: Bytes, domain: &DomainSpec, host: &HostInfo, seed: &SeedSpec) -> LayerName {
    ReadyKey::new(image, disk, domain, host, seed).name()
}

fn name() -> LayerName {
    name_of(&image(), Bytes::gib(20), &domain(), &host(), &seed())
}

#[test]
fn what_a_first_boot_does_not_depend_on_names_the_same_layer() {
    let later = Ownership {
        run: "20270101T000000-askari-incident".into(),
        scenario: Some("incident".parse().unwrap()),
        ..ownership()
    };
    let domain = DomainSpec {
        ownership: later,
        disk: DiskCache::Writeback,
        overlay: "other.qcow2".into(),
        ..domain()
    };
    let host = HostInfo { available_memory: Bytes::gib(1), hostname: "there".into(), ..host() };
    let seed = SeedSpec {
        instance_id: "20270101T000000-askari-incident".into(),
        authorized_key: "ssh-ed25519 AAAA".into(),
        host_key_private: "private".into(),
        host_key_public: "ssh-ed25519 BBBB".into(),
        ..seed()
    };
    assert_eq!(name_of(&image(), Bytes::gib(20), &domain, &host, &seed), name());
}

#[test]
fn everything_that_a_first_boot_depends_on_names_another_layer() {
    let disk = Bytes::gib(20);
    let slot = Slot::new(1).unwrap();
    let others = [
        name_of(&Image { sha256: "other".into(), ..image() }, disk, &domain(), &host(), &seed()),
        name_of(&image(), Bytes::gib(21), &domain(), &host(), &seed()),
        name_of(&image(), disk, &DomainSpec { vcpus: 1, ..domain() }, &host(), &seed()),
        name_of(&image(), disk, &DomainSpec { memory: Bytes::gib(2), ..domain() }, &host(), &seed()),
        name_of(&image(), disk, &DomainSpec { mac: slot.mac(), ..domain() }, &host(), &seed()),
        name_of(
            &image(),
            disk,
            &DomainSpec { name: "boma-it-askari.2".into(), ..domain() },
            &host(),
            &seed(),
        ),
        name_of(&image(), disk, &DomainSpec { egress: Egress::None, ..domain() }, &host(), &seed()),
        name_of(&image(), disk, &DomainSpec { accelerator: Accelerator::Kvm, ..domain() }, &host(), &seed()),
        name_of(&image(), disk, &domain(), &HostInfo { version: "QEMU 10.0.3".into(), ..host() }, &seed()),
        name_of(&image(), disk, &domain(), &HostInfo { libvirt: "9.0.1".into(), ..host() }, &seed()),
        name_of(&image(), disk, &domain(), &HostInfo { cpu: "<cpu/>".into(), ..host() }, &seed()),
        name_of(&image(), disk, &domain(), &host(), &SeedSpec { hostname: "ubongo".into(), ..seed() }),
        name_of(&image(), disk, &domain(), &host(), &SeedSpec { user: "root".into(), ..seed() }),
        name_of(
            &image(),
            disk,
            &domain(),
            &host(),
            &SeedSpec { first_boot_masks: vec!["x".into()], ..seed() },
        ),
    ];
    let mut all = vec![name()];
    all.extend(others);
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

fn now() -> Timestamp {
    "2026-06-17T12:00:00Z".parse().unwrap()
}

/// A layer of 10 bytes that was made, and used, so many hours ago.
fn layer(digit: u8, made: Option<i64>, used: Option<i64>, user: Option<&str>) -> Layer {
    let ago = |hours: i64| now() - SignedDuration::from_hours(hours);
    Layer {
        name: LayerName::new(LayerKind::Ready, &[digit; 4]),
        made: made.map(|hours| ("askari".to_owned(), ago(hours))),
        base: None,
        used: used.map(ago),
        bytes: Bytes(10),
        user: user.map(str::to_owned),
    }
}

fn removed(layers: &[Layer], budget: u64) -> Vec<String> {
    surplus(layers, Bytes(budget), now()).iter().map(ToString::to_string).collect()
}

#[test]
fn a_layer_without_a_record_and_one_that_is_too_old_are_removed() {
    let layers = [
        layer(0x11, None, None, None),
        layer(0x22, Some(25), Some(1), None),
        layer(0x33, Some(24), None, None),
        layer(0x44, Some(-1), None, None),
    ];
    assert_eq!(removed(&layers, 1000), ["ready-11111111", "ready-22222222", "ready-44444444"]);
}

#[test]
fn the_least_recently_used_layers_go_until_the_rest_fits() {
    let layers = [
        layer(0x11, Some(20), Some(1), None),
        layer(0x22, Some(3), None, None),
        layer(0x33, Some(10), Some(2), None),
    ];
    assert_eq!(removed(&layers, 30), [""; 0]);
    assert_eq!(removed(&layers, 29), ["ready-22222222"]);
    assert_eq!(removed(&layers, 19), ["ready-22222222", "ready-33333333"]);
    assert_eq!(removed(&layers, 0), ["ready-22222222", "ready-33333333", "ready-11111111"]);
}

#[test]
fn a_layer_that_a_vm_uses_is_never_removed_but_counts() {
    let layers = [
        layer(0x11, None, None, Some("boma-it-askari")),
        layer(0x22, Some(30), None, Some("boma-it-ubongo")),
        layer(0x33, Some(1), None, None),
    ];
    assert_eq!(removed(&layers, 30), [""; 0]);
    assert_eq!(removed(&layers, 20), ["ready-33333333"]);
    assert_eq!(removed(&layers, 0), ["ready-33333333"]);
}

/// An applied layer on the ready layer `base`.
fn applied(digit: u8, base: u8, used: i64, user: Option<&str>) -> Layer {
    Layer {
        name: LayerName::new(LayerKind::Applied, &[digit; 4]),
        base: Some(LayerName::new(LayerKind::Ready, &[base; 4])),
        ..layer(digit, Some(20), Some(used), user)
    }
}

#[test]
fn a_layer_goes_before_the_one_that_it_lies_on() {
    let layers = [
        layer(0x11, Some(21), Some(19), None),
        layer(0x22, Some(10), Some(5), None),
        applied(0x33, 0x11, 2, None),
    ];
    assert_eq!(removed(&layers, 29), ["ready-22222222"]);
    assert_eq!(removed(&layers, 19), ["ready-22222222", "applied-33333333"]);
    assert_eq!(removed(&layers, 9), ["ready-22222222", "applied-33333333", "ready-11111111"]);
}

#[test]
fn a_layer_whose_base_is_gone_or_too_old_is_removed() {
    let layers =
        [layer(0x11, Some(25), None, None), applied(0x33, 0x11, 2, None), applied(0x44, 0x99, 2, None)];
    assert_eq!(removed(&layers, 1000), ["ready-11111111", "applied-33333333", "applied-44444444"]);
}

#[test]
fn the_base_of_a_layer_that_a_vm_uses_is_never_removed() {
    let layers = [layer(0x11, Some(30), None, None), applied(0x33, 0x11, 2, Some("boma-it-askari"))];
    assert_eq!(removed(&layers, 0), [""; 0]);
}

#[test]
fn everything_that_an_applied_state_depends_on_names_another_layer() {
    let key = || AppliedKey {
        ready: ReadyKey::new(&image(), Bytes::gib(20), &domain(), &host(), &seed()),
        version: "0.1.0",
        ansible: "2.19.14".into(),
        site: "abcd".into(),
        inputs: vec!["{}".into()],
    };
    let other = ReadyKey::new(&image(), Bytes::gib(21), &domain(), &host(), &seed());
    let names = [
        key().name(),
        AppliedKey { ready: other, ..key() }.name(),
        AppliedKey { version: "0.2.0", ..key() }.name(),
        AppliedKey { ansible: "2.19.15".into(), ..key() }.name(),
        AppliedKey { site: "abce".into(), ..key() }.name(),
        AppliedKey { inputs: vec!["{}".into(), String::new()], ..key() }.name(),
    ];
    assert!(names.iter().all(|name| name.kind() == LayerKind::Applied));
    let mut all = names.to_vec();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), names.len());
}
