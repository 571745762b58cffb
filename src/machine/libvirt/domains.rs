//! Domains on libvirt.

use virt::connect::Connect;
use virt::domain::{
    Domain, DomainPausedReason, DomainShutoffReason, DomainState as VirtState, DomainStateReason,
};
use virt::enumutil::Enum;
use virt::error::Error;
use virt::sys;

use super::errors::{Failure, found, is_missing};
use super::session::{CallInfo, Session, about};
use super::storage;
use crate::catalog::quantity::Bytes;
use crate::machine::domain::DomainSpec;
use crate::machine::hypervisor::{
    DomainState, HypervisorError, Machine, PauseReason, RestartMethod, Result, StopReason,
};
use crate::machine::names::NamePrefix;
use crate::machine::ownership::{self, Ownership};

pub(super) fn define(session: &Session, realm: &NamePrefix, spec: &DomainSpec) -> Result<()> {
    let (realm, spec) = (realm.clone(), spec.clone());
    session.call(about_domain("define", &spec.name).probing(), move |connection| {
        let exists = || HypervisorError::Exists { object: format!("domain {}", spec.name) };
        if lookup(connection, &spec.name)?.is_some() {
            return Err(exists().into());
        }
        let xml = spec.render(&realm, &storage::pool_dir(connection, &realm)?);
        match connection.define_domain_xml(&xml) {
            Ok(_) => Ok(()),
            // Another process was faster: libvirt then complains of another uuid.
            Err(_) if lookup(connection, &spec.name)?.is_some() => Err(exists().into()),
            Err(error) => Err(error.into()),
        }
    })
}

pub(super) fn start(session: &Session, name: &str) -> Result<()> {
    with_domain(session, about_domain("start", name).probing(), name, Domain::create)
}

pub(super) fn restart(session: &Session, name: &str, push: RestartMethod) -> Result<()> {
    with_domain(session, about_domain("restart", name).probing(), name, move |domain| match push {
        // Said explicitly: left to itself, libvirt would wait for an agent that no guest of ours has.
        RestartMethod::Acpi => domain.reboot(sys::VIR_DOMAIN_REBOOT_ACPI_POWER_BTN),
        RestartMethod::Reset => domain.reset(),
        RestartMethod::PowerCut => domain.destroy().and_then(|()| domain.create()),
    })
}

pub(super) fn power_off(session: &Session, name: &str) -> Result<()> {
    if_there(session, "power off", name, |domain| match domain.is_active()? {
        true => domain.destroy().or_else(|error| match domain.is_active() {
            Ok(false) => Ok(()),
            _ => Err(error.into()),
        }),
        false => Ok(()),
    })
}

pub(super) fn undefine(session: &Session, name: &str) -> Result<()> {
    let everything = sys::VIR_DOMAIN_UNDEFINE_NVRAM
        | sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
    let object = format!("domain {name}");
    if_there(session, "undefine", name, move |domain| {
        // Libvirt would make it transient, and the record of who owns it would go with its power.
        if domain.is_active()? {
            let (object, source) = (object.clone(), "it is running".into());
            return Err(HypervisorError::Other { verb: "undefine", object, source }.into());
        }
        // The mock driver knows fewer flags.
        Ok(domain.undefine_flags(everything).or_else(|error| domain.undefine().map_err(|_| error))?)
    })
}

pub(super) fn state(session: &Session, name: &str) -> Result<DomainState> {
    let name = name.to_owned();
    session.call(about_domain("look at", &name).looking(), move |connection| {
        match lookup(connection, &name)? {
            Some(domain) => Ok(state_of(&domain)?),
            None => Ok(DomainState::Absent),
        }
    })
}

pub(super) fn machines(session: &Session, realm: &NamePrefix) -> Result<Vec<Machine>> {
    let realm = realm.clone();
    session.call(about("list", "domains", realm.prefix()).looking(), move |connection| {
        let mut machines = Vec::new();
        for domain in connection.list_all_domains(0)? {
            match machine(&domain, &realm) {
                Ok(machine) => machines.extend(machine),
                // It went away meanwhile.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        machines.sort_by(|a: &Machine, b: &Machine| a.name.cmp(&b.name));
        Ok(machines)
    })
}

pub(super) fn set_ownership(session: &Session, name: &str, ownership: &Ownership) -> Result<()> {
    let xml = ownership.render();
    with_domain(session, about_domain("label", name), name, move |domain| {
        let live = if domain.is_active()? { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 };
        domain.set_metadata(
            i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or_default(),
            Some(&xml),
            Some(ownership::PREFIX),
            Some(ownership::NAMESPACE),
            live | sys::VIR_DOMAIN_AFFECT_CONFIG,
        )
    })
}

fn machine(domain: &Domain, realm: &NamePrefix) -> Result<Option<Machine>, Error> {
    let name = domain.name()?;
    if !realm.owns(&name) {
        return Ok(None);
    }
    let xml = domain.xml_desc(0)?;
    let memory = Bytes(domain.max_memory()?.saturating_mul(1024));
    Ok(Some(Machine { name, state: state_of(domain)?, memory, ownership: Ownership::read(&xml) }))
}

fn state_of(domain: &Domain) -> Result<DomainState, Error> {
    let (state, reason) = domain.state()?;
    let Enum::Known(state) = state else {
        // The binding ignores a failure here; asking for something else brings it to light.
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
        // QEMU's `internal-error` comes without a reason.
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

fn about_domain(verb: &'static str, name: &str) -> CallInfo {
    about(verb, "domain", name)
}

fn lookup(connection: &Connect, name: &str) -> Result<Option<Domain>, Error> {
    found(connection.lookup_domain_by_name(name))
}

fn with_domain(
    session: &Session,
    about: CallInfo,
    name: &str,
    work: impl Fn(&Domain) -> Result<(), Error> + Send + 'static,
) -> Result<()> {
    let name = name.to_owned();
    session.call(about, move |connection| Ok(work(&connection.lookup_domain_by_name(&name)?)?))
}

/// Like [`with_domain`], but a domain that is not there, or goes away meanwhile, is well.
fn if_there(
    session: &Session,
    verb: &'static str,
    name: &str,
    work: impl Fn(&Domain) -> Result<(), Failure> + Send + 'static,
) -> Result<()> {
    let name = name.to_owned();
    session.call(about_domain(verb, &name), move |connection| {
        match lookup(connection, &name)?.map(|domain| work(&domain)) {
            Some(Err(Failure::Libvirt(error))) if is_missing(&error) => Ok(()),
            Some(done) => done,
            None => Ok(()),
        }
    })
}
