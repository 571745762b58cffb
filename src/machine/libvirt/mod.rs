//! The real hypervisor: libvirt through its API. This is the only place that names the `virt` crate. Everything goes over
//! the connection, the pool's files included, so a remote hypervisor only needs another URI.
//!
//! Here each verb of [`Hypervisor`] is a bounded call; `connection` bounds it, `errors` translates libvirt's errors, and
//! `storage`, `networks`, `domains` and `host` hold what the calls do.

mod connection;
mod domains;
mod errors;
mod host;
mod networks;
mod storage;

use std::io::Write;
use std::path::Path;

use virt::connect::Connect;

use super::domain::DomainSpec;
use super::hypervisor::{
    DomainState, HostInfo, Hypervisor, HypervisorError, Machine, RestartMethod, Result, Volume,
};
use super::names::NamePrefix;
use super::network::NetworkSpec;
use super::ownership::Ownership;
use crate::catalog::quantity::Bytes;
use crate::support::deadline::Deadline;
use crate::support::interrupt::Interrupt;
use connection::{CallInfo, Connection};
use errors::Failure;

/// The hypervisor behind a libvirt URI. Connects on the first call, and again after the connection was lost.
pub struct Libvirt {
    connection: Connection,
    prefix: NamePrefix,
}

impl Libvirt {
    /// The hypervisor at `uri` (`qemu:///system`, `qemu+ssh://host/system`). All objects there are named after `prefix`.
    pub fn new(uri: impl Into<String>, prefix: NamePrefix) -> Self {
        Self { connection: Connection::new(uri.into()), prefix }
    }

    /// The same, watching `interrupt`: read-only calls stop soon after a signal.
    #[must_use]
    pub fn heeding(self, interrupt: Interrupt) -> Self {
        Self { connection: self.connection.heeding(interrupt), ..self }
    }

    /// Removes everything of this prefix from the hypervisor: machines, network, filters, and the pool with its images.
    ///
    /// # Errors
    /// The first error; it can be called again.
    pub fn remove_everything(&self) -> Result<()> {
        for machine in self.machines()? {
            super::teardown::teardown(self, &machine.name)?;
        }
        self.call(CallInfo::new("remove", "network", self.prefix.network()), networks::remove)?;
        self.call(CallInfo::new("remove", "storage pool", self.prefix.pool()), storage::remove_pool)
    }

    fn call<T: Send + 'static>(
        &self,
        info: CallInfo,
        work: impl Fn(&Connect, &NamePrefix) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let prefix = self.prefix.clone();
        self.connection.call(info, move |connection| work(connection, &prefix))
    }

    /// A call about one domain.
    fn call_domain<T: Send + 'static>(
        &self,
        info: CallInfo,
        domain: &str,
        work: impl Fn(&Connect, &str) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let domain = domain.to_owned();
        self.connection.call(info, move |connection| work(connection, &domain))
    }
}

impl Hypervisor for Libvirt {
    fn host_info(&self) -> Result<HostInfo> {
        let uri = self.connection.uri().to_owned();
        let info = CallInfo::new("ask", "the hypervisor at", &uri).slow().read_only();
        self.connection.call(info, move |connection| host::info(connection, &uri))
    }

    fn ensure_pool(&self) -> Result<()> {
        self.call(CallInfo::new("set up", "storage pool", self.prefix.pool()), storage::ensure_pool)
    }

    fn ensure_network(&self, spec: &NetworkSpec) -> Result<()> {
        let spec = spec.clone();
        self.call(CallInfo::new("set up", "network", self.prefix.network()), move |connection, prefix| {
            networks::ensure(connection, prefix, &spec)
        })
    }

    fn volumes(&self) -> Result<Vec<Volume>> {
        let info = CallInfo::new("list", "volumes of storage pool", self.prefix.pool());
        self.call(info.read_only(), storage::volumes)
    }

    fn upload(
        &self,
        volume: &str,
        file: &Path,
        deadline: &Deadline,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let (prefix, name, file) = (self.prefix.clone(), volume.to_owned(), file.to_owned());
        self.connection.call_with_updates(
            CallInfo::new("upload", "volume", volume),
            move |connection, channel| storage::upload(connection, &prefix, &name, &file, channel),
            |bytes| {
                progress(bytes);
                let what = format!("upload volume {volume}");
                deadline.check(&what).map_err(|source| HypervisorError::GaveUp { what, source })
            },
        )
    }

    fn create_overlay(&self, volume: &str, backing: &str, capacity: Bytes) -> Result<()> {
        let (name, backing) = (volume.to_owned(), backing.to_owned());
        self.call(CallInfo::new("create", "volume", volume), move |connection, prefix| {
            storage::create_overlay(connection, prefix, &name, &backing, capacity)
        })
    }

    fn download(&self, volume: &str, offset: u64, to: &mut dyn Write) -> Result<u64> {
        let info = CallInfo::new("download", "volume", volume).read_only();
        let (prefix, name, object) = (self.prefix.clone(), volume.to_owned(), info.object.clone());
        let mut written = 0;
        self.connection.call_with_updates(
            info,
            move |connection, channel| storage::download(connection, &prefix, &name, offset, channel),
            |bytes: Vec<u8>| {
                written += bytes.len() as u64;
                to.write_all(&bytes).map_err(|source| HypervisorError::File {
                    verb: "write the downloaded bytes of",
                    object: object.clone(),
                    source,
                })
            },
        )?;
        Ok(written)
    }

    fn delete_volume(&self, volume: &str) -> Result<()> {
        let name = volume.to_owned();
        self.call(CallInfo::new("delete", "volume", volume), move |connection, prefix| {
            storage::delete(connection, prefix, &name)
        })
    }

    fn define(&self, spec: &DomainSpec) -> Result<()> {
        let info = CallInfo::new("define", "domain", &spec.name).slow();
        let spec = spec.clone();
        self.call(info, move |connection, prefix| domains::define(connection, prefix, &spec))
    }

    fn save(&self, domain: &str, memory: &str, overlay: &str) -> Result<()> {
        let (name, volumes) = (domain.to_owned(), [memory, overlay].map(str::to_owned));
        self.call(CallInfo::new("save", "domain", domain).slow(), move |connection, prefix| {
            domains::save(connection, prefix, &name, &volumes)
        })
    }

    fn define_saved(&self, memory: &str, spec: &DomainSpec) -> Result<()> {
        let info = CallInfo::new("define", "domain", &spec.name).slow();
        let (memory, spec) = (memory.to_owned(), spec.clone());
        self.call(info, move |connection, prefix| domains::define_saved(connection, prefix, &memory, &spec))
    }

    fn restore(&self, domain: &str, memory: &str) -> Result<()> {
        let (name, memory) = (domain.to_owned(), memory.to_owned());
        self.call(CallInfo::new("restore", "domain", domain).slow(), move |connection, prefix| {
            domains::restore(connection, prefix, &name, &memory)
        })
    }

    fn start(&self, domain: &str) -> Result<()> {
        self.call_domain(CallInfo::new("start", "domain", domain).slow(), domain, domains::start)
    }

    fn restart(&self, domain: &str, method: RestartMethod) -> Result<()> {
        let info = CallInfo::new("restart", "domain", domain).slow();
        self.call_domain(info, domain, move |connection, name| domains::restart(connection, name, method))
    }

    fn power_off(&self, domain: &str) -> Result<()> {
        self.call_domain(CallInfo::new("power off", "domain", domain), domain, domains::power_off)
    }

    fn undefine(&self, domain: &str) -> Result<()> {
        self.call_domain(CallInfo::new("undefine", "domain", domain), domain, domains::undefine)
    }

    fn state(&self, domain: &str) -> Result<DomainState> {
        self.call_domain(CallInfo::new("look at", "domain", domain).read_only(), domain, domains::state)
    }

    fn machines(&self) -> Result<Vec<Machine>> {
        self.call(CallInfo::new("list", "domains", self.prefix.as_str()).read_only(), domains::machines)
    }

    fn set_ownership(&self, domain: &str, ownership: &Ownership) -> Result<()> {
        let xml = ownership.render();
        self.call_domain(CallInfo::new("label", "domain", domain), domain, move |connection, name| {
            domains::set_metadata(connection, name, &xml)
        })
    }
}
