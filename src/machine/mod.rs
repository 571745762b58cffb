//! Floor 3, the VM seen from outside: hypervisor, domain, network, image, seed, guards.
//!
//! [`hypervisor`] has the verbs, a dozen or so; [`libvirt`] is the one real implementation (and the only place
//! that names libvirt's API), [`fake`] the one in memory for tests. What is handed to libvirt is rendered by
//! pure functions ([`domain`], [`network`]); who may do what is decided by pure functions ([`guard`]). What
//! the guest is like inside, and when what is done, is the business of other floors.

pub mod acceleration;
pub mod domain;
#[cfg(any(test, feature = "fake-hypervisor"))]
pub mod fake;
pub mod guard;
pub mod hypervisor;
pub mod image;
pub mod libvirt;
pub mod names;
pub mod network;
pub mod ownership;
pub mod seed;
pub mod teardown;
mod xml;

pub use acceleration::Accelerator;
pub use domain::DomainSpec;
pub use hypervisor::{DomainState, HostInfo, Hypervisor, HypervisorError, Machine, RestartMethod, Volume};
pub use names::{NamePrefix, VmVolumes};
pub use network::{Egress, NetworkSpec, Slot};
pub use ownership::{Lifetime, Owner, Ownership};
