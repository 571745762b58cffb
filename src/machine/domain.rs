//! A domain as libvirt XML: like a real machine (q35, UEFI, virtio disks and network, a serial console), with as little
//! else as possible. Pure.
//!
//! Two ways to see into a guest work without its network: the serial console, which libvirt logs into the pool, and a
//! virtio port named [`JOURNAL_PORT`], to which the guest streams its journal.

use roxmltree::{Document, Node};

use super::accelerator::Accelerator;
use super::names::{NamePrefix, VmVolumes};
use super::network::{Egress, Mac};
use super::ownership::Ownership;
use super::xml::{Element, el, text};
use crate::catalog::quantity::Bytes;

/// The virtio port to which the guest streams its journal: `/dev/virtio-ports/boma-it.journal` in the guest.
const JOURNAL_PORT: &str = "boma-it.journal";
/// The guest's disk, as libvirt names it.
pub(super) const DISK: &str = "vda";

/// A domain to define. Its volumes are those of [`VmVolumes`], in our pool.
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
    /// The MAC address of its network interface, which decides its IPv4 address.
    pub mac: Mac,
    /// What it reaches beyond the harness's network.
    pub egress: Egress,
    /// Whether it has a seed volume.
    pub seed: bool,
    /// How the host caches its disk.
    pub disk: DiskCache,
    /// The volume of its disk: usually [`VmVolumes::overlay`].
    pub overlay: String,
    /// Who owns it.
    pub ownership: Ownership,
}

/// How the host caches a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCache {
    /// Ignores flushes: fast, and safe for a disk that lives no longer than its QEMU.
    Unsafe,
    /// Keeps what the guest has flushed: needed when QEMU ends and starts again ([`super::RestartMethod::PowerCut`]).
    Writeback,
}

impl DomainSpec {
    /// The domain's XML. `pool_dir` is the pool's folder on the hypervisor.
    pub(super) fn render(&self, prefix: &NamePrefix, pool_dir: &str) -> String {
        self.element(prefix, pool_dir, Some(el("metadata").with(self.ownership.element()))).render()
    }

    /// What the guest sees of the domain, and a saved state depends on: the XML without owner, place and cache of its disk.
    pub(super) fn guest_side(&self) -> String {
        let spec = Self { disk: DiskCache::Unsafe, overlay: String::new(), ..self.clone() };
        spec.element(&NamePrefix::default(), "", None).render()
    }

    /// The XML of the domain whose state was saved, `saved`, changed to this owner, disk and network filter. All else must
    /// be as it was saved. `None` if it is not the XML of a domain of ours.
    pub(super) fn adapt(&self, saved: &str, prefix: &NamePrefix, pool_dir: &str) -> Option<String> {
        let document = Document::parse(saved).ok()?;
        let root = document.root_element();
        if child(root, "name")?.text() != Some(&self.name) {
            return None;
        }
        let devices = child(root, "devices")?;
        let is_disk = |node: &Node<'_, '_>| {
            let target = child(*node, "target").and_then(|it| it.attribute("dev"));
            node.has_tag_name("disk") && target == Some(DISK)
        };
        let disk = devices.children().find(is_disk)?;
        let filter = child(child(devices, "interface")?, "filterref")?;
        let metadata = el("metadata").with(self.ownership.element());
        let source = el("source").attr("file", format!("{pool_dir}/{}", self.overlay));
        let mut changes = vec![
            (child(root, "metadata")?.range(), metadata.render()),
            (child(disk, "driver")?.range(), self.disk_driver().render()),
            (child(disk, "source")?.range(), source.render()),
            (filter.range(), el("filterref").attr("filter", self.egress.filter(prefix)).render()),
        ];
        // Libvirt reads the chain from the overlay itself.
        changes.extend(child(disk, "backingStore").map(|it| (it.range(), String::new())));
        changes.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut xml = saved.to_owned();
        for (range, text) in changes {
            xml.replace_range(range, text.trim_end());
        }
        Some(xml)
    }

    fn element(&self, prefix: &NamePrefix, pool_dir: &str, metadata: Option<Element>) -> Element {
        let (kind, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", el("cpu").attr("mode", "host-passthrough")),
            // The newest CPU that QEMU can emulate: a distribution may require more than `qemu64` one day.
            Accelerator::Tcg => ("qemu", el("cpu").attr("mode", "maximum")),
        };
        el("domain")
            .attr("type", kind)
            .with(text("name", &self.name))
            // Libvirt chooses its value, and another at each restore: the guest's kernel then renews its random numbers.
            .with(el("genid"))
            .with_all(metadata)
            .with(text("memory", self.memory.0 / 1024).attr("unit", "KiB"))
            .with(text("vcpu", self.vcpus))
            .with(firmware())
            .with(el("features").with(el("acpi")).with(el("apic")))
            .with(cpu)
            // As virt-install does for every Linux guest.
            .with(
                el("clock")
                    .attr("offset", "utc")
                    .with(el("timer").attr("name", "hpet").attr("present", "no")),
            )
            .with(text("on_poweroff", "destroy"))
            .with(text("on_reboot", "restart"))
            .with(text("on_crash", "preserve"))
            .with(self.devices(prefix, pool_dir))
    }

    fn disk_driver(&self) -> Element {
        let cache = match self.disk {
            DiskCache::Unsafe => "unsafe",
            DiskCache::Writeback => "writeback",
        };
        let driver = el("driver").attr("name", "qemu").attr("type", "qcow2");
        driver.attr("cache", cache).attr("discard", "unmap")
    }

    fn devices(&self, prefix: &NamePrefix, pool_dir: &str) -> Element {
        let volumes = VmVolumes(&self.name);
        let path = |volume: String| format!("{pool_dir}/{volume}");
        let overlay = disk(self.disk_driver(), path(self.overlay.clone()), DISK);
        let seed = self.seed.then(|| {
            let driver = el("driver").attr("name", "qemu").attr("type", "raw");
            disk(driver, path(volumes.seed()), "vdb").with(el("readonly"))
        });
        el("devices")
            .with(overlay.with(el("boot").attr("order", 1)))
            .with_all(seed)
            .with(self.interface(prefix))
            .with(
                el("serial")
                    .attr("type", "pty")
                    .with(el("log").attr("file", path(volumes.console())).attr("append", "on"))
                    .with(el("target").attr("port", 0)),
            )
            .with(el("console").attr("type", "pty").with(el("target").attr("type", "serial").attr("port", 0)))
            .with(
                el("channel")
                    .attr("type", "file")
                    .with(el("source").attr("path", path(volumes.journal())).attr("append", "on"))
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

    fn interface(&self, prefix: &NamePrefix) -> Element {
        el("interface")
            .attr("type", "network")
            .with(el("mac").attr("address", self.mac))
            .with(el("source").attr("network", prefix.network()))
            .with(el("model").attr("type", "virtio"))
            .with(el("filterref").attr("filter", self.egress.filter(prefix)))
    }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|it| it.has_tag_name(name))
}

/// UEFI without Secure Boot. By default libvirt picks a firmware with Microsoft's keys, which boots signed loaders only.
fn firmware() -> Element {
    let without = |name| el("feature").attr("enabled", "no").attr("name", name);
    el("os")
        .attr("firmware", "efi")
        .with(text("type", "hvm").attr("arch", "x86_64").attr("machine", "q35"))
        .with(el("firmware").with(without("secure-boot")).with(without("enrolled-keys")))
}

/// By path, not as a volume of the pool: libvirt's AppArmor driver does not find the files of such volumes.
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
