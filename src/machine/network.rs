//! The harness's network as libvirt XML: NAT, a bridge, a fixed address for each slot, and the filters that keep a guest
//! away from the LAN and the mesh. Pure; [`super::libvirt`] makes the calls.
//!
//! A guest reaches the hypervisor's address in the harness's subnet and the internet (with [`Egress::None`] only that
//! address). It reaches no other guest, no private, carrier-grade NAT or link-local IPv4 network, and nothing over IPv6,
//! which this network does not have. The filters are on the guest's own interface, before the hypervisor routes anything.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::Path;

use super::names::NamePrefix;
use super::xml::{Element, el, text};
use crate::catalog::plan::{MAX_VMS, Subnet};

/// How many VMs can have an address at one time.
const SLOTS: u8 = MAX_VMS;
/// The addresses of guests in the smallest subnet, a /28: its first one is the hypervisor's, its last one the broadcast.
const GUESTS: RangeInclusive<u32> = 2..=14;
/// The address of the first slot; those of the others follow, and go on at the first of the range after its last.
const FIRST: u32 = 10;
/// What a guest never reaches: RFC 1918 (private), RFC 6598 (carrier-grade NAT, where meshes live) and RFC 3927 (link-local).
const FORBIDDEN: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
];

/// What a guest reaches beyond the harness's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// The internet, by NAT.
    Internet,
    /// Nothing.
    None,
}

impl Egress {
    /// The name of the network filter on the guest's interface.
    pub(super) fn filter(self, prefix: &NamePrefix) -> String {
        match self {
            Self::Internet => format!("{}-isolation", prefix.as_str()),
            Self::None => format!("{}-no-egress", prefix.as_str()),
        }
    }
}

/// A MAC address that always gets the same IPv4 address, so the address is known before the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// Slot number `n`, counted from 0, if it exists.
    pub fn new(n: u8) -> Option<Self> {
        (n < SLOTS).then_some(Self(n))
    }

    /// Every slot.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }

    /// The lowest slot that is not in `taken`.
    pub(crate) fn free(taken: impl IntoIterator<Item = Self>) -> Option<Self> {
        let taken: Vec<_> = taken.into_iter().collect();
        Self::all().find(|slot| !taken.contains(slot))
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its MAC address: QEMU's range, then `bi` for boma-it.
    pub fn mac(self) -> Mac {
        Mac([0x52, 0x54, 0x00, 0x62, 0x69, self.0])
    }

    /// Its address in `subnet`.
    pub fn address(self, subnet: Subnet) -> Ipv4Addr {
        let (first, count) = (*GUESTS.start(), GUESTS.end() - GUESTS.start() + 1);
        host(subnet, first + (FIRST - first + u32::from(self.0)) % count)
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A network to define.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its subnet; the first address is the hypervisor's.
    pub subnet: Subnet,
}

impl NetworkSpec {
    /// The hypervisor's address: router, DNS and DHCP server of the guest.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        host(self.subnet, 1)
    }

    /// The network's XML.
    pub(crate) fn render(&self, prefix: &NamePrefix) -> String {
        let address = |slot: Slot| slot.address(self.subnet);
        let range = el("range")
            .attr("start", host(self.subnet, *GUESTS.start()))
            .attr("end", host(self.subnet, *GUESTS.end()));
        let hosts = Slot::all().map(|s| el("host").attr("mac", s.mac()).attr("ip", address(s)));
        let ip = el("ip").attr("address", self.gateway()).attr("netmask", netmask(self.subnet.prefix));
        // No spanning tree: there is no other bridge to form a loop with, and it would block a port for four seconds.
        el("network")
            .with(text("name", prefix.network()))
            .with(el("forward").attr("mode", "nat"))
            .with(el("bridge").attr("name", prefix.bridge()).attr("stp", "off").attr("delay", 0))
            .with(ip.with(el("dhcp").with(range).with_all(hosts)))
            .render()
    }

    /// The XML of a filter. `uuid` is that of the existing filter: libvirt refuses to replace a filter by one with another
    /// uuid.
    pub(crate) fn render_filter(&self, prefix: &NamePrefix, egress: Egress, uuid: Option<&str>) -> String {
        let rule = |action, priority, packets| {
            let rule = el("rule").attr("action", action).attr("direction", "out");
            rule.attr("priority", priority).with(packets)
        };
        let to = |net: Ipv4Addr, length| el("ip").attr("dstipaddr", net).attr("dstipmask", netmask(length));
        let drop_v4: Vec<Element> = match egress {
            Egress::Internet => FORBIDDEN.map(|(net, length)| rule("drop", 500, to(net, length))).into(),
            // DHCP starts with a broadcast.
            Egress::None => {
                vec![rule("accept", 200, to(Ipv4Addr::BROADCAST, 32)), rule("drop", 500, el("ip"))]
            }
        };
        el("filter")
            .attr("name", egress.filter(prefix))
            .with_all(uuid.map(|uuid| text("uuid", uuid)))
            .with(rule("accept", 100, to(self.gateway(), 32)))
            // A trial must not see the VM of another.
            .with(rule("drop", 300, to(self.subnet.network, self.subnet.prefix)))
            .with_all(drop_v4)
            .with(rule("drop", 500, el("ipv6")))
            .render()
    }

    /// Whether the network in libvirt's XML is the one that we would define.
    pub(crate) fn matches(&self, prefix: &NamePrefix, xml: &str) -> bool {
        shape(xml).is_some_and(|found| Some(found) == shape(&self.render(prefix)))
    }
}

/// The properties that we set, without those that libvirt adds (uuid, MAC address of the bridge, NAT's port range, …).
fn shape(xml: &str) -> Option<Vec<String>> {
    const OURS: [(&str, &str); 8] = [
        ("forward", "mode"),
        ("bridge", "name"),
        ("ip", "address"),
        ("ip", "netmask"),
        ("range", "start"),
        ("range", "end"),
        ("host", "mac"),
        ("host", "ip"),
    ];
    let document = roxmltree::Document::parse(xml).ok()?;
    let values = |(tag, attribute): (&'static str, &'static str)| {
        let nodes = document.root_element().descendants().filter(move |node| node.has_tag_name(tag));
        nodes.map(move |node| format!("{tag}/{attribute}={:?}", node.attribute(attribute)))
    };
    Some(OURS.into_iter().flat_map(values).collect())
}

/// A warning when something on this machine may cut guests off from the internet. `interfaces` is `/sys/class/net`.
pub(crate) fn host_note(interfaces: &Path) -> Option<String> {
    interfaces.join("docker0").exists().then(|| {
        "Docker runs on this machine and may drop packets forwarded for guests; if the guest has no network: \
         `iptables -I DOCKER-USER -i boma-it0 -j ACCEPT; iptables -I DOCKER-USER -o boma-it0 -j ACCEPT`"
            .to_owned()
    })
}

fn host(subnet: Subnet, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network) + number)
}

fn netmask(length: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0))
}

#[cfg(test)]
mod tests;
