//! The seed's `network-config`, version 2: <https://docs.cloud-init.io/en/latest/reference/network-config-format-v2.html>.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct NetworkConfig<'a> {
    version: u8,
    ethernets: BTreeMap<&'static str, Ethernet<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Ethernet<'a> {
    #[serde(rename = "match")]
    matches: Match<'a>,
    dhcp4: bool,
    /// `mac`: networkd's own default is made from the machine's id, and every guest in a slot is another machine.
    dhcp_identifier: &'static str,
}

#[derive(Debug, Serialize)]
struct Match<'a> {
    macaddress: &'a str,
}

/// DHCP on the interface with this MAC address, whatever the guest calls it.
pub(super) fn network_config(mac: &str) -> NetworkConfig<'_> {
    let ethernet = Ethernet { matches: Match { macaddress: mac }, dhcp4: true, dhcp_identifier: "mac" };
    NetworkConfig { version: 2, ethernets: BTreeMap::from([("lan", ethernet)]) }
}
