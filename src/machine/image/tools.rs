//! The programs that build and read images: where they are searched, and which Debian package provides a missing one.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::support::deadline::Deadline;
use crate::support::env;
use crate::support::process::{Process, find_program};

/// Debian's folders of system programs, which an ordinary user's `PATH` lacks: `sfdisk` and `mkfs.ext4` are there.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program, and the Debian package that provides it.
pub(super) type Tool = (&'static str, &'static str);

/// The programs of a build, including its hooks.
pub(super) const BUILD: &[Tool] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("sfdisk", "fdisk"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mformat", "mtools"),
    ("mcopy", "mtools"),
    ("unshare", "util-linux"),
    ("qemu-img", "qemu-utils"),
    ("sha256sum", "coreutils"),
];

/// The programs that check a finished image: the operator's, or Debian's own.
pub(super) const READ: &[Tool] =
    &[("qemu-img", "qemu-utils"), ("sha256sum", "coreutils"), ("sha512sum", "coreutils")];

/// Programs that are not installed.
#[derive(Clone, Debug)]
pub(crate) struct MissingTools(Vec<Tool>);

impl fmt::Display for MissingTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> =
            self.0.iter().map(|(program, package)| format!("`{program}` (package {package})")).collect();
        f.write_str(&named.join(", "))
    }
}

/// A search path for programs.
#[derive(Clone, Debug)]
pub(super) struct Toolbox {
    path: OsString,
}

impl Toolbox {
    /// `PATH`, followed by the folders of system programs.
    pub(super) fn of_the_system() -> Self {
        let own = env::path();
        let dirs = std::env::split_paths(&own).chain(SBIN.map(PathBuf::from));
        Self { path: std::env::join_paths(dirs).unwrap_or(own) }
    }

    /// A process of `program`, with this search path for itself and its children.
    pub(super) fn process(&self, program: &str) -> Process {
        Process::new(program).env("PATH", &self.path)
    }

    /// The first line of `program --version`; empty if there is none.
    pub(super) fn version(&self, program: &str, deadline: &Deadline) -> String {
        let output = self.process(program).arg("--version").run_ok(deadline).unwrap_or_default();
        output.lines().next().unwrap_or_default().trim().to_owned()
    }

    /// Fails if one of `tools`, such as [`BUILD`], is not installed.
    pub(super) fn check(&self, tools: &[Tool]) -> Result<(), MissingTools> {
        let is_missing = |(program, _): &&Tool| find_program(program, &self.path).is_none();
        let missing: Vec<_> = tools.iter().filter(is_missing).copied().collect();
        if missing.is_empty() { Ok(()) } else { Err(MissingTools(missing)) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    impl Toolbox {
        /// The programs in `dir`, then those of this machine.
        pub(in crate::machine::image) fn first_of(dir: &Path) -> Self {
            let own = env::path();
            let dirs = std::iter::once(dir.to_owned()).chain(std::env::split_paths(&own));
            Self { path: std::env::join_paths(dirs).unwrap() }
        }

        /// Nothing but the programs in `dir`.
        pub(in crate::machine::image) fn only(dir: &Path) -> Self {
            Self { path: dir.into() }
        }

        /// Puts a program into `dir`, a shell script. A program that was just written can be busy: see scripted_program.sh.
        pub(in crate::machine::image) fn script(dir: &Path, program: &str, body: &str) {
            std::fs::write(dir.join(format!("{program}.body")), format!("{body}\n")).unwrap();
            let scripted = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ansible/scripted_program.sh");
            if !dir.join(program).exists() {
                std::os::unix::fs::symlink(scripted, dir.join(program)).unwrap();
            }
        }
    }

    #[test]
    fn an_error_names_all_missing_programs_with_their_packages() {
        let dir = tempfile::tempdir().unwrap();
        for there in ["mmdebstrap", "mcopy", "unshare", "qemu-img", "sha256sum", "sha512sum"] {
            std::fs::write(dir.path().join(there), "").unwrap();
        }
        let tools = Toolbox::only(dir.path());
        let missing = tools.check(BUILD).unwrap_err().to_string();
        assert_eq!(
            missing,
            "`sfdisk` (package fdisk), `mkfs.ext4` (package e2fsprogs), `mformat` (package mtools)"
        );
        tools.check(READ).unwrap();
    }

    #[test]
    fn the_folders_of_system_programs_are_always_searched() {
        let path = Toolbox::of_the_system().path.into_string().unwrap();
        assert!(path.split(':').any(|dir| dir == "/usr/sbin"), "{path}");
    }
}
