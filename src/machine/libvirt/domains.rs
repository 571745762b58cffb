//! Domains on libvirt.

use virt::connect::Connect;
use virt::domain::{
    Domain, DomainPausedReason, DomainShutoffReason, DomainState as VirtState, DomainStateReason,
};
use virt::enumutil::Enum;
use virt::error::Error;
use virt::sys;

use super::errors::{Failure, found};
use super::storage;
use crate::catalog::quantity::Bytes;
use crate::machine::domain::{DISK, DomainSpec};
use crate::machine::hypervisor::{
    DomainState, HypervisorError, Machine, PauseReason, RestartMethod, StopReason,
};
use crate::machine::names::NamePrefix;
use crate::machine::ownership::{self, Ownership};
use crate::machine::xml::el;

/// Including what libvirt hides from read-only connections, as the XML is used again.
const SECURE_XML: u32 = sys::VIR_DOMAIN_SAVE_IMAGE_XML_SECURE;

/// Defines a domain unless its name is taken.
pub(super) fn define(connection: &Connect, prefix: &NamePrefix, spec: &DomainSpec) -> Result<(), Failure> {
    define_xml(connection, &spec.name, &spec.render(prefix, &storage::pool_dir(connection, prefix)?))
}

fn define_xml(connection: &Connect, name: &str, xml: &str) -> Result<(), Failure> {
    let exists = || HypervisorError::Exists { object: format!("domain {name}") };
    if find(connection, name)?.is_some() {
        return Err(exists().into());
    }
    match connection.define_domain_xml(xml) {
        Ok(_) => Ok(()),
        // Another process was faster: libvirt then complains about a different uuid.
        Err(_) if find(connection, name)?.is_some() => Err(exists().into()),
        Err(error) => Err(error.into()),
    }
}

/// By a snapshot, which unlike virDomainSave lets the guest go on. Libvirt keeps no record of it.
pub(super) fn save(
    connection: &Connect,
    prefix: &NamePrefix,
    name: &str,
    [memory, overlay]: &[String; 2],
) -> Result<(), Failure> {
    let dir = storage::pool_dir(connection, prefix)?;
    let disk = el("disk").attr("name", DISK).attr("snapshot", "external").attr("type", "file");
    let xml = el("domainsnapshot")
        .with(el("memory").attr("snapshot", "external").attr("file", format!("{dir}/{memory}")))
        .with(
            el("disks").with(
                disk.with(el("driver").attr("type", "qcow2"))
                    .with(el("source").attr("file", format!("{dir}/{overlay}"))),
            ),
        );
    let flags = sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC;
    connection.lookup_domain_by_name(name)?.create_snapshot_xml(&xml.render(), flags)?;
    Ok(())
}

pub(super) fn define_saved(
    connection: &Connect,
    prefix: &NamePrefix,
    memory: &str,
    spec: &DomainSpec,
) -> Result<(), Failure> {
    let dir = storage::pool_dir(connection, prefix)?;
    let saved = connection.save_image_xml_desc(&format!("{dir}/{memory}"), SECURE_XML)?;
    let other = || HypervisorError::Other {
        verb: "define",
        object: format!("domain {}", spec.name),
        source: format!("{memory} is not its saved state").into(),
    };
    let xml = spec.adapt(&saved, prefix, &dir).ok_or_else(other)?;
    define_xml(connection, &spec.name, &xml)
}

/// The domain's own definition is what the guest goes on with.
pub(super) fn restore(
    connection: &Connect,
    prefix: &NamePrefix,
    name: &str,
    memory: &str,
) -> Result<(), Failure> {
    let memory = format!("{}/{memory}", storage::pool_dir(connection, prefix)?);
    let definition = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
    let xml = connection.lookup_domain_by_name(name)?.xml_desc(definition)?;
    Ok(connection.restore_domain_flags(&memory, Some(&xml), sys::VIR_DOMAIN_SAVE_RUNNING)?)
}

pub(super) fn start(connection: &Connect, name: &str) -> Result<(), Failure> {
    Ok(connection.lookup_domain_by_name(name)?.create()?)
}

pub(super) fn restart(connection: &Connect, name: &str, method: RestartMethod) -> Result<(), Failure> {
    let domain = connection.lookup_domain_by_name(name)?;
    Ok(match method {
        // By default libvirt would wait for a guest agent, which our guests do not have.
        RestartMethod::Acpi => domain.reboot(sys::VIR_DOMAIN_REBOOT_ACPI_POWER_BTN),
        RestartMethod::Reset => domain.reset(),
        RestartMethod::PowerCut => domain.destroy().and_then(|()| domain.create()),
    }?)
}

pub(super) fn power_off(connection: &Connect, name: &str) -> Result<(), Failure> {
    let Some(domain) = find(connection, name)? else { return Ok(()) };
    let destroy = || match domain.is_active()? {
        true => domain.destroy().or_else(|error| match domain.is_active() {
            Ok(false) => Ok(()),
            _ => Err(error),
        }),
        false => Ok(()),
    };
    found(destroy())?;
    Ok(())
}

pub(super) fn undefine(connection: &Connect, name: &str) -> Result<(), Failure> {
    let everything = sys::VIR_DOMAIN_UNDEFINE_NVRAM
        | sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
    let Some(domain) = find(connection, name)? else { return Ok(()) };
    // Libvirt would make a running domain transient, and the record of its owner would end with it.
    if found(domain.is_active())? == Some(true) {
        let (object, source) = (format!("domain {name}"), "it is running".into());
        return Err(HypervisorError::Other { verb: "undefine", object, source }.into());
    }
    // Libvirt's mock driver does not know all flags.
    found(domain.undefine_flags(everything).or_else(|error| domain.undefine().map_err(|_| error)))?;
    Ok(())
}

pub(super) fn state(connection: &Connect, name: &str) -> Result<DomainState, Failure> {
    Ok(find(connection, name)?.map_or(Ok(DomainState::Absent), |domain| state_of(&domain))?)
}

pub(super) fn machines(connection: &Connect, prefix: &NamePrefix) -> Result<Vec<Machine>, Failure> {
    let mut machines = Vec::new();
    for domain in connection.list_all_domains(0)? {
        // A domain may be undefined while we list.
        machines.extend(found(machine(&domain, prefix))?.flatten());
    }
    machines.sort_by(|a: &Machine, b| a.name.cmp(&b.name));
    Ok(machines)
}

pub(super) fn set_metadata(connection: &Connect, name: &str, xml: &str) -> Result<(), Failure> {
    let domain = connection.lookup_domain_by_name(name)?;
    let live = if domain.is_active()? { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 };
    domain.set_metadata(
        i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or_default(),
        Some(xml),
        Some(ownership::XML_PREFIX),
        Some(ownership::NAMESPACE),
        live | sys::VIR_DOMAIN_AFFECT_CONFIG,
    )?;
    Ok(())
}

fn find(connection: &Connect, name: &str) -> Result<Option<Domain>, Error> {
    found(connection.lookup_domain_by_name(name))
}

fn machine(domain: &Domain, prefix: &NamePrefix) -> Result<Option<Machine>, Error> {
    let name = domain.name()?;
    if !prefix.owns(&name) {
        return Ok(None);
    }
    let xml = domain.xml_desc(0)?;
    let memory = Bytes(domain.max_memory()?.saturating_mul(1024));
    let state = state_of(domain)?;
    let resident = state.is_alive().then(|| resident(domain)).flatten();
    Ok(Some(Machine { name, state, memory, resident, ownership: Ownership::read(&xml) }))
}

/// The memory that QEMU holds, see virDomainMemoryStats. Not every driver knows it.
fn resident(domain: &Domain) -> Option<Bytes> {
    let stats = domain.memory_stats(0).ok()?;
    let rss = stats.iter().find(|stat| stat.tag == sys::VIR_DOMAIN_MEMORY_STAT_RSS)?;
    Some(Bytes(rss.val.saturating_mul(1024)))
}

fn state_of(domain: &Domain) -> Result<DomainState, Error> {
    let (state, reason) = domain.state()?;
    let Enum::Known(state) = state else {
        // The `virt` crate ignores a failure here; another call reports it.
        return domain.is_active().map(|active| match active {
            true => DomainState::Running,
            false => DomainState::ShutOff(StopReason::Unknown),
        });
    };
    Ok(match (state, reason) {
        (VirtState::Paused, Enum::Known(DomainStateReason::Paused(Enum::Known(reason)))) => paused(reason),
        (VirtState::Paused | VirtState::PMSuspended, _) => DomainState::Paused(PauseReason::Housekeeping),
        (VirtState::Shutoff, Enum::Known(DomainStateReason::Shutoff(Enum::Known(reason)))) => {
            DomainState::ShutOff(stopped(reason))
        }
        (VirtState::Shutoff, _) => DomainState::ShutOff(StopReason::Unknown),
        (VirtState::Crashed, _) => DomainState::Panicked,
        (VirtState::NoState | VirtState::Running | VirtState::Blocked | VirtState::Shutdown, _) => {
            DomainState::Running
        }
    })
}

fn paused(reason: DomainPausedReason) -> DomainState {
    DomainState::Paused(match reason {
        DomainPausedReason::Crashed => return DomainState::Panicked,
        DomainPausedReason::User => PauseReason::ByUser,
        DomainPausedReason::StartingUp => PauseReason::Starting,
        DomainPausedReason::IOError => PauseReason::DiskError,
        // QEMU reports `internal-error` without a reason.
        DomainPausedReason::Unknown => PauseReason::CpuError,
        _ => PauseReason::Housekeeping,
    })
}

fn stopped(reason: DomainShutoffReason) -> StopReason {
    match reason {
        DomainShutoffReason::Shutdown => StopReason::ByGuest,
        DomainShutoffReason::Destroyed => StopReason::Destroyed,
        DomainShutoffReason::Crashed => StopReason::Crashed,
        DomainShutoffReason::Failed => StopReason::FailedToStart,
        _ => StopReason::Unknown,
    }
}
