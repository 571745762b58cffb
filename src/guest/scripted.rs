//! A guest for tests that answers by a script: one act per attempt, the last one for ever.

use std::ops::ControlFlow;
use std::time::Duration;

use super::BootId;
use super::readiness::Prober;
use super::ssh::{SshError, WaitContext};

/// What one attempt meets.
pub(super) enum Act {
    /// Nobody listens.
    Refused,
    /// Logins are barred.
    AuthRefused,
    /// Somebody else answers.
    WrongKey,
    /// These lines, to the end.
    Says(Vec<String>),
    /// These lines, then the connection is cut.
    Cut(Vec<String>),
    /// These lines, then nothing more.
    Hangs(Vec<String>),
}

pub(super) struct Scripted {
    acts: Vec<Act>,
    pub(super) boots: Option<Vec<BootId>>,
    pub(super) attempts: usize,
}

impl Scripted {
    pub(super) fn new(acts: Vec<Act>) -> Self {
        Self { acts, boots: None, attempts: 0 }
    }
}

/// The boot id of the `n`th boot.
pub(super) fn id(n: u32) -> BootId {
    format!("{n:08x}-0000-4000-8000-000000000000").parse().unwrap()
}

/// What a settled guest says in its `n`th boot.
pub(super) fn settled(n: u32) -> Vec<String> {
    vec![format!("boot {}", id(n)), "cloud-init absent".into(), "state running".into()]
}

impl Prober for Scripted {
    type Session = Act;

    fn open(&mut self, _: &mut WaitContext<'_>) -> Result<Act, SshError> {
        self.attempts += 1;
        let peer = ([192, 0, 2, 1], 22).into();
        let act = if self.acts.len() > 1 {
            self.acts.remove(0)
        } else {
            match &self.acts[0] {
                Act::Refused => Act::Refused,
                Act::AuthRefused => Act::AuthRefused,
                Act::WrongKey => Act::WrongKey,
                Act::Says(lines) => Act::Says(lines.clone()),
                Act::Cut(lines) => Act::Cut(lines.clone()),
                Act::Hangs(lines) => Act::Hangs(lines.clone()),
            }
        };
        match act {
            Act::Refused => Err(SshError::Refused { peer }),
            Act::AuthRefused => Err(SshError::AuthRefused { peer, user: "u".into(), key: "k".into() }),
            Act::WrongKey => {
                Err(SshError::HostKeyMismatch { peer, expected: "a".into(), presented: "b".into() })
            }
            answers => Ok(answers),
        }
    }

    fn ask(
        &mut self,
        act: &mut Act,
        _: Option<&BootId>,
        watch: &mut WaitContext<'_>,
        on_line: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SshError> {
        let (Act::Says(lines) | Act::Cut(lines) | Act::Hangs(lines)) = act else { return Ok(()) };
        for line in lines {
            if on_line(line).is_break() {
                return Ok(());
            }
        }
        match act {
            Act::Cut(_) => Err(SshError::Closed {
                peer: ([192, 0, 2, 1], 22).into(),
                doing: "a test".into(),
                source: anyhow::anyhow!("cut"),
            }),
            Act::Hangs(_) => watch.pause(Duration::from_secs(3600), "a line"),
            _ => Ok(()),
        }
    }

    fn boots(&mut self, _: &mut Act, _: &mut WaitContext<'_>) -> Result<Vec<BootId>, String> {
        self.boots.clone().ok_or_else(|| "no journal".to_owned())
    }
}
