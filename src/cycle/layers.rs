//! The part of the stage `up` that has to do with layers: finds the one that the VM can go on from, restores it with this run's
//! identity, or keeps a settled first boot as one.
//!
//! A VM that makes a layer boots on the layer's disk; saving its memory moves it to its own overlay over that disk. So making
//! one costs the seconds in which its memory is written, and the VM is the same as any.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::Context;
use jiff::{Timestamp, Zoned};

use super::admission;
use super::errors::StageOutput;
use super::run::Run;
use super::running_vm::{self, RunningVm};
use super::vm_monitor::VmMonitor;
use crate::catalog::plan::Layers;
use crate::guest::{BootFacts, CloudInit, Ready, RunKeys, SystemState, renew};
use crate::machine::guard::Refusal;
use crate::machine::image::Image;
use crate::machine::layer::store::LayerStore;
use crate::machine::layer::{LayerName, LayerRecord, ReadyKey};
use crate::machine::teardown::teardown_within;
use crate::machine::{HypervisorError, Ownership, VmVolumes};
use crate::support::deadline::Deadline;
use crate::support::ssh_access::SshAccess;

/// How long a restored guest may take to answer and to get its identity, under KVM.
const RESTORE: Duration = Duration::from_secs(60);
/// How long removing a VM or reading its logs may take.
const CLEARING: Duration = Duration::from_secs(60);
/// The private key of the layer, among the run's keys.
const LAYER_KEY: &str = "layer";
/// How many fresh random bytes a restored guest gets: as many as systemd-random-seed(8) keeps.
const RANDOM: usize = 512;

impl Run<'_> {
    fn layers(&self) -> LayerStore<'_> {
        self.context.layers()
    }

    /// The ready layer of this VM, and its record if it can be used now. None if the run uses no layers.
    pub(super) fn ready_layer(
        &self,
        image: &Image,
        ownership: &Ownership,
    ) -> anyhow::Result<Option<(LayerName, Option<LayerRecord>)>> {
        if self.plan.harness.layers == Layers::None {
            return Ok(None);
        }
        let host = self.context.host_info()?;
        let domain = self.domain(ownership);
        let name = ReadyKey::new(image, self.plan.vm.disk, &domain, &host, &self.seed_without_keys()).name();
        let record = self.layers().find(&name, Timestamp::now()).context("cannot look for a layer")?;
        Ok(Some((name, record)))
    }

    /// Restores the layer, with this run's owner, keys, clock and random numbers.
    pub(super) fn restore(
        &mut self,
        name: &LayerName,
        record: &LayerRecord,
        ownership: &Ownership,
    ) -> anyhow::Result<StageOutput<()>> {
        let (context, hypervisor) = (self.context, self.hypervisor());
        self.recorder.doing(format!("restoring layer {name}"));
        let spec = self.domain(ownership);
        hypervisor.define_saved(&name.memory(), &spec).map_err(|error| match error {
            HypervisorError::Exists { .. } => {
                admission::not_defined(context, self.plan, &self.machine, error)
            }
            other => other.into(),
        })?;
        let keys = self.make_keys()?;
        self.upload_seed(&self.seed(&keys, &record.instance_id)?)?;
        self.create_overlay(&spec.overlay, &name.disk())?;
        let vm =
            RunningVm::new(self.machine.clone(), ownership.clone(), self.folder.clone(), &context.login)?;
        for (file, text) in [("layer-console.log", &record.console), ("layer-journal.log", &record.journal)] {
            fs::write(self.folder.join(file), text).with_context(|| format!("cannot write {file}"))?;
        }
        admission::check_start(context, self.plan, &self.machine, self.slot)?;
        hypervisor.restore(&self.machine, &name.memory())?;
        self.layers().mark_used(name);
        let deadline = self.recorder.deadline(self.patience(&vm, RESTORE), "the restored guest");
        let [client, host] = &keys;
        let host_private = host.private()?;
        let keys =
            RunKeys { client: client.public(), host_private: &host_private, host_public: host.public() };
        let ready = self.renew(&vm, record, keys, &deadline)?;
        self.vm = Some(vm);
        let origin = ownership.layer.as_ref().and_then(|it| it.origin(&Zoned::now()));
        self.describe_up(&ready.facts, origin.map(|origin| format!("from {origin}")))
    }

    fn renew(
        &self,
        vm: &RunningVm,
        record: &LayerRecord,
        keys: RunKeys<'_>,
        deadline: &Deadline,
    ) -> anyhow::Result<Ready> {
        let private_key = running_vm::keys(&self.folder).join(LAYER_KEY);
        let mut file = fs::File::options().create_new(true).write(true).mode(0o600).open(&private_key)?;
        file.write_all(record.client_key.as_bytes()).context("cannot write the key of the layer")?;
        let host_key = record.host_key_public.clone();
        let layer = SshAccess { private_key: private_key.clone(), host_key, ..vm.access.clone() };
        let mut random = [0; RANDOM];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .context("cannot get random numbers")?;
        let mut monitor = VmMonitor::from_now_on(self.hypervisor(), &vm.machine);
        let ready = renew(
            (&layer, &record.client_key_public),
            (&vm.access, keys),
            &random,
            deadline,
            &mut || monitor.check(),
            &mut |what| self.recorder.doing(what),
        );
        let _ = fs::remove_file(&private_key);
        Ok(ready?)
    }

    /// After a failed restore: removes what there is of the VM, and the layer, so that the VM can boot from the image.
    ///
    /// # Errors
    /// The error itself, if it has nothing to do with the layer: an interrupt, or a refusal.
    pub(super) fn discard_layer(&self, name: &LayerName, error: anyhow::Error) -> anyhow::Result<()> {
        if self.context.interrupt.check().is_err() || error.is::<Refusal>() {
            return Err(error);
        }
        self.recorder.note(format!(
            "layer {name} could not be restored, so it is removed, and the VM boots from the image: {error:#}"
        ));
        let deadline = self.recorder.deadline(CLEARING, "removing the restored VM");
        teardown_within(self.hypervisor(), &self.machine, &deadline)
            .context("cannot remove the restored VM")?;
        running_vm::remove_keys(&self.folder);
        Ok(())
    }

    /// Makes room for a layer to be made: removes what an earlier one of that name left. Its disk goes with the VM unless the
    /// layer was completed.
    pub(super) fn clear_layer(&mut self, name: &LayerName) -> anyhow::Result<()> {
        self.layers().remove(name).with_context(|| format!("cannot remove what is left of layer {name}"))?;
        let (context, name) = (self.context, name.clone());
        self.cleanup.push(format!("the unfinished layer {name}"), move |_| {
            let layers = context.layers();
            if layers.find(&name, Timestamp::now())?.is_none() {
                layers.remove(&name)?;
            }
            Ok(())
        });
        Ok(())
    }

    /// Keeps the settled first boot as the layer. Returns words for the report; a failure is a note, as the run does not
    /// depend on it.
    pub(super) fn keep_layer(&self, name: &LayerName, facts: &BootFacts) -> Option<String> {
        let is_clean = match &facts.cloud_init {
            CloudInit::Done { recoverable } => recoverable.is_empty(),
            CloudInit::Disabled | CloudInit::Absent => true,
        };
        if facts.system != SystemState::Running || !is_clean {
            self.recorder.note("the first boot is not kept as a layer, because something in it failed");
            return None;
        }
        self.recorder.doing(format!("keeping the first boot as layer {name}"));
        match self.save_layer(name) {
            Ok(()) => Some(format!("kept as layer {name}")),
            Err(error) => {
                self.recorder.note(format!("cannot keep the first boot as layer {name}: {error:#}"));
                None
            }
        }
    }

    fn save_layer(&self, name: &LayerName) -> anyhow::Result<()> {
        let (vm, hypervisor) = (self.vm()?, self.hypervisor());
        let volumes = VmVolumes(&vm.machine);
        hypervisor.save(&vm.machine, &name.memory(), &volumes.overlay())?;
        let made = Timestamp::now();
        let text = |volume: String| -> anyhow::Result<String> {
            let mut bytes = Vec::new();
            hypervisor.download(&volume, 0, &mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let keys = running_vm::keys(&self.folder);
        let record = LayerRecord {
            host: self.plan.trial.host.to_string(),
            instance_id: vm.ownership.run.clone(),
            client_key: fs::read_to_string(&vm.access.private_key)?,
            client_key_public: fs::read_to_string(keys.join(format!("{}.pub", running_vm::CLIENT_KEY)))?,
            host_key_public: vm.access.host_key.clone(),
            console: text(volumes.console())?,
            journal: text(volumes.journal())?,
            ..LayerRecord::new(made)
        };
        let layers = self.layers();
        layers.write(name, &record, &self.recorder.deadline(CLEARING, "the record of the layer"))?;
        let (removed, result) = layers.sweep(self.plan.harness.layer_space, made);
        for name in removed {
            self.recorder.note(format!("removed layer {name}: too old, or over `limits.layers`"));
        }
        result
            .context("cannot remove old layers")
            .map_err(|error| self.recorder.note(format!("{error:#}")))
            .ok();
        Ok(())
    }
}
