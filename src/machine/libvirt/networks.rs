//! The network and its filters on libvirt.

use virt::connect::Connect;
use virt::error::Error;
use virt::network::Network;

use super::errors::{Failure, found};
use crate::machine::hypervisor::HypervisorError;
use crate::machine::names::NamePrefix;
use crate::machine::network::{Egress, NetworkSpec};

pub(super) fn ensure(connection: &Connect, prefix: &NamePrefix, spec: &NetworkSpec) -> Result<(), Failure> {
    for egress in [Egress::Internet, Egress::None] {
        // Another process may define the filter between our lookup and our definition: then it has a uuid the second time.
        define_filter(connection, prefix, spec, egress)
            .or_else(|_| define_filter(connection, prefix, spec, egress))?;
    }
    let name = prefix.network();
    if let Some(network) = found(connection.lookup_network_by_name(name))? {
        if spec.matches(prefix, &network.xml_desc(0)?) {
            return start(&network, spec);
        }
        if let Some(user) = running_machine(connection, prefix)? {
            let why = format!("it exists with another subnet, and {user} is using it; end that VM first");
            return Err(conflict(spec, why));
        }
        delete(&network)?;
    }
    let network = match connection.define_network_xml(&spec.render(prefix)) {
        Ok(network) => network,
        // Another process may have been faster.
        Err(error) => found(connection.lookup_network_by_name(name))?.ok_or(error)?,
    };
    start(&network, spec)
}

/// Libvirt itself leaves a filter alone that already is as defined.
fn define_filter(
    connection: &Connect,
    prefix: &NamePrefix,
    spec: &NetworkSpec,
    egress: Egress,
) -> Result<(), Error> {
    let existing = found(connection.lookup_nwfilter_by_name(&egress.filter(prefix)))?;
    let uuid = existing.map(|filter| filter.uuid_string()).transpose()?;
    connection.define_nwfilter_xml(&spec.render_filter(prefix, egress, uuid.as_deref()))?;
    Ok(())
}

fn start(network: &Network, spec: &NetworkSpec) -> Result<(), Failure> {
    if network.is_active()? {
        return Ok(());
    }
    match network.create() {
        // Another process may have been faster.
        Err(_) if network.is_active()? => Ok(()),
        Err(error) if is_collision(error.message()) => {
            let why = format!("{}; choose another subnet in harness/harness.yml", error.message().trim());
            Err(conflict(spec, why))
        }
        result => Ok(result?),
    }
}

/// The subnet is routed elsewhere, or the gateway's address is in use.
fn is_collision(message: &str) -> bool {
    ["already in use by interface", "Address already in use", "cannot assign requested address"]
        .iter()
        .any(|sign| message.contains(sign))
}

fn conflict(spec: &NetworkSpec, why: String) -> Failure {
    HypervisorError::NetworkConflict { network: spec.subnet.to_string(), why }.into()
}

fn running_machine(connection: &Connect, prefix: &NamePrefix) -> Result<Option<String>, Error> {
    let active = virt::sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE;
    for domain in connection.list_all_domains(active)? {
        let name = domain.name()?;
        if prefix.owns(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn delete(network: &Network) -> Result<(), Error> {
    if network.is_active()? {
        network.destroy()?;
    }
    network.undefine()
}

/// Removes network and filters if they exist.
pub(super) fn remove(connection: &Connect, prefix: &NamePrefix) -> Result<(), Failure> {
    if let Some(network) = found(connection.lookup_network_by_name(prefix.network()))? {
        delete(&network)?;
    }
    for egress in [Egress::Internet, Egress::None] {
        if let Some(filter) = found(connection.lookup_nwfilter_by_name(&egress.filter(prefix)))? {
            filter.undefine()?;
        }
    }
    Ok(())
}
