//! Ansible's programs: how they are started, with the harness's configuration only and without what the caller's environment
//! would add; and how their output is read.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::support::env;
use crate::support::process::{Finished, Process, describe};

/// Inherited variables that would change what Ansible reads or which hosts it reaches.
const UNWANTED: &[&str] = &["ANSIBLE_", "SSH_", "PYTHON", "BOMA_IT_RECORD", "BOMA_IT_DECLARE"];
/// How a line with the place of an error begins: in 2.19, and before.
const PLACES: [&str; 2] = ["Origin: ", "The error appears to be in "];
/// How many lines of Ansible's output an error shows.
const SHOWN_LINES: usize = 30;

/// Ansible's programs and the folder they are started in.
#[derive(Clone, Debug)]
pub(super) struct Ansible {
    /// Folder of the programs; `None`: on `PATH`.
    pub(super) programs: Option<PathBuf>,
    /// The site's folder, the working directory.
    pub(super) site: PathBuf,
}

impl Ansible {
    /// `program` with the configuration file `config`. `wrappers` come first on the `PATH` of what it starts.
    pub(super) fn program(
        &self,
        program: impl AsRef<Path>,
        config: &Path,
        wrappers: Option<&Path>,
    ) -> Process {
        let program = program.as_ref();
        let ours = [
            ("ANSIBLE_CONFIG", config.as_os_str().to_owned()),
            ("ANSIBLE_NOCOLOR", "1".into()),
            ("ANSIBLE_FORCE_COLOR", "0".into()),
            ("PYTHONUNBUFFERED", "1".into()),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
            ("LC_ALL", "C.UTF-8".into()),
            ("PATH", self.path(wrappers)),
        ];
        let executable = match &self.programs {
            Some(dir) => dir.join(program),
            None => program.to_owned(),
        };
        let mut process = Process::new(executable).cwd(&self.site);
        for name in env::names_starting_with(UNWANTED) {
            if !ours.iter().any(|(ours, _)| name == *ours) {
                process = process.env_remove(name);
            }
        }
        ours.iter().fold(process, |process, (name, value)| process.env(name, value))
    }

    fn path(&self, wrappers: Option<&Path>) -> OsString {
        let inherited = env::path();
        let first = [wrappers, self.programs.as_deref()].into_iter().flatten().map(Path::to_owned);
        std::env::join_paths(first.chain(std::env::split_paths(&inherited))).unwrap_or(inherited)
    }
}

/// The version in a line such as `ansible-inventory [core 2.19.14]`, and its series if it is that of a release.
pub(super) fn version(stderr: &str) -> Option<(Option<(u32, u32)>, &str)> {
    let text = stderr.split_once("[core ")?.1.split(']').next()?;
    let numbers: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    let series = numbers.and_then(|numbers| match numbers[..] {
        [major, minor, _] => Some((major, minor)),
        _ => None,
    });
    Some((series, text))
}

/// The folders that may have an `ansible_collections`, from the lines that follow the version: those of the configuration, and
/// the one that holds Ansible's own Python package.
pub(super) fn collections(stderr: &str) -> Option<Vec<PathBuf>> {
    let configured = told(stderr, "ansible collection location")?;
    let package = told(stderr, "ansible python module location")?;
    let beside_package = Path::new(package).parent().map(Path::to_owned);
    Some(configured.split(':').map(PathBuf::from).chain(beside_package).collect())
}

/// The interpreter that runs Ansible, from those lines.
pub(super) fn python(stderr: &str) -> Option<PathBuf> {
    let (_, path) = told(stderr, "python version")?.rsplit_once("] (")?;
    path.strip_suffix(')').filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// The value in a line such as `  key = value`.
fn told<'a>(stderr: &'a str, key: &str) -> Option<&'a str> {
    stderr.lines().find_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix("= "))
}

/// What Ansible printed about an error, indented: from the error on if that names a place, else from the first warning on.
pub(super) fn error_text(finished: &Finished) -> String {
    let lines: Vec<&str> = finished.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let first_line_with = |prefix: &str| lines.iter().position(|line| line.starts_with(prefix));
    let error = first_line_with("[ERROR]").or_else(|| first_line_with("ERROR!"));
    let has_place = error
        .is_some_and(|at| lines[at..].iter().any(|line| PLACES.iter().any(|place| line.starts_with(place))));
    let from = if has_place { error } else { first_line_with("[WARNING]").or(error) };
    let shown = lines[from.unwrap_or(0)..].iter().take(SHOWN_LINES);
    shown.map(|line| format!("  {line}\n")).collect::<String>().trim_end().to_owned()
}

/// An exit status and its meaning in Ansible.
pub(super) fn describe_exit(status: ExitStatus) -> String {
    let meaning = match status.code() {
        Some(1) => " (error)",
        Some(2) => " (a task failed, or a bad option)",
        Some(4) => " (unreachable, or the playbook cannot be parsed)",
        Some(99) => " (interrupted)",
        Some(250) => " (unexpected exception)",
        _ => "",
    };
    describe(status) + meaning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_collections_follow_the_version() {
        let printed = "ansible-inventory [core 2.19.14]\n  config file = /x\n  ansible python module location = /v/site-packages/ansible\n  ansible collection location = /home/a/.ansible/collections:/usr/share/ansible/collections\n";
        let expected = ["/home/a/.ansible/collections", "/usr/share/ansible/collections", "/v/site-packages"];
        assert_eq!(collections(printed), Some(expected.map(PathBuf::from).into()));
        assert_eq!(collections("ansible-inventory [core 2.19.14]\n"), None);
    }

    #[test]
    fn the_interpreter_of_ansible_is_the_last_word_about_its_python() {
        let printed = "ansible-inventory [core 2.19.14]\n  python version = 3.13.5 (main, Aug 10 2026) [GCC (Debian) 14.2.0] (/srv/a (b)/bin/python3)\n  jinja version = 3.1.6\n";
        assert_eq!(python(printed), Some("/srv/a (b)/bin/python3".into()));
        assert_eq!(python("  python version = 3.13.5 (main) [GCC] ()\n"), None);
    }

    #[test]
    fn the_version_is_found_anywhere_in_the_output() {
        assert_eq!(version("x\nansible-inventory [core 2.19.14]\n"), Some((Some((2, 19)), "2.19.14")));
        assert_eq!(version("no Ansible"), None);
    }

    #[rstest::rstest]
    #[case("2.20.0b1")]
    #[case("2.21.0rc2")]
    #[case("2.22.0.dev0")]
    #[case("2.19")]
    #[case("devel")]
    fn a_version_that_is_no_release_has_no_series(#[case] found: &str) {
        assert_eq!(version(&format!("ansible-inventory [core {found}] (x)")), Some((None, found)));
    }
}
