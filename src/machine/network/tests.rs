use super::*;

fn spec(length: u8) -> NetworkSpec {
    NetworkSpec { subnet: Subnet { network: Ipv4Addr::new(10, 213, 47, 0), prefix: length } }
}

#[test]
fn the_network_has_nat_and_a_fixed_address_for_each_slot() {
    insta::assert_snapshot!(spec(24).render(&NamePrefix::default()));
}

#[test]
fn the_isolation_filter_lets_a_guest_reach_the_hypervisor_and_the_internet_but_no_other_guest() {
    insta::assert_snapshot!(spec(24).render_filter(&NamePrefix::default(), Egress::Internet, None));
}

#[test]
fn the_no_egress_filter_lets_a_guest_reach_the_hypervisor_only() {
    insta::assert_snapshot!(spec(24).render_filter(&NamePrefix::default(), Egress::None, Some("1-2-3")));
}

#[test]
fn all_slots_fit_into_the_smallest_subnet() {
    let small = spec(28);
    let addresses: Vec<_> = Slot::all().map(|slot| slot.address(small.subnet)).collect();
    assert_eq!(addresses.iter().map(|it| it.octets()[3]).collect::<Vec<_>>(), [10, 11, 12, 13, 14, 2, 3, 4]);
    assert!(addresses.iter().all(|a| *a != small.gateway()));
}

#[test]
fn the_lowest_free_slot_is_chosen_if_one_is_free() {
    assert_eq!(Slot::free([Slot(0), Slot(2)]), Some(Slot(1)));
    assert_eq!(Slot::free(Slot::all()), None);
    assert_eq!(Slot::new(SLOTS), None);
    assert_eq!(Slot(3).mac().to_string(), "52:54:00:62:69:03");
}

#[test]
fn libvirts_xml_matches_unless_subnet_bridge_or_slots_differ() {
    let prefix = NamePrefix::default();
    let shown = spec(24)
        .render(&prefix)
        .replace(
            "<forward mode=\"nat\"/>",
            "<forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>",
        )
        .replace("<name>", "<uuid>9d6f1dd5-93fd-4d2e-9c5c-000000000000</uuid><name>");
    assert!(spec(24).matches(&prefix, &shown));
    assert!(!spec(25).matches(&prefix, &shown));
    assert!(!spec(24).matches(&NamePrefix::named("dev"), &shown));
    assert!(!spec(24).matches(&prefix, &shown.replace("52:54:00:62:69:01", "52:54:00:62:69:0a")));
    assert!(!spec(24).matches(&prefix, "no xml"));
}

#[test]
fn docker_on_this_machine_gives_a_warning() {
    let net = tempfile::tempdir().unwrap();
    assert_eq!(host_note(net.path()), None);
    std::fs::create_dir(net.path().join("docker0")).unwrap();
    assert!(host_note(net.path()).unwrap().contains("DOCKER-USER"));
}
