//! SSH sessions with the guest. The host key is checked from the first connection on, authentication uses the run's own key, and
//! the user's agent and configuration are ignored.
//!
//! libssh2 runs in non-blocking mode, and this module waits in slices of a tenth of a second: the blocking mode can be
//! neither interrupted nor bounded as a whole, and reads one stream while the other fills up. A session runs one command at a
//! time.

mod algorithms;
mod error;
mod host_key;
mod wait_context;

use std::convert::Infallible;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

pub use error::{CommandStatus, SshError};
use host_key::HostKey;
pub use wait_context::Silence;
pub(super) use wait_context::{GiveUp, HealthCheck, WaitContext};

use crate::support::deadline::Deadline;
use crate::support::process::Stream;
use crate::support::ssh_access::SshAccess;

/// How long one attempt at a TCP connection may take. Under a second, to react to an interrupt, and because the kernel sends a
/// lost SYN again only after one second: a fresh attempt is quicker.
const CONNECT: Duration = Duration::from_millis(900);
/// How long the handshake and the authentication may take. An emulated guest that is busy booting needs seconds for the key
/// exchange.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// The host keys we accept, in order of preference.
const HOST_KEY_TYPES: &str =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256";
/// How many reads in a row one stream gets before we check the deadline and the other stream.
const READS_PER_TURN: usize = 32;

/// An authenticated connection to the guest's sshd. Dropping it closes the connection.
pub struct Session {
    ssh: ssh2::Session,
    tcp: Arc<TcpStream>,
    peer: SocketAddr,
    /// Our end of the connection.
    ours: SocketAddr,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What a command printed until it ended, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutput {
    /// How it ended.
    pub status: CommandStatus,
    /// All of standard output, decoded lossily.
    pub stdout: String,
    /// All of standard error, decoded lossily.
    pub stderr: String,
}

impl Session {
    /// Connects, checks the host key and authenticates: one attempt, which takes at most 21 s and never longer than the
    /// deadline.
    ///
    /// # Errors
    /// [`SshError`]. Before [`SshError::HostKeyMismatch`], nothing was sent that an impostor could use.
    pub fn connect(access: &SshAccess, deadline: &Deadline) -> Result<Self, SshError> {
        deadline.time_wait(|| Self::open(access, &mut WaitContext::new(deadline)))
    }

    /// Like [`Session::connect`], but with the checks of `context`, and its time is not counted as waiting.
    pub(super) fn open(access: &SshAccess, context: &mut WaitContext<'_>) -> Result<Self, SshError> {
        let peer = access.peer();
        let expected = HostKey::parse(&access.host_key).map_err(|reason| SshError::ExpectedKey { reason })?;
        let private_key = std::fs::read_to_string(&access.private_key)
            .map_err(|source| SshError::PrivateKey { path: access.private_key.clone(), source })?;
        context.check("an SSH connection")?;

        let limit = CONNECT.min(context.deadline.remaining());
        let tcp = TcpStream::connect_timeout(&peer, limit)
            .map_err(|source| SshError::from_connect(peer, CONNECT, source))?;
        let ours = enable_keepalive(&tcp).and_then(|()| tcp.local_addr());
        let ours = ours.map_err(|source| SshError::Connect { peer, source })?;
        let setup = |source| SshError::from_ssh2(peer, "setup", source);
        let mut ssh = ssh2::Session::new().map_err(setup)?;
        let tcp = Arc::new(tcp);
        ssh.set_tcp_stream(Arc::clone(&tcp));
        ssh.set_blocking(false);
        ssh.method_pref(ssh2::MethodType::HostKey, HOST_KEY_TYPES).map_err(setup)?;
        let mut session = Self { ssh, tcp, peer, ours };
        let until = Some(Instant::now() + HANDSHAKE);

        session
            .drive("the SSH handshake", until, context, |ssh| ssh.handshake())
            .map_err(|error| algorithms::explain(error, &session.ssh))?;
        let presented = session.ssh.host_key().map(|(blob, _)| HostKey(blob.to_vec()));
        if presented.as_ref() != Some(&expected) {
            return Err(SshError::HostKeyMismatch {
                peer,
                expected: expected.fingerprint(),
                presented: presented.map_or_else(|| "no key".into(), |key| key.fingerprint()),
            });
        }
        session
            .drive("SSH authentication", until, context, |ssh| {
                ssh.userauth_pubkey_memory(&access.user, None, &private_key, None)
            })
            .map_err(|error| error.while_authenticating(access))
            .inspect_err(|error| {
                if error.is_refusal() {
                    context.refused(ours);
                }
            })?;
        Ok(session)
    }

    /// Our end of the connection.
    pub(super) fn ours(&self) -> SocketAddr {
        self.ours
    }

    /// Runs `command` in the user's shell, with empty standard input, until it ends. At the deadline or on an interrupt the
    /// channel is closed; the command itself may go on in the guest.
    ///
    /// # Errors
    /// [`SshError::Closed`], [`SshError::Wait`], [`SshError::Protocol`]. A failing command is no error.
    pub fn exec(&mut self, command: &str, deadline: &Deadline) -> Result<CommandOutput, SshError> {
        deadline.time_wait(|| self.output(command, &mut WaitContext::new(deadline)))
    }

    /// Like [`Session::exec`], but requires exit status 0. Returns standard output.
    ///
    /// # Errors
    /// Also [`SshError::CommandFailed`], with the end of standard error.
    pub fn exec_ok(&mut self, command: &str, deadline: &Deadline) -> Result<String, SshError> {
        let CommandOutput { status, stdout, stderr } = self.exec(command, deadline)?;
        if status.is_success() {
            return Ok(stdout);
        }
        Err(SshError::command_failed(command, status, &stderr))
    }

    /// Runs a shell script as root, from standard input, so that nothing of it is in an argument. Requires exit status 0.
    ///
    /// # Errors
    /// As [`Session::exec_ok`].
    pub(super) fn exec_script(&mut self, script: &str, deadline: &Deadline) -> Result<(), SshError> {
        let mut stderr = Vec::new();
        let command = "sudo -n sh -s";
        let status = deadline.time_wait(|| {
            let context = &mut WaitContext::new(deadline);
            self.run::<Infallible>(command, script.as_bytes(), None, context, &mut |stream, bytes| {
                if stream == Stream::Stderr {
                    stderr.extend_from_slice(bytes);
                }
                ControlFlow::Continue(())
            })
        })?;
        let ControlFlow::Continue(status) = status;
        if status.is_success() {
            return Ok(());
        }
        Err(SshError::command_failed(command, status, &String::from_utf8_lossy(&stderr)))
    }

    /// Like [`Session::exec`], but with the checks of `context`, and its time is not counted as waiting.
    pub(super) fn output(
        &mut self,
        command: &str,
        context: &mut WaitContext<'_>,
    ) -> Result<CommandOutput, SshError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = self.run_to_end(command, context, &mut |stream, bytes| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        })?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(CommandOutput { status, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Like [`Session::output`], but passes the bytes of both streams on as they arrive and keeps none.
    pub(super) fn run_to_end(
        &mut self,
        command: &str,
        context: &mut WaitContext<'_>,
        on_bytes: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<CommandStatus, SshError> {
        let ControlFlow::Continue(status) =
            self.run::<Infallible>(command, &[], None, context, &mut |stream, bytes| {
                on_bytes(stream, bytes);
                ControlFlow::Continue(())
            })?;
        Ok(status)
    }

    /// Runs `command` with `input` as standard input until it ends, which gives its status, or until `on_bytes` breaks off.
    /// The input is sent whole before anything is read, so it must fit the channel's window: some 32 KiB. The command must
    /// print something or end within `silence`, if that is given.
    pub(super) fn run<B>(
        &mut self,
        command: &str,
        input: &[u8],
        silence: Option<Duration>,
        context: &mut WaitContext<'_>,
        on_bytes: &mut dyn FnMut(Stream, &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B, CommandStatus>, SshError> {
        let doing = format!("`{}`", command.lines().next().unwrap_or_default());
        let mut channel = self.drive("opening a channel", None, context, |ssh| ssh.channel_session())?;
        self.drive("starting a command", None, context, |_| channel.exec(command))?;
        let mut rest = input;
        while !rest.is_empty() {
            match channel.write(rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    context.check(&doing)?;
                    context.wait_for_socket(&self.tcp, self.ssh.block_directions());
                }
                Err(error) => return Err(SshError::Closed { peer: self.peer, doing, source: error.into() }),
            }
        }
        self.drive("starting a command", None, context, |_| channel.send_eof())?;
        let mut buffer = vec![0; 32 * 1024];
        let (started, mut silence) = (Instant::now(), silence);
        loop {
            let mut is_idle = true;
            for (id, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
                let mut source = channel.stream(id);
                for _ in 0..READS_PER_TURN {
                    match source.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(read) => {
                            (is_idle, silence) = (false, None);
                            if let ControlFlow::Break(reason) = on_bytes(stream, &buffer[..read]) {
                                return Ok(ControlFlow::Break(reason));
                            }
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => {
                            return Err(SshError::Closed { peer: self.peer, doing, source: error.into() });
                        }
                    }
                }
            }
            if channel.eof() {
                break;
            }
            context.check(&doing)?;
            if silence.is_some_and(|limit| started.elapsed() >= limit) {
                let (peer, after) = (self.peer, started.elapsed());
                return Err(SshError::Timeout { peer, doing: "the login shell", after });
            }
            if is_idle {
                context.wait_for_socket(&self.tcp, self.ssh.block_directions());
            }
        }
        // The exit status arrives before the server's close, so we wait for that before we send ours.
        self.drive("the end of a command", None, context, |_| channel.wait_close())?;
        let lost = |source| SshError::from_ssh2(self.peer, "the end of a command", source);
        // After a signal, libssh2 gives exit status 0.
        let status = match channel.exit_signal().map_err(lost)?.exit_signal {
            Some(name) => CommandStatus::Signal(name),
            None => CommandStatus::Exited(channel.exit_status().map_err(lost)?),
        };
        Ok(ControlFlow::Continue(status))
    }

    /// Repeats a non-blocking operation of libssh2 until it is done, waiting on the socket in between.
    fn drive<T>(
        &mut self,
        doing: &'static str,
        until: Option<Instant>,
        context: &mut WaitContext<'_>,
        mut operation: impl FnMut(&mut ssh2::Session) -> Result<T, ssh2::Error>,
    ) -> Result<T, SshError> {
        let started = Instant::now();
        loop {
            match operation(&mut self.ssh) {
                Ok(value) => return Ok(value),
                Err(error) if error::would_block(&error) => {}
                Err(error) => return Err(SshError::from_ssh2(self.peer, doing, error)),
            }
            context.check(doing)?;
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(SshError::Timeout { peer: self.peer, doing, after: started.elapsed() });
            }
            context.wait_for_socket(&self.tcp, self.ssh.block_directions());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // With the socket closed, libssh2 frees the session at once instead of waiting for the peer.
        let _ = self.tcp.shutdown(std::net::Shutdown::Both);
        self.ssh.set_blocking(true);
    }
}

/// A guest that was reset sends nothing more. A probe every second makes its next kernel reject the connection; 20 s of
/// silence end it too.
fn enable_keepalive(tcp: &TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, Duration::from_secs(1))?;
    sockopt::set_tcp_keepintvl(tcp, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(tcp, 20)?;
    Ok(())
}
