//! Floor 3, the VM seen from inside: SSH session, readiness, reboot proof, diagnostics.
