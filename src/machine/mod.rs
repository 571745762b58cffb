//! The VM from outside: hypervisor, domain, network, image, seed, guards.
//!
//! Plain data is at the bottom: [`names`], [`accelerator`], [`network`], [`ownership`] and [`domain`], which also render
//! the XML for libvirt. [`hypervisor`] has the verbs; [`libvirt`] implements them, and so does a fake in memory for tests
//! (feature `fake-hypervisor`). Above it are [`teardown`], [`live_run`], [`guard`] and [`kvm_probe`]. The guest's inside, and when each
//! step happens, are up to other modules.

pub(crate) mod accelerator;
pub mod domain;
#[cfg(any(test, feature = "fake-hypervisor"))]
pub mod fake;
pub mod guard;
pub mod hypervisor;
pub mod image;
pub(crate) mod kvm_probe;
pub mod layer;
pub mod libvirt;
pub(crate) mod live_run;
pub(crate) mod names;
pub(crate) mod network;
pub mod ownership;
pub(crate) mod seed;
pub mod teardown;
mod xml;

pub use accelerator::Accelerator;
pub use domain::DomainSpec;
pub use hypervisor::{DomainState, HostInfo, Hypervisor, HypervisorError, Machine, RestartMethod, Volume};
pub use names::{NamePrefix, VmVolumes};
pub use network::{Egress, NetworkSpec, Slot};
pub use ownership::{Lifetime, Owner, Ownership};
