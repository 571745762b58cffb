//! The layers in the hypervisor's pool: lists, reads, writes and removes them. When each was last used is known on this
//! machine only, in a folder of empty files whose modification time counts.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use jiff::Timestamp;

use super::{FORM, Layer, LayerKind, LayerName, LayerRecord, surplus};
use crate::catalog::quantity::Bytes;
use crate::machine::hypervisor::{Hypervisor, HypervisorError, Machine, Result, Volume};
use crate::support::deadline::Deadline;

/// The layers of one hypervisor.
#[derive(Clone)]
pub struct LayerStore<'a> {
    hypervisor: &'a dyn Hypervisor,
    used: PathBuf,
}

impl<'a> LayerStore<'a> {
    /// The layers in the pool of `hypervisor`. The folder `used` is made when a layer is used.
    pub fn new(hypervisor: &'a dyn Hypervisor, used: PathBuf) -> Self {
        Self { hypervisor, used }
    }

    /// Every layer, complete or not, sorted by name.
    ///
    /// # Errors
    /// When the hypervisor fails.
    pub fn list(&self) -> Result<Vec<Layer>> {
        let volumes = match self.hypervisor.volumes() {
            Err(HypervisorError::NotFound { .. }) => Vec::new(),
            result => result?,
        };
        let mut names: Vec<LayerName> =
            volumes.iter().filter_map(|it| LayerName::of_volume(&it.name)).collect();
        names.sort();
        names.dedup();
        // After the volumes: a VM that makes a layer is defined before the layer gets any.
        let machines = self.hypervisor.machines()?;
        let user_of = |name: &LayerName| {
            // A VM whose metadata cannot be read may use any of them.
            let uses = |it: &&Machine| it.ownership.as_ref().is_none_or(|it| it.uses(name));
            machines.iter().find(uses).map(|it| it.name.clone())
        };
        names
            .into_iter()
            .map(|name| {
                let record = self.record_in(&volumes, &name)?;
                let bytes =
                    volumes.iter().filter(|it| LayerName::of_volume(&it.name).as_ref() == Some(&name));
                Ok(Layer {
                    bytes: Bytes(bytes.map(|it| it.allocation.0).sum()),
                    user: user_of(&name),
                    used: self.used(&name),
                    base: record.as_ref().and_then(|it| it.base.as_ref()?.parse().ok()),
                    made: record.map(|it| (it.host, it.made)),
                    name,
                })
            })
            .collect()
    }

    /// The record of a layer that can be used now: complete, and not too old, as is the one that it lies on.
    ///
    /// # Errors
    /// When the hypervisor fails.
    pub(crate) fn find(&self, name: &LayerName, now: Timestamp) -> Result<Option<LayerRecord>> {
        let record = self.record_in(&self.hypervisor.volumes()?, name)?;
        let Some(record) = record.filter(|it| !Layer::is_expired(it.made, now)) else { return Ok(None) };
        Ok(match record.base.as_ref().map(|base| base.parse::<LayerName>()) {
            None => Some(record),
            Some(Ok(base)) => self.find(&base, now)?.map(|_| record),
            Some(Err(_)) => None,
        })
    }

    fn record_in(&self, volumes: &[Volume], name: &LayerName) -> Result<Option<LayerRecord>> {
        if name.volumes().iter().any(|wanted| volumes.iter().all(|it| it.name != *wanted)) {
            return Ok(None);
        }
        let mut text = Vec::new();
        match self.hypervisor.download(&name.record(), 0, &mut text) {
            // Another process may have removed it.
            Err(HypervisorError::NotFound { .. }) => return Ok(None),
            result => result?,
        };
        Ok(serde_json::from_slice::<LayerRecord>(&text).ok().filter(|it| it.form == FORM))
    }

    /// Writes the record, which makes the layer complete.
    ///
    /// # Errors
    /// When it cannot be written to a file here, or uploaded.
    pub(crate) fn write(
        &self,
        name: &LayerName,
        record: &LayerRecord,
        deadline: &Deadline,
    ) -> anyhow::Result<()> {
        // Mode 0600.
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.flush()?;
        self.hypervisor.upload(&name.record(), file.path(), deadline, &mut |_| {})?;
        self.mark_used(name);
        Ok(())
    }

    /// Notes that a run uses the layer, and so the one that it lies on. That this cannot be noted only changes which layer goes first.
    pub(crate) fn mark_used(&self, name: &LayerName) {
        let _ = fs::create_dir_all(&self.used).and_then(|()| fs::write(self.used.join(name.to_string()), ""));
    }

    fn used(&self, name: &LayerName) -> Option<Timestamp> {
        fs::metadata(self.used.join(name.to_string())).ok()?.modified().ok()?.try_into().ok()
    }

    /// Removes a layer, complete or not, and those that lie on it. It need not exist.
    ///
    /// # Errors
    /// The first error of the hypervisor; the rest is removed.
    pub fn remove(&self, name: &LayerName) -> Result<()> {
        let above = match name.kind() {
            LayerKind::Ready => {
                self.list()?.into_iter().filter(|it| it.base.as_ref() == Some(name)).collect()
            }
            LayerKind::Applied => Vec::new(),
        };
        let results: Vec<Result<()>> =
            above.iter().map(|it| &it.name).chain([name]).map(|name| self.delete(name)).collect();
        results.into_iter().collect()
    }

    fn delete(&self, name: &LayerName) -> Result<()> {
        let _ = fs::remove_file(self.used.join(name.to_string()));
        let results = name.volumes().map(|volume| self.hypervisor.delete_volume(&volume));
        results.into_iter().collect()
    }

    /// Removes what is incomplete, too old or over `budget`, and used by no VM. Returns what was removed.
    ///
    /// # Errors
    /// The first error of the hypervisor; the rest is removed.
    pub(crate) fn sweep(&self, budget: Bytes, now: Timestamp) -> (Vec<LayerName>, Result<()>) {
        let layers = match self.list() {
            Ok(layers) => layers,
            Err(error) => return (Vec::new(), Err(error)),
        };
        self.remove_all(surplus(&layers, budget, now))
    }

    /// Removes these, however many fail.
    pub(crate) fn remove_all(&self, names: Vec<LayerName>) -> (Vec<LayerName>, Result<()>) {
        let mut first = Ok(());
        let removed = names.into_iter().filter(|name| match self.remove(name) {
            Ok(()) => true,
            Err(error) => {
                if first.is_ok() {
                    first = Err(error);
                }
                false
            }
        });
        (removed.collect(), first)
    }
}
