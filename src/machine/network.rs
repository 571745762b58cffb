//! The harness's own network, as libvirt's XML: NAT, a bridge, fixed addresses for a handful of slots, and the
//! filters that keep a guest away from the LAN and the mesh. Pure; who calls libvirt with it is `libvirt/`.
//!
//! A guest gets to the internet (or, with [`Egress::None`], nowhere) and to the harness's subnet. It gets to no
//! private, carrier-grade or link-local IPv4 network and to nothing at all over IPv6, of which this network has
//! none. The filters sit on the guest's own interface, before the hypervisor routes anything.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;

use super::names::NamePrefix;
use super::xml::{Element, el, text};
use crate::catalog::plan::Subnet;

/// How many machines have an address of their own at one time.
const SLOTS: u8 = 4;
/// Last octet of the first slot's address, within the subnet.
const FIRST: u32 = 10;
/// What a guest never reaches: RFC 1918 (private), RFC 6598 (carrier-grade NAT, where meshes live) and RFC 3927 (link-local).
const FORBIDDEN: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
];

/// Whether a guest reaches anything beyond the harness's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// The internet, by NAT.
    Internet,
    /// Nothing.
    None,
}

/// A place on the network: a MAC address that always gets the same IPv4 address, known before boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// Slot number `n`, counted from 0, if there is one.
    pub fn new(n: u8) -> Option<Self> {
        (n < SLOTS).then_some(Self(n))
    }

    /// Every slot.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }

    /// The lowest slot that is not among `taken`.
    pub fn free(taken: impl IntoIterator<Item = Self>) -> Option<Self> {
        let taken: Vec<_> = taken.into_iter().collect();
        Self::all().find(|slot| !taken.contains(slot))
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its MAC address: QEMU's range, then `bi` for us.
    pub fn mac(self) -> Mac {
        Mac([0x52, 0x54, 0x00, 0x62, 0x69, self.0])
    }

    /// Its address in `subnet`.
    pub fn address(self, subnet: Subnet) -> Ipv4Addr {
        host(subnet, FIRST + u32::from(self.0))
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

/// What is to be known about the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its subnet; the hypervisor has the first address.
    pub subnet: Subnet,
}

impl NetworkSpec {
    /// The hypervisor's address: the guest's router, DNS and DHCP server.
    pub fn gateway(&self) -> Ipv4Addr {
        host(self.subnet, 1)
    }

    /// The network, for libvirt.
    pub fn render(&self, realm: &NamePrefix) -> String {
        let address = |slot: Slot| slot.address(self.subnet);
        let range = el("range")
            .attr("start", host(self.subnet, FIRST))
            .attr("end", host(self.subnet, FIRST + u32::from(SLOTS) - 1));
        let hosts = Slot::all().map(|s| el("host").attr("mac", s.mac()).attr("ip", address(s)));
        let ip = el("ip").attr("address", self.gateway()).attr("netmask", netmask(self.subnet.prefix));
        // No spanning tree: there is no other bridge to loop with, and a port of one is deaf for its first four seconds.
        el("network")
            .with(text("name", realm.network()))
            .with(el("forward").attr("mode", "nat"))
            .with(el("bridge").attr("name", realm.bridge()).attr("stp", "off").attr("delay", 0))
            .with(ip.with(el("dhcp").with(range).with_all(hosts)))
            .render()
    }

    /// A filter, for libvirt. `uuid` is the one of the filter of that name, if there is one: libvirt refuses to replace
    /// a filter by one with another uuid.
    pub fn render_filter(&self, realm: &NamePrefix, egress: Egress, uuid: Option<&str>) -> String {
        let rule = |action, priority, what| {
            let rule = el("rule").attr("action", action).attr("direction", "out");
            rule.attr("priority", priority).with(what)
        };
        let to = |net: Ipv4Addr, prefix| el("ip").attr("dstipaddr", net).attr("dstipmask", netmask(prefix));
        let drop_v4: Vec<Element> = match egress {
            Egress::Internet => FORBIDDEN.map(|(net, prefix)| rule("drop", 500, to(net, prefix))).into(),
            // DHCP begins with a broadcast.
            Egress::None => {
                vec![rule("accept", 200, to(Ipv4Addr::BROADCAST, 32)), rule("drop", 500, el("ip"))]
            }
        };
        el("filter")
            .attr("name", realm.filter(egress))
            .with_all(uuid.map(|uuid| text("uuid", uuid)))
            .with(rule("accept", 100, to(self.subnet.network, self.subnet.prefix)))
            .with_all(drop_v4)
            .with(rule("drop", 500, el("ipv6")))
            .render()
    }

    /// Whether the network that this XML of libvirt's describes is the one that we would make.
    pub fn matches(&self, realm: &NamePrefix, xml: &str) -> bool {
        shape(xml).is_some_and(|found| Some(found) == shape(&self.render(realm)))
    }
}

/// What a network is, without what libvirt adds to it (uuid, MAC address of the bridge, NAT's port range, …).
fn shape(xml: &str) -> Option<Vec<String>> {
    let document = roxmltree::Document::parse(xml).ok()?;
    let wanted = [("forward", "mode"), ("bridge", "name"), ("ip", "address"), ("ip", "netmask")];
    let wanted =
        wanted.iter().chain(&[("range", "start"), ("range", "end"), ("host", "mac"), ("host", "ip")]);
    let nodes = || document.root_element().descendants();
    let values = |(tag, attribute): &(&str, &str)| {
        let found = nodes().filter(|node| node.has_tag_name(*tag));
        found.map(|node| format!("{tag}/{attribute}={:?}", node.attribute(*attribute))).collect::<Vec<_>>()
    };
    Some(wanted.flat_map(values).collect())
}

/// Something about this machine's own network that may keep a guest from the internet, if there is something.
/// `interfaces` is `/sys/class/net`.
pub fn host_note(interfaces: &Path) -> Option<String> {
    interfaces.join("docker0").exists().then(|| {
        "Docker runs on this machine and may drop what is forwarded for guests; if the guest has no network: \
         `iptables -I DOCKER-USER -i boma-it0 -j ACCEPT; iptables -I DOCKER-USER -o boma-it0 -j ACCEPT`"
            .to_owned()
    })
}

fn host(subnet: Subnet, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network) + number)
}

fn netmask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

#[cfg(test)]
mod tests;
