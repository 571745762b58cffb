//! The identity of a guest that was restored from a layer: its clock, its random numbers, and the keys that open and identify
//! it are the layer's until [`renew`] has given it those of this run.

use std::time::{Duration, SystemTime};

use super::readiness::{Ready, ReadyError};
use super::settle::wait_ready;
use super::ssh::{HealthCheck, SshError};
use crate::support::deadline::Deadline;
use crate::support::process::quote;
use crate::support::ssh_access::SshAccess;

const SCRIPT: &str = include_str!("renew.sh");

/// The keys of a run, as texts.
#[derive(Clone, Copy)]
pub struct RunKeys<'a> {
    /// The public key that may log in: a line of authorized_keys.
    pub client: &'a str,
    /// The private host key, in OpenSSH's format, and its public half, a line of a `.pub` file. None leaves the guest the one
    /// that it has: a new one needs another sshd, and a playbook may have changed the settings for the next one.
    pub host: Option<(&'a str, &'a str)>,
}

/// Why a restored guest did not get the identity of the run.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// It did not answer to the keys of its layer, or was not settled.
    #[error("the restored guest does not answer as it did when its layer was made")]
    Layer(#[source] ReadyError),
    /// The script failed.
    #[error("cannot give the restored guest the identity of this run")]
    Script(#[source] SshError),
    /// It did not answer to the keys of the run, or was not settled.
    #[error("the restored guest is not ready with the identity of this run")]
    Run(#[source] ReadyError),
}

/// Logs in with the keys of the layer (`layer`, whose public client key is `layer_client`), gives the guest the clock of this
/// machine, fresh random numbers and `keys`, and waits until it is ready under the keys of the run (`run`). The host key is
/// checked strictly throughout, first against the layer's and then against the run's.
///
/// `health_check` and `progress` are as in [`wait_ready`].
///
/// # Errors
/// [`RenewError`].
pub fn renew(
    (layer, layer_client): (&SshAccess, &str),
    (run, keys): (&SshAccess, RunKeys<'_>),
    random: &[u8],
    deadline: &Deadline,
    health_check: &mut HealthCheck<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<Ready, RenewError> {
    let Ready { mut session, .. } =
        wait_ready(layer, deadline, health_check, progress).map_err(RenewError::Layer)?;
    progress("giving the restored guest its identity");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let script = script(&run.user, layer_client, keys, random, now);
    session.exec_script(&script, deadline).map_err(RenewError::Script)?;
    drop(session);
    wait_ready(run, deadline, health_check, progress).map_err(RenewError::Run)
}

/// `renew.sh` with its values. It goes to the guest through standard input, as an argument is visible to all its users.
fn script(user: &str, old_key: &str, keys: RunKeys<'_>, random: &[u8], now: Duration) -> String {
    use base64::Engine;
    let random = base64::engine::general_purpose::STANDARD.encode(random);
    let now = format!("{}.{:03}", now.as_secs(), now.subsec_millis());
    let (host_private, host_public) = keys.host.unwrap_or_default();
    let values = [
        ("now", now.as_str()),
        ("random", &random),
        ("user", user),
        ("old_key", old_key),
        ("new_key", keys.client),
        ("host_key", host_private),
        ("host_key_public", host_public),
    ];
    let assignments = values.map(|(name, value)| format!("{name}={}\n", quote(value.trim_end())));
    assignments.concat() + SCRIPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_come_before_the_script_and_are_quoted() {
        let host = Some((
            "-----BEGIN
x
-----END
",
            "ssh-ed25519 CCCC",
        ));
        let keys = RunKeys { client: "ssh-ed25519 BBBB it's", host };
        let script =
            script("ansible", "ssh-ed25519 AAAA", keys, &[0, 255], Duration::from_millis(1_781_697_600_042));
        let (values, rest) = script.split_at(script.len() - SCRIPT.len());
        assert_eq!(rest, SCRIPT);
        insta::assert_snapshot!(values);
    }
}
