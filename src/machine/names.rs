//! The names of our objects on a hypervisor: pool, network, VMs and their volumes. They are made here and nowhere else,
//! so that creating and removing agree.

use super::network::Slot;
use crate::support::name::{Name, PREFIX};

/// What all our names on one hypervisor start with. In use it is [`NamePrefix::default`] (`boma-it`); tests against a real
/// hypervisor have another, so that they never touch what is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePrefix(String);

impl Default for NamePrefix {
    fn default() -> Self {
        Self(PREFIX.to_owned())
    }
}

impl NamePrefix {
    /// Another prefix: at most 14 characters, as a bridge's name is made from it.
    pub fn named(prefix: impl Into<String>) -> Self {
        Self(prefix.into())
    }

    /// The prefix itself: `boma-it`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain of a host's VM in a slot: `boma-it-askari` in the first one, `boma-it-askari.2` in the second. No host's
    /// name has a dot, so no two hosts share a name. It does not say which scenario runs: the metadata does.
    pub fn machine(&self, host: &Name, slot: Slot) -> String {
        match slot.number() {
            0 => format!("{}-{host}", self.0),
            n => format!("{}-{host}.{}", self.0, n + 1),
        }
    }

    /// The domain of the probe of KVM. No host's VM can have its name.
    pub(crate) fn probe(&self) -> String {
        format!("{}-kvm.probe", self.0)
    }

    /// Whether a domain of this name is ours.
    pub(crate) fn owns(&self, domain: &str) -> bool {
        domain.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('-'))
    }

    /// The storage pool.
    pub(crate) fn pool(&self) -> &str {
        &self.0
    }

    /// The pool's folder on the hypervisor. Libvirt creates it; we never open it.
    pub(crate) fn pool_target(&self) -> String {
        format!("/var/lib/libvirt/{}", self.0)
    }

    /// The network.
    pub(crate) fn network(&self) -> &str {
        &self.0
    }

    /// The network's bridge: an interface's name, at most 15 characters.
    pub(crate) fn bridge(&self) -> String {
        format!("{}0", self.0)
    }

    /// The volume of the golden image called `image`. It does not start with the prefix, so an image is never mistaken for
    /// a volume that a VM left behind.
    pub fn image_volume(&self, image: &str) -> String {
        format!("golden-{image}.qcow2")
    }

    /// The domain whose volume this is, judged by its name.
    pub fn domain_of<'a>(&self, volume: &'a str) -> Option<&'a str> {
        let rolled = VmVolumes::ROLLED.iter().find_map(|suffix| volume.strip_suffix(suffix));
        let log = rolled.filter(|name| name.ends_with(".log"));
        let name = log.unwrap_or(volume);
        let stem = VmVolumes::SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
        self.owns(stem).then_some(stem)
    }
}

/// The volumes of one VM, made from the name of its domain.
#[derive(Clone, Copy, Debug)]
pub struct VmVolumes<'a>(pub &'a str);

impl VmVolumes<'_> {
    const SUFFIXES: [&'static str; 4] = [".qcow2", ".seed.img", ".console.log", ".journal.log"];

    /// virtlogd renames a log that grows beyond 2 MiB (its `max_size`) and keeps 3 old parts (its `max_backups`).
    const ROLLED: [&'static str; 3] = [".2", ".1", ".0"];

    /// The thin overlay over the golden image.
    pub fn overlay(self) -> String {
        format!("{}.qcow2", self.0)
    }

    /// The cloud-init seed.
    pub fn seed(self) -> String {
        format!("{}.seed.img", self.0)
    }

    /// The log of the serial console, over all boots.
    pub fn console(self) -> String {
        format!("{}.console.log", self.0)
    }

    /// The guest's journal, streamed over a virtio port, over all boots.
    pub fn journal(self) -> String {
        format!("{}.journal.log", self.0)
    }

    /// The names of the earlier parts of a console or journal log, the oldest first.
    pub(crate) fn rolled(log: &str) -> [String; 3] {
        Self::ROLLED.map(|suffix| format!("{log}{suffix}"))
    }

    /// All of them except earlier parts of the logs.
    pub fn all(self) -> [String; 4] {
        Self::SUFFIXES.map(|suffix| format!("{}{suffix}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_of_a_volume_is_found_from_its_name_but_an_image_has_none() {
        let prefix = NamePrefix::default();
        let volumes = VmVolumes("boma-it-askari");
        let named = [volumes.overlay(), volumes.seed(), volumes.console(), volumes.journal()];
        assert_eq!(named, volumes.all());
        for volume in named {
            assert_eq!(prefix.domain_of(&volume), Some("boma-it-askari"), "{volume}");
        }
        assert_eq!(prefix.domain_of(&prefix.image_volume("0123abcd")), None);
        for log in [volumes.console(), volumes.journal()] {
            for part in VmVolumes::rolled(&log) {
                assert_eq!(prefix.domain_of(&part), Some("boma-it-askari"), "{part}");
            }
        }
        assert_eq!(prefix.domain_of("boma-it-askari.qcow2.0"), None);
        assert_eq!(prefix.domain_of("boma-it-askari.iso"), None);
        assert_eq!(prefix.domain_of("somebody-else.qcow2"), None);
        assert_eq!(prefix.domain_of("boma-itx.qcow2"), None);
    }

    #[test]
    fn a_vm_is_named_after_its_host_and_slot_and_no_other_host_can_have_its_name() {
        let prefix = NamePrefix::default();
        let names = Slot::all().map(|slot| prefix.machine(&"askari".parse().unwrap(), slot));
        let names: Vec<_> = names.collect();
        assert_eq!(names[..3], ["boma-it-askari", "boma-it-askari.2", "boma-it-askari.3"]);
        for name in names.iter().skip(1).chain([&prefix.probe()]) {
            let host = name.strip_prefix("boma-it-").unwrap();
            assert!(host.parse::<Name>().is_err(), "{host} is a host's name as well");
            for volume in VmVolumes(name).all() {
                assert_eq!(prefix.domain_of(&volume), Some(name.as_str()));
            }
            let part = &VmVolumes::rolled(&VmVolumes(name).console())[0];
            assert_eq!(prefix.domain_of(part), Some(name.as_str()));
        }
    }

    #[test]
    fn the_bridge_name_fits_the_kernels_limit() {
        assert!(NamePrefix::default().bridge().len() <= 15);
    }
}
