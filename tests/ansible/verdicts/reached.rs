//! What a playbook declares for the host is accounted for by the identity of its task: nothing is reached because another task
//! has its name or its place.

use boma_it::outcome::AssertionStatus;
use boma_it::site::{Gap, Verification, VerificationError, verification};
use rstest::rstest;

use super::run;
use crate::fixture::AnsibleVersion::{self, Newest, Oldest, Shipped};
use crate::fixture::TestSite;

const HEAD: &str = "- hosts: all\n  gather_facts: false\n  tasks:\n";

fn verify(
    version: AnsibleVersion,
    files: &[(&str, &str)],
) -> Option<Result<Verification, VerificationError>> {
    let site = TestSite::with_ansible(version, files)?;
    Some(verification(&run(&site), "askari"))
}

/// The gaps, one a line.
fn gaps(found: &Verification) -> String {
    let lines = found.gaps.iter().flat_map(|gap| match gap {
        Gap::NotReached(names) | Gap::LeftOut(names) => names.clone(),
        other => vec![other.to_string()],
    });
    lines.collect::<Vec<_>>().join("\n")
}

const ROLE: &str = "- {name: B, assert: {that: \"{{ holds | default(true) }}\"}}\n";

/// Each in a block, so that all of them run in one playbook. In the first pair something is left out, in the second nothing.
const LOST: &str = "
    - block: [{name: A1, assert: {that: false}}, {name: A1, assert: {that: true}}]
      rescue: [debug: {}]
    - block:
        - import_tasks: b.yml
          vars: {holds: false}
        - import_tasks: b.yml
      rescue: [debug: {}]
    - block:
        - import_role: {name: twice}
          vars: {holds: false}
        - import_role: {name: twice}
      rescue: [debug: {}]
    - block:
        - include_tasks: two.yml
          vars: {holds: false}
      rescue: [debug: {}]
    - block:
        - include_tasks: b.yml
          loop: [1, 2]
          vars: {holds: '{{ item == 2 }}'}
      rescue: [debug: {}]
    - block:
        - {name: A6, assert: {that: false}}
        - block: [{block: [{name: deep, assert: {that: true}}], always: [{name: always, assert: {that: true}}]}]
      rescue: [debug: {}]
    - block:
        - block: [{name: A7, assert: {that: false}}]
          rescue:
            - {debug: {}}
            - {name: A8, assert: {that: false}}
            - block: [{name: in a rescue, assert: {that: true}}]
              rescue: [{name: in an idle rescue, assert: {that: true}}]
      rescue: [debug: {}]
";

#[rstest]
fn a_task_is_not_reached_because_another_has_its_name_or_place(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = format!("{HEAD}{LOST}");
    let files = [
        ("harness/verify.yml", playbook.as_str()),
        ("harness/b.yml", ROLE),
        (
            "harness/two.yml",
            "- {name: C, assert: {that: '{{ holds }}'}}\n- {name: C, assert: {that: true}}\n",
        ),
        ("harness/roles/twice/tasks/main.yml", ROLE),
    ];
    let Some(found) = verify(version, &files) else { return };
    insta::allow_duplicates! { insta::assert_snapshot!(gaps(&found.unwrap()), @r"
    `A1` (harness/verify.yml:5)
    `B` (harness/b.yml:1)
    `twice : B` (harness/roles/twice/tasks/main.yml:1)
    `deep` (harness/verify.yml:28)
    `always` (harness/verify.yml:28)
    `C` (harness/two.yml:2)
    `B` (harness/b.yml:1)
    `in a rescue` (harness/verify.yml:35)
    ") }
}

const TELLS: &str = "- {name: tells, raw: 'true', delegate_to: localhost, notify: H}\n";

const KEPT: &str = "
- hosts: all
  gather_facts: false
  roles: [once, once, {role: once, vars: {x: 1}}, twice, twice]
  tasks:
    - {name: never, assert: {that: false}, tags: [never]}
    - {name: skipped, assert: {that: false}, tags: [never, slow], when: false}
    - block: [{name: in a never, assert: {that: false}}]
      tags: [never]
    - {name: notifies, raw: 'true', delegate_to: localhost, notify: notified}
    - {name: notifies a template, raw: 'true', delegate_to: localhost, notify: 'check {{ it }}', vars: {it: a}}
    - {name: notifies nobody, raw: 'true', delegate_to: localhost, changed_when: false, notify: check b}
    - {include_role: {name: tells}, loop: [1, 2]}
    - {import_role: {name: tells}}
    - {import_tasks: b.yml}
    - {import_tasks: b.yml}
    - {include_tasks: b.yml, loop: [1, 2]}
    - {include_role: {name: once}, loop: [1, 2]}
    - {import_role: {name: twice}}
    - {name: same, assert: {that: true}}
    - {name: same, assert: {that: true}}
    - block: [{name: mended, fail: {msg: x}}]
      rescue: [{name: mends, assert: {that: true}}]
      always: [{name: at last, assert: {that: true}}]
  handlers:
    - {name: notified, assert: {that: true}}
    - {name: idle, assert: {that: true}}
    - {name: check a, assert: {that: true}}
    - {name: check b, assert: {that: false}}
- hosts: \"{{ target | default('all') }}\"
  gather_facts: false
  strategy: free
  tasks: [{name: free, assert: {that: true}}]
- hosts: ubongo
  tasks: [{name: of another host, assert: {that: false}}]
";

#[rstest]
fn nothing_is_missed_where_everything_ran(#[values(Oldest, Shipped, Newest)] version: AnsibleVersion) {
    let files = [
        ("harness/verify.yml", KEPT),
        ("harness/b.yml", ROLE),
        ("harness/roles/once/tasks/main.yml", ROLE),
        ("harness/roles/twice/tasks/main.yml", ROLE),
        ("harness/roles/tells/tasks/main.yml", TELLS),
        ("harness/roles/tells/handlers/main.yml", "- {name: H, assert: {that: true}}\n"),
        ("harness/roles/twice/meta/main.yml", "allow_duplicates: true\n"),
    ];
    let Some(found) = verify(version, &files) else { return };
    let found = found.unwrap();
    assert_eq!(gaps(&found), "");
    let of = |status| found.assertions.iter().filter(move |it| it.status == status);
    assert_eq!(of(AssertionStatus::Skipped).count(), 0, "{:?}", found.assertions);
    assert_eq!(of(AssertionStatus::Failed).map(|it| it.name.as_str()).collect::<Vec<_>>(), ["mended"]);
    assert!(
        of(AssertionStatus::Passed).any(|it| it.name == "once : B" && it.role.as_deref() == Some("once"))
    );
}

/// A play that ends in a failure, and what comes after it.
#[rstest]
#[case::templated_hosts(
    "- {name: A, assert: {that: false}}",
    "- hosts: \"{{ target | default('all') }}\"\n  gather_facts: false\n  tasks: [{name: A, assert: {that: true}}]\n",
    "`A` (harness/verify.yml:7)"
)]
#[case::hosts_of_another(
    "- {name: A, assert: {that: false}}",
    "- hosts: \"{{ target | default('ubongo') }}\"\n  tasks: [{name: A, assert: {that: true}}]\n",
    ""
)]
#[case::a_notified_handler(
    "- {raw: 'true', delegate_to: localhost, notify: H}\n    - {name: A, assert: {that: false}}\n  handlers:\n    - {name: H, assert: {that: true}}",
    "",
    "`H` (harness/verify.yml:7)"
)]
#[case::a_handler_that_was_not_notified_yet(
    "- {name: A, assert: {that: false}}\n    - {raw: 'true', delegate_to: localhost, notify: H}\n  handlers:\n    - {name: H, assert: {that: true}}",
    "",
    "`H` (harness/verify.yml:7)"
)]
#[case::a_handler_of_an_included_role(
    "- {include_role: {name: tells}}\n    - {name: A, assert: {that: false}}",
    "",
    "`tells : H` (harness/roles/tells/handlers/main.yml:1)"
)]
#[case::a_handler_of_a_role_that_has_run(
    "- {name: A, assert: {that: false}}\n  roles: [tells]",
    "",
    "`tells : H` (harness/roles/tells/handlers/main.yml:1)"
)]
#[case::an_imported_playbook(
    "- {name: A, assert: {that: false}}",
    "- import_playbook: more.yml\n",
    "`in more` (harness/more.yml:3)\n`B` (harness/b.yml:1)\n`H` (harness/more.yml:6)"
)]
#[case::a_role(
    "- {name: A, assert: {that: false}}",
    "- hosts: all\n  roles: [once, once]\n",
    "`once : B` (harness/roles/once/tasks/main.yml:1)\n`once : B` (harness/roles/once/tasks/main.yml:1)\n`once : H` (harness/roles/once/handlers/main.yml:1)\n`once : H` (harness/roles/once/handlers/main.yml:1)"
)]
#[case::a_debugger(
    "- {name: A, assert: {that: false}, debugger: on_failed}",
    "- hosts: all\n  tasks: [{name: A, assert: {that: true}}]\n",
    "`A` (harness/verify.yml:6)"
)]
fn what_a_failure_kept_from_running_is_a_gap(
    #[case] tasks: &str,
    #[case] after: &str,
    #[case] expected: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = format!("{HEAD}    {tasks}\n{after}");
    let more = "- hosts: all\n  tasks:\n    - {name: in more, assert: {that: true}}\n    - {import_tasks: b.yml}\n  handlers:\n    - {name: H, assert: {that: true}}\n";
    let files = [
        ("harness/verify.yml", playbook.as_str()),
        ("harness/more.yml", more),
        ("harness/b.yml", ROLE),
        ("harness/roles/once/tasks/main.yml", ROLE),
        ("harness/roles/once/handlers/main.yml", "- {name: H, assert: {that: true}}\n"),
        ("harness/roles/tells/tasks/main.yml", TELLS),
        ("harness/roles/tells/handlers/main.yml", "- {name: H, assert: {that: true}}\n"),
    ];
    let Some(found) = verify(version, &files) else { return };
    let found = found.unwrap();
    assert_eq!(gaps(&found), expected);
    assert!(found.assertions[0].name == "A" && found.assertions[0].status == AssertionStatus::Failed);
}

/// Ansible does not run the role again, but its first use ended a block early.
#[rstest]
fn a_role_that_has_run_is_no_excuse_for_what_it_did_not_reach(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let role = "- block: [{name: A, assert: {that: false}}, {name: B, assert: {that: true}}]\n  rescue: [debug: {}]\n- {name: C, assert: {that: true}}\n";
    let files = [
        ("harness/verify.yml", "- hosts: all\n  gather_facts: false\n  roles: [mends, mends]\n"),
        ("harness/roles/mends/tasks/main.yml", role),
    ];
    let Some(found) = verify(version, &files) else { return };
    assert_eq!(gaps(&found.unwrap()), "`mends : B` (harness/roles/mends/tasks/main.yml:1)");
}

#[rstest]
fn two_tasks_of_one_name_on_one_line_are_two_assertions(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let pair = "[{name: A, assert: {that: false}, ignore_errors: true}, {name: A, assert: {that: true}}]";
    let playbook = format!("{HEAD}    - block: {pair}\n    - {{include_tasks: a.yml, loop: [1, 2]}}\n");
    let files = [("harness/verify.yml", playbook.as_str()), ("harness/a.yml", pair)];
    let Some(found) = verify(version, &files) else { return };
    let found = found.unwrap();
    let shown: String = found.assertions.iter().map(|it| format!("{} {}, ", it.path, it.status)).collect();
    assert_eq!(
        shown,
        "harness/verify.yml:4 failed, harness/verify.yml:4 passed, harness/a.yml:1 failed, harness/a.yml:1 passed, "
    );
}

/// Ansible's debugger would wait for somebody to type, and give up.
#[rstest]
fn the_debugger_does_not_hide_a_failure(#[values(Oldest, Shipped, Newest)] version: AnsibleVersion) {
    let playbook = "
- hosts: all
  gather_facts: false
  strategy: debug
  ignore_errors: true
  tasks: [{name: A, assert: {that: false}}, {name: B, assert: {that: true}}]
- hosts: all
  gather_facts: false
  debugger: always
  tasks: [{name: C, assert: {that: true}}, {name: D, assert: {that: false}, ignore_errors: true}]
- hosts: all
  gather_facts: false
  debugger: on_skipped
  strategy: host_pinned
  tasks: [{name: E, assert: {that: true}, when: false}]
";
    let Some(found) = verify(version, &[("harness/verify.yml", playbook)]) else { return };
    let found = found.unwrap();
    let shown: String = found.assertions.iter().map(|it| format!("{} {}, ", it.name, it.status)).collect();
    assert_eq!(shown, "A failed, B passed, C passed, D failed, E skipped, ");
    assert_eq!(gaps(&found), "");
}

#[rstest]
#[case::end_play("- {meta: end_play}\n    - {name: B, assert: {that: true}}")]
#[case::end_host("- {meta: end_host, when: 1 == 1}\n    - {name: B, assert: {that: true}}")]
#[case::in_an_include("- {include_tasks: b.yml}")]
fn what_the_playbook_leaves_out_by_itself_is_no_pass(
    #[case] tasks: &str,
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
) {
    let playbook = format!("{HEAD}    - {{name: A, assert: {{that: true}}}}\n    {tasks}\n");
    let files = [
        ("harness/verify.yml", playbook.as_str()),
        ("harness/b.yml", "- meta: end_play\n- {name: B, fail: {}}\n"),
    ];
    let Some(found) = verify(version, &files) else { return };
    match found.unwrap_err() {
        VerificationError::Inconclusive { gap: Gap::LeftOut(names), more: 0 } => {
            assert!(names.len() == 1 && names[0].starts_with("`B` "), "{names:?}");
        }
        other => panic!("{other}"),
    }
}
