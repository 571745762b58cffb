//! How Ansible's programs are started: with our configuration only, and without what the caller's environment would
//! add to it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::support::env;
use crate::support::process::Process;

/// Inherited variables that would change what Ansible reads or whom it reaches.
const UNWANTED: &[&str] = &["ANSIBLE_", "SSH_", "PYTHON", "BOMA_IT_RECORD", "BOMA_IT_DECLARE"];

/// Ansible's programs and the folder they are started in.
#[derive(Clone, Debug)]
pub(super) struct Ansible {
    /// Folder of the programs; none: they are found on `PATH`.
    pub(super) programs: Option<PathBuf>,
    /// The site's folder: the working directory.
    pub(super) site: PathBuf,
}

impl Ansible {
    /// `program` with our configuration file `config`; `shims` come first on the `PATH` of what it starts.
    pub(super) fn program(&self, program: &str, config: &Path, shims: Option<&Path>) -> Process {
        let ours = [
            ("ANSIBLE_CONFIG", config.as_os_str().to_owned()),
            ("ANSIBLE_NOCOLOR", "1".into()),
            ("ANSIBLE_FORCE_COLOR", "0".into()),
            ("PYTHONUNBUFFERED", "1".into()),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
            ("LC_ALL", "C.UTF-8".into()),
            ("PATH", self.path(shims)),
        ];
        let executable = match &self.programs {
            Some(dir) => dir.join(program),
            None => program.into(),
        };
        let mut process = Process::new(executable).cwd(&self.site);
        for name in env::names_starting_with(UNWANTED) {
            if !ours.iter().any(|(ours, _)| name == *ours) {
                process = process.env_remove(name);
            }
        }
        ours.iter().fold(process, |process, (name, value)| process.env(name, value))
    }

    fn path(&self, shims: Option<&Path>) -> OsString {
        let inherited = env::path();
        let first = [shims, self.programs.as_deref()].into_iter().flatten().map(Path::to_owned);
        std::env::join_paths(first.chain(std::env::split_paths(&inherited))).unwrap_or(inherited)
    }
}
