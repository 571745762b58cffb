//! What is collected from a guest when something did not hold: one plain file per command, each of which says how it was
//! had, or why it was not, and none of which holds a secret of this process. Collecting never fails a run and never
//! outlives its deadline.
//!
//! One session, one command after the other: under emulation a login costs more than most of the commands.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ssh::{Session, SshError, Status};
use crate::support::deadline::{Deadline, WaitError, format_duration};
use crate::support::secret::{Redacting, Redactor};

/// What a failed assert collects, always and first.
pub const REQUIRED: [&str; 5] =
    ["nft list ruleset", "docker ps -a", "ss -tlnp", "journalctl -b", "systemd-analyze critical-chain"];
/// What helps beside it.
pub const HELPFUL: [&str; 14] = [
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
/// The longest one command may take; a journal under emulation takes some seconds.
const EACH: Duration = Duration::from_secs(30);

/// One command's file.
#[derive(Debug)]
pub struct Collected {
    /// The command, as a person would type it in the guest as root.
    pub command: &'static str,
    /// The file that holds what it said.
    pub file: PathBuf,
    /// How it ended, or why it could not be had.
    pub result: Result<Status, anyhow::Error>,
}

/// Runs every command of [`REQUIRED`] and [`HELPFUL`] as root in the guest, and writes a file for each into the folder `into`,
/// which is made. `progress` hears each command as it starts.
///
/// A file begins with `$ command` and ends with how the command ended. A command that could not be run has a file that says why.
pub fn collect(
    session: &mut Session,
    into: &Path,
    deadline: &Deadline,
    progress: &mut dyn FnMut(&str),
) -> Vec<Collected> {
    let made = std::fs::create_dir_all(into);
    let mut lost: Option<String> = None;
    let commands = REQUIRED.into_iter().chain(HELPFUL);
    commands
        .map(|command| {
            let file = into.join(file_name(command));
            progress(command);
            let result = match (&made, &lost) {
                (Err(error), _) => Err(anyhow::anyhow!("cannot make {}: {error}", into.display())),
                (_, Some(why)) => note(&file, command, why).and_then(|()| Err(anyhow::anyhow!("{why}"))),
                (Ok(()), None) => one(session, command, &file, deadline, &mut lost),
            };
            Collected { command, file, result }
        })
        .collect()
}

fn one(
    session: &mut Session,
    command: &str,
    file: &Path,
    deadline: &Deadline,
    lost: &mut Option<String>,
) -> anyhow::Result<Status> {
    let mut out = Redacting::of_process(File::create(file)?);
    writeln!(out, "$ {command}")?;
    let mut written = Ok(());
    let part = deadline.within(EACH, command);
    let ended = session.exec_with(&as_root(command), &part, |_, bytes| {
        if written.is_ok() {
            written = out.write_all(bytes);
        }
    });
    written?;
    match ended {
        Ok(status) => {
            writeln!(out, "\n# {status}")?;
            out.finish()?;
            Ok(status)
        }
        Err(error) => {
            let slow = matches!(error, SshError::Wait(WaitError::TimedOut { .. }))
                && !deadline.remaining().is_zero();
            let error = anyhow::Error::from(error);
            writeln!(out, "\n# not had whole: {error:#}")?;
            if !slow {
                *lost = Some(format!("not collected: {error:#}"));
            }
            Err(error)
        }
    }
}

fn note(file: &Path, command: &str, why: &str) -> anyhow::Result<()> {
    let text = format!("$ {command}\n\n# {why}\n");
    Ok(std::fs::write(file, &*Redactor::of_process().redact(&text))?)
}

/// `command` by root's shell, both streams into one, in the order in which they were written; bounded in the guest as
/// well, so that nothing is left running there.
fn as_root(command: &str) -> String {
    let script = format!("export LC_ALL=C SYSTEMD_PAGER= SYSTEMD_COLORS=0; {{ {command}; }} 2>&1");
    let limit = EACH.as_secs();
    format!("sudo -n timeout {limit} sh -c {}", crate::support::process::quote(&script))
}

/// `nft list ruleset` → `nft-list-ruleset.txt`.
fn file_name(command: &str) -> String {
    let words = command.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.take(6).collect::<Vec<_>>().join("-");
    format!("{name}.txt")
}

/// A line for a person on how collecting went: `19 files, 2 not had`.
pub fn summary(collected: &[Collected], took: Duration) -> String {
    let missing = collected.iter().filter(|one| one.result.is_err()).count();
    let missing = if missing == 0 { String::new() } else { format!(", {missing} not had") };
    format!("{} files in {}{missing}", collected.len(), format_duration(took))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_has_a_file_of_its_own_named_after_it() {
        let names: BTreeSet<_> = REQUIRED.into_iter().chain(HELPFUL).map(file_name).collect();
        assert_eq!(names.len(), REQUIRED.len() + HELPFUL.len());
        assert!(
            names.contains("nft-list-ruleset.txt") && names.contains("systemd-analyze-critical-chain.txt")
        );
    }
}
