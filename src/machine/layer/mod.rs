//! Layers: states of a guest, kept so that a run can go on from one instead of booting from the image. A layer is three
//! volumes in the pool: the disk, the memory, and the record, which is written last. It stays in the hypervisor's pool, so a
//! remote hypervisor needs nothing else.
//!
//! Here is what is pure: the name, which stands for everything that the state depends on; age and eviction. [`store`]
//! reads and writes the volumes.

mod name;
pub mod store;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use name::{InvalidLayerName, LayerKind, LayerName, LayerOrigin};

use super::domain::DomainSpec;
use super::hypervisor::HostInfo;
use super::image::Image;
use super::seed::SeedSpec;
use crate::catalog::quantity::Bytes;

/// How old a layer may get: what a first boot depends on outside of its key, such as leases and certificates, ages.
const LONGEST_AGE: SignedDuration = SignedDuration::from_hours(24);
/// The form of the record and of the key. Another form is another layer.
const FORM: u32 = 1;

/// Everything that a settled first boot depends on, beside the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ReadyKey {
    form: u32,
    /// SHA-256 of the golden image.
    image: String,
    /// Size of the disk, in bytes.
    disk: u64,
    /// The domain's XML without its host-side parts. It contains the VM's name and MAC address, and so its slot.
    domain: String,
    hypervisor: String,
    libvirt: String,
    /// The host's processor.
    cpu: String,
    /// The seed without the keys and the instance id, which are made for each layer.
    seed: [String; 3],
}

impl ReadyKey {
    pub(crate) fn new(
        image: &Image,
        disk: Bytes,
        domain: &DomainSpec,
        host: &HostInfo,
        seed: &SeedSpec,
    ) -> Self {
        let any = String::new;
        let seed = SeedSpec {
            instance_id: any(),
            authorized_key: any(),
            host_key_private: any(),
            host_key_public: any(),
            ..seed.clone()
        };
        let files = seed.files();
        Self {
            form: FORM,
            image: image.sha256.clone(),
            disk: disk.0,
            domain: domain.guest_side(),
            hypervisor: host.version.clone(),
            libvirt: host.libvirt.clone(),
            cpu: host.cpu.clone(),
            seed: [files.user_data, files.meta_data, files.network_config],
        }
    }

    /// The name of the layer with this key.
    pub(crate) fn name(&self) -> LayerName {
        LayerName::new(LayerKind::Ready, &digest(self))
    }
}

/// Everything that an applied state depends on, beside the time and the world outside the VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AppliedKey {
    /// That of the ready layer below.
    pub(crate) ready: ReadyKey,
    /// Version of boma-it.
    pub(crate) version: &'static str,
    /// Version of ansible-core.
    pub(crate) ansible: String,
    /// Digest of every file that the playbook can use.
    pub(crate) site: String,
    /// The variables that the playbook gets from the inventory, the override, the scenario and boma-it, and its tags.
    pub(crate) inputs: Vec<String>,
}

impl AppliedKey {
    /// The name of the layer with this key.
    pub(crate) fn name(&self) -> LayerName {
        LayerName::new(LayerKind::Applied, &digest(self))
    }
}

fn digest(key: &impl Serialize) -> [u8; 32] {
    Sha256::digest(serde_json::to_vec(key).unwrap_or_default()).into()
}

/// What is known about a layer. The keys are its own: they open a guest only until the restored state has the run's keys.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) form: u32,
    /// When its state was kept.
    pub(crate) made: Timestamp,
    /// The profile.
    pub(crate) host: String,
    /// The layer whose disk is below its own.
    pub(crate) base: Option<String>,
    /// cloud-init's instance id. Restored guests keep it: another id would make their next boot a first boot.
    pub(crate) instance_id: String,
    /// The private key that logs in, in OpenSSH's format.
    pub(crate) client_key: String,
    /// Its public half, a line of authorized_keys.
    pub(crate) client_key_public: String,
    /// The guest's private host key.
    pub(crate) host_key: String,
    /// Its public half, a line of a `.pub` file.
    pub(crate) host_key_public: String,
    /// The serial console up to then.
    pub(crate) console: String,
    /// The journal up to then.
    pub(crate) journal: String,
    /// What the site playbook did; empty in a ready layer.
    pub(crate) applied: Applied,
}

/// How the site playbook went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// As the stage reports it: `22 tasks, 16 changed`.
    pub(crate) summary: String,
    /// Ansible's output.
    pub(crate) log: String,
    /// The record of its tasks, one JSON object a line.
    pub(crate) tasks: String,
}

impl LayerRecord {
    /// An empty one of the present form.
    pub(crate) fn new(made: Timestamp) -> Self {
        let any = String::new;
        Self {
            form: FORM,
            made,
            host: any(),
            base: None,
            instance_id: any(),
            client_key: any(),
            client_key_public: any(),
            host_key: any(),
            host_key_public: any(),
            console: any(),
            journal: any(),
            applied: Applied::default(),
        }
    }
}

impl fmt::Debug for LayerRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerRecord")
            .field("host", &self.host)
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

/// A layer in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: LayerName,
    /// The profile and when it was made; none if it has no readable record: it is being made, or its maker was killed.
    pub made: Option<(String, Timestamp)>,
    /// The layer whose disk is below its own.
    pub base: Option<LayerName>,
    /// When a run last used it, as far as this machine knows.
    pub used: Option<Timestamp>,
    /// Disk space in use.
    pub bytes: Bytes,
    /// The VM that uses it or makes it.
    pub user: Option<String>,
}

impl Layer {
    /// Whether it is too old to be used.
    pub(crate) fn is_expired(made: Timestamp, now: Timestamp) -> bool {
        // A clock that was set back makes a layer of the future: nothing is known about its age.
        !(SignedDuration::ZERO..=LONGEST_AGE).contains(&now.duration_since(made))
    }
}

/// The layers to remove: those without a record or a base, those that are too old, and then the least recently used until
/// the rest takes at most `budget`. Never one that a VM uses, nor one that such a layer lies on; and never a base without
/// those that lie on it.
pub(crate) fn surplus(layers: &[Layer], budget: Bytes, now: Timestamp) -> Vec<LayerName> {
    let on = |base: &Layer| {
        let base = base.name.clone();
        layers.iter().filter(move |it| it.base.as_ref() == Some(&base))
    };
    let is_in_use = |it: &Layer| it.user.is_some() || on(it).any(|above| above.user.is_some());
    let is_old = |it: &Layer| it.made.as_ref().is_none_or(|(_, made)| Layer::is_expired(*made, now));
    let is_useless = |it: &Layer| {
        let base = it.base.as_ref().map(|base| layers.iter().find(|it| it.name == *base));
        is_old(it) || base.is_some_and(|base| base.is_none_or(is_old))
    };
    let used = |it: &Layer| it.used.max(it.made.as_ref().map(|(_, made)| *made));
    let used_at_all = |it: &&Layer| on(it).filter_map(used).max().max(used(it));
    let (useless, mut good): (Vec<&Layer>, Vec<&Layer>) =
        layers.iter().filter(|it| !is_in_use(it)).partition(|it| is_useless(it));
    let in_use: u64 = layers.iter().filter(|it| is_in_use(it)).map(|it| it.bytes.0).sum();
    // Those that lie on another go before it.
    good.sort_by_key(|it| (used_at_all(it), it.base.is_none()));
    let mut total = in_use + good.iter().map(|it| it.bytes.0).sum::<u64>();
    let excess = good.into_iter().take_while(|it| {
        let too_much = total > budget.0;
        total = total.saturating_sub(it.bytes.0);
        too_much
    });
    useless.into_iter().chain(excess).map(|it| it.name.clone()).collect()
}

#[cfg(test)]
mod tests;
