//! Module `site` with a real Ansible and a real sshd on loopback, and with scripts where a real one does not fail on demand.
//! What depends on the callback plugin runs with the oldest ansible-core that boma-it supports, the one that it runs, and the newest.

#[cfg(test)]
mod bytecode;
#[cfg(test)]
mod certificate;
#[cfg(test)]
mod confinement;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod playbook_runs;
#[cfg(test)]
mod plays;
#[cfg(test)]
mod scripted_ansible;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod sshd;
#[cfg(test)]
mod vault;
#[cfg(test)]
mod verdicts;
#[cfg(test)]
mod verification;
