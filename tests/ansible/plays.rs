//! Whom each play is for, and what of `verify.yml` can never count, as a real Ansible reads playbooks before any VM exists.

use boma_it::catalog::plan::PlaysForNobody;
use boma_it::site::Phase;

use crate::fixture::AnsibleVersion::{self, Newest, Oldest, Shipped};
use crate::fixture::TestSite;
use crate::sshd::Sshd;

/// Every kind of pattern, in plays of one playbook. Those for `askari` come first.
const SITE: &str = "
- {name: by group, hosts: edge, gather_facts: false, roles: [{role: base, tags: [base]}]}
- {name: all but others, hosts: 'all:!ops', gather_facts: false, tasks: []}
- {name: by default, hosts: \"{{ target | default('all') }}\", gather_facts: false, tasks: []}
- {name: by variable, hosts: '{{ scene }}', gather_facts: false, tasks: []}
- {name: by regular expression, hosts: '~ask.*', gather_facts: false, tasks: []}
- {name: by list, hosts: [ops, edge], gather_facts: false, tasks: []}
- {name: 404, hosts: 'debian:&edge', gather_facts: false, tasks: []}
- import_playbook: others.yml
- {name: another host, hosts: ubongo, gather_facts: false, tasks: [{name: wrong, fail: {}}]}
- {name: without this one, hosts: '!askari', gather_facts: false, tasks: [{name: wrong, fail: {}}]}
- {name: others by expression, hosts: '~ub.*', gather_facts: false, tasks: [{name: wrong, fail: {}}]}
- {name: others and this machine, hosts: 'localhost:ops', gather_facts: false, tasks: [{name: wrong, fail: {}}]}
- {name: a known and a misspelt one, hosts: 'ops:opps', gather_facts: false, tasks: [{name: wrong, fail: {}}]}
";

/// As many that select nobody.
const NOBODY: &str = "
- {name: this machine, hosts: localhost, gather_facts: false, tasks: [{name: port answers, assert: {that: false}}]}
- {name: this machine too, hosts: 127.0.0.1, gather_facts: false, tasks: [{name: port answers, assert: {that: false}}]}
- {name: misspelt, hosts: egde, gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
- {name: misspelt host, hosts: askary, gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
- {name: empty group, hosts: monitoring, gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
- {name: made at run time, hosts: made, gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
- {name: by regular expression, hosts: '~web.*', gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
- {name: by glob, hosts: 'web*', gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
- {name: nothing left, hosts: 'edge:&ops', gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
- {name: template, hosts: \"{{ target | default('nowhere') }}\", gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
- {name: all but the first, hosts: 'debian[1:]', gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
- {name: the first, hosts: 'debian[0]', gather_facts: false, tasks: [{name: wrong, assert: {that: false}}]}
";

const INVENTORY: (&str, &str) = (
    "site/production/hosts.yml",
    "all: {children: {debian: {children: {ops: {}, edge: {}}}, edge: {hosts: {askari: {}}}, ops: {hosts: {ubongo: {}}}, monitoring: {}}}\n",
);
const GOOD: &str =
    "- {name: verify, hosts: all, gather_facts: false, tasks: [{name: it holds, assert: {that: true}}]}\n";
/// Makes a group at run time: the group has the host, and its name is unknown before.
const MAKES: &str = "- {name: makes, hosts: all, gather_facts: false, tasks: [{name: group, group_by: {key: made}}, {name: add, add_host: {name: new, groups: made}}]}\n";

#[rstest::rstest]
fn plays_for_other_hosts_are_counted_and_those_for_this_host_run(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let sshd = Sshd::start();
    let others = "- {name: imported, hosts: ops, gather_facts: false, tasks: [{name: wrong, fail: {}}]}\n";
    let verify = format!("{GOOD}{}", others.replace("imported", "verify others"));
    let files = [
        INVENTORY,
        ("site/site.yml", SITE),
        ("site/others.yml", others),
        ("harness/verify.yml", &verify),
        ("overrides/askari.yml", "scene: askari\n"),
    ];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let mut site = site.reached_by(&sshd);
    // Even where plays for nobody are errors.
    site.plan.plays_for_nobody = PlaysForNobody::Error;
    assert_eq!(
        site.check("askari").unwrap().notes,
        [
            "7 plays are for other hosts of the production inventory: `imported`, `another host`, `without this one`, `others by expression`, `others and this machine`, `a known and a misspelt one`, `verify others`"
        ]
    );
    site.run(Phase::Apply).0.unwrap();
    assert_eq!(site.run(Phase::Assert).0.unwrap().tasks.len(), 1);
}

#[rstest::rstest]
fn a_play_of_verify_that_selects_nobody_is_refused_before_a_vm_exists(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let verify = format!("{GOOD}{MAKES}{NOBODY}");
    let files = [INVENTORY, ("harness/verify.yml", verify.as_str())];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    insta::assert_snapshot!("plays_of_verify_for_nobody", site.check_error("askari"));
}

#[rstest::rstest]
fn a_play_of_the_site_that_selects_nobody_is_a_note_or_an_error(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = format!("{SITE}{NOBODY}").replace("- import_playbook: others.yml\n", "");
    let files =
        [INVENTORY, ("site/site.yml", playbook.as_str()), ("overrides/askari.yml", "scene: askari\n")];
    let Some(mut site) = TestSite::with_ansible(version, &files) else { return };
    let notes = site.check("askari").unwrap().notes;
    assert_eq!(notes.len(), 13, "{notes:#?}");
    let first = "play `this machine` (site/site.yml:15, hosts: `localhost`) runs on no host: a run is limited to the host under test: for a look from this machine, write `delegate_to: localhost` on a task of a play for the host";
    assert_eq!(notes[0], first);
    site.plan.plays_for_nobody = PlaysForNobody::Error;
    assert_eq!(
        site.check_error("askari"),
        format!("{first} (`ansible.plays_for_nobody: error` in harness.yml)")
    );
}

#[rstest::rstest]
fn a_pattern_that_ansible_cannot_evaluate_in_a_run_is_refused(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = format!("{GOOD}- {{name: second of one, hosts: 'debian[1]', tasks: []}}\n");
    let Some(site) = TestSite::with_ansible(version, &[INVENTORY, ("site/site.yml", &playbook)]) else {
        return;
    };
    let error = site.check_error("askari");
    assert!(error.ends_with("No hosts matched the subscripted pattern 'debian[1]'"), "{error}");
}

#[rstest::rstest]
fn a_play_whose_hosts_are_unknown_before_it_runs_is_judged_when_it_ran(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let sshd = Sshd::start();
    let chosen = |chosen: &str| {
        format!(
            "- {{name: choose, hosts: all, gather_facts: false, tasks: [{{name: pick, set_fact: {{chosen: {chosen}}}}}, {{name: it holds, assert: {{that: true}}}}]}}
- {{name: late, hosts: \"{{{{ hostvars['askari'].chosen }}}}\", gather_facts: false, tasks: [{{name: late holds, assert: {{that: true}}}}]}}\n"
        )
    };
    let (good, bad) = (chosen("edge"), chosen("nowhere"));
    let files = [("harness/verify.yml", good.as_str()), ("site/site.yml", bad.as_str())];
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let mut site = site.reached_by(&sshd);
    site.plan.roles.clear();
    let notes = site.check("askari").unwrap().notes;
    assert_eq!(notes.len(), 2, "one for each playbook: {notes:#?}");
    assert!(notes[0].starts_with("whom play `late` (site/site.yml:2, "), "{notes:#?}");
    assert_eq!(site.run(Phase::Assert).0.unwrap().tasks.len(), 3);
    let late = "play `late` (site/site.yml:2, hosts: `{{ hostvars['askari'].chosen }}`) ran on no host: use a pattern that is known before the run, or name a host or group of the inventory";
    assert_eq!(site.run(Phase::Apply).0.unwrap().notes, [late]);
    site.plan.plays_for_nobody = PlaysForNobody::Error;
    assert_eq!(site.run_error(Phase::Apply), late);
    // The same in verify.yml is always an error.
    site.plan.plays_for_nobody = PlaysForNobody::Note;
    site.plan.verify = site.plan.playbook.clone();
    assert_eq!(site.run_error(Phase::Assert), late);
}

/// What of `verify.yml` can never count, in one playbook; and beside each what can.
const NEVER_COUNTS: &str = "
- name: verify
  hosts: all
  gather_facts: false
  ignore_errors: true
  tasks:
    - {name: an empty list, assert: {that: []}}
    - {name: an empty text, ansible.builtin.assert: {that: ''}}
    - {name: a list of nothing, ansible.legacy.assert: {that: ['', null]}}
    - {name: a condition that is null, assert: {that: null}}
    - {name: an empty loop, assert: {that: item}, loop: []}
    - {name: empty items, assert: {that: item}, with_items: []}
    - {name: an empty loop of an include, include_tasks: none.yml, loop: []}
    - {name: not waited for, command: sleep 1, async: 20, poll: 0, changed_when: false, tags: [assertion]}
    - {name: changes, command: 'true', tags: [assertion]}
    - {name: a shell changes, ansible.builtin.shell: 'true', tags: assertion}
    - {name: raw changes, raw: 'true', tags: assertion}
    - {name: said to change, command: 'true', changed_when: true, tags: [assertion]}
    - block:
        - {name: in a block, assert: {that: []}}
      rescue:
        - {name: in a rescue, assert: {that: []}}
      always:
        - {name: in an always, assert: {that: []}}
    - {name: twice, assert: {that: true}}
    - {name: twice, assert: {that: true}}
    - import_tasks: imported.yml
    # From here on nothing is wrong.
    - {name: a list from a variable, assert: {that: '{{ conditions }}'}}
    - {name: a loop from a variable, assert: {that: item}, loop: '{{ items }}'}
    - {name: waited for, command: 'true', async: 20, poll: 1, changed_when: false, tags: [assertion]}
    - {name: changes nothing, command: 'true', changed_when: false, tags: [assertion]}
    - {name: changes by condition, command: 'true', changed_when: \"'x' in output.stdout\", register: output, tags: [assertion]}
    - {name: makes a file once, command: {cmd: 'true', creates: /x}, tags: [assertion]}
    - {name: a probe, command: 'true', async: 20, poll: 0}
    - {name: an ignored probe, command: 'true', ignore_errors: true}
    - {name: a probe that never fails, command: 'true', failed_when: false}
    - {name: disabled, assert: {that: true}, tags: [never, debug]}
  handlers:
    - {name: in a handler, assert: {that: []}}
- {name: for others, hosts: ops, gather_facts: false, tasks: [{name: not ours, assert: {that: []}}]}
";

#[rstest::rstest]
fn what_can_never_count_is_refused_before_a_vm_exists(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let files = [
        ("harness/verify.yml", NEVER_COUNTS),
        ("harness/imported.yml", "- {name: imported, assert: {that: []}}\n"),
    ];
    let Some(mut site) = TestSite::with_ansible(version, &files) else { return };
    site.declared = vec!["twice".into(), "from an include".into(), "a list from a variable".into()];
    insta::assert_snapshot!("what_can_never_count", site.check_error("askari"));
    let good = NEVER_COUNTS.split_once("    # From here on").unwrap().1.replace("that: []", "that: true");
    let head = NEVER_COUNTS.split_once("    - {name: an empty list").unwrap().0;
    std::fs::write(&site.plan.verify, format!("{head}    #{good}")).unwrap();
    assert_eq!(
        site.check("askari").unwrap().notes,
        [
            "a play is for other hosts of the production inventory: `for others`",
            "verify.yml: does not run (tag `never`): `disabled`",
            "verify.yml: may fail unseen (`ignore_errors`, `failed_when: false`): `an ignored probe`, `a probe that never fails`"
        ]
    );
}
