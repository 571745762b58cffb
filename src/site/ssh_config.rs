//! The SSH side of "one host in scope": a client configuration that reaches the VM with the run's own key and the
//! host key we made, and refuses every other host before a connection is tried.

use std::path::Path;

use crate::support::process::quote;
use crate::support::ssh_access::SshAccess;

/// How a refusal begins; [`super::PlaybookError::OutOfScope`] is recognised by it.
pub(super) const REFUSAL: &str = "boma-it: refused to reach";

/// The client configuration (ssh_config(5): the first value of an option wins).
///
/// The refusal is spoken as a server's malformed greeting, which the client quotes in its error: with
/// `ControlPersist`, it throws away what a `ProxyCommand` prints on standard error.
pub(super) fn ssh_config(access: &SshAccess, host: &str, known_hosts: &Path) -> String {
    let SshAccess { address, port, user, private_key, .. } = access;
    let key = file(private_key);
    let known_hosts = file(known_hosts);
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
         \x20   ProxyCommand echo 'SSH-{REFUSAL} %h (only the VM of {host} is in scope)'\n\
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

/// A stand-in for `program` that uses our configuration, as a shell script.
pub(super) fn shim(program: &Path, config: &Path) -> String {
    let [program, config] = [program, config].map(|path| quote(&path.to_string_lossy()));
    format!(
        "#!/bin/sh\n# boma-it: only the VM is reached, whoever starts this.\nexec {program} -F {config} \"$@\"\n"
    )
}

/// A file name as ssh_config(5) wants it: quoted, and `%` doubled as it would begin a token.
fn file(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vm_is_reached_and_nothing_else() {
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
            ProxyCommand echo 'SSH-boma-it: refused to reach %h (only the VM of askari is in scope)'
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
