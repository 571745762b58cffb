//! How to reach a VM over SSH and how to recognise it: plain data, shared by the guest's own SSH sessions, Ansible's and
//! the driver's `ssh`. It stands alone because `guest` and `site`, which both need it, must not import each other.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Address, login and host key of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshAccess {
    /// Address of the VM.
    pub address: IpAddr,
    /// Port of its sshd.
    pub port: u16,
    /// User to log in as: not root, has `sudo` without a password.
    pub user: String,
    /// File of the private key: an absolute path, mode 0600, OpenSSH or PEM, no passphrase.
    pub private_key: PathBuf,
    /// The public key that the server must present, as one line of a `.pub` file: `ssh-ed25519 AAAA…`, a comment may follow.
    pub host_key: String,
}

impl SshAccess {
    /// Address and port.
    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// The one line of a `known_hosts` file (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). The file names the port only if it
    /// is not 22.
    pub(crate) fn known_hosts(&self) -> String {
        let key = self.host_key.trim();
        match self.port {
            22 => format!("{} {key}\n", self.address),
            port => format!("[{}]:{port} {key}\n", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(22, "10.213.47.10 ssh-ed25519 AAAA vm\n")]
    #[case(2222, "[10.213.47.10]:2222 ssh-ed25519 AAAA vm\n")]
    fn known_hosts_names_the_port_unless_it_is_22(#[case] port: u16, #[case] line: &str) {
        let access = SshAccess {
            address: "10.213.47.10".parse().unwrap(),
            port,
            user: "ansible".into(),
            private_key: "/runs/key".into(),
            host_key: "ssh-ed25519 AAAA vm\n".into(),
        };
        assert_eq!(access.known_hosts(), line);
    }
}
