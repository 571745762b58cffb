//! Floor 3, the VM seen from outside: hypervisor, domain, network, image, seed, guards.
