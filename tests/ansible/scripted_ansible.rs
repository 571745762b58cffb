//! Failures that a real Ansible does not have on demand: shell scripts take the place of its programs.

use std::time::{Duration, Instant};

use boma_it::outcome::Outcome;
use boma_it::site::{Phase, PlaybookError, SiteError, TaskEvent};
use boma_it::support::deadline::{Deadline, WaitError, Waited};
use boma_it::support::interrupt::Interrupt;
use boma_it::support::process::{Process, ProcessError};

use crate::fixture::{TestSite, patient};

const INVENTORY: &str = r#"echo 'ansible-inventory [core 2.19.0]' >&2
echo "  python version = 3.11.2 (main) [GCC] ($(dirname "$0")/python3)" >&2
echo '{"_meta": {"hostvars": {}}, "edge": {"hosts": ["askari"]}}'"#;

/// Stands for Ansible's Python, which reads both playbooks.
const PYTHON: &str = r#"play() { printf '[{"name": "edge", "path": "%s.yml:1", "pattern": ["edge"], "here": ["askari"], "production": ["askari"],
"local": false, "unmatched": [], "tags": ["base"], "tasks": []}]' "$1"; }
echo "[$(play site), $(play verify)]" > "$3""#;

/// Does `run`. Has functions for the lines of a good record.
fn playbook(run: &str) -> String {
    format!(
        r#"say() {{ echo "$1" >> "$BOMA_IT_RECORD"; }}
begin() {{
say '{{"event":"ansible","version":"2.19.0"}}'
say '{{"event":"play","play":"edge"}}'
say '{{"event":"start","task":"work"}}'
}}
ok() {{ say '{{"event":"result","play":"edge","task":"work","path":"f:1","action":"copy","host":"askari","status":"ok","changed":true,"ignored":false,"assertion":false,"seconds":1}}'; }}
stats() {{ say '{{"event":"stats","hosts":{{"askari":{{"ok":1}}}}}}'; }}
{run}"#
    )
}

fn site(run: &str) -> TestSite {
    TestSite::new(&[]).with_programs(&[
        ("ansible-inventory", INVENTORY),
        ("python3", PYTHON),
        ("ansible-playbook", &playbook(run)),
    ])
}

#[rstest::rstest]
#[case::silence("exit 0", "cannot trust the record of tasks: Ansible never called the callback plugin")]
#[case::parse_error(
    "echo '[ERROR]: no such thing' >&2; exit 4",
    "ansible-playbook could not start (exit status 4 (unreachable, or the playbook cannot be parsed))\n  [ERROR]: no such thing"
)]
#[case::killed(
    "begin; ok; kill -9 $$",
    "ansible-playbook ended with signal 9 in or after task `work`, and no failed task explains it\n"
)]
#[case::cut_short(
    "begin; ok",
    "ansible-playbook ended with exit status 0 in or after task `work`, and no failed task explains it\n"
)]
#[case::exception(
    "begin; ok; stats; echo 'ERROR! Unexpected Exception' >&2; exit 250",
    "ansible-playbook ended with exit status 250 (unexpected exception) in or after task `work`, and no failed task explains it\n  ERROR! Unexpected Exception"
)]
#[case::garbage(
    "begin; ok; say rubbish; stats",
    "cannot trust the record of tasks: unreadable line `rubbish`: expected value at line 1 column 1"
)]
fn a_run_that_goes_wrong_is_an_error_with_its_cause(#[case] run: &str, #[case] expected: &str) {
    assert_eq!(site(run).run_error(Phase::Apply), expected);
}

#[test]
fn a_good_run_passes() {
    assert_eq!(site("begin; ok; stats").run(Phase::Apply).0.unwrap().changed, 1);
}

#[test]
fn tasks_are_reported_while_ansible_runs_and_a_timeout_names_the_task() {
    let site = site("begin; sleep 60 & wait");
    let workspace = site.workspace();
    let started = Instant::now();
    let deadline = Deadline::uninterrupted(Duration::from_millis(700), "apply");
    let mut reported = None;
    let result = workspace.run(Phase::Apply, &site.vars("askari"), &deadline, &mut |event| {
        assert_eq!(event, TaskEvent::Started { task: "work".into() });
        reported = Some(started.elapsed());
    });
    let error = result.unwrap_err();
    assert!(matches!(&error, PlaybookError::Stopped { source: WaitError::TimedOut { .. }, .. }), "{error:?}");
    assert_eq!(error.to_string(), "ansible-playbook was stopped in task `work`");
    assert_eq!(error.outcome(), Outcome::Errored);
    assert!(reported.unwrap() < Duration::from_millis(500), "after {reported:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn an_interrupt_ends_a_run_as_interrupted() {
    let site = site("begin; sleep 60 & wait");
    let workspace = site.workspace();
    let interrupt = Interrupt::never();
    let waited = Waited::default();
    let deadline = Deadline::after(Duration::from_secs(60), "apply", interrupt.clone(), waited.clone());
    let result = workspace.run(Phase::Assert, &site.vars("askari"), &deadline, &mut |_| interrupt.raise(2));
    assert_eq!(result.unwrap_err().outcome(), Outcome::Interrupted);
    assert!(waited.total() > Duration::from_millis(50), "the run counts as waiting: {:?}", waited.total());
}

#[rstest::rstest]
fn an_ansible_outside_the_supported_range_is_refused_with_the_range(
    #[values("2.14.18", "2.17.14", "2.18.0rc1", "2.19.0b7", "2.20.0.dev0", "2.22.0", "3.0.0")] version: &str,
) {
    let inventory = format!("echo 'ansible-inventory [core {version}]' >&2; echo '{{}}'");
    let site = TestSite::new(&[]).with_programs(&[("ansible-inventory", &inventory)]);
    assert_eq!(
        site.check_error("askari"),
        format!(
            "ansible-core {version} is not supported: expected a release from 2.18 to 2.21 (`make setup` installs one into .venv; `ansible` of harness.yml names its folder)"
        )
    );
}

#[test]
fn an_ansible_that_names_no_version_is_refused() {
    let site = TestSite::new(&[]).with_programs(&[("ansible-inventory", "echo '{}'")]);
    let error = site.check_error("askari");
    assert!(error.starts_with("ansible-core unknown is not supported: "), "{error}");
}

#[test]
fn a_missing_ansible_is_an_error() {
    let site = TestSite::new(&[]).with_programs(&[]);
    match site.check("askari").unwrap_err() {
        SiteError::Process(ProcessError::Start { program, .. }) => {
            assert_eq!(program, site.dir.path().join("bin/ansible-inventory").display().to_string());
        }
        other => panic!("{other}"),
    }
}

#[test]
fn ansible_inherits_none_of_the_unwanted_variables() {
    let run = r#"begin; ok; stats
env | grep -E '^(ANSIBLE|SSH|PYTHON|BOMA_IT|LC_ALL)' | cut -d= -f1 | sort > "$(dirname "$ANSIBLE_CONFIG")/env""#;
    let site = site(run);
    site.run(Phase::Apply).0.unwrap();
    let names = std::fs::read_to_string(site.folder().join("env")).unwrap();
    assert_eq!(
        names.split_whitespace().collect::<Vec<_>>(),
        [
            "ANSIBLE_CONFIG",
            "ANSIBLE_FORCE_COLOR",
            "ANSIBLE_NOCOLOR",
            "BOMA_IT_RECORD",
            "LC_ALL",
            "PYTHONDONTWRITEBYTECODE",
            "PYTHONUNBUFFERED"
        ]
    );
}

#[test]
fn ansible_inherits_none_of_them_even_if_all_are_set() {
    // In a process of its own, because all tests share the environment of this one.
    let test = "scripted_ansible::ansible_inherits_none_of_the_unwanted_variables";
    let unwanted = ["ANSIBLE_STRATEGY", "ANSIBLE_ROLES_PATH", "SSH_AUTH_SOCK", "PYTHONPATH", "PYTHONHOME"];
    let process = Process::new(std::env::current_exe().unwrap()).args(["--exact", test]);
    let output = unwanted.iter().fold(process, |p, name| p.env(name, "/nowhere")).run_ok(&patient()).unwrap();
    assert!(output.contains("1 passed"), "{output}");
}

#[test]
fn files_are_private_and_the_control_folder_is_removed() {
    use std::os::unix::fs::PermissionsExt;
    let run = r#"begin; ok; stats; grep control_path_dir "$(dirname "$ANSIBLE_CONFIG")/apply.vars.json" | cut -d'"' -f4 > "$(dirname "$ANSIBLE_CONFIG")/control""#;
    let site = site(run);
    site.run(Phase::Apply).0.unwrap();
    let mode = |name: &str| site.folder().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for file in ["ansible.cfg", "ssh_config", "known_hosts", "inventory.json", "apply.vars.json"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    let control = std::fs::read_to_string(site.folder().join("control")).unwrap();
    assert!(control.trim().len() < 61 && control.contains("boma-it-ssh-"), "{control}");
    assert!(!std::path::Path::new(control.trim()).exists(), "{control}");
}
