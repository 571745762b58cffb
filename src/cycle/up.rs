//! The stage `up`: golden image → overlay → seed → domain → ready. The undo of each thing is pushed before it is made.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use jiff::Zoned;

use super::admission;
use super::context::RunContext;
use super::errors::{StageError, StageOutput};
use super::layers::RunLayers;
use super::place;
use super::run::Run;
use super::running_vm::{self, RunningVm};
use super::vm_monitor::VmMonitor;
use crate::catalog::Plan;
use crate::catalog::plan::{MAX_VMS, Restart};
use crate::guest::{BootFacts, CloudInit, ReadyError, wait_ready};
use crate::machine::domain::DiskCache;
use crate::machine::image::Image;
use crate::machine::kvm_probe::{self, KvmProbe};
use crate::machine::network::NetworkSpec;
use crate::machine::ownership::Processes;
use crate::machine::seed::{FIRST_BOOT_MASKS, KeyPair, SeedSpec};
use crate::machine::teardown::teardown_within;
use crate::machine::{Accelerator, DomainSpec, Egress, Lifetime, Ownership, VmVolumes};
use crate::support::lock::FileLock;
use crate::support::run_folder::{RunFolder, retain};
use crate::support::secret::Redactor;

/// How long this machine may take to make a VM's keys, or to fill its volumes.
const PREPARATION: Duration = Duration::from_secs(120);
/// The golden image of the run, in its folder: later steps, other processes, report it too.
const IMAGE_FILE: &str = "image.json";

/// Creates the run folder with the plan in it, occupied by this run, and removes the oldest run folders.
///
/// # Errors
/// When it cannot be created.
pub(super) fn create_folder(context: &RunContext, plan: &Plan) -> anyhow::Result<(RunFolder, FileLock)> {
    let runs = &plan.harness.runs;
    let folder = RunFolder::create(runs, &plan.trial.label(), &Zoned::now()).with_context(|| {
        format!("cannot create a run folder in {}; set BOMA_IT_RUNS to use another place", runs.display())
    })?;
    let occupied = folder.occupy().context("cannot lock the run folder")?;
    let text = serde_json::to_string_pretty(plan).context("cannot write the plan as JSON")?;
    let text = Redactor::of_process().redact_json(&text, None).into_owned() + "\n";
    fs::write(folder.join("plan.json"), text)
        .with_context(|| format!("cannot write into {}", folder.path().display()))?;
    let machines = context.hypervisor.machines().unwrap_or_default();
    let in_use: Vec<_> = machines.into_iter().filter_map(|it| it.ownership).map(|it| it.run_folder).collect();
    if let Err(error) = retain(runs, plan.harness.keep_runs, &in_use) {
        tracing::warn!("cannot remove old run folders in {}: {error}", runs.display());
    }
    Ok((folder, occupied))
}

impl Run<'_> {
    /// Brings the VM up: from its ready layer if there is one, otherwise from the image.
    pub(super) fn up(&mut self) -> Result<StageOutput<()>, StageError> {
        let (image, mut ownership) = self.prepare()?;
        self.find_layers(&image, &ownership)?;
        if let Some(output) = self.up_from_layer(&ownership)? {
            return Ok(output);
        }
        ownership.makes = self.layers.as_ref().map(RunLayers::all).unwrap_or_default();
        self.own(&ownership);
        let vm = self.define(ownership)?;
        admission::check_start(self.context, self.plan, &self.machine, self.slot)?;
        self.hypervisor().start(&self.machine).context("cannot start the VM")?;
        self.vm = Some(vm);
        let facts = self.wait_until_ready()?;
        let kept = self.keep_first_boot(&facts);
        Ok(self.describe_up(&facts, kept)?)
    }

    /// Records who owns the VM that is about to be defined, and pushes its undo.
    pub(super) fn own(&mut self, ownership: &Ownership) {
        if self.ownership.replace(ownership.clone()).is_some() {
            return;
        }
        let (context, machine, ours) = (self.context, self.machine.clone(), ownership.clone());
        self.cleanup.push(format!("the VM {machine}"), move |deadline| {
            match admission::belongs_to_another(context, &machine, &ours) {
                Ok(true) => Ok(()),
                // Owner unknown: assume that it is ours and remove it.
                Ok(false) | Err(_) => Ok(teardown_within(context.hypervisor.as_ref(), &machine, deadline)?),
            }
        });
    }

    /// Prepares what the VM needs, and decides who owns it and what it will be.
    fn prepare(&self) -> anyhow::Result<(Image, Ownership)> {
        let hypervisor = self.hypervisor();
        // Beside the image, another run may upload it and probe KVM.
        let budget = self.plan.harness.timeouts.image + PREPARATION;
        let _shared = place::shared(self.context, budget * u32::from(MAX_VMS), &self.recorder)?;
        hypervisor.ensure_pool().context("cannot create the storage pool")?;
        let network = NetworkSpec { subnet: self.plan.harness.subnet };
        hypervisor.ensure_network(&network).context("cannot create the network")?;
        let image = self.upload_image()?;
        let mut ownership = self.new_ownership(&image);
        ownership.accelerator = self.choose_accelerator(&image, &ownership)?;
        Ok((image, ownership))
    }

    /// Gets the golden image ready on this machine and in the hypervisor's pool.
    fn upload_image(&self) -> anyhow::Result<Image> {
        let deadline = self.recorder.deadline(self.plan.harness.timeouts.image, "the golden image");
        let progress = |what: &str| self.recorder.doing(format!("golden image: {what}"));
        let image = self.context.images.ensure(&self.plan.image, &deadline, &progress)?;
        record_image(&image, &self.folder)?;
        let (hypervisor, volume) = (self.hypervisor(), self.context.prefix.image_volume(&image.name));
        let volumes = hypervisor.volumes().context("cannot list the volumes")?;
        if volumes.iter().any(|it| it.name == volume && it.length.0 == image.file_size) {
            return Ok(image);
        }
        // A volume of that name and another size is an upload that was cut short.
        hypervisor.delete_volume(&volume).context("cannot remove the incomplete golden image")?;
        let mut progress = |sent: u64| {
            let (sent, all) = (sent >> 20, image.file_size >> 20);
            self.recorder.doing(format!("golden image: to the hypervisor, {sent} of {all} MiB"));
        };
        hypervisor
            .upload(&volume, &image.path, &deadline, &mut progress)
            .context("cannot upload the golden image to the hypervisor")?;
        Ok(image)
    }

    /// Who owns the VM, and its address. The accelerator is not known yet.
    fn new_ownership(&self, image: &Image) -> Ownership {
        let (context, trial) = (self.context, &self.plan.trial);
        Ownership {
            run: self.folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            host: trial.host.clone(),
            scenario: trial.scenario.clone(),
            owner: context.processes.this_process().clone(),
            // Until it is up, and during a cycle, it lives no longer than this process.
            lifetime: Lifetime::Trial { session: context.session.clone() },
            run_folder: self.folder.path().to_owned(),
            slot: self.slot,
            address: self.slot.address(self.plan.harness.subnet),
            accelerator: Accelerator::Tcg,
            image: image.name.clone(),
            layer: None,
            makes: Vec::new(),
        }
    }

    /// Finds the accelerator that can run the VM. A note says why it is this one.
    fn choose_accelerator(&self, image: &Image, ownership: &Ownership) -> anyhow::Result<Accelerator> {
        let context = self.context;
        let probe = KvmProbe {
            hypervisor: self.hypervisor(),
            host: &context.host_info()?,
            prefix: &context.prefix,
            image_volume: &context.prefix.image_volume(&image.name),
            ownership,
            processes: &context.processes,
            cache: &context.state,
        };
        let choice = match probe.known(context.accelerator) {
            Some(choice) => choice,
            None => {
                self.recorder.doing("checking whether KVM works");
                let deadline = self.recorder.deadline(2 * kvm_probe::PROBE, "the probe of KVM");
                probe.run(&deadline).context("cannot find out whether KVM works")?
            }
        };
        self.recorder.note(choice.to_string());
        Ok(choice.accelerator)
    }

    /// The domain of the VM. While it makes a layer, its disk is the layer's.
    pub(super) fn domain(&self, ownership: &Ownership) -> DomainSpec {
        let plan = self.plan;
        DomainSpec {
            name: self.machine.clone(),
            vcpus: plan.vm.vcpus,
            memory: plan.vm.memory,
            accelerator: ownership.accelerator,
            mac: ownership.slot.mac(),
            egress: if plan.egress { Egress::Internet } else { Egress::None },
            seed: true,
            disk: if plan.restart == Restart::PowerCut { DiskCache::Writeback } else { DiskCache::Unsafe },
            overlay: match ownership.makes.first() {
                Some(layer) => layer.disk(),
                None => VmVolumes(&self.machine).overlay(),
            },
            ownership: ownership.clone(),
        }
    }

    /// Defines the domain and makes its volumes. The domain comes first, as it records who owns the volumes.
    fn define(&self, ownership: Ownership) -> anyhow::Result<RunningVm> {
        let (context, plan, spec) = (self.context, self.plan, self.domain(&ownership));
        self.hypervisor()
            .define(&spec)
            .map_err(|error| admission::not_defined(context, plan, &self.machine, error))?;
        // Not before: without the domain, they may be what another user's VM of that name is making.
        self.clear_layers(&ownership.makes)?;
        let keys = self.make_keys()?;
        self.upload_seed(&self.seed(&keys, &ownership.run)?)?;
        let image = context.prefix.image_volume(&ownership.image);
        self.create_overlay(&spec.overlay, &image)?;
        RunningVm::new(self.machine.clone(), ownership, self.folder.clone(), &context.login)
    }

    pub(super) fn create_overlay(&self, overlay: &str, backing: &str) -> anyhow::Result<()> {
        let created = self.hypervisor().create_overlay(overlay, backing, self.plan.vm.disk);
        created.context("cannot create the overlay")
    }

    /// Makes the run's two key pairs, in a folder that is removed with the VM: the client's, and the guest's host key.
    pub(super) fn make_keys(&self) -> anyhow::Result<[KeyPair; 2]> {
        let keys = running_vm::create_keys_folder(&self.folder)?;
        let deadline = self.recorder.deadline(PREPARATION, "the keys");
        Ok([
            KeyPair::generate(&keys, running_vm::CLIENT_KEY, &deadline)?,
            KeyPair::generate(&keys, running_vm::HOST_KEY, &deadline)?,
        ])
    }

    /// What the guest learns at its first boot.
    pub(super) fn seed(&self, [client, host]: &[KeyPair; 2], instance_id: &str) -> anyhow::Result<SeedSpec> {
        Ok(SeedSpec {
            instance_id: instance_id.to_owned(),
            authorized_key: client.public().to_owned(),
            host_key_private: host.private()?,
            host_key_public: host.public().to_owned(),
            ..self.seed_without_keys()
        })
    }

    pub(super) fn seed_without_keys(&self) -> SeedSpec {
        SeedSpec {
            hostname: self.plan.trial.host.to_string(),
            user: self.context.login.user.clone(),
            mac: self.slot.mac().to_string(),
            first_boot_masks: FIRST_BOOT_MASKS.map(str::to_owned).into(),
            ..SeedSpec::default()
        }
    }

    /// Creates the seed volume, from a file among the run's keys. Its readable parts without the private host key go into
    /// the run folder.
    pub(super) fn upload_seed(&self, spec: &SeedSpec) -> anyhow::Result<()> {
        let path = running_vm::keys(&self.folder).join("seed.img");
        fs::write(&path, spec.render()?).with_context(|| format!("cannot write {}", path.display()))?;
        let shown = SeedSpec { host_key_private: "(not kept)".to_owned(), ..spec.clone() }.files();
        let readable = self.folder.sub_folder("seed").context("cannot create the folder of the seed")?;
        for (name, text) in [
            ("user-data", shown.user_data),
            ("meta-data", shown.meta_data),
            ("network-config", shown.network_config),
        ] {
            fs::write(readable.join(name), text)
                .with_context(|| format!("cannot write the seed's {name}"))?;
        }
        let deadline = self.recorder.deadline(PREPARATION, "the seed volume");
        self.hypervisor()
            .upload(&VmVolumes(&self.machine).seed(), &path, &deadline, &mut |_| {})
            .context("cannot create the seed volume")
    }

    /// Waits for the first boot. Nothing of the site has run yet, so whatever goes wrong is an error.
    fn wait_until_ready(&self) -> anyhow::Result<BootFacts> {
        let (vm, recorder) = (self.vm()?, &self.recorder);
        let note = |what: String| recorder.note(what);
        let accelerator = vm.ownership.accelerator;
        let deadline = recorder.deadline(self.patience(vm, self.plan.harness.timeouts.up), "up");
        let mut monitor = VmMonitor::from_power_on(self.hypervisor(), &vm.machine)
            .resetting_stalled_boots(accelerator, &note);
        let mut progress = |what: &str| recorder.doing(what);
        let facts = wait_ready(&vm.access, &deadline, &mut || monitor.check(), &mut progress)?.facts;
        if let CloudInit::Off { units: messages } = facts.cloud_init {
            return Err(ReadyError::CloudInit { messages }.into());
        }
        Ok(facts)
    }

    /// What `up` reports of a VM that is ready; `layer` says what it has to do with one.
    pub(super) fn describe_up(
        &self,
        facts: &BootFacts,
        layer: Option<String>,
    ) -> anyhow::Result<StageOutput<()>> {
        let vm = self.vm()?;
        facts.notes().into_iter().for_each(|note| self.recorder.note(note));
        let (address, boot, accelerator) =
            (vm.access.address, facts.boot_id.short(), vm.ownership.accelerator);
        let layer = layer.map(|layer| format!(", {layer}")).unwrap_or_default();
        Ok(StageOutput::passed(format!("{} at {address}, boot {boot}, {accelerator}{layer}", vm.machine)))
    }
}

fn record_image(image: &Image, folder: &RunFolder) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(image).context("cannot write the image's record as JSON")?;
    fs::write(folder.join(IMAGE_FILE), text + "\n")
        .with_context(|| format!("cannot write into {}", folder.path().display()))
}

/// The image called `name`, in words: its name, and its origin if its record is in the run folder.
pub(super) fn describe_image(name: &str, folder: &RunFolder) -> String {
    let text = fs::read(folder.join(IMAGE_FILE)).unwrap_or_default();
    match serde_json::from_slice::<Image>(&text) {
        Ok(image) if image.name == name => format!("{name}, {}", image.origin),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::machine::image::sample;

    #[test]
    fn a_later_step_still_reports_the_image_and_its_origin() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path(), "askari", &Zoned::now()).unwrap();
        let image = sample(Path::new("/cache"));
        assert_eq!(describe_image(&image.name, &folder), "debian-13-0123456789ab");
        record_image(&image, &folder).unwrap();
        assert_eq!(
            describe_image(&image.name, &folder),
            "debian-13-0123456789ab, built here 2026-06-17T12:00:00Z in 62 s"
        );
        assert_eq!(describe_image("another", &folder), "another");
    }
}
