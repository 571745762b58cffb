//! The cycle's failure paths, on a hypervisor in memory: whatever breaks, it is named with what to do about it, and nothing is
//! left but the run folder that tells.

#[path = "cycle/admission.rs"]
mod admission;
#[path = "cycle/guest.rs"]
mod guest;
#[path = "cycle/lab.rs"]
mod lab;
#[path = "cycle/playbooks.rs"]
mod playbooks;
#[path = "cycle/restart.rs"]
mod restart;
#[path = "cycle/verbs.rs"]
mod verbs;
#[path = "cycle/waiting.rs"]
mod waiting;
