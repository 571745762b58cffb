//! What things of ours are called on a hypervisor: pool, network, filters, and the volumes of a machine. Names
//! are made here and nowhere else, so that making and undoing agree.

use super::network::Egress;
use crate::support::name::PREFIX;

/// A family of names on one hypervisor. There is one in earnest, [`NamePrefix::default`] (`boma-it`); tests that use a
/// real hypervisor have one of their own, so that they never touch what is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePrefix(String);

impl Default for NamePrefix {
    fn default() -> Self {
        Self(PREFIX.to_owned())
    }
}

impl NamePrefix {
    /// The realm whose names all start with `prefix`: at most 14 characters, as a bridge's name is made from it.
    pub fn named(prefix: impl Into<String>) -> Self {
        Self(prefix.into())
    }

    /// The prefix itself: `boma-it`.
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// Whether a domain of this name is ours.
    pub fn owns(&self, domain: &str) -> bool {
        domain.strip_prefix(self.prefix()).is_some_and(|rest| rest.starts_with('-'))
    }

    /// The storage pool.
    pub fn pool(&self) -> &str {
        &self.0
    }

    /// Where the pool's files lie on the hypervisor. Libvirt makes the folder; we never open it.
    pub fn pool_target(&self) -> String {
        format!("/var/lib/libvirt/{}", self.0)
    }

    /// The network.
    pub fn network(&self) -> &str {
        &self.0
    }

    /// The network's bridge: an interface's name, at most 15 characters.
    pub fn bridge(&self) -> String {
        format!("{}0", self.0)
    }

    /// The network filter on the interface of a guest.
    pub fn filter(&self, egress: Egress) -> String {
        match egress {
            Egress::Internet => format!("{}-isolation", self.0),
            Egress::None => format!("{}-no-egress", self.0),
        }
    }

    /// The name of the volume that holds the golden image called `image`. It does not start like a machine's name,
    /// so no image is ever taken for what a machine left behind.
    pub fn image_volume(&self, image: &str) -> String {
        format!("golden-{image}.qcow2")
    }

    /// The domain that this volume belongs to by its name, if it is one of a machine of ours.
    pub fn domain_of<'a>(&self, volume: &'a str) -> Option<&'a str> {
        let rolled = VmVolumes::ROLLED.iter().find_map(|suffix| volume.strip_suffix(suffix));
        let log = rolled.filter(|name| name.ends_with(".log"));
        let name = log.unwrap_or(volume);
        let stem = VmVolumes::SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
        self.owns(stem).then_some(stem)
    }
}

/// The volumes of one machine, by the name of its domain.
#[derive(Clone, Copy, Debug)]
pub struct VmVolumes<'a>(pub &'a str);

impl VmVolumes<'_> {
    const SUFFIXES: [&'static str; 4] = [".qcow2", ".seed.img", ".console.log", ".journal.log"];

    /// What virtlogd does with a log that grows beyond 2 MiB, its `max_size`: it is renamed, and `max_backups`, 3, are kept.
    const ROLLED: [&'static str; 3] = [".2", ".1", ".0"];

    /// The thin overlay over the golden image.
    pub fn overlay(self) -> String {
        format!("{}.qcow2", self.0)
    }

    /// The cloud-init seed.
    pub fn seed(self) -> String {
        format!("{}.seed.img", self.0)
    }

    /// What the serial console printed, over all boots.
    pub fn console(self) -> String {
        format!("{}.console.log", self.0)
    }

    /// The guest's journal, streamed over a virtio port, over all boots.
    pub fn journal(self) -> String {
        format!("{}.journal.log", self.0)
    }

    /// The earlier parts of a log (its console, its journal), the oldest first, as far as the log grew so long.
    pub fn rolled(log: &str) -> [String; 3] {
        Self::ROLLED.map(|suffix| format!("{log}{suffix}"))
    }

    /// All of them, but for earlier parts of the logs.
    pub fn all(self) -> [String; 4] {
        Self::SUFFIXES.map(|suffix| format!("{}{suffix}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_volume_of_a_machine_leads_back_to_its_domain_and_no_image_does() {
        let realm = NamePrefix::default();
        let files = VmVolumes("boma-it-askari");
        let named = [files.overlay(), files.seed(), files.console(), files.journal()];
        assert_eq!(named, files.all());
        for volume in named {
            assert_eq!(realm.domain_of(&volume), Some("boma-it-askari"), "{volume}");
        }
        assert_eq!(realm.domain_of(&realm.image_volume("0123abcd")), None);
        for log in [files.console(), files.journal()] {
            for part in VmVolumes::rolled(&log) {
                assert_eq!(realm.domain_of(&part), Some("boma-it-askari"), "{part}");
            }
        }
        assert_eq!(realm.domain_of("boma-it-askari.qcow2.0"), None);
        assert_eq!(realm.domain_of("boma-it-askari.iso"), None);
        assert_eq!(realm.domain_of("somebody-else.qcow2"), None);
        assert_eq!(realm.domain_of("boma-itx.qcow2"), None);
    }

    #[test]
    fn a_bridge_has_a_name_that_the_kernel_takes() {
        assert!(NamePrefix::default().bridge().len() <= 15);
    }
}
