//! Whether our client and a server have an algorithm of each kind in common. libssh2 says only that the key exchange failed, so
//! this asks the server once more for its offer, which it sends in the clear, and compares the lists (RFC 4253, section 7.1).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ssh2::MethodType;

use super::error::SshError;
use super::{CONNECT, HOST_KEY_TYPES};

/// How long the server may take for each part of its offer.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest packet and the longest line that a server may begin with (RFC 4253, sections 4.2 and 6.1).
const LONGEST: usize = 35_000;
/// The message number of an offer, and the random bytes after it.
const KEXINIT: u8 = 20;
const COOKIE: usize = 16;

/// The kinds in the order of an offer.
const KINDS: [(MethodType, &str); 6] = [
    (MethodType::Kex, "key exchange"),
    (MethodType::HostKey, "host key type"),
    (MethodType::CryptCs, "cipher"),
    (MethodType::CryptSc, "cipher"),
    (MethodType::MacCs, "MAC"),
    (MethodType::MacSc, "MAC"),
];
/// Parts of the names of ciphers that need no MAC.
const WITH_MAC: [&str; 2] = ["gcm", "poly1305"];

/// Replaces the error of a failed handshake, if the server's offer shows that nothing is in common. Otherwise it stays.
pub(super) fn explain(error: SshError, ours: &ssh2::Session) -> SshError {
    let SshError::Protocol { peer, .. } = error else { return error };
    match offer(peer) {
        Ok(offered) => missing(peer, &offered, &|kind| known(kind, ours)).unwrap_or(error),
        Err(reason) => {
            tracing::debug!("cannot read the offer of the sshd at {peer}: {reason}");
            error
        }
    }
}

/// What our client would use, in the order of its preference.
fn known(kind: MethodType, ours: &ssh2::Session) -> Vec<String> {
    match kind {
        MethodType::HostKey => HOST_KEY_TYPES.split(',').map(str::to_owned).collect(),
        other => ours.supported_algs(other).unwrap_or_default().into_iter().map(str::to_owned).collect(),
    }
}

/// The first kind of which the offer has nothing that we know.
fn missing(
    peer: SocketAddr,
    offered: &[Vec<String>],
    known: &dyn Fn(MethodType) -> Vec<String>,
) -> Option<SshError> {
    let ciphers = offered.get(2).into_iter().chain(offered.get(3)).flatten();
    let needs_mac = !ciphers.into_iter().any(|cipher| WITH_MAC.iter().any(|part| cipher.contains(part)));
    KINDS.into_iter().zip(offered).find_map(|((kind, name), offered)| {
        let known = known(kind);
        let counts = needs_mac || !matches!(kind, MethodType::MacCs | MethodType::MacSc);
        let is_certain = counts && !known.is_empty() && !known.iter().any(|one| offered.contains(one));
        is_certain.then(|| SshError::NoCommonAlgorithm {
            peer,
            kind: name,
            offered: offered.join(", "),
            known: known.join(", "),
        })
    })
}

/// The server's offer: the lists of [`KINDS`].
fn offer(peer: SocketAddr) -> io::Result<Vec<Vec<String>>> {
    let mut tcp = TcpStream::connect_timeout(&peer, CONNECT)?;
    tcp.set_read_timeout(Some(ANSWER))?;
    tcp.set_write_timeout(Some(ANSWER))?;
    tcp.write_all(b"SSH-2.0-boma-it\r\n")?;
    read_offer(&mut tcp)
}

fn read_offer(from: &mut dyn Read) -> io::Result<Vec<Vec<String>>> {
    let mut taken = 0;
    let mut byte = || -> io::Result<u8> {
        let mut one = [0];
        taken += 1;
        if taken > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        from.read_exact(&mut one).map(|()| one[0])
    };
    // Any lines, and then the version, before the first packet.
    loop {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(byte()?);
        }
        if line.starts_with(b"SSH-") {
            break;
        }
    }
    // The length, the length of the padding, the number of the message.
    let head = [byte()?, byte()?, byte()?, byte()?, byte()?, byte()?];
    if head[5] != KEXINIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    for _ in 0..COOKIE {
        byte()?;
    }
    let mut lists = Vec::new();
    for _ in KINDS {
        let length = u32::from_be_bytes([byte()?, byte()?, byte()?, byte()?]);
        let list = (0..length).map(|_| byte()).collect::<io::Result<Vec<u8>>>()?;
        lists.push(String::from_utf8_lossy(&list).split(',').map(str::to_owned).collect());
    }
    Ok(lists)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An offer as a server sends it.
    fn packet([kex, key, there, back]: [&str; 4], macs: &str) -> Vec<u8> {
        let mut bytes = b"a greeting\r\nSSH-2.0-OpenSSH_10.0\r\n".to_vec();
        bytes.extend([0, 0, 4, 0, 7, KEXINIT]);
        bytes.extend([9; COOKIE]);
        for list in [kex, key, there, back, macs, macs] {
            bytes.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            bytes.extend(list.as_bytes());
        }
        bytes
    }

    fn verdict(lists: [&str; 4], macs: &str) -> Option<&'static str> {
        let offered = read_offer(&mut packet(lists, macs).as_slice()).unwrap();
        let known = |kind: MethodType| {
            let known: &[&str] = match kind {
                MethodType::Kex => &["curve25519-sha256", "ecdh-sha2-nistp256"],
                MethodType::HostKey => &["ssh-ed25519"],
                MethodType::MacCs | MethodType::MacSc => &["hmac-sha2-256"],
                _ => &["aes256-ctr"],
            };
            known.iter().map(|one| (*one).to_owned()).collect()
        };
        match missing(([192, 0, 2, 1], 22).into(), &offered, &known) {
            Some(SshError::NoCommonAlgorithm { kind, .. }) => Some(kind),
            None => None,
            Some(other) => panic!("{other:?}"),
        }
    }

    #[rstest::rstest]
    #[case::all(["ecdh-sha2-nistp256,x", "ssh-ed25519", "aes256-ctr", "x,aes256-ctr"], None)]
    #[case::post_quantum_only(["mlkem768x25519-sha256,sntrup761x25519-sha512", "ssh-ed25519", "aes256-ctr", "aes256-ctr"], Some("key exchange"))]
    #[case::a_prefix_is_another(["curve25519-sha256@libssh.org", "ssh-ed25519", "aes256-ctr", "aes256-ctr"], Some("key exchange"))]
    #[case::dsa_only(["curve25519-sha256", "ssh-dss", "aes256-ctr", "aes256-ctr"], Some("host key type"))]
    #[case::no_host_key(["curve25519-sha256", "", "aes256-ctr", "aes256-ctr"], Some("host key type"))]
    #[case::gcm_only(["curve25519-sha256", "ssh-ed25519", "aes256-gcm@openssh.com", "aes256-ctr"], Some("cipher"))]
    #[case::one_way_only(["curve25519-sha256", "ssh-ed25519", "aes256-ctr", "aes128-ctr"], Some("cipher"))]
    fn only_a_kind_of_which_nothing_is_in_common_is_a_mismatch(
        #[case] lists: [&str; 4],
        #[case] missing: Option<&str>,
    ) {
        assert_eq!(verdict(lists, "umac-64@openssh.com,hmac-sha2-256"), missing);
    }

    #[test]
    fn a_mac_is_missing_only_where_a_cipher_needs_one() {
        let with = |cipher| ["curve25519-sha256", "ssh-ed25519", cipher, cipher];
        assert_eq!(verdict(with("aes256-ctr"), "umac-64@openssh.com"), Some("MAC"));
        assert_eq!(verdict(with("aes256-gcm@openssh.com,aes256-ctr"), "umac-64@openssh.com"), None);
        assert_eq!(verdict(with("chacha20-poly1305@openssh.com,aes256-ctr"), "umac-64@openssh.com"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_reading_an_offer_panic_or_go_on_for_ever(bytes: Vec<u8>, begins: bool) {
            let start: &[u8] = if begins { b"SSH-2.0-x\n\0\0\0\0\0\x14" } else { b"" };
            let _ = read_offer(&mut [start, &bytes].concat().as_slice());
        }

        #[test]
        fn an_offer_that_breaks_off_is_an_error(length in 0..100_usize) {
            let whole = packet(["a,b", "c", "d", "e,f,g"], "h");
            let part = &whole[..length.min(whole.len() - 1)];
            proptest::prop_assert!(read_offer(&mut &*part).is_err());
        }
    }
}
