//! The program, with the Python of this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::support::deadline::Deadline;
use crate::support::process::{Finished, Process};

/// The program and its cache in a folder of their own. The cache is in memory, as in a guest.
struct Installed {
    folder: tempfile::TempDir,
    memory: tempfile::TempDir,
    python: GuestPython,
}

impl Installed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let python = GuestPython::at(&folder.path().join("lib/python3"), &memory.path().join("cache"));
        Self { folder, memory, python }
    }

    fn install(&self) -> Finished {
        // What sudo would run: the files are our own here.
        let command = self.python.install_command().replace("sudo -n sh", "sh");
        run(Process::new("sh").arg("-c").arg(command))
    }
}

fn run(process: Process) -> Finished {
    process.run(&Deadline::uninterrupted(Duration::from_secs(30), "the test")).unwrap()
}

#[test]
fn the_command_installs_the_program_and_repeating_it_changes_nothing() {
    let installed = Installed::new();
    let finished = installed.install();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(installed.python.is_in_use(&finished.stdout), "{}", finished.stdout);
    let program = installed.python.program();
    let before = program.metadata().unwrap();
    assert_eq!(before.permissions().mode() & 0o7777, 0o755);
    assert_eq!(
        installed.memory.path().join("cache").metadata().unwrap().permissions().mode() & 0o7777,
        0o1777
    );
    let again = installed.install();
    assert!(installed.python.is_in_use(&again.stdout));
    let after = program.metadata().unwrap();
    assert_eq!((before.modified().unwrap(), before.len()), (after.modified().unwrap(), after.len()));
    assert_eq!(fs::read_dir(program.parent().unwrap()).unwrap().count(), 1);
    fs::write(program, "#!/bin/false\n").unwrap();
    assert!(installed.python.is_in_use(&installed.install().stdout), "a changed program is replaced");
}

#[test]
fn nothing_is_installed_where_the_cache_would_outlive_a_reboot() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let python = GuestPython::at(&folder.path().join("lib/python3"), &folder.path().join("cache"));
    let finished =
        run(Process::new("sh").arg("-c").arg(python.install_command().replace("sudo -n sh", "sh")));
    assert!(!finished.status.success());
    assert!(finished.stderr.contains("is not a tmpfs"), "{}", finished.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// What a program sees of the interpreter that runs it.
const LOOK: &str = "\
from __future__ import annotations
import os, sys, __main__
hidden = ('__builtins__', '__loader__')
print({name: value for name, value in vars(__main__).items() if name not in hidden})
print(type(__loader__), getattr(__loader__, 'name', ''), getattr(__loader__, 'path', ''))
print(sys.argv, sys.path, sys.executable, sys.flags, sys.stdin.read(), dict(os.environ))
print(sorted(set(sys.modules) - {'_sha2', '_sha256'}))
def fail():
    raise ValueError('for a traceback')
fail()
";

#[test]
fn a_program_sees_no_difference_to_python() {
    let installed = Installed::new();
    installed.install();
    for name in ["script.py", "script"] {
        fs::write(installed.folder.path().join(name), LOOK).unwrap();
    }
    let cases: [(&[&str], &str); 8] = [
        (&[], LOOK),
        (&[], "import sys; sys.exit(7)"),
        (&[], "def"),
        (&[], "'a docstring'\nprint(__doc__, 'run' in globals())"),
        (&["script.py"], "input"),
        (&["../*/script.py", "a", "-b"], "input"),
        (&["script", "a"], "input"),
        (&["-c", LOOK, "a"], "input"),
    ];
    let folder_name = installed.folder.path().file_name().unwrap().to_str().unwrap();
    for (arguments, input) in cases {
        let with = |program: &Path| {
            let arguments = arguments.iter().map(|it| it.replace('*', folder_name));
            let process = Process::new(program).args(arguments).cwd(installed.folder.path());
            let finished = run(process.input(input).env_remove("_"));
            (finished.status.code(), finished.stdout, finished.stderr)
        };
        assert_eq!(with(installed.python.program()), with(Path::new(INTERPRETER)), "{arguments:?} {input}");
    }
}

/// Imports a module from a zip as a task does, whose folder is another each time.
const TASK: &str = "\
import sys, tempfile, zipfile
source = 'def act():\\n    return [6 * 7, act.__code__.co_filename == __file__]\\n'
with tempfile.TemporaryDirectory() as folder:
    path = folder + '/payload.zip'
    with zipfile.ZipFile(path, 'w') as payload:
        payload.writestr('module.py', source)
    sys.path.insert(0, path)
    import module
    print(*module.act())
";
/// Writes an entry that passes for good: it does something else than its source.
const FORGE: &str = "\
import hashlib, marshal, sys
data = marshal.dumps(compile('def act():\\n    return [13]\\n', 'x', 'exec'))
open(sys.argv[1], 'wb').write(hashlib.sha256(data).digest() + data)
";

impl Installed {
    /// A task's output.
    fn task(&self) -> String {
        self.task_with("")
    }

    /// The same, with a statement before it imports its module.
    fn task_with(&self, statement: &str) -> String {
        let task = TASK.replace("    import module\n", &format!("    {statement}\n    import module\n"));
        let finished = run(Process::new(self.python.program()).input(task));
        assert_eq!(finished.stderr, "");
        finished.stdout
    }

    /// The folder of this user's entries.
    fn own(&self) -> PathBuf {
        self.memory.path().join("cache").join(rustix::process::geteuid().as_raw().to_string())
    }

    fn entries(&self) -> Vec<PathBuf> {
        fs::read_dir(self.own()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// The one entry after a first task.
    fn entry(&self) -> PathBuf {
        assert_eq!(self.task(), "42 True\n");
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries[0].clone()
    }
}

fn installed() -> Installed {
    let installed = Installed::new();
    assert!(installed.install().status.success());
    installed
}

fn forge(entry: &Path) {
    let forged = run(Process::new(INTERPRETER).args(["-c", FORGE]).arg(entry));
    assert!(forged.status.success(), "{}", forged.stderr);
}

#[test]
fn a_second_task_uses_what_the_first_compiled() {
    let installed = installed();
    let entry = installed.entry();
    assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    // From the cache, and the code says that it is from this task's zip.
    assert_eq!(installed.task(), "42 True\n");
    forge(&entry);
    assert_eq!(installed.task(), "13\n", "the entry was not used");
}

#[rstest::rstest]
#[case::empty(|_: &[u8]| Vec::new())]
#[case::cut(|data: &[u8]| data[..data.len() - 5].to_vec())]
// Valid byte-code, with 43 where the source has 42.
#[case::changed(|data: &[u8]| {
    let at = (32..data.len()).find(|at| data[*at..].starts_with(&[42, 0, 0, 0])).unwrap();
    [&data[..at], &[43], &data[at + 1..]].concat()
})]
fn a_damaged_entry_is_compiled_again(#[case] damage: fn(&[u8]) -> Vec<u8>) {
    let installed = installed();
    let entry = installed.entry();
    let good = fs::read(&entry).unwrap();
    fs::write(&entry, damage(&good)).unwrap();
    assert_eq!(installed.task(), "42 True\n");
    let len = |data: &[u8]| data.len();
    assert_eq!(len(&fs::read(&entry).unwrap()), len(&good), "the entry was mended");
}

#[rstest::rstest]
#[case::gone(|installed: &Installed| fs::remove_dir_all(installed.memory.path().join("cache")).unwrap())]
#[case::a_file(|installed: &Installed| {
    fs::remove_dir_all(installed.own()).unwrap();
    fs::write(installed.own(), "").unwrap();
})]
fn without_its_folder_a_task_runs_all_the_same(#[case] spoil: fn(&Installed)) {
    let installed = installed();
    spoil(&installed);
    assert_eq!(installed.task(), "42 True\n");
    assert!(!installed.own().is_dir());
}

#[rstest::rstest]
#[case::full("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))")]
#[case::nearly_full(
    "import os; os.statvfs = lambda path: os.statvfs_result((1, 1, 100, 24, 24, 1, 1, 1, 1, 1))"
)]
fn a_full_file_system_gets_no_entry(#[case] fill: &str) {
    let installed = installed();
    assert_eq!(installed.task_with(fill), "42 True\n");
    assert_eq!(installed.entries(), Vec::<PathBuf>::new());
    installed.entry();
}

/// What others can write must never run, least of all as root.
#[rstest::rstest]
#[case::writable_by_others(|installed: &Installed| {
    fs::set_permissions(installed.own(), fs::Permissions::from_mode(0o702)).unwrap();
})]
#[case::readable_by_the_group(|installed: &Installed| {
    fs::set_permissions(installed.own(), fs::Permissions::from_mode(0o750)).unwrap();
})]
#[case::a_link(|installed: &Installed| {
    let moved = installed.memory.path().join("moved");
    fs::rename(installed.own(), &moved).unwrap();
    std::os::unix::fs::symlink(moved, installed.own()).unwrap();
})]
#[case::another_owner(|installed: &Installed| {
    // Only root can give a folder away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(installed.own(), Some(65534), None).unwrap();
    } else {
        fs::set_permissions(installed.own(), fs::Permissions::from_mode(0o777)).unwrap();
    }
})]
fn a_folder_that_another_user_could_have_filled_is_not_used(#[case] spoil: fn(&Installed)) {
    let installed = installed();
    forge(&installed.entry());
    assert_eq!(installed.task(), "13\n");
    spoil(&installed);
    assert_eq!(installed.task(), "42 True\n");
}
