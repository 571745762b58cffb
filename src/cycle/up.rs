//! The stage `up`: golden image → overlay → seed → domain → ready. Each thing's undo is pushed before it is made.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use jiff::Zoned;

use super::admit;
use super::cleanup::Cleanup;
use super::image_used::ImageUsed;
use super::ledger::RunRecorder;
use super::live::{self, RunningVm};
use super::stop::{StageError, StageOutput};
use super::vigil::{VmFailure, VmMonitor};
use super::world::RunContext;
use crate::catalog::Plan;
use crate::catalog::plan::Restart;
use crate::guest::wait_ready;
use crate::machine::acceleration::{self, KvmProbe};
use crate::machine::domain::DiskCache;
use crate::machine::image::Image;
use crate::machine::network::{NetworkSpec, Slot};
use crate::machine::ownership::Processes;
use crate::machine::seed::{FIRST_BOOT_MASKS, KeyPair, SeedSpec};
use crate::machine::teardown::teardown_within;
use crate::machine::{Accelerator, DomainSpec, Egress, Lifetime, Ownership, VmVolumes};
use crate::support::run_folder::{RunFolder, retain};
use crate::support::secret::Redactor;

/// How long this machine may take to make a VM's keys, or to fill its volumes.
const FURNISH: Duration = Duration::from_secs(120);

/// Makes the run's folder with the plan in it, and lets the oldest ones go.
///
/// # Errors
/// When it cannot be made.
pub(super) fn folder(world: &RunContext, plan: &Plan) -> anyhow::Result<RunFolder> {
    let runs = &plan.harness.runs;
    let label = plan.machine.strip_prefix("boma-it-").unwrap_or(&plan.machine);
    let folder = RunFolder::create(runs, label, &Zoned::now()).with_context(|| {
        format!("cannot make a run folder in {} (BOMA_IT_RUNS names another place)", runs.display())
    })?;
    let text = serde_json::to_string_pretty(plan).context("cannot write the plan as JSON")?;
    let text = Redactor::of_process().redact_json(&text, None).into_owned() + "\n";
    fs::write(folder.join("plan.json"), text)
        .with_context(|| format!("cannot write into {}", folder.path().display()))?;
    let machines = world.hypervisor.machines().unwrap_or_default();
    let living: Vec<_> = machines.into_iter().filter_map(|it| it.ownership).map(|it| it.run_folder).collect();
    if let Err(error) = retain(runs, plan.harness.keep_runs, &living) {
        tracing::warn!("cannot look for old run folders in {}: {error}", runs.display());
    }
    Ok(folder)
}

/// Has ready what the plan's VM needs, and says whose and what it will be.
pub(super) fn prepare(
    world: &RunContext,
    plan: &Plan,
    folder: &RunFolder,
    ledger: &RunRecorder,
) -> anyhow::Result<Ownership> {
    let hypervisor = world.hypervisor.as_ref();
    hypervisor.ensure_pool().context("cannot have the storage pool")?;
    hypervisor
        .ensure_network(&NetworkSpec { subnet: plan.harness.subnet })
        .context("cannot have the network")?;
    let image = image(world, plan, folder, ledger)?;
    let mut ownership = ownership(world, plan, folder, &image)?;
    ownership.accelerator = accelerator(world, &image, &ownership, ledger)?;
    Ok(ownership)
}

/// Makes the plan's VM and powers it on.
pub(super) fn make<'a>(
    world: &'a RunContext,
    plan: &'a Plan,
    folder: &RunFolder,
    ownership: Ownership,
    ledger: &RunRecorder,
    cleanup: &mut Cleanup<'a>,
) -> anyhow::Result<RunningVm> {
    let hypervisor = world.hypervisor.as_ref();
    let ours = ownership.clone();
    cleanup.push(format!("the VM {}", plan.machine), move |deadline| {
        match admit::is_anothers(world, &plan.machine, &ours) {
            Ok(true) => Ok(()),
            // Where nobody says whose it is, ours is the likelier by far, and is not left behind for that.
            Ok(false) | Err(_) => Ok(teardown_within(hypervisor, &plan.machine, deadline)?),
        }
    });
    let live = define(world, plan, folder, ownership, ledger)?;
    admit::alone(world, plan)?;
    hypervisor.start(&plan.machine).context("cannot start the VM")?;
    Ok(live)
}

/// Waits until the VM that was just powered on is ready.
pub(super) fn ready(
    world: &RunContext,
    plan: &Plan,
    live: &RunningVm,
    ledger: &RunRecorder,
) -> Result<StageOutput<()>, StageError> {
    let deadline = ledger.deadline(live.patience(plan.harness.timeouts.up), "up");
    let told = |what: String| ledger.note(what);
    let mut vigil = VmMonitor::from_power_on(world.hypervisor.as_ref(), &live.machine)
        .beginning_again(live.ownership.accelerator, &told);
    let mut progress = |what: &str| ledger.doing(what);
    let ready =
        wait_ready(&live.access, &deadline, &mut || vigil.look(), &mut progress).map_err(|error| {
            let error = anyhow::Error::from(error);
            match VmFailure::in_chain(&error).and_then(VmFailure::fault) {
                Some(fault) => StageError::Fault(fault, error),
                None => error.into(),
            }
        })?;
    ready.facts.notes().into_iter().for_each(|note| ledger.note(note));
    let (address, accelerator) = (live.access.address, live.ownership.accelerator);
    Ok(StageOutput::passed(
        (),
        format!("{} at {address}, boot {}, {accelerator}", live.machine, ready.facts.boot_id.short()),
    ))
}

/// The golden image: ready on this machine, and in the hypervisor's pool.
fn image(world: &RunContext, plan: &Plan, folder: &RunFolder, ledger: &RunRecorder) -> anyhow::Result<Image> {
    let deadline = ledger.deadline(plan.harness.timeouts.image, "the golden image");
    let told = |what: &str| ledger.doing(format!("golden image: {what}"));
    let ImageUsed { image, why } =
        ImageUsed::keep(world.images.ensure(&plan.image, &deadline, &told)?, folder)?;
    why.into_iter().for_each(|why| ledger.note(format!("golden image: {why}")));
    let (hypervisor, volume) = (world.hypervisor.as_ref(), world.realm.image_volume(&image.name));
    let there = hypervisor.volumes().context("cannot see which volumes there are")?;
    if there.iter().any(|it| it.name == volume && it.length.0 == image.file_size) {
        return Ok(image);
    }
    // What is there under that name was cut short.
    hypervisor.delete_volume(&volume).context("cannot remove what is there of the golden image")?;
    let mut progress = |sent: u64| {
        ledger.doing(format!(
            "golden image: to the hypervisor, {} of {} MiB",
            sent >> 20,
            image.file_size >> 20
        ));
    };
    hypervisor
        .upload(&volume, &image.path, &deadline, &mut progress)
        .context("cannot bring the golden image to the hypervisor")?;
    Ok(image)
}

/// Whose the VM is, and where it stands on the network. Its accelerator is not known yet.
fn ownership(
    world: &RunContext,
    plan: &Plan,
    folder: &RunFolder,
    image: &Image,
) -> anyhow::Result<Ownership> {
    let machines = world.hypervisor.machines().context("cannot see which VMs there are")?;
    let taken = machines.into_iter().filter_map(|it| it.ownership).map(|it| it.slot);
    let slot = Slot::free(taken)
        .context("every address of the network is taken; `boma-it prune --all` frees them")?;
    Ok(Ownership {
        run: folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        host: plan.trial.host.clone(),
        scenario: plan.trial.scenario.clone(),
        owner: world.processes.this_process(),
        // Until it is up, and for the whole of a cycle, it lives as long as this process.
        lifetime: Lifetime::Trial { session: world.session.clone() },
        run_folder: folder.path().to_owned(),
        slot,
        address: slot.address(plan.harness.subnet),
        accelerator: Accelerator::Tcg,
        image: image.name.clone(),
    })
}

/// What can truly run the VM: said in a line, whether it had to be found out or was known.
fn accelerator(
    world: &RunContext,
    image: &Image,
    ownership: &Ownership,
    ledger: &RunRecorder,
) -> anyhow::Result<Accelerator> {
    let question = KvmProbe {
        hypervisor: world.hypervisor.as_ref(),
        facts: &world.hypervisor.facts().context("cannot ask the hypervisor what it has")?,
        realm: &world.realm,
        image_volume: &world.realm.image_volume(&image.name),
        ownership,
        processes: &world.processes,
        boot_id: world.processes.boot_id(),
        cache: &world.state,
    };
    let verdict = match question.known(world.accelerator) {
        Some(verdict) => verdict,
        None => {
            ledger.doing("finding out whether KVM truly works");
            let deadline = ledger.deadline(2 * acceleration::PROBE, "the probe of KVM");
            question.probe(&deadline).context("cannot find out whether KVM works")?
        }
    };
    ledger.note(verdict.to_string());
    Ok(verdict.accelerator)
}

/// Defines the domain and makes its volumes: the domain first, as it is the record of who owns them.
fn define(
    world: &RunContext,
    plan: &Plan,
    folder: &RunFolder,
    ownership: Ownership,
    ledger: &RunRecorder,
) -> anyhow::Result<RunningVm> {
    let hypervisor = world.hypervisor.as_ref();
    let spec = DomainSpec {
        name: plan.machine.clone(),
        vcpus: plan.vm.vcpus,
        memory: plan.vm.memory,
        accelerator: ownership.accelerator,
        mac: ownership.slot.mac(),
        egress: if plan.egress { Egress::Internet } else { Egress::None },
        seed: true,
        disk: if plan.restart == Restart::PowerCut { DiskCache::Writeback } else { DiskCache::Unsafe },
        ownership: ownership.clone(),
    };
    hypervisor.define(&spec).map_err(|error| admit::not_defined(world, plan, error))?;
    let files = VmVolumes(&plan.machine);
    let seed = seed(world, plan, folder, &ownership, ledger)?;
    let deadline = ledger.deadline(FURNISH, "the volumes");
    hypervisor.upload(&files.seed(), &seed, &deadline, &mut |_| {}).context("cannot make the seed volume")?;
    hypervisor
        .create_overlay(&files.overlay(), &world.realm.image_volume(&ownership.image), plan.vm.disk)
        .context("cannot make the overlay")?;
    RunningVm::with(plan.machine.clone(), ownership, folder.clone(), &world.door)
}

/// The seed as a file among the run's keys, which go when the VM goes; and what is no secret of it for a person to read.
fn seed(
    world: &RunContext,
    plan: &Plan,
    folder: &RunFolder,
    ownership: &Ownership,
    ledger: &RunRecorder,
) -> anyhow::Result<std::path::PathBuf> {
    let keys = live::make_keys(folder)?;
    let deadline = ledger.deadline(FURNISH, "the keys");
    let client = KeyPair::generate(&keys, live::CLIENT_KEY, &deadline)?;
    let host = KeyPair::generate(&keys, live::HOST_KEY, &deadline)?;
    let spec = SeedSpec {
        hostname: plan.trial.host.to_string(),
        instance_id: ownership.run.clone(),
        user: world.door.user.clone(),
        authorized_key: client.public().to_owned(),
        host_key_private: host.private()?,
        host_key_public: host.public().to_owned(),
        mac: ownership.slot.mac().to_string(),
        first_boot_masks: FIRST_BOOT_MASKS.map(str::to_owned).into(),
    };
    let path = keys.join("seed.img");
    fs::write(&path, spec.render()?).with_context(|| format!("cannot write {}", path.display()))?;
    let shown = SeedSpec { host_key_private: "(not kept)".to_owned(), ..spec }.files()?;
    let readable = folder.sub_folder("seed").context("cannot make the folder of the seed")?;
    for (name, text) in [
        ("user-data", shown.user_data),
        ("meta-data", shown.meta_data),
        ("network-config", shown.network_config),
    ] {
        fs::write(readable.join(name), text).with_context(|| format!("cannot write the seed's {name}"))?;
    }
    Ok(path)
}
