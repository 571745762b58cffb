//! Integration tests, under `cargo test`, for Ansible-managed hosts that must survive a real reboot.
//!
//! Each host profile and each scenario is a libtest *trial*: a throw-away Debian VM over libvirt, the real
//! site playbook, a reboot proven by the kernel's boot id, assertions in `verify.yml`, diagnostics when
//! something breaks, and nothing left behind.
//!
//! The modules are floors. Each may use what is listed below it, never what is above, and the rooms of one
//! floor do not know each other:
//!
//! | floor | modules | what stands there |
//! |---|---|---|
//! | 6 | [`cli`], [`harness`] | the driver's sub-commands; the libtest-mimic glue |
//! | 5 | [`report`] | what a person or a program reads: all are sinks of events |
//! | 4 | [`cycle`] | the only orchestrator: stages in order, cleanup, judging |
//! | 3 | [`machine`], [`guest`], [`site`] | the VM from outside, the VM from inside, Ansible |
//! | 2 | [`catalog`] | the YAML files → [`catalog::Plan`], pure and strict |
//! | 1 | [`event`], [`outcome`] | what the cycle says and the reports hear |
//! | 0 | [`support`] | processes, deadlines, locks, run folders, names |

pub mod catalog;
pub mod cli;
pub mod cycle;
pub mod event;
pub mod guest;
pub mod harness;
pub mod machine;
pub mod outcome;
pub mod report;
pub mod site;
pub mod support;
