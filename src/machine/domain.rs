//! A domain, as libvirt's XML: a machine like a real one (q35, UEFI, virtio disks and network, a serial console), as
//! little else as possible. Pure.
//!
//! Two windows stay open when the guest's network does not work: the serial console, which libvirt logs into the pool,
//! and a virtio port named [`JOURNAL_PORT`] into which the guest streams its journal.

use super::acceleration::Accelerator;
use super::names::{NamePrefix, VmVolumes};
use super::network::{Egress, Mac};
use super::ownership::Ownership;
use super::xml::{Element, el, text};
use crate::catalog::quantity::Bytes;

/// The virtio port into which the guest streams its journal: `/dev/virtio-ports/boma-it.journal` in the guest.
pub const JOURNAL_PORT: &str = "boma-it.journal";

/// A machine to be defined. Its volumes are those of [`VmVolumes`], in our pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSpec {
    /// The domain's name.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Bytes,
    /// What runs its virtual CPUs.
    pub accelerator: Accelerator,
    /// Its network interface's address: decides its IPv4 address.
    pub mac: Mac,
    /// What it reaches beyond the harness's network.
    pub egress: Egress,
    /// Whether it has a seed volume.
    pub seed: bool,
    /// How careful its disk is with what the guest has written.
    pub disk: DiskCache,
    /// Whose it is.
    pub ownership: Ownership,
}

/// How careful a disk is with what the guest has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCache {
    /// Not at all: fast, and right for a disk that lives as long as its QEMU.
    Unsafe,
    /// What the guest flushed is kept: needed where QEMU is ended and started again ([`super::RestartMethod::PowerCut`]).
    Writeback,
}

impl DomainSpec {
    /// The domain, for libvirt. `pool_dir` is where the pool's files lie on the hypervisor.
    pub fn render(&self, realm: &NamePrefix, pool_dir: &str) -> String {
        let (kind, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", el("cpu").attr("mode", "host-passthrough")),
            // The newest CPU that QEMU can act: a distribution may need more than `qemu64` one day.
            Accelerator::Tcg => ("qemu", el("cpu").attr("mode", "maximum")),
        };
        el("domain")
            .attr("type", kind)
            .with(text("name", &self.name))
            .with(el("metadata").with(self.ownership.element()))
            .with(text("memory", self.memory.0 / 1024).attr("unit", "KiB"))
            .with(text("vcpu", self.vcpus))
            .with(firmware())
            .with(el("features").with(el("acpi")).with(el("apic")))
            .with(cpu)
            // As virt-install has it for every Linux guest.
            .with(
                el("clock")
                    .attr("offset", "utc")
                    .with(el("timer").attr("name", "hpet").attr("present", "no")),
            )
            .with(text("on_poweroff", "destroy"))
            .with(text("on_reboot", "restart"))
            .with(text("on_crash", "preserve"))
            .with(self.devices(realm, pool_dir))
            .render()
    }

    fn devices(&self, realm: &NamePrefix, pool_dir: &str) -> Element {
        let files = VmVolumes(&self.name);
        let path = |volume: String| format!("{pool_dir}/{volume}");
        let cache = match self.disk {
            DiskCache::Unsafe => "unsafe",
            DiskCache::Writeback => "writeback",
        };
        let driver = el("driver").attr("name", "qemu").attr("type", "qcow2").attr("cache", cache);
        let overlay = disk(driver.attr("discard", "unmap"), path(files.overlay()), "vda");
        let seed = self.seed.then(|| {
            let driver = el("driver").attr("name", "qemu").attr("type", "raw");
            disk(driver, path(files.seed()), "vdb").with(el("readonly"))
        });
        el("devices")
            .with(overlay.with(el("boot").attr("order", 1)))
            .with_all(seed)
            .with(self.interface(realm))
            .with(
                el("serial")
                    .attr("type", "pty")
                    .with(el("log").attr("file", path(files.console())).attr("append", "on"))
                    .with(el("target").attr("port", 0)),
            )
            .with(el("console").attr("type", "pty").with(el("target").attr("type", "serial").attr("port", 0)))
            .with(
                el("channel")
                    .attr("type", "file")
                    .with(el("source").attr("path", path(files.journal())).attr("append", "on"))
                    .with(el("target").attr("type", "virtio").attr("name", JOURNAL_PORT)),
            )
            .with(
                el("rng")
                    .attr("model", "virtio")
                    .with(text("backend", "/dev/urandom").attr("model", "random")),
            )
            .with(el("panic").attr("model", "isa"))
            .with(el("memballoon").attr("model", "none"))
    }

    fn interface(&self, realm: &NamePrefix) -> Element {
        el("interface")
            .attr("type", "network")
            .with(el("mac").attr("address", self.mac))
            .with(el("source").attr("network", realm.network()))
            .with(el("model").attr("type", "virtio"))
            .with(el("filterref").attr("filter", realm.filter(self.egress)))
    }
}

/// UEFI without Secure Boot, said explicitly: left to itself, libvirt picks a firmware with Microsoft's keys, which boots
/// no loader that is not signed by them.
fn firmware() -> Element {
    let without = |name| el("feature").attr("enabled", "no").attr("name", name);
    el("os")
        .attr("firmware", "efi")
        .with(text("type", "hvm").attr("arch", "x86_64").attr("machine", "q35"))
        .with(el("firmware").with(without("secure-boot")).with(without("enrolled-keys")))
}

/// By path and not as a volume of the pool: libvirt's AppArmor driver does not find the files of the latter.
fn disk(driver: Element, path: String, target: &'static str) -> Element {
    el("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .with(driver)
        .with(el("source").attr("file", path))
        .with(el("target").attr("dev", target).attr("bus", "virtio"))
}

#[cfg(test)]
pub(super) mod tests;
