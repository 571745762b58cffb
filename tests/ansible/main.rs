//! Room `site` against a real Ansible and a real sshd on loopback, and against scripted fakes where a failure cannot
//! be had from the real one.

#[cfg(test)]
mod certificate;
#[cfg(test)]
mod confinement;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod real;
#[cfg(test)]
mod sshd;
#[cfg(test)]
mod vault;
#[cfg(test)]
mod verification;
#[cfg(test)]
mod world;
