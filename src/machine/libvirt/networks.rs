//! The network and its filters on libvirt.

use virt::connect::Connect;
use virt::error::Error;
use virt::network::Network;

use super::errors::{Failure, found};
use super::session::{Session, about};
use crate::machine::hypervisor::{HypervisorError, Result};
use crate::machine::names::NamePrefix;
use crate::machine::network::{Egress, NetworkSpec};

pub(super) fn ensure(session: &Session, realm: &NamePrefix, spec: &NetworkSpec) -> Result<()> {
    let (realm, spec) = (realm.clone(), spec.clone());
    session.call(about("set up", "network", realm.network()), move |connection| {
        for egress in [Egress::Internet, Egress::None] {
            ensure_filter(connection, &realm, &spec, egress)?;
        }
        ensure_network(connection, &realm, &spec)
    })
}

/// Libvirt compares for itself and leaves a filter that is the same alone.
fn ensure_filter(
    connection: &Connect,
    realm: &NamePrefix,
    spec: &NetworkSpec,
    egress: Egress,
) -> Result<(), Failure> {
    let define = || -> Result<(), Error> {
        let existing = found(connection.lookup_nwfilter_by_name(&realm.filter(egress)))?;
        let uuid = existing.map(|filter| filter.uuid_string()).transpose()?;
        connection.define_nwfilter_xml(&spec.render_filter(realm, egress, uuid.as_deref()))?;
        Ok(())
    };
    // Another process may have made it between our looking and our defining: then it has a uuid by now.
    define().or_else(|_| define()).map_err(Failure::from)
}

fn ensure_network(connection: &Connect, realm: &NamePrefix, spec: &NetworkSpec) -> Result<(), Failure> {
    let name = realm.network();
    if let Some(network) = found(connection.lookup_network_by_name(name))? {
        if spec.matches(realm, &network.xml_desc(0)?) {
            return start(&network, spec);
        }
        if let Some(user) = running_machine(connection, realm)? {
            return Err(conflict(
                spec,
                format!("it is there with another subnet, and {user} is using it; end that VM first"),
            ));
        }
        if network.is_active()? {
            network.destroy()?;
        }
        network.undefine()?;
    }
    let network = match connection.define_network_xml(&spec.render(realm)) {
        Ok(network) => network,
        // Another process was faster.
        Err(error) => found(connection.lookup_network_by_name(name))?.ok_or(error)?,
    };
    start(&network, spec)
}

fn start(network: &Network, spec: &NetworkSpec) -> Result<(), Failure> {
    if network.is_active()? {
        return Ok(());
    }
    match network.create() {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(_) if network.is_active()? => Ok(()),
        Err(error) if is_collision(error.message()) => {
            let why = format!("{}; choose another subnet in harness/harness.yml", error.message().trim());
            Err(conflict(spec, why))
        }
        Err(error) => Err(error.into()),
    }
}

/// The subnet is routed elsewhere, or its gateway's address is in use.
fn is_collision(message: &str) -> bool {
    ["already in use by interface", "Address already in use", "cannot assign requested address"]
        .iter()
        .any(|sign| message.contains(sign))
}

fn conflict(spec: &NetworkSpec, why: String) -> Failure {
    HypervisorError::NetworkConflict { network: spec.subnet.to_string(), why }.into()
}

fn running_machine(connection: &Connect, realm: &NamePrefix) -> Result<Option<String>, Failure> {
    let active = virt::sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE;
    for domain in connection.list_all_domains(active)? {
        let name = domain.name()?;
        if realm.owns(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Removes the network and the filters; they need not be there.
pub(super) fn remove(session: &Session, realm: &NamePrefix) -> Result<()> {
    let realm = realm.clone();
    session.call(about("remove", "network", realm.network()), move |connection| {
        if let Some(network) = found(connection.lookup_network_by_name(realm.network()))? {
            if network.is_active()? {
                network.destroy()?;
            }
            network.undefine()?;
        }
        for egress in [Egress::Internet, Egress::None] {
            if let Some(filter) = found(connection.lookup_nwfilter_by_name(&realm.filter(egress)))? {
                filter.undefine()?;
            }
        }
        Ok(())
    })
}
