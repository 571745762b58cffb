use super::*;

fn spec(prefix: u8) -> NetworkSpec {
    NetworkSpec { subnet: Subnet { network: Ipv4Addr::new(10, 213, 47, 0), prefix } }
}

#[test]
fn the_network_is_natted_and_gives_each_slot_its_address() {
    insta::assert_snapshot!(spec(24).render(&NamePrefix::default()));
}

#[test]
fn the_isolation_filter_lets_a_guest_reach_its_own_subnet_and_the_internet_only() {
    insta::assert_snapshot!(spec(24).render_filter(&NamePrefix::default(), Egress::Internet, None));
}

#[test]
fn the_no_egress_filter_lets_a_guest_reach_its_own_subnet_only() {
    insta::assert_snapshot!(spec(24).render_filter(&NamePrefix::default(), Egress::None, Some("1-2-3")));
}

#[test]
fn every_slot_fits_the_smallest_subnet_beside_gateway_and_broadcast() {
    let small = spec(28);
    let addresses: Vec<_> = Slot::all().map(|slot| slot.address(small.subnet)).collect();
    assert_eq!(addresses.first(), Some(&Ipv4Addr::new(10, 213, 47, 10)));
    assert!(addresses.iter().all(|a| a.octets()[3] < 15 && *a != small.gateway()));
}

#[test]
fn the_lowest_free_slot_is_taken_and_none_when_all_are() {
    assert_eq!(Slot::free([Slot(0), Slot(2)]), Some(Slot(1)));
    assert_eq!(Slot::free(Slot::all()), None);
    assert_eq!(Slot::new(SLOTS), None);
    assert_eq!(Slot(3).mac().to_string(), "52:54:00:62:69:03");
}

#[test]
fn a_network_as_libvirt_shows_it_matches_unless_subnet_bridge_or_slots_differ() {
    let realm = NamePrefix::default();
    let shown = spec(24)
        .render(&realm)
        .replace(
            "<forward mode=\"nat\"/>",
            "<forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>",
        )
        .replace("<name>", "<uuid>9d6f1dd5-93fd-4d2e-9c5c-000000000000</uuid><name>");
    assert!(spec(24).matches(&realm, &shown));
    assert!(!spec(25).matches(&realm, &shown));
    assert!(!spec(24).matches(&NamePrefix::named("dev"), &shown));
    assert!(!spec(24).matches(&realm, &shown.replace("52:54:00:62:69:01", "52:54:00:62:69:0a")));
    assert!(!spec(24).matches(&realm, "no xml"));
}

#[test]
fn docker_on_this_machine_is_noted() {
    let net = tempfile::tempdir().unwrap();
    assert_eq!(host_note(net.path()), None);
    std::fs::create_dir(net.path().join("docker0")).unwrap();
    assert!(host_note(net.path()).unwrap().contains("DOCKER-USER"));
}
