//! Bad input, each with the whole of what a person is told.

use super::{Choices, Fixture};

/// A sound root but for one file.
fn with(file: &str, content: &str) -> Fixture {
    let fixture = Fixture::sound();
    fixture.write(file, content.as_bytes());
    fixture
}

/// What a person is told of each of these contents of one file.
fn told(file: &str, contents: &[&str]) -> String {
    let one = |content: &&str| {
        let errors = with(file, content).errors();
        assert!(!errors.is_empty(), "nothing is wrong with:\n{content}");
        format!("{content}---\n{errors}\n")
    };
    contents.iter().map(one).collect::<Vec<_>>().join("\n==========\n")
}

#[test]
fn profiles() {
    let heads = "version: 1\nroles: [base]\n";
    let cases = [
        "version: 1\nroles: [base]\nvm:\n  memmory: 3GiB\n",
        "version: 1\nroles: [base]\nrolls: [base]\n",
        "version: 1\nroles: base\n",
        "version: 1\nroles: []\n",
        "version: 1\nroles: [base, 'a,b', base]\n",
        "version: 1\nroles: [base, {a: b}]\n",
        "roles: [base]\n",
        "version: 2\nroles: [base]\n",
        "version: '1'\nroles: [base]\n",
        "version: 1\n",
        "version: 1\nroles: [base]\nroles: [base]\n",
        "version: 1\nroles: [base]\nvm: {vcpus: two}\n",
        "version: 1\nroles: [base]\nvm: {vcpus: -1}\n",
        "version: 1\nroles: [base]\nvm: {vcpus: 0, memory: 64MiB, disk: 1GiB}\n",
        "version: 1\nroles: [base]\nvm: {memory: 3}\n",
        "version: 1\nroles: [base]\nvm: {memory: 3GB}\n",
        "version: 1\nroles: [base]\nvm: {memory: 1073741825B}\n",
        "version: 1\nroles: [base]\nvm: {memory: [3GiB]}\n",
        "version: 1\nroles: [base]\nvm: 3GiB\n",
        "version: 1\nroles: [base]\nimage: build\n",
        "version: 1\nroles: [base]\nimage: {source: bild}\n",
        "version: 1\nroles: [base]\nimage: {source: path}\n",
        "version: 1\nroles: [base]\nimage: {source: build, path: x}\n",
        "version: 1\nroles: [base]\nimage:\n  source: path\n  path: ~root/x\n",
        "- version: 1\n",
        "just text\n",
        "version: 1\nroles: [base\n",
        "version: 1\n\troles: [base]\n",
        "version: 1\nroles: [base]\n---\nversion: 1\n",
        "version: 1\nroles: *base\n",
        "",
        "# later\n",
    ];
    let heads_are_sound = with("profiles/askari.yml", heads).errors();
    assert_eq!(heads_are_sound.lines().count(), 0, "{heads_are_sound}");
    // The incident's trial has the same errors again, so it is left out.
    let text = told("profiles/askari.yml", &cases);
    let shown = text.split("\naskari::incident").collect::<Vec<_>>();
    assert_eq!(shown.len(), cases.len() + 1, "{text}");
    let first_of = |part: &str| part.find("\n==========").map_or(String::new(), |at| part[at..].to_owned());
    let shown: String =
        [shown[0].to_owned()].into_iter().chain(shown[1..].iter().map(|p| first_of(p))).collect();
    insta::assert_snapshot!(shown);
}

#[test]
fn scenarios() {
    let head = "version: 1\nprofile: askari\ndescription: x\n";
    let cases = [
        "restart: gracefull\n",
        "restart: {}\n",
        "egress: no\n",
        "egress: false\ncerts: [internal, pebble]\n",
        "certs: []\n",
        "certs: [internal, internal]\n",
        "certs: internal\n",
        "certs: [letsencrypt]\n",
        "vars: [a]\n",
        "vars: {a: 1, a: 2}\n",
        "vars: {a: {b: 1, b: 2}}\n",
        "vars: {a-b: 1}\n",
        "vars: {boma_it_x: 1}\n",
        "vars: {a: !vault x}\n",
        "vars: {a: .inf}\n",
        "vars:\n  a: no\n  b: 'no'\n  c: [x, On]\n",
        "expect: {after_reboot: pass}\n",
        "expect: {before_reboot: maybe}\n",
        "expect: {fail: {task: x}}\n",
        "expect: {fail: {at: up, task: x}}\n",
        "expect: {fail: {at: assert}}\n",
        "expect: {fail: {at: assert, task: x, tasks: [y]}}\n",
        "expect: {fail: {at: assert, task: x, reason: emergency}}\n",
        "expect: {fail: {at: assert, reason: unreachable}}\n",
        "expect: {fail: {at: reboot, task: x}}\n",
        "expect: {fail: {at: reboot, reason: fire}}\n",
        "expect: {fail: {at: apply, reason: emergency}}\n",
        "expect: {fail: {at: apply, tasks: [x, y]}}\n",
        "expect:\n  before_reboot: pass\n  fail: {at: apply, task: x}\n",
        "expect: {fail: {at: assert, tasks: []}}\n",
        "expect: {fail: {at: assert, tasks: [x, '', x]}}\n",
        "expect: {fail: {at: assert, task: ''}}\n",
        "expect: {fail: always}\n",
        "vm: {memory: 1MiB}\n",
        "profile: askari\n",
    ];
    let cases: Vec<_> = cases.iter().map(|tail| format!("{head}{tail}")).collect();
    let cases: Vec<_> = cases.iter().map(String::as_str).collect();
    insta::assert_snapshot!(told("scenarios/x.yml", &cases).replace(head, ""));
}

#[test]
fn other_scenarios() {
    let cases = [
        "version: 1\nprofile: askari\n",
        "version: 1\nprofile: askari\ndescription: ' '\n",
        "version: 1\nprofile: askri\ndescription: x\n",
        "version: 1\nprofile: Askari\ndescription: x\n",
        "version: 1\nprofile: [askari]\ndescription: x\n",
        "{version: 1, description: \"\nprofile: askari\n\", profile: ubongo}\n",
    ];
    insta::assert_snapshot!(told("scenarios/x.yml", &cases));
}

#[test]
fn json() {
    let cases = [
        "{\"version\": 1, \"roles\": [\"base\"],\n \"vm\": {\"memmory\": \"3GiB\"}}\n",
        "{\"version\": 1,\n \"roles\": \"base\"}\n",
        "{\"version\": 1,\n \"roles\": [\"base\"],}\n",
        "{\"version\": 1, \"roles\": [\"base\"], \"vm\":\n {\"vcpus\": 2,\n \"memory\": \"1MiB\"}}\n",
        "{\"version\": 1, \"roles\": [\"base\"]} x\n",
    ];
    let one = |content: &&str| {
        let fixture = Fixture::sound();
        fixture.remove("scenarios/incident-2026-06-17.yml");
        fixture.remove("profiles/askari.yml");
        fixture.write("profiles/askari.json", content.as_bytes());
        format!("{content}---\n{}\n", fixture.errors())
    };
    insta::assert_snapshot!(cases.iter().map(one).collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_harness() {
    let cases = [
        "version: 1\nsight: {}\n",
        "version: 1\nsite: {dir: nowhere}\n",
        "version: 1\nsite:\n  playbook: play.yml\n  inventory: inv\n",
        "version: 1\nsite: {dir: '', verify: ''}\n",
        "version: 1\nlibvirt: {uri: localhost}\n",
        "version: 1\nnetwork: {subnet: 10.213.47.5/24}\n",
        "version: 1\nruns: {keep: 0, dir: ~me/runs}\n",
        "version: 1\nruns: {keep: many}\n",
        "version: 1\nlimits: {timeouts: {up: 5}}\n",
        "version: 1\nlimits: {timeouts: {boot: 5m}}\n",
        "version: 1\nlimits: {memory_reserve: 1e9}\n",
        "{}\n",
        "",
    ];
    let one = |content: &&str| {
        let fixture = with("harness/harness.yml", content);
        fixture.remove("scenarios/incident-2026-06-17.yml");
        format!("{content}---\n{}\n", fixture.errors())
    };
    insta::assert_snapshot!(cases.iter().map(one).collect::<Vec<_>>().join("\n"));
}

#[test]
fn overrides() {
    let cases = ["- a\n", "a: 1\na: 2\n", "a: {b: 1, b: 2}\n", "a: [\n", "# nothing\n", "---\n"];
    let one = |content: &&str| {
        let fixture = with("overrides/askari.yml", content);
        fixture.remove("scenarios/incident-2026-06-17.yml");
        format!("{content}---\n{}\n", fixture.errors())
    };
    insta::assert_snapshot!(cases.iter().map(one).collect::<Vec<_>>().join("\n"));
}

#[test]
fn files_that_are_missing_or_too_many() {
    let change = |title: &str, change: &dyn Fn(&Fixture)| {
        let fixture = Fixture::sound();
        change(&fixture);
        format!("{title}\n---\n{}\n", fixture.errors())
    };
    let incident = super::INCIDENT.as_bytes();
    insta::assert_snapshot!(
        [
            change("no override", &|f| f.remove("overrides/askari.yml")),
            change("a misspelt override", &|f| {
                f.remove("overrides/askari.yml");
                f.write("overrides/askri.yml", b"{}\n");
            }),
            change("two overrides", &|f| f.write("overrides/askari.json", b"{}")),
            change("two profiles", &|f| f.write("profiles/askari.yaml", b"{}\n")),
            change("two scenarios", &|f| f
                .write("scenarios/incident-2026-06-17.json", b"{\"profile\": \"askari\"}")),
            change("one VM name for two trials", &|f| {
                f.write("profiles/askari-b.yml", super::ASKARI.as_bytes());
                f.write("overrides/askari-b.yml", b"{}\n");
                f.write("scenarios/b.yml", incident);
            }),
            change("no profiles", &|f| f.remove("profiles/askari.yml")),
            change("no harness.yml", &|f| f.remove("harness/harness.yml")),
            change("two harness.yml", &|f| f.write("harness/harness.json", b"{}")),
            change("no UTF-8", &|f| f.write("profiles/askari.yml", b"version: 1\nroles: [b\xe4se]\n")),
        ]
        .join("\n")
    );
}

#[test]
fn one_bad_file_hides_no_other() {
    let fixture = with("profiles/askari.yml", "version: 1\nroles: []\nvm: {vcpus: 0}\n");
    fixture.write("overrides/askari.yml", b"[]\n");
    fixture.write("harness/harness.yml", b"version: 1\nsite: {playbook: none.yml}\n");
    fixture.write(
        "scenarios/incident-2026-06-17.yml",
        b"version: 1\nprofile: askari\ndescription: x\ncerts: []\n",
    );
    let error = fixture.plan("askari", Some("incident-2026-06-17"), &Choices::default()).unwrap_err();
    insta::assert_snapshot!(error);
}
