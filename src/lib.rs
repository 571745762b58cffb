//! Integration tests, under `cargo test`, for Ansible-managed hosts that must survive a real reboot.
//!
//! For each host profile and each scenario, [`harness::main`] brings up a throw-away Debian VM over libvirt, applies the
//! real site playbook, reboots, proves the reboot by the kernel's boot id, checks the assertions of `verify.yml`, and
//! destroys the VM. All of it is driven by YAML files: no Rust is written but the one line below.
//!
//! # In your Ansible repository
//!
//! `Cargo.toml`:
//!
//! ```toml
//! [package]
//! name = "site-tests"
//! version = "0.0.0"
//! edition = "2024"
//! publish = false
//!
//! [dev-dependencies]
//! boma-it = { path = "../boma-it" }
//!
//! [[test]]
//! name = "integration"
//! path = "harness/main.rs"
//! harness = false
//! ```
//!
//! `harness/main.rs`:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     boma_it::harness::main()
//! }
//! ```
//!
//! `harness/harness.yml`, where the site is:
//!
//! ```yaml
//! version: 1
//! site: {dir: ., playbook: site.yml, inventory: inventory/production, verify: harness/verify.yml}
//! ```
//!
//! `profiles/web1.yml`, a host of the production inventory and the roles to apply. `overrides/web1.yml` beside it stubs
//! the real world with Ansible variables, or is `{}`:
//!
//! ```yaml
//! version: 1
//! description: the web server
//! roles: [base, web]
//! ```
//!
//! `scenarios/no-forwarding.yml`, a change of that profile and the failure that must be seen:
//!
//! ```yaml
//! version: 1
//! profile: web1
//! description: without the forward rule the published port is dead after the reboot
//! vars: {web_forward_rule: false}
//! expect:
//!   fail: {at: assert, task: the published port answers}
//! ```
//!
//! `harness/verify.yml` has the assertions, as Ansible tasks. Then:
//!
//! ```sh
//! cargo test --test integration                            # every trial
//! cargo test --test integration -- web1::cycle --exact     # one trial
//! ```
//!
//! The driver `boma-it` runs the same stages one at a time. Its options, the environment variables and every file key are
//! in `docs/reference.md`.
//!
//! # The code
//!
//! [`harness`] is the whole interface. The other modules are public for the driver and for this package's own tests, may
//! change at any time, and are layers: each uses only what is below it, and the modules of one layer do not use one another.
//!
//! | layer | modules | |
//! |---|---|---|
//! | 6 | `cli`, `harness`, `exit` | the driver's sub-commands; the trials under `cargo test`; exit codes |
//! | 5 | `report` | what a person or a program reads of a run |
//! | 4 | `cycle` | the run: stages in order, cleanup, the verdict |
//! | 3 | `machine`, `guest`, `site` | the VM from outside; the VM from inside; Ansible |
//! | 2 | `catalog` | the YAML files, and the plan of a trial that is made from them |
//! | 1 | `event`, `outcome` | what the cycle tells the reports |
//! | 0 | `support` | processes, deadlines, locks, run folders, secrets, names |

#[doc(hidden)]
pub mod catalog;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod cycle;
#[doc(hidden)]
pub mod event;
mod exit;
#[doc(hidden)]
pub mod guest;
pub mod harness;
#[doc(hidden)]
pub mod machine;
#[doc(hidden)]
pub mod outcome;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod site;
#[doc(hidden)]
pub mod support;
