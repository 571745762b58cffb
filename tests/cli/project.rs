//! A copy of this project's own files in a temporary folder, to break one thing in, and the driver run there with an
//! empty environment and home.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// A hypervisor that answers: libvirt's own mock, inside the process that connects to it.
pub(crate) const MOCK: &str = "test:///default";
/// A hypervisor that does not answer.
const NOWHERE: &str = "qemu+unix:///system?socket=/nonexistent/libvirt-sock";

/// The folders of a project.
const PARTS: [&str; 5] = ["harness", "overrides", "profiles", "scenarios", "site"];

pub(crate) struct Project {
    folder: tempfile::TempDir,
    uri: &'static str,
}

impl Project {
    /// Valid, and without a hypervisor.
    pub(crate) fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap(), uri: NOWHERE };
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in PARTS {
            copy(&ours.join(part), &project.path(part));
        }
        // Ansible, if this project has its own.
        if ours.join(".venv").exists() {
            std::os::unix::fs::symlink(ours.join(".venv"), project.path(".venv")).unwrap();
        }
        for folder in ["home", "tmp"] {
            fs::create_dir(project.folder.path().join(folder)).unwrap();
        }
        project
    }

    /// With a hypervisor.
    pub(crate) fn with_hypervisor() -> Self {
        Self { uri: MOCK, ..Self::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("project").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn remove(&self, name: &str) -> &Self {
        fs::remove_file(self.path(name)).unwrap();
        self
    }

    /// Replaces `old`, which must be there, in a file.
    pub(crate) fn replace(&self, name: &str, old: &str, new: &str) -> &Self {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(old), "{name} has no `{old}`");
        self.write(name, &text.replace(old, new))
    }

    pub(crate) fn run(&self, args: &[&str]) -> Transcript {
        self.run_with(args, &[])
    }

    /// Runs the driver with additional variables.
    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Transcript {
        let home = self.folder.path().join("home");
        let mut command = Command::new(env!("CARGO_BIN_EXE_boma-it"));
        command.args(args).current_dir(self.path("")).env_clear();
        // The search path is this machine's; everything else is as on a new account.
        command.env("PATH", env!("PATH")).env("HOME", &home).env("TMPDIR", self.folder.path().join("tmp"));
        command.env("LC_ALL", "C.UTF-8").env("BOMA_IT_URI", self.uri);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| self.plain(&text));
        Transcript { args: args.join(" "), code: output.status.code(), stdout, stderr }
    }

    fn plain(&self, text: &[u8]) -> String {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let text = text.replace(self.path("").to_str().unwrap().trim_end_matches('/'), "[project]");
        text.replace(self.folder.path().to_str().unwrap(), "[folder]")
    }

    /// No run folder, no image, no cache and no temporary file was left.
    #[track_caller]
    pub(crate) fn assert_nothing_started(&self) {
        for folder in ["home", "tmp"] {
            let entries = fs::read_dir(self.folder.path().join(folder)).unwrap().flatten();
            // Ansible always creates a folder of its own.
            let left: Vec<_> = entries.filter(|entry| entry.file_name() != ".ansible").collect();
            assert!(left.is_empty(), "left in {folder}: {left:?}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy(&from, &to) } else { fs::copy(from, to).map(drop).unwrap() }
    }
}

/// A command line, its output and its exit code.
pub(crate) struct Transcript {
    args: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl std::fmt::Display for Transcript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        write!(f, "$ boma-it {}\n{}", self.args, self.stdout)?;
        write!(f, "{}[exit status {code}]", self.stderr)
    }
}
