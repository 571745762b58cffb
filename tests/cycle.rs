//! The cycle's failure paths, on a hypervisor in memory: whatever breaks, it is named with what to do about it, and nothing is
//! left but the run folder that tells.

#[cfg(test)]
#[path = "cycle/admission.rs"]
mod admission;
#[cfg(test)]
#[path = "cycle/aviary.rs"]
mod aviary;
#[cfg(test)]
#[path = "cycle/canary.rs"]
mod canary;
#[cfg(test)]
#[path = "cycle/certs.rs"]
mod certs;
#[cfg(test)]
#[path = "cycle/guest.rs"]
mod guest;
#[cfg(test)]
#[path = "cycle/lab.rs"]
mod lab;
#[cfg(test)]
#[path = "cycle/lockout.rs"]
mod lockout;
#[cfg(test)]
#[path = "cycle/playbooks.rs"]
mod playbooks;
#[cfg(test)]
#[path = "cycle/prune.rs"]
mod prune;
#[cfg(test)]
#[path = "cycle/restart.rs"]
mod restart;
#[cfg(test)]
#[path = "cycle/verbs.rs"]
mod verbs;
#[cfg(test)]
#[path = "cycle/waiting.rs"]
mod waiting;
