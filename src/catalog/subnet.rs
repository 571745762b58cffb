//! The harness's IPv4 network: `10.213.47.0/24`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::quantity::from_text;

/// An IPv4 network in CIDR notation: `10.213.47.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", inline, extend(
    "pattern" = r"^(10|172|192)(\.[0-9]{1,3}){3}/(1[6-9]|2[0-8])$",
    "examples" = ["10.213.47.0/24"],
))]
pub struct Subnet {
    /// The network address.
    pub network: Ipv4Addr,
    /// Prefix length, 16 to 28.
    pub prefix: u8,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is not a subnet that the harness can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSubnet(String);

impl FromStr for Subnet {
    type Err = InvalidSubnet;

    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let invalid = |why: &str| InvalidSubnet(format!("`{text}` is not a usable subnet: {why}"));
        let parts = text.split_once('/').and_then(|(network, prefix)| {
            Some((network.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?))
        });
        let (network, prefix) =
            parts.ok_or_else(|| invalid("write an IPv4 network such as `10.213.47.0/24`"))?;
        if !(16..=28).contains(&prefix) {
            return Err(invalid("the prefix length must be from 16 to 28"));
        }
        let base = Ipv4Addr::from_bits(network.to_bits() & (u32::MAX << (32 - prefix)));
        if base != network {
            return Err(invalid(&format!("that is an address in it, did you mean `{base}/{prefix}`?")));
        }
        if !network.is_private() {
            return Err(invalid(
                "it is not private, so it would hide real hosts: choose one in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16",
            ));
        }
        Ok(Self { network, prefix })
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "an IPv4 network such as `10.213.47.0/24`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("10.213.47.0/24", "10.213.47.0/24")]
    #[case("172.16.0.0/16", "172.16.0.0/16")]
    #[case(
        "10.213.47.5/24",
        "`10.213.47.5/24` is not a usable subnet: that is an address in it, did you mean `10.213.47.0/24`?"
    )]
    #[case("10.0.0.0/8", "`10.0.0.0/8` is not a usable subnet: the prefix length must be from 16 to 28")]
    #[case("10.0.0.0", "`10.0.0.0` is not a usable subnet: write an IPv4 network such as `10.213.47.0/24`")]
    #[case(
        "8.8.8.0/24",
        "`8.8.8.0/24` is not a usable subnet: it is not private, so it would hide real hosts: choose one in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16"
    )]
    fn a_subnet_is_read_or_the_error_says_what_to_write(#[case] text: &str, #[case] expected: &str) {
        let seen = text.parse::<Subnet>();
        assert_eq!(seen.map_or_else(|error| error.to_string(), |subnet| subnet.to_string()), expected);
    }
}
