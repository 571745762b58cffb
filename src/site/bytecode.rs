//! Byte-code of Ansible's modules, kept in the guest between tasks. Ansible sends every task as a zip of Python sources, and
//! Python compiles all of them each time, which is most of a task's time on an emulated machine.
//!
//! The guest gets a program that is Python to Ansible (`bytecode/interpreter.py`) and keeps what it compiles, by the hash of
//! the source. The host's variable `ansible_python_interpreter` names it. Strategy, SSH, sudo and modules stay as they are.
//!
//! | what | where in the guest | why there |
//! |---|---|---|
//! | the program | `/usr/libexec/boma-it/`, root's | a playbook that restarts the host must find it again |
//! | the byte-code | `/run`, a folder of mode 0700 for each user | a tmpfs: no reboot keeps it. Nobody can plant code for root |
//!
//! [`GuestPython::install_command`] puts both there. [`super::search`] says why a site cannot have it: it sets an interpreter of
//! its own, or something in it could read the variable, and write the program's path where it must not be.

use std::path::{Path, PathBuf};

use super::inventory::INTERPRETER;
use crate::support::process::quote;

/// The program, without the place of its cache.
const PROGRAM: &str = include_str!("bytecode/interpreter.py");
/// Where the program expects its cache, as its text has it.
const CACHE: &str = "/run/boma-it-bytecode";
/// What Python calls the function that compiles, where the program has replaced it.
const REPLACED: &str = "compile_or_load";

/// Python in the guest, with a cache of byte-code: absolute paths there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestPython {
    program: PathBuf,
    cache: PathBuf,
}

impl Default for GuestPython {
    fn default() -> Self {
        Self::at(Path::new("/usr/libexec/boma-it/python3"), Path::new(CACHE))
    }
}

impl GuestPython {
    /// At a place of its own, for tests.
    pub fn at(program: &Path, cache: &Path) -> Self {
        Self { program: program.to_owned(), cache: cache.to_owned() }
    }

    /// The program, to be `ansible_python_interpreter`.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A shell command for the user that Ansible logs in as. It installs the program and an empty folder for the cache, as
    /// root, and then lets the program say what it does. Repeating it changes nothing; a file that is there and right is not
    /// written again, so that a check of the guest's files sees no change after the reboot.
    pub fn install_command(&self) -> String {
        let word = |path: &Path| quote(&path.to_string_lossy());
        let (program, cache) = (word(&self.program), word(&self.cache));
        let folder = word(self.program.parent().unwrap_or(Path::new("/")));
        let memory = word(self.cache.parent().unwrap_or(Path::new("/")));
        let text = quote(&PROGRAM.replace(CACHE, &self.cache.to_string_lossy()));
        let install = format!(
            "set -eu; umask 022\n\
             [ \"$(stat -f -c %T {memory})\" = tmpfs ] || {{ echo {memory} is not a tmpfs >&2; exit 1; }}\n\
             mkdir -p {folder}\n\
             new=$(mktemp {folder}/new.XXXXXX)\n\
             printf %s {text} >\"$new\"\n\
             chmod 0755 \"$new\"\n\
             if cmp -s \"$new\" {program}; then rm \"$new\"; else mv -f \"$new\" {program}; fi\n\
             mkdir -p {cache}\n\
             chmod 1777 {cache}\n\
             mkdir -p -m 0700 {cache}/\"$(id -u)\"\n"
        );
        let install = quote(&install);
        let ask = "import zipimport; print(zipimport._compile_source.__name__)";
        let all = format!(
            "if [ \"$(id -u)\" = 0 ]; then sh -c {install}; else sudo -n sh -c {install}; fi && echo {} | {program}",
            quote(ask)
        );
        format!("sh -c {}", quote(&all))
    }

    /// Whether the program does what it is for, by what [`GuestPython::install_command`] printed.
    pub fn is_in_use(&self, stdout: &str) -> bool {
        stdout.lines().last() == Some(REPLACED)
    }
}

/// The interpreter that the site wants on the host, if it is another than the one that the program runs.
pub(super) fn another(interpreter: Option<&str>) -> Option<&str> {
    interpreter.filter(|it| !is_the_same(it))
}

/// Whether an interpreter is the one that the program runs, or a word (`auto`, `auto_silent`) that leaves the choice open.
pub(super) fn is_the_same(interpreter: &str) -> bool {
    interpreter == INTERPRETER || interpreter.starts_with("auto")
}

#[cfg(test)]
mod tests;
