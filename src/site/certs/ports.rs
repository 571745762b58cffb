//! Where our ACME server and its companion listen. The usual ports, which a firewall may know; others where those are
//! taken; and in the later steps of a run those of the first, as the guest's settings name them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use serde::{Deserialize, Serialize};

/// A port for each thing that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    /// ACME, for the guest.
    pub(super) acme: u16,
    /// The API that sets DNS records, for the guest.
    pub(super) api: u16,
    /// DNS, for the guest and for the ACME server.
    pub(super) dns: u16,
    /// The ACME server's management, for us, on loopback: any port, as many runs may share that address.
    pub(super) management: u16,
}

/// The ports that Pebble and its companion have in their own documentation.
const USUAL: Ports = Ports { acme: 14000, api: 8055, dns: 8053, management: 0 };

/// Where management listens: nobody but us.
pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Ports {
    /// Free ones on `address`: `earlier` where they can be had.
    ///
    /// # Errors
    /// When nothing can listen on `address`, which may not be an address of this machine.
    pub(super) fn choose(address: IpAddr, earlier: Option<Self>) -> io::Result<Self> {
        let pick = |of: fn(&Self) -> u16| {
            let wanted = earlier.iter().chain([&USUAL]).map(of);
            wanted.chain([0]).find_map(|port| free(SocketAddr::new(address, port)).ok())
        };
        let chosen = || {
            Some(Self {
                acme: pick(|ports| ports.acme)?,
                api: pick(|ports| ports.api)?,
                dns: pick(|ports| ports.dns)?,
                management: free(SocketAddr::new(HERE, 0)).ok()?,
            })
        };
        match chosen() {
            Some(ports) => Ok(ports),
            None => Err(free(SocketAddr::new(address, 0))
                .err()
                .unwrap_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port was found"))),
        }
    }
}

/// The port, if both TCP and UDP can have it; a free one for 0.
fn free(address: SocketAddr) -> io::Result<u16> {
    let listener = TcpListener::bind(address)?;
    let port = listener.local_addr()?.port();
    UdpSocket::bind(SocketAddr::new(address.ip(), port))?;
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_an_earlier_step_are_taken_again_and_a_taken_one_is_replaced() {
        let address = IpAddr::from([127, 84, 0, 1]);
        let first = Ports::choose(address, None).unwrap();
        assert_eq!((first.acme, first.api, first.dns), (14000, 8055, 8053));
        let other = Ports { acme: free((address, 0).into()).unwrap(), ..first };
        assert_eq!(Ports::choose(address, Some(other)).unwrap().acme, other.acme);
        let _taken = TcpListener::bind((address, other.acme)).unwrap();
        assert_eq!(Ports::choose(address, Some(other)).unwrap().acme, 14000);
        let _usual = TcpListener::bind((address, 14000)).unwrap();
        let last = Ports::choose(address, Some(other)).unwrap().acme;
        assert!(last != 14000 && last != other.acme, "{last}");
    }

    #[test]
    fn an_address_that_is_not_ours_is_an_error() {
        let error = Ports::choose(IpAddr::from([192, 0, 2, 1]), None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
