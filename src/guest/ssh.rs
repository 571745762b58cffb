//! An SSH session with the guest: the host key is checked strictly from the first connection, authentication is by
//! our own key, no agent and no configuration of the user is looked at.
//!
//! libssh2 runs in non-blocking mode throughout and this module does the waiting, in slices of a tenth of a second: its
//! blocking mode can be neither interrupted nor bounded as a whole, and reads one stream while the other fills up.
//! A session serves one concern at a time.

mod error;
mod exec;
mod watch;

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::host_key::HostKey;
use crate::support::deadline::Deadline;
use crate::support::ssh_access::SshAccess;

pub use error::SshError;
pub use exec::{Output, Status, Stream};
pub(super) use watch::WaitContext;

/// How long one attempt at a TCP connection may take. Under a second, so that an interrupt is heeded, and as a lost SYN
/// is only sent again after one: a fresh attempt is quicker.
const CONNECT: Duration = Duration::from_millis(900);
/// How long the peer may take from there to a session that may run commands. Generous, as an emulated guest that is
/// busy booting takes seconds for the key exchange.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// What the server may present, in the order in which we ask for it.
const HOST_KEY_TYPES: &str =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256";

/// An authenticated connection to the guest's sshd. Dropping it closes the connection.
pub struct Session {
    ssh: ssh2::Session,
    tcp: Arc<TcpStream>,
    peer: SocketAddr,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects, checks the host key and authenticates: one attempt, which takes at most 21 s and never
    /// longer than the deadline.
    ///
    /// # Errors
    /// [`SshError`], see its variants; after [`SshError::HostKeyMismatch`] nothing was sent that could be of
    /// use to an impostor.
    pub fn connect(access: &SshAccess, deadline: &Deadline) -> Result<Self, SshError> {
        deadline.time_wait(|| Self::open(access, &mut WaitContext::over(deadline)))
    }

    /// Like [`Session::connect`], but books nothing and looks around while it waits.
    pub(super) fn open(access: &SshAccess, watch: &mut WaitContext<'_>) -> Result<Self, SshError> {
        let peer = access.peer();
        let expected = HostKey::parse(&access.host_key).map_err(|reason| SshError::ExpectedKey { reason })?;
        let private_key = std::fs::read_to_string(&access.private_key)
            .map_err(|source| SshError::PrivateKey { path: access.private_key.clone(), source })?;
        watch.look("an SSH connection")?;

        let limit = CONNECT.min(watch.deadline().remaining());
        let tcp =
            TcpStream::connect_timeout(&peer, limit).map_err(|source| SshError::connecting(peer, source))?;
        let protocol = |doing| move |source| SshError::from_ssh2(peer, doing, source);
        notice_a_dead_peer(&tcp).map_err(|source| SshError::Connect { peer, source })?;
        let mut ssh = ssh2::Session::new().map_err(protocol("setting up"))?;
        let tcp = Arc::new(tcp);
        ssh.set_tcp_stream(Arc::clone(&tcp));
        ssh.set_blocking(false);
        ssh.method_pref(ssh2::MethodType::HostKey, HOST_KEY_TYPES).map_err(protocol("setting up"))?;
        let mut session = Self { ssh, tcp, peer };
        let until = Instant::now() + HANDSHAKE;

        session.drive("the SSH handshake", Some(until), watch, |ssh| ssh.handshake())?;
        let presented = session.ssh.host_key().map(|(blob, _)| HostKey::presented(blob));
        if presented.as_ref() != Some(&expected) {
            return Err(SshError::HostKeyMismatch {
                peer,
                expected: expected.fingerprint(),
                presented: presented.map_or_else(|| "no key".into(), |key| key.fingerprint()),
            });
        }
        session
            .drive("SSH authentication", Some(until), watch, |ssh| {
                ssh.userauth_pubkey_memory(&access.user, None, &private_key, None)
            })
            .map_err(|error| error.while_authenticating(access))?;
        Ok(session)
    }

    /// Whom we are connected to.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Repeats a non-blocking operation of libssh2 until it is done, waiting on the socket in between.
    fn drive<T>(
        &mut self,
        doing: &'static str,
        until: Option<Instant>,
        watch: &mut WaitContext<'_>,
        mut operation: impl FnMut(&mut ssh2::Session) -> Result<T, ssh2::Error>,
    ) -> Result<T, SshError> {
        let started = Instant::now();
        loop {
            match operation(&mut self.ssh) {
                Ok(value) => return Ok(value),
                Err(error) if error::is_again(&error) => {}
                Err(error) => return Err(SshError::from_ssh2(self.peer, doing, error)),
            }
            watch.look(doing)?;
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(SshError::Timeout { peer: self.peer, doing, after: started.elapsed() });
            }
            watch.await_socket(&self.tcp, self.ssh.block_directions());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A closed socket makes libssh2 free the session at once, where it would otherwise want to wait for the peer.
        let _ = self.tcp.shutdown(std::net::Shutdown::Both);
        self.ssh.set_blocking(true);
    }
}

/// A guest that was reset sends nothing more; a probe every second makes its next kernel say so, and a silence of 20 s
/// is taken for its end.
fn notice_a_dead_peer(tcp: &TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, Duration::from_secs(1))?;
    sockopt::set_tcp_keepintvl(tcp, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(tcp, 20)?;
    Ok(())
}
