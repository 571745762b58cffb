//! Why there is no session, or none any more. The kinds are told apart because they mean different things to who
//! waits: a refusal may be early, a wrong key never is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::deadline::{WaitError, format_duration};
use crate::support::ssh_access::SshAccess;

/// Why talking to the guest failed.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The machine is there, nothing listens on the port.
    #[error("{peer} refused the connection: no sshd listens there")]
    Refused {
        /// Whom we called.
        peer: SocketAddr,
    },
    /// No TCP connection, for another reason (no route, say).
    #[error("cannot connect to {peer}")]
    Connect {
        /// Whom we called.
        peer: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("no answer from {peer} within {} during {doing}", format_duration(*.after))]
    Timeout {
        /// Whom we called.
        peer: SocketAddr,
        /// How far we had come.
        doing: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The server is not the one we expect.
    #[error(
        "host key mismatch: {peer} presents {presented}, expected {expected}; another machine answers at this \
         address, or the guest's host key was replaced; nothing was sent to it"
    )]
    HostKeyMismatch {
        /// Who answered.
        peer: SocketAddr,
        /// Fingerprint of the key we expect.
        expected: String,
        /// Fingerprint of the key that was presented.
        presented: String,
    },
    /// The server does not let us in.
    #[error(
        "{peer} refused the key {} for user {user}: the user or its authorized_keys is not there (yet), sshd forbids \
         it, or logins are barred while the system starts or stops", .key.display()
    )]
    AuthRefused {
        /// Who refused.
        peer: SocketAddr,
        /// The user we asked for.
        user: String,
        /// The private key's file.
        key: PathBuf,
    },
    /// The connection ended while we were using it.
    #[error("{peer} closed the connection during {doing}")]
    Closed {
        /// Who closed.
        peer: SocketAddr,
        /// What we were doing.
        doing: String,
        /// What libssh2 said.
        #[source]
        source: anyhow::Error,
    },
    /// The private key cannot be read.
    #[error("cannot read the private key {}", .path.display())]
    PrivateKey {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The host key we were told to expect is no key.
    #[error("the expected host key is not one: {reason}")]
    ExpectedKey {
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else that libssh2 complains about.
    #[error("SSH with {peer} failed during {doing}")]
    Protocol {
        /// With whom.
        peer: SocketAddr,
        /// What we were doing.
        doing: String,
        /// What libssh2 said.
        #[source]
        source: ssh2::Error,
    },
    /// A command that should have succeeded did not.
    #[error("`{command}` in the guest ended with {status}{}", shown(.stderr))]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: super::Status,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The deadline passed, or we were asked to stop.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// Whoever watches the VM said that waiting is pointless.
    #[error("the VM is beyond waiting for")]
    Dead(#[source] anyhow::Error),
}

/// Codes of libssh2.h.
mod code {
    pub(super) const BANNER_RECV: i32 = -2;
    pub(super) const SOCKET_SEND: i32 = -7;
    pub(super) const SOCKET_DISCONNECT: i32 = -13;
    pub(super) const FILE: i32 = -16;
    pub(super) const AUTHENTICATION_FAILED: i32 = -18;
    pub(super) const PUBLICKEY_UNVERIFIED: i32 = -19;
    pub(super) const CHANNEL_CLOSED: i32 = -26;
    pub(super) const CHANNEL_EOF_SENT: i32 = -27;
    pub(super) const AGAIN: i32 = -37;
    pub(super) const SOCKET_RECV: i32 = -43;
    pub(super) const BAD_SOCKET: i32 = -45;
}

fn session_code(error: &ssh2::Error) -> Option<i32> {
    match error.code() {
        ssh2::ErrorCode::Session(code) => Some(code),
        ssh2::ErrorCode::SFTP(_) => None,
    }
}

/// Whether a non-blocking operation wants to be repeated.
pub(super) fn is_again(error: &ssh2::Error) -> bool {
    session_code(error) == Some(code::AGAIN)
}

impl SshError {
    pub(super) fn connecting(peer: SocketAddr, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::ConnectionRefused => Self::Refused { peer },
            std::io::ErrorKind::TimedOut => {
                Self::Timeout { peer, doing: "the TCP connection", after: super::CONNECT }
            }
            _ => Self::Connect { peer, source },
        }
    }

    pub(super) fn from_ssh2(peer: SocketAddr, doing: &str, source: ssh2::Error) -> Self {
        let doing = doing.to_owned();
        match session_code(&source) {
            Some(
                code::BANNER_RECV
                | code::SOCKET_SEND
                | code::SOCKET_DISCONNECT
                | code::SOCKET_RECV
                | code::BAD_SOCKET
                | code::CHANNEL_CLOSED
                | code::CHANNEL_EOF_SENT,
            ) => Self::Closed { peer, doing, source: source.into() },
            _ => Self::Protocol { peer, doing, source },
        }
    }

    /// Tells a refusal from trouble with our own key.
    pub(super) fn while_authenticating(self, access: &SshAccess) -> Self {
        match self {
            Self::Protocol { peer, doing, source } => match session_code(&source) {
                Some(code::AUTHENTICATION_FAILED | code::PUBLICKEY_UNVERIFIED) => {
                    Self::AuthRefused { peer, user: access.user.clone(), key: access.private_key.clone() }
                }
                Some(code::FILE) => Self::PrivateKey {
                    path: access.private_key.clone(),
                    source: std::io::Error::new(std::io::ErrorKind::InvalidData, source),
                },
                _ => Self::Protocol { peer, doing, source },
            },
            other => other,
        }
    }

    /// Whether trying again is of no use: the answer will not change by itself.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::HostKeyMismatch { .. }
                | Self::PrivateKey { .. }
                | Self::ExpectedKey { .. }
                | Self::Wait(_)
                | Self::Dead(_)
        )
    }
}

fn shown(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}
