//! The programs that build and read images: where they are found, and which Debian package brings a missing one.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::support::deadline::Deadline;
use crate::support::env;
use crate::support::process::{Process, find_program};

/// Where Debian keeps programs that an ordinary user's `PATH` does not name; two of ours are among them.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program and the Debian package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program's name.
    pub program: &'static str,
    /// The package's name.
    pub package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// What a build runs, hooks included.
const BUILD: &[Tool] = &[
    tool("mmdebstrap", "mmdebstrap"),
    tool("sfdisk", "fdisk"),
    tool("mkfs.ext4", "e2fsprogs"),
    tool("mformat", "mtools"),
    tool("mcopy", "mtools"),
    tool("unshare", "util-linux"),
    tool("qemu-img", "qemu-utils"),
    tool("sha256sum", "coreutils"),
];

/// What taking a file runs that is an image already: one of the operator's, or Debian's own.
const READ: &[Tool] =
    &[tool("qemu-img", "qemu-utils"), tool("sha256sum", "coreutils"), tool("sha512sum", "coreutils")];

/// Programs that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub Vec<Tool>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Tool { program, package }) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}`{program}` (package {package})")?;
        }
        Ok(())
    }
}

/// A search path for programs.
#[derive(Clone, Debug)]
pub(super) struct Toolbox {
    path: OsString,
}

impl Toolbox {
    /// `PATH`, and the folders of system programs behind it.
    pub(super) fn of_the_system() -> Self {
        let own = env::path();
        let dirs = std::env::split_paths(&own).chain(SBIN.map(PathBuf::from));
        Self { path: std::env::join_paths(dirs).unwrap_or(own) }
    }

    #[cfg(test)]
    pub(super) fn first_of(dir: &std::path::Path) -> Self {
        let own = env::path();
        let dirs = std::iter::once(dir.to_owned()).chain(std::env::split_paths(&own));
        Self { path: std::env::join_paths(dirs).unwrap() }
    }

    /// A toolbox with nothing but the programs in `dir`.
    #[cfg(test)]
    pub(super) fn only(dir: &std::path::Path) -> Self {
        Self { path: dir.into() }
    }

    /// `program`, to be run with this search path for itself and for its children.
    pub(super) fn process(&self, program: &str) -> Process {
        Process::new(program).env("PATH", &self.path)
    }

    pub(super) fn check_build(&self) -> Result<(), Missing> {
        self.check(BUILD)
    }

    pub(super) fn check_read(&self) -> Result<(), Missing> {
        self.check(READ)
    }

    /// The first line of `program --version`; empty when it has none to say.
    pub(super) fn version(&self, program: &str, deadline: &Deadline) -> String {
        let output = self.process(program).arg("--version").run_ok(deadline).unwrap_or_default();
        output.lines().next().unwrap_or_default().trim().to_owned()
    }

    fn check(&self, tools: &[Tool]) -> Result<(), Missing> {
        let is_missing = |tool: &&Tool| find_program(tool.program, &self.path).is_none();
        let missing: Vec<_> = tools.iter().filter(is_missing).copied().collect();
        if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_missing_programs_are_named_at_once_with_their_packages() {
        let dir = tempfile::tempdir().unwrap();
        for there in ["mmdebstrap", "mcopy", "unshare", "qemu-img", "sha256sum", "sha512sum"] {
            std::fs::write(dir.path().join(there), "").unwrap();
        }
        let tools = Toolbox::only(dir.path());
        let missing = tools.check_build().unwrap_err().to_string();
        assert_eq!(
            missing,
            "`sfdisk` (package fdisk), `mkfs.ext4` (package e2fsprogs), `mformat` (package mtools)"
        );
        tools.check_read().unwrap();
    }

    #[test]
    fn the_folders_of_system_programs_are_searched_whatever_path_says() {
        let path = Toolbox::of_the_system().path.into_string().unwrap();
        assert!(path.split(':').any(|dir| dir == "/usr/sbin"), "{path}");
    }
}
