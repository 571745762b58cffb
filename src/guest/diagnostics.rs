//! Diagnostics from the guest of a failed trial: one plain file for each command, redacted. A file says how its command ended or
//! why it could not run. Collecting never fails a run and never outlives its deadline.
//!
//! One session runs all commands in a row: under emulation a login costs more than most of them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::ssh::{CommandStatus, Session, SshError, WaitContext};
use crate::support::deadline::{Deadline, WaitError, format_duration};
use crate::support::process::quote;
use crate::support::secret::Redacting;

/// What a failed trial always collects, and first.
pub const REQUIRED: [&str; 5] =
    ["nft list ruleset", "docker ps -a", "ss -tlnp", "journalctl -b", "systemd-analyze critical-chain"];
/// What helps beside it.
const HELPFUL: [&str; 14] = [
    "systemctl --failed --no-pager",
    "systemctl list-jobs --no-pager",
    "docker ps -a --format {{.Names}} | xargs -rn1 docker logs --tail 200 --timestamps",
    "docker network ls",
    "iptables-save",
    "ip address",
    "ip route show table all",
    "sshd -T",
    "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding",
    "cat /proc/cmdline",
    "journalctl --list-boots",
    "findmnt",
    "cat /run/cloud-init/status.json",
    "tail -n 500 /var/log/cloud-init-output.log",
];
/// The longest that one command may take; a journal takes some seconds under emulation.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// One command's file.
#[derive(Debug)]
pub struct Collected {
    /// The command, as root would type it in the guest.
    pub command: &'static str,
    /// The file with its output.
    pub file: PathBuf,
    /// How it ended, or why it could not run to its end.
    pub result: anyhow::Result<CommandStatus>,
}

/// Runs every command of [`REQUIRED`] and [`HELPFUL`] as root in the guest and writes a file for each into the folder `into`,
/// which is created. `progress` gets each command as it starts.
///
/// A file begins with `$ command` and ends with how the command ended, or why it could not run to its end.
pub fn collect(
    session: &mut Session,
    into: &Path,
    deadline: &Deadline,
    progress: &mut dyn FnMut(&str),
) -> Vec<Collected> {
    let mut lost = None;
    let commands = REQUIRED.into_iter().chain(HELPFUL);
    commands
        .map(|command| {
            let file = into.join(file_name(command));
            progress(command);
            let created = std::fs::create_dir_all(into).and_then(|()| File::create(&file));
            let result = created
                .with_context(|| format!("cannot create {}", file.display()))
                .and_then(|created| run(session, command, created, deadline, &mut lost));
            Collected { command, file, result }
        })
        .collect()
}

/// Writes one file. `lost` says why no further command can run, once a session is lost or the deadline has passed.
fn run(
    session: &mut Session,
    command: &str,
    file: File,
    deadline: &Deadline,
    lost: &mut Option<String>,
) -> anyhow::Result<CommandStatus> {
    let mut out = Redacting::of_process(file);
    writeln!(out, "$ {command}")?;
    let result = match lost {
        Some(reason) => Err(anyhow::anyhow!("not collected: {reason}")),
        None => {
            let mut written = Ok(());
            let limit = deadline.within(COMMAND_LIMIT, command);
            let ended = limit.time_wait(|| {
                session.run_to_end(&as_root(command), &mut WaitContext::new(&limit), &mut |_, bytes| {
                    if written.is_ok() {
                        written = out.write_all(bytes);
                    }
                })
            });
            written?;
            ended.map_err(|error| {
                let timed_out = matches!(error, SshError::Wait(WaitError::TimedOut { .. }));
                let error = anyhow::Error::from(error);
                if !timed_out || deadline.remaining().is_zero() {
                    *lost = Some(format!("{error:#}"));
                }
                error.context("incomplete")
            })
        }
    };
    match &result {
        Ok(status) => writeln!(out, "\n# {status}")?,
        Err(error) => writeln!(out, "\n# {error:#}")?,
    }
    out.finish()?;
    result
}

/// `command` in root's shell, with both streams in one, in the order in which they were written. The guest stops it at the limit
/// as well, so nothing keeps running there.
fn as_root(command: &str) -> String {
    let script = format!("export LC_ALL=C SYSTEMD_PAGER= SYSTEMD_COLORS=0; {{ {command}; }} 2>&1");
    format!("sudo -n timeout {} sh -c {}", COMMAND_LIMIT.as_secs(), quote(&script))
}

/// `nft list ruleset` → `nft-list-ruleset.txt`.
fn file_name(command: &str) -> String {
    let words = command.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    format!("{}.txt", words.take(6).collect::<Vec<_>>().join("-"))
}

/// One line on how collecting went: `19 files in 12s, 2 incomplete`.
pub(crate) fn summary(collected: &[Collected], took: Duration) -> String {
    let incomplete = collected.iter().filter(|one| one.result.is_err()).count();
    let incomplete = if incomplete == 0 { String::new() } else { format!(", {incomplete} incomplete") };
    format!("{} files in {}{incomplete}", collected.len(), format_duration(took))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_has_its_own_file_named_after_it() {
        let names: BTreeSet<_> = REQUIRED.into_iter().chain(HELPFUL).map(file_name).collect();
        assert_eq!(names.len(), REQUIRED.len() + HELPFUL.len());
        assert!(names.contains("nft-list-ruleset.txt"));
        assert!(names.contains("systemd-analyze-critical-chain.txt"));
    }
}
