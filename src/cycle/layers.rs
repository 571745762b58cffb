//! Layers in a run: finds the one that the VM can go on from, restores it with this run's identity, and keeps a settled first
//! boot, or the state after the playbook, as one.
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
use super::context::Job;
use super::errors::StageOutput;
use super::run::Run;
use super::running_vm::{self, RunningVm};
use super::vm_monitor::VmMonitor;
use crate::catalog::plan::{Layers, Tier};
use crate::guest::{BootFacts, CloudInit, Ready, RunKeys, SystemState, renew};
use crate::machine::guard::Refusal;
use crate::machine::image::Image;
use crate::machine::layer::store::LayerStore;
use crate::machine::layer::{
    Applied, AppliedKey, Layer, LayerKind, LayerName, LayerOrigin, LayerRecord, ReadyKey,
};
use crate::machine::seed::KeyPair;
use crate::machine::teardown::teardown_within;
use crate::machine::{HypervisorError, Ownership, VmVolumes};
use crate::outcome::Stage;
use crate::site;
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

/// The layers of a run's VM, by name. Each exists, or is made on the way.
#[derive(Clone, Debug)]
pub(super) struct RunLayers {
    ready: LayerName,
    /// None where the state after the playbook is not kept.
    applied: Option<LayerName>,
    /// cloud-init's instance id: the run's, or that of the layer that the VM was restored from.
    instance_id: String,
    /// What the playbook did, if the VM was restored after it.
    restored: Option<Applied>,
}

impl RunLayers {
    /// All of them, the lowest first.
    pub(super) fn all(&self) -> Vec<LayerName> {
        [Some(self.ready.clone()), self.applied.clone()].into_iter().flatten().collect()
    }

    /// Those above `layer`.
    fn above(&self, layer: &LayerName) -> Vec<LayerName> {
        self.all().into_iter().skip_while(|it| it != layer).skip(1).collect()
    }
}

impl Run<'_> {
    fn store(&self) -> LayerStore<'_> {
        self.context.layers()
    }

    /// Finds out which layers the VM has to do with, and pushes the undo of unfinished ones. The VM's own undo comes later,
    /// and so runs first.
    pub(super) fn find_layers(&mut self, image: &Image, ownership: &Ownership) -> anyhow::Result<()> {
        if self.plan.harness.layers == Layers::None {
            return Ok(());
        }
        let host = self.context.host_info()?;
        let (domain, seed) = (self.domain(ownership), self.seed_without_keys());
        let key = ReadyKey::new(image, self.plan.vm.disk, &domain, &host, &seed);
        let layers = RunLayers {
            ready: key.name(),
            applied: self.applied_layer(key),
            instance_id: ownership.run.clone(),
            restored: None,
        };
        let (context, names) = (self.context, layers.all());
        self.cleanup.push("unfinished layers", move |_| {
            let store = context.layers();
            // The locks are one user's: a VM that uses one by now is another user's.
            let unused = store.list()?.into_iter().filter(|it| it.user.is_none() && names.contains(&it.name));
            for Layer { name, .. } in unused {
                if store.find(&name, Timestamp::now())?.is_none() {
                    store.remove(&name)?;
                }
            }
            Ok(())
        });
        self.layers = Some(layers);
        Ok(())
    }

    /// The layer of the state after the playbook; none, and a note, where that state is never kept.
    fn applied_layer(&self, ready: ReadyKey) -> Option<LayerName> {
        if self.plan.harness.layers != Layers::Applied || self.job != Job::Cycle {
            return None;
        }
        match self.site_digest() {
            Ok(site) => Some(
                AppliedKey {
                    ready,
                    version: env!("CARGO_PKG_VERSION"),
                    ansible: self.checked.ansible.clone(),
                    inputs: self.playbook_inputs(),
                    site,
                }
                .name(),
            ),
            Err(why) => {
                self.recorder.note(format!("no applied layer: {why}"));
                None
            }
        }
    }

    /// The digest of the site, or why its applied state is not kept.
    fn site_digest(&self) -> Result<String, String> {
        let plan = self.plan;
        if self.context.is_ci {
            return Err("this is CI".to_owned());
        }
        if !plan.secrets.is_empty() {
            return Err("the run has secrets, and they would be in the memory that is kept".to_owned());
        }
        if plan.certs != Tier::Internal {
            return Err(format!("the certificate tier is {}", plan.certs));
        }
        if plan.expect.fail.as_ref().is_some_and(|fail| fail.at == Stage::Apply) {
            return Err("the scenario declares a failure at apply".to_owned());
        }
        site::digest(&plan.site, &self.checked)
    }

    /// Restores the highest layer that can be used now. None if there is none, or none that could be restored.
    pub(super) fn up_from_layer(&mut self, ownership: &Ownership) -> anyhow::Result<Option<StageOutput<()>>> {
        let Some(layers) = self.layers.clone() else { return Ok(None) };
        for name in layers.all().into_iter().rev() {
            let found = self.store().find(&name, Timestamp::now());
            let Some(record) = found.context("cannot look for a layer")? else { continue };
            let origin = LayerOrigin { name: name.clone(), made: record.made };
            let makes = layers.above(&name);
            let ownership = Ownership { layer: Some(origin), makes, ..ownership.clone() };
            self.own(&ownership);
            match self.restore(&name, &record, &ownership) {
                Ok(output) => return Ok(Some(output)),
                Err(error) => self.discard_layer(&name, error)?,
            }
        }
        Ok(None)
    }

    /// Restores the layer, with this run's owner, keys, clock and random numbers.
    fn restore(
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
        self.clear_layers(&ownership.makes)?;
        // A playbook may have changed sshd for its next start, so the host key stays.
        let has_own_host_key = name.kind() == LayerKind::Ready;
        let keys = if has_own_host_key { self.make_keys()? } else { self.make_keys_with(record)? };
        self.upload_seed(&self.seed(&keys, &record.instance_id)?)?;
        self.create_overlay(&spec.overlay, &name.disk())?;
        let vm =
            RunningVm::new(self.machine.clone(), ownership.clone(), self.folder.clone(), &context.login)?;
        for (file, text) in [("layer-console.log", &record.console), ("layer-journal.log", &record.journal)] {
            fs::write(self.folder.join(file), text).with_context(|| format!("cannot write {file}"))?;
        }
        admission::check_start(context, self.plan, &self.machine, self.slot)?;
        let deadline = self.recorder.deadline(self.patience(&vm, RESTORE), "the restored guest");
        deadline.time_wait(|| hypervisor.restore(&self.machine, &name.memory()))?;
        self.store().mark_used(name);
        let [client, host] = &keys;
        let host_private = host.private()?;
        let keys = RunKeys {
            client: client.public(),
            host: has_own_host_key.then_some((&host_private, host.public())),
        };
        let ready = self.renew(&vm, record, keys, &deadline)?;
        self.vm = Some(vm);
        if let Some(layers) = &mut self.layers {
            layers.instance_id.clone_from(&record.instance_id);
            layers.restored = (name.kind() == LayerKind::Applied).then(|| record.applied.clone());
        }
        let origin = ownership.layer.as_ref().map(|it| format!("from {}", it.describe(&Zoned::now())));
        self.describe_up(&ready.facts, origin)
    }

    /// The run's keys, where the guest keeps its host key.
    fn make_keys_with(&self, record: &LayerRecord) -> anyhow::Result<[KeyPair; 2]> {
        let keys = running_vm::create_keys_folder(&self.folder)?;
        let host = KeyPair::keep(&keys, running_vm::HOST_KEY, &record.host_key, &record.host_key_public)?;
        let deadline = self.recorder.deadline(CLEARING, "the keys");
        Ok([KeyPair::generate(&keys, running_vm::CLIENT_KEY, &deadline)?, host])
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
    /// The error itself, if it has nothing to do with the layer: an interrupt, a refusal, or another run's VM of that name.
    pub(super) fn discard_layer(&self, name: &LayerName, error: anyhow::Error) -> anyhow::Result<()> {
        let is_theirs = |ours| admission::belongs_to_another(self.context, &self.machine, ours);
        if self.context.interrupt.check().is_err()
            || error.is::<Refusal>()
            || self.ownership.as_ref().map(is_theirs).transpose()? == Some(true)
        {
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

    /// Makes room for layers to be made: removes what earlier ones of that name left.
    pub(super) fn clear_layers(&self, names: &[LayerName]) -> anyhow::Result<()> {
        names.iter().try_for_each(|name| {
            let removed = self.store().remove(name);
            removed.with_context(|| format!("cannot remove what is left of layer {name}"))
        })
    }

    /// Keeps the settled first boot as the ready layer, if the run uses layers. Returns words for the report.
    pub(super) fn keep_first_boot(&mut self, facts: &BootFacts) -> Option<String> {
        let name = self.layers.as_ref()?.ready.clone();
        let is_clean = match &facts.cloud_init {
            CloudInit::Done { recoverable } => recoverable.is_empty(),
            CloudInit::Off { .. } => false,
            CloudInit::Disabled | CloudInit::Absent => true,
        };
        let kept = if facts.system == SystemState::Running && is_clean {
            self.keep_state(&name, None, Applied::default())
        } else {
            self.recorder.note("the first boot is not kept as a layer, because something in it failed");
            None
        };
        if kept.is_none() {
            // The disk of the next layer would lie on one that no layer has.
            self.layers = None;
        }
        kept
    }

    /// The stage `apply` of a VM that was restored after the playbook: its files, and words for the report.
    pub(super) fn restored_apply(&self) -> anyhow::Result<Option<String>> {
        let Some(done) = self.layers.as_ref().and_then(|it| it.restored.as_ref()) else { return Ok(None) };
        let folder = self.folder.sub_folder("ansible")?;
        for (file, text) in [("apply.log", &done.log), ("apply.tasks.jsonl", &done.tasks)] {
            fs::write(folder.join(file), text).with_context(|| format!("cannot write {file}"))?;
        }
        Ok(Some(format!("{}, in the layer", done.summary)))
    }

    /// Keeps the state after the playbook as the applied layer, if the run makes one. Returns words for the report.
    pub(super) fn keep_applied(&mut self, summary: &str) -> Option<String> {
        let RunLayers { ready, applied, .. } = self.layers.clone()?;
        let read =
            |file: &str| fs::read_to_string(self.folder.join("ansible").join(file)).unwrap_or_default();
        let done =
            Applied { summary: summary.to_owned(), log: read("apply.log"), tasks: read("apply.tasks.jsonl") };
        self.keep_state(&applied?, Some(&ready), done)
    }

    /// Keeps the present state as a layer over `base`. A failure is a note, as the run does not depend on it.
    fn keep_state(&self, name: &LayerName, base: Option<&LayerName>, applied: Applied) -> Option<String> {
        self.recorder.doing(format!("keeping this state as layer {name}"));
        match self.save_layer(name, base, applied) {
            Ok(()) => Some(format!("kept as layer {name}")),
            Err(error) => {
                self.recorder.note(format!("cannot keep this state as layer {name}: {error:#}"));
                None
            }
        }
    }

    fn save_layer(&self, name: &LayerName, base: Option<&LayerName>, applied: Applied) -> anyhow::Result<()> {
        let (vm, hypervisor) = (self.vm()?, self.hypervisor());
        let volumes = VmVolumes(&vm.machine);
        // The disk that the VM goes on with is that of the next layer, if there is one.
        let next = vm.ownership.makes.iter().skip_while(|it| *it != name).nth(1);
        let overlay = next.map_or_else(|| volumes.overlay(), LayerName::disk);
        let deadline = self.recorder.deadline(CLEARING, "the state of the layer");
        deadline.time_wait(|| hypervisor.save(&vm.machine, &name.memory(), &overlay))?;
        let made = Timestamp::now();
        let text = |volume: String| -> anyhow::Result<String> {
            let mut bytes = Vec::new();
            hypervisor.download(&volume, 0, &mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let instance_id = self.layers.as_ref().map(|it| it.instance_id.clone()).unwrap_or_default();
        let keys = running_vm::keys(&self.folder);
        let record = LayerRecord {
            host: self.plan.trial.host.to_string(),
            base: base.map(ToString::to_string),
            instance_id,
            client_key: fs::read_to_string(&vm.access.private_key)?,
            client_key_public: fs::read_to_string(keys.join(format!("{}.pub", running_vm::CLIENT_KEY)))?,
            host_key: fs::read_to_string(keys.join(running_vm::HOST_KEY))?,
            host_key_public: vm.access.host_key.clone(),
            console: text(volumes.console())?,
            journal: text(volumes.journal())?,
            applied,
            ..LayerRecord::new(made)
        };
        let layers = self.store();
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
