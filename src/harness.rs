//! Floor 6, the libtest-mimic glue: catalog → trials → outcome.
//!
//! A test target of one line runs every profile and scenario on disk:
//!
//! ```no_run
//! // harness/main.rs, with `harness = false` in Cargo.toml
//! fn main() -> std::process::ExitCode {
//!     boma_it::harness::main()
//! }
//! ```
//!
//! `--list` reads file names and nothing else: no libvirt, no network, no image.
