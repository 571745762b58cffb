//! How sessions and commands fail. The kinds are separate because they mean different things to a wait: a refusal may just be
//! early, a wrong host key never is.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use libssh2_sys as code;

use crate::support::deadline::{WaitError, format_duration};
use crate::support::ssh_access::SshAccess;

/// How much of standard error an error shows, in characters.
const MAX_STDERR: usize = 2000;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandStatus {
    /// With this exit status.
    #[error("exit status {0}")]
    Exited(i32),
    /// By this signal, named without `SIG` (RFC 4254, section 6.10).
    #[error("signal {0}")]
    Signal(String),
}

impl CommandStatus {
    /// Whether it is exit status 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Exited(0)
    }
}

/// Why SSH with the guest failed.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The machine is there, but nothing listens on the port.
    #[error("{peer} refused the connection: no sshd listens there")]
    Refused {
        /// Address and port of the sshd.
        peer: SocketAddr,
    },
    /// No TCP connection, for another reason, such as no route.
    #[error("cannot connect to {peer}")]
    Connect {
        /// Address and port of the sshd.
        peer: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from {peer} within {} during {doing}", format_duration(*.after))]
    Timeout {
        /// Address and port of the sshd.
        peer: SocketAddr,
        /// The step that got no answer.
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
        /// Address and port of the sshd.
        peer: SocketAddr,
        /// Fingerprint of the key we expect.
        expected: String,
        /// Fingerprint of the key that was presented.
        presented: String,
    },
    /// The server refuses the login.
    #[error(
        "{peer} refused the key {} for user {user}: the user or its authorized_keys is missing (so far), sshd forbids \
         the login, or logins are blocked while the system starts or stops", .key.display()
    )]
    AuthRefused {
        /// Address and port of the sshd.
        peer: SocketAddr,
        /// The user we tried to log in as.
        user: String,
        /// The private key's file.
        key: PathBuf,
    },
    /// The guest's sshd and our client have no algorithm of one kind in common. Other clients may well get in.
    #[error(
        "boma-it's SSH client has no {kind} in common with the sshd at {peer}: it offers {offered}, and the client knows \
         {known}; whether others can log in is unknown, so let sshd accept one of these as well"
    )]
    NoCommonAlgorithm {
        /// Address and port of the sshd.
        peer: SocketAddr,
        /// Which kind: `key exchange`.
        kind: &'static str,
        /// What the sshd offers, with commas.
        offered: String,
        /// What our client knows, with commas.
        known: String,
    },
    /// sshd accepted the login, and the account's shell has printed nothing yet.
    #[error("{peer} accepted the login, but the shell of user {user} has not answered")]
    Mute {
        /// Address and port of the sshd.
        peer: SocketAddr,
        /// The user we logged in as.
        user: String,
    },
    /// sshd accepted the login, and the account runs no command of ours.
    #[error("{peer} accepted the login of user {user}, but runs no command for it: {status}{}", prefixed(.stderr))]
    NoShell {
        /// Address and port of the sshd.
        peer: SocketAddr,
        /// The user we logged in as.
        user: String,
        /// How the command ended.
        status: CommandStatus,
        /// The end of its standard error.
        stderr: String,
    },
    /// The connection ended while it was in use.
    #[error("{peer} closed the connection during {doing}")]
    Closed {
        /// Address and port of the sshd.
        peer: SocketAddr,
        /// What was going on.
        doing: String,
        /// The error of libssh2.
        #[source]
        source: anyhow::Error,
    },
    /// The private key cannot be read.
    #[error("cannot read the private key {}", .path.display())]
    PrivateKey {
        /// Its file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The host key we expect is not a public key.
    #[error("the expected host key is invalid: {reason}")]
    ExpectedKey {
        /// What is wrong with it.
        reason: String,
    },
    /// Any other error of libssh2.
    #[error("SSH with {peer} failed during {doing}")]
    Protocol {
        /// Address and port of the sshd.
        peer: SocketAddr,
        /// What was going on.
        doing: String,
        /// The error of libssh2.
        #[source]
        source: ssh2::Error,
    },
    /// A command that had to succeed failed.
    #[error("`{command}` in the guest ended with {status}{}", prefixed(.stderr))]
    CommandFailed {
        /// The command.
        command: String,
        /// How it ended.
        status: CommandStatus,
        /// The end of its standard error.
        stderr: String,
    },
    /// The deadline passed during an attempt.
    #[error("the last attempt had come to {doing}")]
    Unfinished {
        /// What was going on.
        doing: String,
    },
    /// The deadline passed, or we were asked to stop.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The health check failed.
    #[error("the VM stopped while waiting for SSH")]
    VmFailed(#[source] anyhow::Error),
}

fn prefixed(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// The end of a command's standard error.
fn shortened(stderr: &str) -> String {
    let stderr = stderr.trim_end();
    let skipped = stderr.char_indices().nth_back(MAX_STDERR).map_or(0, |(at, _)| at);
    stderr.split_at(skipped).1.to_owned()
}

fn session_code(error: &ssh2::Error) -> Option<i32> {
    match error.code() {
        ssh2::ErrorCode::Session(code) => Some(code),
        ssh2::ErrorCode::SFTP(_) => None,
    }
}

/// Whether a non-blocking operation must be repeated.
pub(super) fn would_block(error: &ssh2::Error) -> bool {
    session_code(error) == Some(code::LIBSSH2_ERROR_EAGAIN)
}

impl SshError {
    pub(super) fn command_failed(command: &str, status: CommandStatus, stderr: &str) -> Self {
        Self::CommandFailed { command: command.to_owned(), status, stderr: shortened(stderr) }
    }

    pub(in crate::guest) fn no_shell(access: &SshAccess, status: CommandStatus, stderr: &str) -> Self {
        let stderr = shortened(stderr).lines().map(str::trim).collect::<Vec<_>>().join(" / ");
        Self::NoShell { peer: access.peer(), user: access.user.clone(), status, stderr }
    }

    pub(super) fn from_connect(peer: SocketAddr, after: Duration, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { peer },
            io::ErrorKind::TimedOut => Self::Timeout { peer, doing: "the TCP connection", after },
            _ => Self::Connect { peer, source },
        }
    }

    pub(super) fn from_ssh2(peer: SocketAddr, doing: &str, source: ssh2::Error) -> Self {
        let doing = doing.to_owned();
        match session_code(&source) {
            Some(
                code::LIBSSH2_ERROR_BANNER_RECV
                | code::LIBSSH2_ERROR_SOCKET_SEND
                | code::LIBSSH2_ERROR_SOCKET_DISCONNECT
                | code::LIBSSH2_ERROR_SOCKET_RECV
                | code::LIBSSH2_ERROR_BAD_SOCKET
                | code::LIBSSH2_ERROR_CHANNEL_CLOSED
                | code::LIBSSH2_ERROR_CHANNEL_EOF_SENT,
            ) => Self::Closed { peer, doing, source: source.into() },
            _ => Self::Protocol { peer, doing, source },
        }
    }

    /// Separates a refused login and an unusable private key from other errors of the protocol.
    pub(super) fn while_authenticating(self, access: &SshAccess) -> Self {
        let Self::Protocol { peer, doing, source } = self else { return self };
        let key = access.private_key.clone();
        match session_code(&source) {
            Some(code::LIBSSH2_ERROR_AUTHENTICATION_FAILED | code::LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED) => {
                Self::AuthRefused { peer, user: access.user.clone(), key }
            }
            Some(code::LIBSSH2_ERROR_FILE) => {
                let source = io::Error::new(io::ErrorKind::InvalidData, source);
                Self::PrivateKey { path: key, source }
            }
            _ => Self::Protocol { peer, doing, source },
        }
    }

    /// Whether, during or after the authentication, the guest's own sshd ended an attempt without a session.
    pub(in crate::guest) fn is_refusal(&self) -> bool {
        matches!(self, Self::AuthRefused { .. } | Self::Closed { .. } | Self::NoShell { .. })
    }

    /// Whether the guest answered, if only to refuse: its kernel runs.
    pub(in crate::guest) fn is_answer(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Protocol { .. } | Self::Mute { .. }) || self.is_refusal()
    }

    /// Whether another attempt would fail in the same way.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::HostKeyMismatch { .. }
                | Self::NoCommonAlgorithm { .. }
                | Self::PrivateKey { .. }
                | Self::ExpectedKey { .. }
                | Self::Wait(_)
                | Self::VmFailed(_)
        )
    }
}
