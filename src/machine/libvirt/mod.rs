//! The hypervisor that is real: libvirt through its API, and the only place that names that API. Everything goes
//! over the connection, pools' files included, so that a remote hypervisor is a matter of its URI.
//!
//! [`session`] has the connection and bounds every call; [`errors`] turns libvirt's errors into ours; the rest are
//! the verbs, by what they are about.

mod domains;
mod errors;
mod host;
mod networks;
mod session;
mod storage;

use std::io::Write;
use std::path::Path;

use super::domain::DomainSpec;
use super::hypervisor::{DomainState, HostInfo, Hypervisor, Machine, RestartMethod, Result, Volume};
use super::names::NamePrefix;
use super::network::NetworkSpec;
use super::ownership::Ownership;
use crate::catalog::quantity::Bytes;
use crate::support::deadline::Deadline;
use crate::support::interrupt::Interrupt;
use session::Session;

/// A hypervisor behind a libvirt URI. The connection is made by the first verb, and again after it was lost.
pub struct Libvirt {
    session: Session,
    realm: NamePrefix,
}

impl Libvirt {
    /// The hypervisor at `uri` (`qemu:///system`, `qemu+ssh://host/system`), with our names there. Connects to nothing yet.
    pub fn new(uri: impl Into<String>, realm: NamePrefix) -> Self {
        Self { session: Session::new(uri.into()), realm }
    }

    /// The same, heeding `interrupt`: a call that only looks, and was begun before, is then not waited for long.
    #[must_use]
    pub fn heeding(self, interrupt: Interrupt) -> Self {
        Self { session: self.session.heeding(interrupt), ..self }
    }

    /// Removes everything of ours from the hypervisor: machines, network, filters, and the pool with the golden images.
    ///
    /// # Errors
    /// The first that occurred; it can be called again.
    pub fn dismantle(&self) -> Result<()> {
        for machine in self.machines()? {
            super::teardown::teardown(self, &machine.name)?;
        }
        networks::remove(&self.session, &self.realm)?;
        storage::remove_pool(&self.session, &self.realm)
    }

    /// Our names on this hypervisor.
    pub fn realm(&self) -> &NamePrefix {
        &self.realm
    }
}

impl Hypervisor for Libvirt {
    fn facts(&self) -> Result<HostInfo> {
        host::facts(&self.session)
    }

    fn ensure_pool(&self) -> Result<()> {
        storage::ensure_pool(&self.session, &self.realm)
    }

    fn ensure_network(&self, spec: &NetworkSpec) -> Result<()> {
        networks::ensure(&self.session, &self.realm, spec)
    }

    fn volumes(&self) -> Result<Vec<Volume>> {
        storage::volumes(&self.session, &self.realm)
    }

    fn upload(
        &self,
        volume: &str,
        file: &Path,
        deadline: &Deadline,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        storage::upload(&self.session, &self.realm, volume, file, deadline, progress)
    }

    fn create_overlay(&self, volume: &str, backing: &str, capacity: Bytes) -> Result<()> {
        storage::create_overlay(&self.session, &self.realm, volume, backing, capacity)
    }

    fn download(&self, volume: &str, offset: u64, to: &mut dyn Write) -> Result<u64> {
        storage::download(&self.session, &self.realm, volume, offset, to)
    }

    fn delete_volume(&self, volume: &str) -> Result<()> {
        storage::delete(&self.session, &self.realm, volume)
    }

    fn define(&self, spec: &DomainSpec) -> Result<()> {
        domains::define(&self.session, &self.realm, spec)
    }

    fn start(&self, domain: &str) -> Result<()> {
        domains::start(&self.session, domain)
    }

    fn restart(&self, domain: &str, push: RestartMethod) -> Result<()> {
        domains::restart(&self.session, domain, push)
    }

    fn power_off(&self, domain: &str) -> Result<()> {
        domains::power_off(&self.session, domain)
    }

    fn undefine(&self, domain: &str) -> Result<()> {
        domains::undefine(&self.session, domain)
    }

    fn state(&self, domain: &str) -> Result<DomainState> {
        domains::state(&self.session, domain)
    }

    fn machines(&self) -> Result<Vec<Machine>> {
        domains::machines(&self.session, &self.realm)
    }

    fn set_ownership(&self, domain: &str, ownership: &Ownership) -> Result<()> {
        domains::set_ownership(&self.session, domain, ownership)
    }
}
