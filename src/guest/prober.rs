//! How a guest is asked: a login, `settle.sh` in it, and what its journal and wtmp say about its boots.

use std::ops::ControlFlow;
use std::time::Duration;

use super::readiness::BootId;
use super::ssh::{Session, SshError, WaitContext};
use crate::support::process::{Stream, quote};
use crate::support::ssh_access::SshAccess;

const SCRIPT: &str = include_str!("settle.sh");
/// How long the shell of an account may take to print its first line. An emulated guest that boots needs some seconds.
const FIRST_LINE: Duration = Duration::from_secs(60);
/// Prints how many boots the guest's record of logins counts, or `none`. Debian 13 keeps it in wtmpdb's database, if that is
/// installed; before, it was a file of records of 384 bytes that begin with their type, and 2 is a boot (utmp(5)).
const WTMP: &str = "if [ -s /var/lib/wtmpdb/wtmp.db ]; then wtmpdb last | grep -c ^reboot; \
    elif [ -s /var/log/wtmp ]; then od -An -v -td2 -w384 /var/log/wtmp | grep -c '^ *2 '; else echo none; fi";

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A login that runs a command.
    Login,
    /// A settled boot.
    Settled,
    /// A settled boot other than this one.
    SettledAfter(BootId),
}

/// How a guest is asked. Tests play through restarts with a scripted one.
pub(super) trait Prober {
    /// A connection to the boot that answered.
    type Session;

    /// The error of a guest that accepted a login and has printed nothing.
    fn mute(&self) -> SshError;

    /// One attempt to connect.
    fn open(&mut self, context: &mut WaitContext<'_>) -> Result<Self::Session, SshError>;

    /// Passes the lines of `settle.sh` to `on_line` until the script ends or `on_line` breaks off.
    fn ask(
        &mut self,
        session: &mut Self::Session,
        awaited: Awaited,
        context: &mut WaitContext<'_>,
        on_line: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SshError>;

    /// The boots in the guest's journal, oldest first; or why it cannot list them.
    fn boots(
        &mut self,
        session: &mut Self::Session,
        context: &mut WaitContext<'_>,
    ) -> Result<Vec<BootId>, String>;

    /// How many boots the guest's wtmp counts; or why it cannot.
    fn wtmp(&mut self, session: &mut Self::Session, context: &mut WaitContext<'_>) -> Result<usize, String>;
}

/// Asks a real guest over SSH.
pub(super) struct SshProber<'a>(pub(super) &'a SshAccess);

impl Prober for SshProber<'_> {
    type Session = Session;

    fn mute(&self) -> SshError {
        SshError::Mute { peer: self.0.peer(), user: self.0.user.clone() }
    }

    fn open(&mut self, context: &mut WaitContext<'_>) -> Result<Session, SshError> {
        Session::open(self.0, context)
    }

    fn ask(
        &mut self,
        session: &mut Session,
        awaited: Awaited,
        context: &mut WaitContext<'_>,
        on_line: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SshError> {
        let (mut pending, mut stderr, mut is_mute) = (Vec::new(), Vec::new(), true);
        let command = format!("exec sh -c {}", quote(&script("", awaited)));
        let ended = session.run(&command, &[], Some(FIRST_LINE), context, &mut |stream, bytes| {
            if stream == Stream::Stderr {
                stderr.extend_from_slice(bytes);
                return ControlFlow::Continue(());
            }
            pending.extend_from_slice(bytes);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                is_mute &= !line.starts_with("boot ");
                on_line(line.trim_end())?;
            }
            ControlFlow::Continue(())
        });
        match ended {
            // The script begins with the boot. What it reported counts, not its exit status.
            Ok(ControlFlow::Continue(status)) if is_mute => {
                context.refused(session.ours());
                Err(SshError::no_shell(self.0, status, &String::from_utf8_lossy(&stderr)))
            }
            Ok(_) => Ok(()),
            Err(SshError::Timeout { .. }) if is_mute => Err(self.mute()),
            Err(error) => {
                if is_mute && error.is_refusal() {
                    context.refused(session.ours());
                }
                Err(error)
            }
        }
    }

    fn boots(&mut self, session: &mut Session, context: &mut WaitContext<'_>) -> Result<Vec<BootId>, String> {
        let command = "sudo -n journalctl --list-boots --quiet --no-pager";
        let output = session.output(command, context).map_err(|error| format!("`{command}`: {error}"))?;
        if !output.status.is_success() {
            let last = output.stderr.lines().last().unwrap_or("no message");
            return Err(format!("`{command}` ended with {}: {last}", output.status));
        }
        // ` -1 4a6f… Mon 2026-11-23 08:49:43 UTC …`
        let id = |line: &str| {
            let id = line.split_whitespace().nth(1).and_then(BootId::parse);
            id.ok_or_else(|| format!("`{command}` printed `{line}`, which names no boot id"))
        };
        output.stdout.lines().map(id).collect()
    }

    fn wtmp(&mut self, session: &mut Session, context: &mut WaitContext<'_>) -> Result<usize, String> {
        count_wtmp(session, context)
    }
}

/// `settle.sh` for a system whose root is at `root`. It ends after the boot id where that is all that is awaited.
pub(super) fn script(root: &str, awaited: Awaited) -> String {
    let pattern = match awaited {
        Awaited::Login => "*".to_owned(),
        Awaited::Settled => "none".to_owned(),
        Awaited::SettledAfter(old) => old.to_string(),
    };
    SCRIPT.replace("@root@", root).replace("@enough@", &pattern)
}

/// How many boots the guest's wtmp counts; or why it cannot.
pub(super) fn count_wtmp(session: &mut Session, context: &mut WaitContext<'_>) -> Result<usize, String> {
    let output = session.output(WTMP, context).map_err(|error| error.to_string())?;
    match output.stdout.trim() {
        "none" => Err("the guest keeps none".into()),
        number => {
            number.parse().map_err(|_| format!("it cannot be read: `{number}`{}", output.stderr.trim()))
        }
    }
}
