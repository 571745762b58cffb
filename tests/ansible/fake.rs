//! Failures that a real Ansible does not have on demand: programs that are shell scripts.

use std::time::{Duration, Instant};

use boma_it::outcome::Outcome;
use boma_it::site::{Phase, PlaybookError, TaskEvent};
use boma_it::support::deadline::{Deadline, WaitError, Waited};
use boma_it::support::interrupt::Interrupt;
use boma_it::support::process::Process;

use crate::world::{World, minute};

const INVENTORY: &str = r#"echo 'ansible-inventory [core 2.19.0]' >&2
echo '{"_meta": {"hostvars": {}}, "edge": {"hosts": ["askari"]}}'"#;

/// Lists both playbooks as they should be, and does `run` otherwise. Knows the lines of a fine record.
fn playbook(run: &str) -> String {
    format!(
        r#"case "$*" in *--list-hosts*)
printf 'playbook: s\n\n  play #1 (edge): edge\tTAGS: []\n    hosts (1):\n      askari\n      TASK TAGS: [base]\n'
printf 'playbook: v\n\n  play #1 (edge): edge\tTAGS: []\n    hosts (1):\n      askari\n      TASK TAGS: []\n'
exit 0;; esac
say() {{ echo "$1" >> "$BOMA_IT_RECORD"; }}
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

fn world(run: &str) -> World {
    World::new(&[]).with_programs(&[("ansible-inventory", INVENTORY), ("ansible-playbook", &playbook(run))])
}

#[rstest::rstest]
#[case::silence("exit 0", "the record of tasks cannot be trusted: Ansible never called the plugin")]
#[case::parse_error(
    "echo '[ERROR]: no such thing' >&2; exit 4",
    "ansible-playbook could not begin (exit status 4 (unreachable, or the playbook cannot be parsed))\n  [ERROR]: no such thing"
)]
#[case::killed(
    "begin; ok; kill -9 $$",
    "ansible-playbook ended with signal 9 in or after task `work`, and no task's failure explains it\n"
)]
#[case::cut_short(
    "begin; ok",
    "ansible-playbook ended with exit status 0 in or after task `work`, and no task's failure explains it\n"
)]
#[case::exception(
    "begin; ok; stats; echo 'ERROR! Unexpected Exception' >&2; exit 250",
    "ansible-playbook ended with exit status 250 (unexpected exception) in or after task `work`, and no task's failure explains it\n  ERROR! Unexpected Exception"
)]
#[case::garbage(
    "begin; ok; say rubbish; stats",
    "the record of tasks cannot be trusted: unreadable line `rubbish`: expected value at line 1 column 1"
)]
fn a_run_that_goes_wrong_is_an_error_with_its_reason(#[case] run: &str, #[case] expected: &str) {
    assert_eq!(world(run).error(Phase::Apply), expected);
}

#[test]
fn a_fine_run_passes_so_that_the_errors_above_mean_something() {
    assert_eq!(world("begin; ok; stats").run(Phase::Apply).0.unwrap().changed, 1);
}

#[test]
fn tasks_are_heard_while_ansible_still_runs_and_a_deadline_ends_it_naming_the_task() {
    let world = world("begin; sleep 60 & wait");
    let workspace = world.workspace();
    let started = Instant::now();
    let deadline = Deadline::uninterrupted(Duration::from_millis(700), "apply");
    let mut heard = None;
    let result = workspace.run(Phase::Apply, &world.vars("askari"), &deadline, &mut |event| {
        assert_eq!(event, TaskEvent::Started { task: "work".into() });
        heard = Some(started.elapsed());
    });
    let error = result.unwrap_err();
    assert!(matches!(&error, PlaybookError::Ended { source: WaitError::TimedOut { .. }, .. }), "{error:?}");
    assert_eq!(error.to_string(), "ansible-playbook was ended in task `work`");
    assert_eq!(error.outcome(), Outcome::Errored);
    assert!(heard.unwrap() < Duration::from_millis(500), "heard after {heard:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn an_interrupt_ends_a_run_and_is_told_as_one() {
    let world = world("begin; sleep 60 & wait");
    let workspace = world.workspace();
    let interrupt = Interrupt::never();
    let waited = Waited::default();
    let deadline = Deadline::after(Duration::from_secs(60), "apply", interrupt.clone(), waited.clone());
    let result = workspace.run(Phase::Assert, &world.vars("askari"), &deadline, &mut |_| interrupt.raise(2));
    assert_eq!(result.unwrap_err().outcome(), Outcome::Interrupted);
    assert!(waited.total() > Duration::from_millis(50), "the run is booked as waiting: {:?}", waited.total());
}

#[test]
fn an_old_ansible_is_refused_with_what_to_do() {
    let inventory = "echo 'ansible-inventory [core 2.14.18]' >&2; echo '{}'";
    let world = World::new(&[]).with_programs(&[("ansible-inventory", inventory)]);
    assert_eq!(
        world.refusal("askari"),
        "ansible-core 2.14.18 is too old: 2.18 or newer is needed to drive Debian 13 (`make setup` installs one into .venv; `ansible` of harness.yml names its folder)"
    );
}

#[test]
fn no_ansible_at_all_is_told_as_such() {
    let world = World::new(&[]).with_programs(&[]);
    let refusal = world.refusal("askari");
    assert!(
        refusal.starts_with("cannot run Ansible: cannot start `./bin/ansible-inventory`; is it installed"),
        "{refusal}"
    );
}

#[test]
fn ansible_hears_nothing_of_the_callers_environment_but_what_we_say() {
    let run = r#"begin; ok; stats
env | grep -E '^(ANSIBLE|SSH|PYTHON|BOMA_IT|LC_ALL)' | cut -d= -f1 | sort > "$(dirname "$ANSIBLE_CONFIG")/env""#;
    let world = world(run);
    world.run(Phase::Apply).0.unwrap();
    let names = std::fs::read_to_string(world.folder().join("env")).unwrap();
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
fn and_that_is_so_whatever_the_callers_environment_has() {
    // In a process of its own, as the environment of this one is shared by all tests.
    let test = "fake::ansible_hears_nothing_of_the_callers_environment_but_what_we_say";
    let unwanted = ["ANSIBLE_STRATEGY", "ANSIBLE_ROLES_PATH", "SSH_AUTH_SOCK", "PYTHONPATH", "PYTHONHOME"];
    let process = Process::new(std::env::current_exe().unwrap()).args(["--exact", test]);
    let output = unwanted.iter().fold(process, |p, name| p.env(name, "/nowhere")).run_ok(&minute()).unwrap();
    assert!(output.contains("1 passed"), "{output}");
}

#[test]
fn what_is_written_is_for_its_owner_only_and_no_control_folder_stays() {
    use std::os::unix::fs::PermissionsExt;
    let run = r#"begin; ok; stats; grep control_path_dir "$(dirname "$ANSIBLE_CONFIG")/apply.vars.json" | cut -d'"' -f4 > "$(dirname "$ANSIBLE_CONFIG")/control""#;
    let world = world(run);
    world.run(Phase::Apply).0.unwrap();
    let mode = |name: &str| world.folder().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for file in ["ansible.cfg", "ssh_config", "known_hosts", "inventory.json", "apply.vars.json"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    let control = std::fs::read_to_string(world.folder().join("control")).unwrap();
    assert!(control.trim().len() < 61 && control.contains("boma-it-ssh-"), "{control}");
    assert!(!std::path::Path::new(control.trim()).exists(), "{control}");
}
