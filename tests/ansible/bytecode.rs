//! The byte-code cache, with a real Ansible: every task has the same result with it as without, and everything that could
//! notice it switches it off.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boma_it::catalog::plan::BytecodeCache;
use boma_it::outcome::TaskResult;
use boma_it::site::{CheckedSite, GuestPython, Phase, PlaybookError, PlaybookReport, TaskEvent, Workspace};
use boma_it::support::deadline::Deadline;
use boma_it::support::process::Process;

use crate::fixture::AnsibleVersion::{self, Newest, Oldest, Shipped};
use crate::fixture::{TestSite, patient};
use crate::sshd::Sshd;

/// Tasks of many kinds: modules with other modules' code, a template, a loop, a failure, a module that crashes, one of the
/// site's own, a job in the background, and tasks on this machine.
const TASKS: &str = r#"
- name: facts
  ansible.builtin.setup: {gather_subset: [python, env]}
- name: python
  ansible.builtin.debug:
    msg: "{{ ansible_facts.python.executable }} {{ ansible_facts.env | dict2items | map(attribute='key') | sort }}"
- name: a command
  ansible.builtin.command: {cmd: echo one}
- name: a file
  ansible.builtin.copy: {content: "{{ inventory_hostname }}\n", dest: "{{ dest }}/file", mode: '0600'}
- name: the file again
  ansible.builtin.copy: {content: "{{ inventory_hostname }}\n", dest: "{{ dest }}/file", mode: '0600'}
- name: a look
  ansible.builtin.stat: {path: "{{ dest }}/file"}
  register: looked
- name: what it saw
  ansible.builtin.debug: {msg: "{{ looked.stat.checksum }} {{ looked.stat.mode }}"}
- name: a failure
  ansible.builtin.command: {cmd: 'false'}
  ignore_errors: true
- name: a bad argument
  ansible.builtin.file: {path: "{{ dest }}/none", state: nonsense}
  ignore_errors: true
- name: a crash
  crash: {}
  ignore_errors: true
- name: code that does not compile
  broken: {}
  ignore_errors: true
- name: in the background
  ansible.builtin.command: {cmd: echo background}
  async: 30
  poll: 1
- name: on this machine
  ansible.builtin.command: {cmd: echo here}
  delegate_to: localhost
- name: python on this machine
  ansible.builtin.setup: {gather_subset: [python]}
  delegate_to: localhost
  delegate_facts: true
"#;
const CRASH: &str = "\
from ansible.module_utils.basic import AnsibleModule


def main():
    AnsibleModule(argument_spec={})
    raise RuntimeError('on purpose')


if __name__ == '__main__':
    main()
";
const BROKEN: &str = "from ansible.module_utils.basic import AnsibleModule\ndef main(:\n";

/// The guest's Python with a cache, on this machine: removed when dropped.
struct Cache {
    program: tempfile::TempDir,
    memory: tempfile::TempDir,
}

impl Cache {
    fn install() -> Self {
        let cache =
            Self { program: tempfile::tempdir().unwrap(), memory: tempfile::tempdir_in("/dev/shm").unwrap() };
        // What sudo would run: the files are our own here.
        let command = cache.python().install_command().replace("sudo -n sh", "sh");
        let printed = Process::new("sh").arg("-c").arg(command).run_ok(&patient()).unwrap();
        assert!(cache.python().is_in_use(&printed), "{printed}");
        cache
    }

    fn python(&self) -> GuestPython {
        GuestPython::at(&self.program.path().join("python3"), &self.memory.path().join("cache"))
    }

    fn folder(&self) -> PathBuf {
        let users = fs::read_dir(self.memory.path().join("cache")).unwrap();
        users.map(|entry| entry.unwrap().path()).next().unwrap()
    }

    fn entries(&self) -> Vec<PathBuf> {
        let mut entries: Vec<_> =
            fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries
    }
}

/// Runs the site's playbook; with a cache if the site can have one.
fn run(site: &TestSite, cache: Option<&Cache>) -> PlaybookReport {
    let checked = site.check("askari").unwrap();
    let cache = cache.filter(|_| checked.bytecode_obstacle.is_none());
    run_checked(site, checked, cache).unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
}

fn run_checked(
    site: &TestSite,
    mut checked: CheckedSite,
    cache: Option<&Cache>,
) -> Result<PlaybookReport, PlaybookError> {
    checked.python = cache.map(Cache::python);
    let workspace = Workspace::prepare(&site.folder(), &site.plan, &checked, &site.access).unwrap();
    // Two dozen tasks on a busy machine.
    let deadline = Deadline::uninterrupted(Duration::from_secs(300), "the playbook");
    workspace.run(Phase::Apply, &site.vars("askari"), &deadline, &mut |_: TaskEvent| {})
}

/// What must be the same: everything but the seconds and the names of temporary files.
fn comparable(report: &PlaybookReport) -> Vec<TaskResult> {
    let plain = |task: &TaskResult| {
        let message = task.message.as_deref().map(without_temporary_names);
        TaskResult { seconds: 0.0, message, ..task.clone() }
    };
    report.tasks.iter().map(plain).collect()
}

/// `/tmp/ansible_crash_payload_abc/x` → `/tmp/ansible_crash_payload_[]/x`.
fn without_temporary_names(text: &str) -> String {
    let mut parts = text.split("_payload_");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.find('/').map_or("", |at| &part[at..]);
        format!("{text}_payload_[]{rest}")
    })
}

fn site(version: AnsibleVersion, sshd: &Sshd, files: &[(&str, &str)]) -> Option<TestSite> {
    let mut site = TestSite::with_ansible(version, files)?.reached_by(sshd);
    site.plan.bytecode_cache = BytecodeCache::On;
    let dest = site.dir.path().join("dest");
    fs::create_dir(&dest).unwrap();
    site.plan.vars = [("dest".into(), serde_json::json!(dest))].into();
    Some(site)
}

/// The same with a role that has these tasks.
fn site_with_tasks(version: AnsibleVersion, sshd: &Sshd, tasks: &str) -> Option<TestSite> {
    let files = [
        ("site/roles/base/tasks/main.yml", tasks),
        ("site/roles/base/library/crash.py", CRASH),
        ("site/roles/base/library/broken.py", BROKEN),
    ];
    site(version, sshd, &files)
}

fn empty(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

#[rstest::rstest]
fn every_task_has_the_same_result_with_the_cache_as_without(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let (sshd, cache) = (Sshd::start(), Cache::install());
    let Some(site) = site_with_tasks(version, &sshd, TASKS) else { return };
    assert_eq!(site.check("askari").unwrap().bytecode_obstacle, None);
    let dest = site.dir.path().join("dest");
    let without = comparable(&run(&site, None));
    assert_eq!(cache.entries(), Vec::<PathBuf>::new());
    empty(&dest);
    let first = comparable(&run(&site, Some(&cache)));
    let entries = cache.entries();
    assert!(entries.len() > 20, "{entries:?}");
    empty(&dest);
    let second = comparable(&run(&site, Some(&cache)));
    assert_eq!(cache.entries(), entries, "the second run had everything");
    assert_eq!(first, without);
    assert_eq!(second, without);
    let failed: Vec<_> = without.iter().filter(|task| task.ignored).map(|task| task.task.as_str()).collect();
    assert_eq!(
        failed,
        ["base : a failure", "base : a bad argument", "base : a crash", "base : code that does not compile"]
    );
    assert!(without.iter().any(|task| task.message.as_deref().is_some_and(|it| it.contains("on purpose"))));
}

/// Two tasks, the second as the first: what a test of the cache itself needs.
const TWICE: &str = "- name: first\n  ansible.builtin.command: {cmd: echo one}\n- name: second\n  ansible.builtin.command: {cmd: echo two}\n";

#[test]
fn what_the_cache_has_is_what_runs_and_what_is_damaged_is_not() {
    let (sshd, cache) = (Sshd::start(), Cache::install());
    let site = site_with_tasks(Shipped, &sshd, TWICE).unwrap();
    let first = comparable(&run(&site, Some(&cache)));
    let entries = cache.entries();
    assert!(entries.len() > 20, "{entries:?}");
    for entry in &entries {
        fs::write(entry, "damaged").unwrap();
    }
    assert_eq!(comparable(&run(&site, Some(&cache))), first);
    assert_eq!(cache.entries(), entries);
    // Entries that pass for good, and do something else than their sources.
    let forge = "import hashlib, marshal, sys\n\
                 data = marshal.dumps(compile('raise SystemExit(\\'forged\\')', 'x', 'exec'))\n\
                 for path in sys.argv[1:]: open(path, 'wb').write(hashlib.sha256(data).digest() + data)\n";
    Process::new("/usr/bin/python3").args(["-c", forge]).args(&entries).run_ok(&patient()).unwrap();
    let checked = site.check("askari").unwrap();
    match run_checked(&site, checked, Some(&cache)).unwrap_err() {
        PlaybookError::TaskFailed(task) => {
            assert_eq!(task.task, "base : first");
            assert!(task.message.as_deref().is_some_and(|it| it.contains("forged")), "{task:?}");
        }
        other => panic!("{other}"),
    }
    // As after a restart of the guest in the middle of the playbook.
    fs::remove_dir_all(cache.folder().parent().unwrap()).unwrap();
    assert_eq!(comparable(&run(&site, Some(&cache))), first);
}

#[test]
fn a_role_that_reads_the_variable_has_the_same_result_because_the_cache_is_off() {
    let (sshd, cache) = (Sshd::start(), Cache::install());
    let files = [
        (
            "site/roles/base/tasks/main.yml",
            "- name: a unit\n  ansible.builtin.template: {src: unit.j2, dest: '{{ dest }}/unit', mode: '0644'}\n\
             - name: a look\n  ansible.builtin.slurp: {src: '{{ dest }}/unit'}\n  register: unit\n\
             - name: it runs Python\n  ansible.builtin.assert:\n    that: (unit.content | b64decode).strip() == 'ExecStart=/usr/bin/python3 /opt/job'\n",
        ),
        ("site/roles/base/templates/unit.j2", "ExecStart={{ ansible_python_interpreter }} /opt/job\n"),
    ];
    let site = site(Shipped, &sshd, &files).unwrap();
    let checked = site.check("askari").unwrap();
    assert_eq!(
        checked.bytecode_obstacle.as_deref(),
        Some("site/roles/base/templates/unit.j2:1 has `ansible_python_interpreter`")
    );
    let dest = site.dir.path().join("dest");
    let without = comparable(&run(&site, None));
    empty(&dest);
    assert_eq!(comparable(&run(&site, Some(&cache))), without);
    assert_eq!(cache.entries(), Vec::<PathBuf>::new());
    // Had the cache been on, the role would have failed.
    empty(&dest);
    match run_checked(&site, checked, Some(&cache)).unwrap_err() {
        PlaybookError::TaskFailed(task) => assert_eq!(task.task, "base : it runs Python"),
        other => panic!("{other}"),
    }
}

#[rstest::rstest]
#[case::inventory("site/production/host_vars/askari.yml", "ansible_python_interpreter: PYTHON\n", true)]
#[case::beside_the_playbook(
    "site/group_vars/edge.yml",
    "where: x\nansible_python_interpreter: PYTHON\n",
    true
)]
#[case::configuration("site/ansible.cfg", "[defaults]\ninterpreter_python = PYTHON\n", true)]
#[case::play(
    "site/site.yml",
    "- hosts: edge\n  gather_facts: false\n  vars: {ansible_python_interpreter: PYTHON}\n  roles: [{role: base, tags: [base]}]\n",
    true
)]
#[case::the_same(
    "site/group_vars/edge.yml",
    "where: x\nansible_python_interpreter: /usr/bin/python3\n",
    false
)]
fn an_interpreter_of_the_sites_own_wins_over_the_cache(
    #[case] file: &str,
    #[case] text: &str,
    #[case] is_own: bool,
) {
    let (sshd, cache) = (Sshd::start(), Cache::install());
    let own = cache.program.path().join("own");
    std::os::unix::fs::symlink("/usr/bin/python3", &own).unwrap();
    let text = text.replace("PYTHON", own.to_str().unwrap());
    let tasks = "- name: facts\n  ansible.builtin.setup: {gather_subset: [python]}\n\
                 - name: python\n  ansible.builtin.debug: {msg: '{{ ansible_facts.python.executable }}'}\n";
    let files = [("site/roles/base/tasks/main.yml", tasks), (file, &*text)];
    let site = site(Shipped, &sshd, &files).unwrap();
    let obstacle = site.check("askari").unwrap().bytecode_obstacle;
    assert_eq!(obstacle.is_some(), is_own, "{obstacle:?}");
    let report = run(&site, Some(&cache));
    let expected = if is_own { own.to_str().unwrap() } else { "/usr/bin/python3" };
    assert_eq!(report.tasks[1].message.as_deref(), Some(expected));
    assert_eq!(cache.entries().is_empty(), is_own);
}
