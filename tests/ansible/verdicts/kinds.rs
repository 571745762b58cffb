//! Kinds of false verdicts, each with its siblings: a task that could not run, what `no_log` hides, assertions that assert
//! nothing, probes that fail unseen, and names and values that break a record. One playbook for each kind.

use boma_it::site::verification;
use rstest::rstest;

use super::{cell_of, run};
use crate::fixture::AnsibleVersion::{self, Newest, Oldest, Shipped};
use crate::fixture::TestSite;
use crate::sshd::Sshd;

/// What is expected, and the task without its name.
type Siblings = &'static [(&'static str, &'static str)];

/// Runs the siblings in one playbook that ignores errors, and compares their verdicts.
#[track_caller]
fn assert_verdicts(version: AnsibleVersion, siblings: Siblings, files: &[(&str, &str)]) {
    assert_verdicts_over(None, version, siblings, files);
}

/// The same with a VM that answers, if there is an sshd for it.
#[track_caller]
fn assert_verdicts_over(
    sshd: Option<&Sshd>,
    version: AnsibleVersion,
    siblings: Siblings,
    files: &[(&str, &str)],
) {
    let head = "- hosts: all\n  gather_facts: false\n  ignore_errors: true\n  tasks:\n";
    // An assertion that fails: then the verification has a list of all gaps.
    let mut playbook = format!("{head}    - {{name: start, assert: {{that: false}}}}\n");
    for (index, (_, task)) in siblings.iter().enumerate() {
        let name = if task.contains("name: ") { String::new() } else { format!("name: t{index}, ") };
        playbook += &format!("    - {{{name}{task}}}\n");
    }
    let files: Vec<_> = files.iter().copied().chain([("harness/verify.yml", playbook.as_str())]).collect();
    let Some(mut site) = TestSite::with_ansible(version, &files) else { return };
    if let Some(sshd) = sshd {
        site = site.reached_by(sshd);
    }
    let found = verification(&run(&site), "askari").unwrap();
    let mut wrong = Vec::new();
    for (index, (expected, task)) in siblings.iter().enumerate() {
        let named =
            task.split_once("name: ").and_then(|(_, rest)| rest.split_once(", ")).map(|(name, _)| name);
        let name = named.map_or_else(|| format!("t{index}"), |name| name.trim_matches('"').to_owned());
        let seen = cell_of(&name, &found);
        if !seen.starts_with(expected) {
            wrong.push(format!("{task}\n  expected {expected}, seen {seen}"));
        }
    }
    assert!(wrong.is_empty(), "{version:?}\n{}", wrong.join("\n"));
}

/// Tagged and on this machine, as the VM of these tests does not answer.
macro_rules! tagged {
    ($task:literal) => {
        concat!($task, ", tags: [assertion], delegate_to: localhost")
    };
}

const TAGGED: Siblings = &[
    ("errored", tagged!("command: 'true', vars: {ansible_python_interpreter: /nonexistent}")),
    ("errored", tagged!("command: 'true', vars: {ansible_python_interpreter: /bin/true}")),
    ("errored", tagged!("stat: {path: /}, vars: {ansible_python_interpreter: /bin/false}")),
    ("errored", tagged!("command: 'true', changed_when: false, become: true, become_user: no-such-user")),
    ("errored", tagged!("raw: 'true; false', become: true, become_user: no-such-user")),
    ("errored", tagged!("command: 'true', become: true, become_method: no_such_method")),
    ("errored", tagged!("command: 'true', become: true, become_user: '{{ nowhere }}'")),
    ("errored", tagged!("command: no-such-program")),
    (
        "errored",
        tagged!(
            "command: no-such-program, register: ran, failed_when: \"'x' not in ran.stdout | default('')\""
        ),
    ),
    ("errored", tagged!("command: no-such-program, register: ran, failed_when: ran.rc | default(2) != 2")),
    ("errored", tagged!("command: /etc")),
    ("errored", tagged!("command: {argv: ['true'], chdir: /nonexistent}")),
    ("errored", tagged!("command: {cmd: 'false', creates: /}")),
    ("errored", tagged!("shell: no-such-program")),
    ("errored", tagged!("shell: /etc/hosts")),
    ("errored", tagged!("raw: no-such-program")),
    ("errored", tagged!("script: nowhere.sh")),
    ("errored", tagged!("ping: {dat: x}")),
    ("errored", tagged!("ping: {data: crash}")),
    ("errored", tagged!("stat: {}")),
    ("errored", tagged!("wait_for: {port: abc}")),
    ("errored", tagged!("command: {cmd: 'true', argv: ['true']}")),
    ("errored", tagged!("copy: {src: nowhere, dest: /tmp/nowhere}")),
    ("errored", tagged!("command: 'true', environment: {A: '{{ nowhere }}'}")),
    ("errored", tagged!("command: 'echo {{ nowhere }}'")),
    ("errored", tagged!("command: 'true', changed_when: nowhere")),
    ("errored", tagged!("command: 'true', until: nowhere, retries: 1, delay: 0")),
    ("errored", tagged!("command: 'true', loop: '{{ nowhere }}'")),
    ("errored", tagged!("command: sleep 5, timeout: 1")),
    ("errored", tagged!("command: sleep 9, async: 2, poll: 1")),
    ("errored", tagged!("command: 'true', changed_when: false, loop: [1, 2], when: item == 1 or nowhere")),
    ("errored", tagged!("pause: {seconds: 0}")),
    ("errored", "command: 'true', tags: [assertion], delegate_to: '{{ nowhere }}'"),
    ("errored", tagged!("command: 'true'")),
    ("failed", tagged!("command: 'false'")),
    ("failed", tagged!("command: sh -c 'exit 127'")),
    ("failed", tagged!("shell: command -v no-such-program")),
    ("failed", tagged!("shell: exit 3")),
    ("failed", tagged!("raw: exit 3")),
    ("failed", tagged!("stat: {path: /nonexistent}, register: it, failed_when: not it.stat.exists")),
    ("failed", tagged!("wait_for: {port: 1, timeout: 1}")),
    ("failed", tagged!("uri: {url: 'http://127.0.0.1:1/'}")),
    ("failed", tagged!("command: 'true', until: 1 == 2, retries: 1, delay: 0")),
    ("failed", tagged!("command: \"test {{ item }} = 1\", loop: [1, 2]")),
    ("passed", tagged!("command: 'true', changed_when: false")),
    ("passed", tagged!("raw: 'true', changed_when: false")),
    ("passed", tagged!("command: 'false', register: ran, failed_when: ran.rc > 1, changed_when: false")),
    ("passed", tagged!("find: {paths: /etc, patterns: hosts}, register: it, failed_when: it.matched != 1")),
    ("passed", tagged!("slurp: {src: /etc/hosts}")),
    ("does not apply", tagged!("command: no-such-program, when: false")),
];

/// Over SSH, `raw` and `script` have a terminal, and so one stream.
const OVER_SSH: Siblings = &[
    ("errored", "raw: no-such-program, changed_when: false, tags: [assertion]"),
    ("errored", "raw: /etc/hosts, changed_when: false, tags: [assertion]"),
    ("errored", "script: {cmd: good.sh, executable: /nonexistent}, changed_when: false, tags: [assertion]"),
    ("errored", "script: stray.sh, changed_when: false, tags: [assertion]"),
    ("errored", "raw: no-such-program, failed_when: false"),
    ("errored", "script: stray.sh, failed_when: false"),
    ("failed", "raw: exit 3, changed_when: false, tags: [assertion]"),
    ("failed", "raw: 'echo no; exit 3', changed_when: false, tags: [assertion]"),
    ("failed", "raw: exit 127, changed_when: false, tags: [assertion]"),
    ("failed", "script: bad.sh, changed_when: false, tags: [assertion]"),
    ("passed", "raw: 'true', changed_when: false, tags: [assertion]"),
    ("passed", "script: good.sh, changed_when: false, tags: [assertion]"),
    ("nothing", "raw: 'echo no; exit 3', failed_when: false"),
];

const NO_LOG: Siblings = &[
    ("errored", "assert: {that: nowhere.x == 1}, no_log: true"),
    ("errored", "assert: {that: [1 == 1, nowhere]}, no_log: true"),
    ("errored", "assert: {that: item.x == 1}, loop: [{x: 1}, {}], no_log: true"),
    ("errored", "assert: {that: false, fail_msg: '{{ nowhere }}'}, no_log: true"),
    ("errored", "assert: {that: true}, when: nowhere, no_log: true"),
    ("errored", "assert: {that: true}, loop: '{{ nowhere }}', no_log: true"),
    ("errored", "assert: {that: nowhere}, no_log: '{{ 1 == 1 }}'"),
    ("errored", "assert: {that: []}, no_log: true"),
    ("errored", "fail: {msg: '{{ nowhere }}'}, no_log: true"),
    ("errored", "fail: {}, when: nowhere, no_log: true"),
    ("errored", tagged!("command: no-such-program, no_log: true")),
    ("errored", tagged!("command: 'true', failed_when: nowhere, no_log: true")),
    ("errored", tagged!("command: 'true', no_log: true, vars: {ansible_python_interpreter: /nonexistent}")),
    ("errored", "raw: 'false', delegate_to: localhost, no_log: true"),
    ("failed", "assert: {that: false, fail_msg: hidden}, no_log: true"),
    ("failed", "assert: {that: item < 2}, loop: [1, 2], no_log: true"),
    ("failed", "fail: {msg: hidden}, no_log: true"),
    ("failed", tagged!("command: 'false', no_log: true")),
    ("passed", "assert: {that: true}, no_log: true"),
    ("passed", "assert: {that: item < 3}, loop: [1, 2], no_log: true"),
    ("passed", tagged!("command: 'true', changed_when: false, no_log: true")),
    ("does not apply", "assert: {that: false}, when: 1 == 2, no_log: true"),
];

const EMPTY: Siblings = &[
    ("errored", "assert: {that: []}"),
    ("errored", "assert: {that: '{{ [] }}'}"),
    ("errored", "assert: {that: '{{ none_of_them }}'}, vars: {none_of_them: []}"),
    ("errored", "assert: {that: ''}"),
    ("errored", "assert: {that: ['']}"),
    ("errored", "assert: {that: [null]}"),
    ("errored", "assert: {that: [1 == 1, '']}"),
    ("errored", "assert: {that: \"'service is dead'\"}"),
    ("errored", "assert: {that: [1 == 1, \"'dead'\"]}"),
    ("errored", "assert: {that: \"'alive' if 1 == 1 else 'dead'\"}"),
    ("errored", "assert: {that: state}, vars: {state: service is dead}"),
    ("errored", "assert: {that: '{{ state }}'}, vars: {state: dead}"),
    ("errored", "assert: {that: 1}"),
    ("errored", "assert: {that: '[1]'}"),
    ("errored", "assert: {that: {a: b}}"),
    ("errored", "assert: {that: item}, loop: []"),
    (
        "errored",
        "assert: {that: item}, loop: '{{ ports | default([]) | select(\"string\") | list }}', vars: {ports: [1]}",
    ),
    ("errored", "assert: {that: item}, with_items: []"),
    ("errored", "assert: {that: item}, with_dict: {}"),
    ("errored", "assert: {that: item}, with_fileglob: /nonexistent/*"),
    ("errored", "assert: {that: item}, loop: [], when: item == 1"),
    ("errored", "include_tasks: more.yml, loop: []"),
    ("errored", tagged!("command: 'true', changed_when: false, loop: []")),
    ("errored", "assert: {that: 1 == 1}, failed_when: false"),
    ("errored", "assert: {that: 1 == 1}, failed_when: '{{ false }}'"),
    ("errored", tagged!("command: 'false', changed_when: false, failed_when: 0 == 1")),
    ("errored", tagged!("command: 'true', changed_when: false, failed_when: ['true', 'not true']")),
    ("errored", tagged!("command: 'false', changed_when: false, failed_when: '{{ 1 > 2 }}'")),
    ("passed", tagged!("command: 'true', changed_when: false, failed_when: boma_it_phase == 'nowhere'")),
    ("passed", "assert: {that: true}"),
    ("passed", "assert: {that: [true, 1 == 1]}"),
    ("passed", "assert: {that: state == 'alive'}, vars: {state: alive}"),
    ("passed", "assert: {that: \"'al' in state and state is match('a')\"}, vars: {state: alive}"),
    ("failed", "assert: {that: false}"),
    ("failed", "assert: {that: [1 == 1, state == 'alive']}, vars: {state: dead}"),
    ("does not apply", "assert: {that: item}, loop: [], when: inventory_hostname == 'ubongo'"),
    ("does not apply", "assert: {that: nowhere}, when: [1 == 1, 1 == 2, nowhere]"),
];

const PROBES: Siblings = &[
    ("errored", "command: no-such-nft list ruleset, register: nft, delegate_to: localhost"),
    ("errored", "command: no-such-nft list ruleset, failed_when: false, delegate_to: localhost"),
    ("errored", "shell: no-such-nft, failed_when: false, delegate_to: localhost"),
    ("errored", "raw: no-such-nft, failed_when: false, delegate_to: localhost"),
    ("errored", "raw: 'false', delegate_to: localhost"),
    ("errored", "raw: 'test {{ item }} = 1', loop: [1, 2], delegate_to: localhost"),
    ("errored", "slurp: {src: /nonexistent}, failed_when: false, delegate_to: localhost"),
    ("errored", "ping: {dat: x}, failed_when: false, delegate_to: localhost"),
    (
        "errored",
        "stat: {path: /}, vars: {ansible_python_interpreter: /nonexistent}, failed_when: false, delegate_to: localhost",
    ),
    ("errored", "setup: {gather_subset: [nonsense]}, delegate_to: localhost"),
    ("errored", "debug: {msg: x}, failed_when: 1 == 1"),
    ("errored", "set_fact: {x: 1}, failed_when: 1 == 1"),
    ("errored", "set_fact: {x: '{{ nowhere }}'}"),
    ("errored", "debug: {msg: '{{ nowhere }}'}"),
    ("errored", "include_vars: nowhere.yml"),
    ("errored", "block: [{name: t15, raw: 'false', delegate_to: localhost}], ignore_errors: true"),
    (
        "errored",
        "block: [{name: t16, raw: 'false', delegate_to: localhost, ignore_errors: false}], rescue: [debug: {}]",
    ),
    ("noted", "raw: 'false', delegate_to: localhost, ignore_errors: true"),
    ("noted", "raw: 'test {{ item }} = 1', loop: [1, 2], delegate_to: localhost, ignore_errors: true"),
    ("noted", "command: no-such-nft, delegate_to: localhost, ignore_errors: true"),
    ("noted", "command: no-such-nft, delegate_to: localhost, ignore_errors: true, failed_when: false"),
    ("noted", "debug: {msg: x}, failed_when: 1 == 1, ignore_errors: '{{ 1 == 1 }}'"),
    ("nothing", "raw: 'false', delegate_to: localhost, failed_when: false"),
    ("nothing", "shell: command -v no-such-nft, failed_when: false, delegate_to: localhost"),
    ("nothing", "uri: {url: 'http://127.0.0.1:1/'}, failed_when: false, delegate_to: localhost"),
    ("nothing", "stat: {path: /nonexistent}, delegate_to: localhost"),
    ("nothing", "debug: {}, when: 1 == 2"),
    ("nothing", "raw: 'true', loop: [], delegate_to: localhost"),
    ("errored", "command: 'true', check_mode: true, delegate_to: localhost"),
    ("errored", "raw: 'true', check_mode: true, delegate_to: localhost"),
    ("errored", "shell: 'true', check_mode: true, loop: [1, 2], delegate_to: localhost"),
    ("errored", "include_vars: nowhere.yml, failed_when: false"),
    (
        "errored",
        "command: no-such-nft, until: 1 == 2, retries: 1, delay: 0, failed_when: false, delegate_to: localhost",
    ),
    ("errored", "skips: {}, delegate_to: localhost"),
    ("errored", "skips: {}, failed_when: false, no_log: true, delegate_to: localhost"),
    ("noted", "skips: {}, ignore_errors: true, delegate_to: localhost"),
    ("noted", "command: {cmd: 'true', creates: /etc}, delegate_to: localhost"),
    ("nothing", "command: {cmd: 'true', creates: /nonexistent}, delegate_to: localhost"),
    ("nothing", "file: {path: /etc, state: directory}, check_mode: true, delegate_to: localhost"),
    ("nothing", "skips: {}, when: 1 == 2, delegate_to: localhost"),
    ("nothing", "debug: {msg: x, verbosity: 3}"),
];

/// A module that is no Python, and returns what no integer of a computer holds.
const HUGE: &str =
    "#!/bin/sh\nprintf '{\"rc\": 99999999999999999999999999, \"failed\": true, \"stderr\": \"huge\"}'\n";

/// A module that does nothing, as one that finds no service manager.
const SKIPS: &str = "#!/bin/sh\necho '{\"skipped\": true, \"msg\": \"nothing to ask\"}'\n";

const NAMES: Siblings = &[
    ("failed", "name: 404, assert: {that: false}"),
    ("passed", "name: 405, assert: {that: true}"),
    ("passed", "name: 4.5, assert: {that: true}"),
    ("passed", "name: \"400\", assert: {that: true}"),
    ("passed", "name: äöü, assert: {that: true}"),
    ("failed", "fail: {msg: \"{{ '\\\\ud800' }} half a pair\"}"),
    ("failed", "assert: {that: false, fail_msg: \"{{ '\\\\udcff' }}\"}"),
    ("failed", "fail: {msg: \"{{ 'x' * 300000 }}\"}"),
    ("errored", tagged!("shell: \"printf '\\\\377\\\\376'; exit 1\"")),
    ("failed", tagged!("huge: {}")),
    ("errored", "huge: {}, delegate_to: localhost"),
    ("failed", "fail: {msg: [a, b]}"),
    ("failed", "fail: {msg: {a: 1}}"),
    ("passed", "assert: {that: true}, vars: {results: 5}"),
];

#[rstest]
fn a_tagged_task_that_could_not_run_is_errored(#[values(Oldest, Shipped, Newest)] version: AnsibleVersion) {
    assert_verdicts(version, TAGGED, &[]);
}

#[rstest]
fn a_shell_over_ssh_that_could_not_start_is_errored(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let files = [
        ("harness/good.sh", "#!/bin/sh\nexit 0\n"),
        ("harness/bad.sh", "#!/bin/sh\necho no\nexit 3\n"),
        ("harness/stray.sh", "#!/nonexistent\n"),
    ];
    assert_verdicts_over(Some(&Sshd::start()), version, OVER_SSH, &files);
}

#[rstest]
fn no_log_hides_no_verdict(#[values(Oldest, Shipped, Newest)] version: AnsibleVersion) {
    assert_verdicts(version, NO_LOG, &[]);
}

#[rstest]
fn an_assertion_that_asserts_nothing_is_errored(#[values(Oldest, Shipped, Newest)] version: AnsibleVersion) {
    assert_verdicts(version, EMPTY, &[("harness/more.yml", "- {name: included, debug: {}}\n")]);
}

#[rstest]
fn a_probe_fails_unseen_nowhere(#[values(Oldest, Shipped, Newest)] version: AnsibleVersion) {
    assert_verdicts(version, PROBES, &[("harness/library/skips", SKIPS)]);
}

#[rstest]
fn no_name_and_no_value_breaks_the_record(#[values(Oldest, Shipped, Newest)] version: AnsibleVersion) {
    assert_verdicts(version, NAMES, &[("harness/library/huge", HUGE)]);
}
