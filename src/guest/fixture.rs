//! A scripted guest for tests: one act for each attempt; the last one repeats.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Duration;

use super::prober::{Awaited, Prober};
use super::readiness::BootId;

use super::ssh::{CommandStatus, SshError, WaitContext};
use crate::support::ssh_access::SshAccess;

/// What one attempt meets.
#[derive(Clone)]
pub(super) enum Act {
    /// Nothing listens on the port.
    Refused,
    /// sshd refuses the login.
    AuthRefused,
    /// sshd accepts the login, but the account's shell ends at once.
    NoShell,
    /// sshd accepts the login, and then nothing comes.
    Mute,
    /// No packet comes back.
    Unanswered,
    /// The connection is there, and then nothing comes.
    HangsInHandshake,
    /// Another machine answers.
    WrongKey,
    /// A report of these lines.
    Reports(Vec<String>),
    /// These lines, then the connection is cut.
    Cut(Vec<String>),
    /// These lines, then silence.
    Hangs(Vec<String>),
}

pub(super) struct ScriptedGuest {
    acts: Vec<Act>,
    /// What its journal lists; `None` if it has no journal.
    pub(super) boots: Option<Vec<BootId>>,
    /// How many boots its wtmp counts now; `None` if it has none.
    pub(super) wtmp: Option<usize>,
}

impl ScriptedGuest {
    pub(super) fn new(acts: Vec<Act>) -> Self {
        Self { acts, boots: None, wtmp: None }
    }
}

/// The boot id of the `n`th boot.
pub(crate) fn id(n: u32) -> BootId {
    BootId::parse(&format!("{n:08x}-0000-4000-8000-000000000000")).unwrap()
}

/// What a settled guest reports in its `n`th boot.
pub(super) fn settled(n: u32) -> Vec<String> {
    vec![format!("boot {}", id(n)), "cloud-init absent".into(), "state running".into()]
}

/// Our end of every connection.
pub(super) const OURS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254)), 50_022);

/// Where errors say that the guest is.
pub(super) fn access() -> SshAccess {
    SshAccess {
        address: [192, 0, 2, 1].into(),
        port: 22,
        user: "u".into(),
        private_key: "k".into(),
        host_key: String::new(),
    }
}

impl Prober for ScriptedGuest {
    type Session = Act;

    fn mute(&self) -> SshError {
        SshError::Mute { peer: access().peer(), user: access().user }
    }

    fn open(&mut self, context: &mut WaitContext<'_>) -> Result<Act, SshError> {
        let peer = access().peer();
        let act = if self.acts.len() > 1 { self.acts.remove(0) } else { self.acts[0].clone() };
        match act {
            Act::Refused => Err(SshError::Refused { peer }),
            Act::AuthRefused => {
                context.refused(OURS);
                Err(SshError::AuthRefused { peer, user: "u".into(), key: "k".into() })
            }
            Act::Unanswered => {
                Err(SshError::Timeout { peer, doing: "the TCP connection", after: Duration::ZERO })
            }
            Act::HangsInHandshake => {
                context.pause(Duration::from_secs(3600), "the SSH handshake").map(|()| Act::HangsInHandshake)
            }
            Act::WrongKey => {
                Err(SshError::HostKeyMismatch { peer, expected: "a".into(), presented: "b".into() })
            }
            answers => Ok(answers),
        }
    }

    fn ask(
        &mut self,
        act: &mut Act,
        _: Awaited,
        context: &mut WaitContext<'_>,
        on_line: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SshError> {
        let lines = match act {
            Act::NoShell => {
                return Err(SshError::no_shell(
                    &access(),
                    CommandStatus::Exited(1),
                    "Password change required\n",
                ));
            }
            Act::Mute => return context.pause(Duration::from_secs(3600), "a line"),
            Act::Reports(lines) | Act::Cut(lines) | Act::Hangs(lines) => lines,
            _ => return Ok(()),
        };
        for line in lines {
            if on_line(line).is_break() {
                return Ok(());
            }
        }
        match act {
            Act::Cut(_) => Err(SshError::Closed {
                peer: access().peer(),
                doing: "a test".into(),
                source: anyhow::anyhow!("cut"),
            }),
            Act::Hangs(_) => context.pause(Duration::from_secs(3600), "a line"),
            _ => Ok(()),
        }
    }

    fn boots(&mut self, _: &mut Act, _: &mut WaitContext<'_>) -> Result<Vec<BootId>, String> {
        self.boots.clone().ok_or_else(|| "no journal".to_owned())
    }

    fn wtmp(&mut self, _: &mut Act, _: &mut WaitContext<'_>) -> Result<usize, String> {
        self.wtmp.ok_or_else(|| "no wtmp".to_owned())
    }
}
