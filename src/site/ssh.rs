//! SSH confined to the VM: a client configuration that reaches the VM with the run's own key and the host key that the
//! harness made, and refuses every other host before it connects; wrappers of OpenSSH's programs that use it; and the folder
//! of the client's control sockets.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::error::SiteError;
use crate::support::deadline::Deadline;
use crate::support::env;
use crate::support::process::{Process, quote};
use crate::support::ssh_access::SshAccess;

/// How a refusal begins; [`super::PlaybookError::OutOfScope`] is recognised by it.
pub(super) const REFUSAL: &str = "boma-it: refused to reach";

/// The client configuration (ssh_config(5): the first value of an option wins).
///
/// The refusal has the form of a server's malformed greeting, because the client quotes that in its error. What a
/// `ProxyCommand` prints on standard error is lost with `ControlPersist`. `cat` reads the client's own greeting: when the
/// command ends before the client has sent it, the client reports a broken pipe instead of the refusal.
pub(super) fn ssh_config(access: &SshAccess, host: &str, known_hosts: &Path) -> String {
    let SshAccess { address, port, user, private_key, .. } = access;
    let [key, known_hosts] = [private_key, known_hosts].map(file);
    format!(
        "# Written by boma-it for one run: only the VM of {host} is reached.\n\
         Host {address} {host}\n\
         \x20   HostName {address}\n\
         \x20   Port {port}\n\
         \x20   User {user}\n\
         \x20   IdentityFile {key}\n\
         \x20   ProxyCommand none\n\
         \x20   PreferredAuthentications publickey\n\
         \x20   ServerAliveInterval 10\n\
         \x20   ServerAliveCountMax 6\n\
         \n\
         Host *\n\
         \x20   ProxyCommand sh -c 'echo \"SSH-{REFUSAL} %h (only the VM of {host} is in scope)\"; exec cat >/dev/null'\n\
         \x20   IdentitiesOnly yes\n\
         \x20   IdentityAgent none\n\
         \x20   ForwardAgent no\n\
         \x20   UserKnownHostsFile {known_hosts}\n\
         \x20   GlobalKnownHostsFile none\n\
         \x20   StrictHostKeyChecking yes\n\
         \x20   UpdateHostKeys no\n\
         \x20   CheckHostIP no\n\
         \x20   BatchMode yes\n\
         \x20   ConnectTimeout 30\n\
         \x20   LogLevel ERROR\n"
    )
}

/// A shell script that starts `program` with the configuration `config`.
pub(super) fn wrapper(program: &Path, config: &Path) -> String {
    let [program, config] = [program, config].map(|path| quote(&path.to_string_lossy()));
    format!("#!/bin/sh\n# boma-it: reaches only the VM.\nexec {program} -F {config} \"$@\"\n")
}

/// A file name for ssh_config(5): in quotes, and with `%` doubled because it starts a token.
fn file(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

/// Longest path of the folder: a socket's path has at most 108 bytes (unix(7)), and its name is
/// `<10 hex digits>.<16 characters>`.
const LONGEST_CONTROL_DIR: usize = 60;

/// The folder of SSH's control sockets: outside the run folder, whose path may be too long; and a new one for each playbook,
/// because a master that survives a reboot hangs the next play. Dropping it ends the masters and removes the folder.
#[derive(Debug)]
pub(super) struct ControlDir {
    dir: TempDir,
    ssh: PathBuf,
}

impl ControlDir {
    /// Makes a new one. `ssh` is the client that ends the masters.
    ///
    /// # Errors
    /// When no folder can be made.
    pub(super) fn create(ssh: &Path) -> Result<Self, SiteError> {
        let create_in = |parent: &Path| tempfile::Builder::new().prefix("boma-it-ssh-").tempdir_in(parent);
        let runtime = env::named("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|dir| dir.as_os_str().len() + 20 <= LONGEST_CONTROL_DIR && dir.is_dir());
        let dir = match runtime.map(|parent| create_in(&parent)) {
            Some(Ok(dir)) => dir,
            _ => create_in(Path::new("/tmp")).map_err(SiteError::io(Path::new("/tmp")))?,
        };
        Ok(Self { dir, ssh: ssh.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for ControlDir {
    fn drop(&mut self) {
        let deadline = Deadline::uninterrupted(Duration::from_secs(2), "ending SSH masters");
        let entries = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket())) {
            let control = format!("ControlPath={}", entry.path().display());
            // If that fails, the master ends by itself one minute after its last use.
            let _ = Process::new(&self.ssh)
                .args(["-F", "none", "-O", "exit", "-o"])
                .arg(control)
                .arg("vm")
                .run(&deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_vm_is_reached() {
        let access = SshAccess {
            address: "10.213.47.10".parse().unwrap(),
            port: 22,
            user: "ansible".into(),
            private_key: "/runs/100% mine/key".into(),
            host_key: "ssh-ed25519 AAAA vm".into(),
        };
        insta::assert_snapshot!(ssh_config(&access, "askari", Path::new("/runs/known_hosts")), @r#"
        # Written by boma-it for one run: only the VM of askari is reached.
        Host 10.213.47.10 askari
            HostName 10.213.47.10
            Port 22
            User ansible
            IdentityFile "/runs/100%% mine/key"
            ProxyCommand none
            PreferredAuthentications publickey
            ServerAliveInterval 10
            ServerAliveCountMax 6

        Host *
            ProxyCommand sh -c 'echo "SSH-boma-it: refused to reach %h (only the VM of askari is in scope)"; exec cat >/dev/null'
            IdentitiesOnly yes
            IdentityAgent none
            ForwardAgent no
            UserKnownHostsFile "/runs/known_hosts"
            GlobalKnownHostsFile none
            StrictHostKeyChecking yes
            UpdateHostKeys no
            CheckHostIP no
            BatchMode yes
            ConnectTimeout 30
            LogLevel ERROR
        "#);
    }
}
