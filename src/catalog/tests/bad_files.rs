//! Invalid files, each with the whole error that a person sees.

use super::{Fixture, RunOptions};

/// A valid root of one trial, except for one file.
fn with(file: &str, content: &str) -> Fixture {
    let fixture = Fixture::valid();
    fixture.remove("scenarios/incident-2026-06-17.yml");
    fixture.write(file, content.as_bytes());
    fixture
}

/// The errors of each of these contents of one file.
fn errors(file: &str, contents: &[&str]) -> String {
    let one = |content: &&str| errors_of(content, &with(file, content));
    contents.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// The errors of a root; there must be some.
fn errors_of(title: &str, fixture: &Fixture) -> String {
    let errors = fixture.errors();
    assert!(!errors.is_empty(), "nothing is wrong with:\n{title}");
    format!("{title}---\n{errors}\n")
}

#[test]
fn errors_in_profiles() {
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
        "version: 1\nroles: [base]\nimage:\n  source: auto\n",
        "version: 1\nroles: [base]\nimage: {source: path}\n",
        "version: 1\nroles: [base]\nimage: {source: build, path: x}\n",
        "version: 1\nroles: [base]\nimage: {path: x}\n",
        "version: 1\nroles: [base]\nimage: {source: build, release: latest}\n",
        "version: 1\nroles: [base]\nimage: {source: path, path: x, packages: none}\n",
        "version: 1\nroles: [base]\nimage: {packages: none}\n",
        "version: 1\nroles: [base]\nimage: {source: official, release: 2025-11-17}\n",
        "version: 1\nroles: [base]\nimage:\n  source: official\n  url: http://mirror.example/cloud\n",
        "version: 1\nroles: [base]\nimage: {source: build, packages: all}\n",
        "version: 1\nroles: [base]\nimage: {source: build, packages: [restic, Caddy]}\n",
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
    insta::assert_snapshot!(errors("profiles/askari.yml", &cases));
}

#[test]
fn errors_in_scenarios() {
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
        "vars: {boma_it: false}\n",
        "vars: {ansible_host: 203.0.113.5}\n",
        "vars: {ansible_ssh_common_args: -F none}\n",
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
        "vm: {vcpus: 2, vcpus: 4}\n",
    ];
    let cases: Vec<_> = cases.iter().map(|tail| format!("{head}{tail}")).collect();
    let cases: Vec<_> = cases.iter().map(String::as_str).collect();
    let told = errors("scenarios/x.yml", &cases).replace(head, "");
    insta::assert_snapshot!(told);
}

#[test]
fn errors_in_the_head_of_scenarios() {
    let cases = [
        "version: 1\nprofile: askari\n",
        "version: 1\nprofile: askari\ndescription: ' '\n",
        "version: 1\nprofile: askri\ndescription: x\n",
        "version: 1\nprofile: Askari\ndescription: x\n",
        "version: 1\nprofile: [askari]\ndescription: x\n",
        "{version: 1, description: \"\nprofile: askari\n\", profile: ubongo}\n",
    ];
    insta::assert_snapshot!(errors("scenarios/x.yml", &cases));
}

#[test]
fn errors_in_json_files() {
    let cases = [
        "{\"version\": 1, \"roles\": [\"base\"],\n \"vm\": {\"memmory\": \"3GiB\"}}\n",
        "{\"version\": 1,\n \"roles\": \"base\"}\n",
        "{\"version\": 1,\n \"roles\": [\"base\"],}\n",
        "{\"version\": 1, \"roles\": [\"base\"], \"vm\":\n {\"vcpus\": 2,\n \"memory\": \"1MiB\"}}\n",
        "{\"version\": 1, \"roles\": [\"base\"]} x\n",
    ];
    let one = |content: &&str| {
        let fixture = with("profiles/askari.json", content);
        fixture.remove("profiles/askari.yml");
        errors_of(content, &fixture)
    };
    let told = cases.iter().map(one).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(told);
}

#[test]
fn errors_in_the_harness_file() {
    let cases = [
        "version: 1\nsight: {}\n",
        "version: 1\nsite: {dir: nowhere}\n",
        "version: 1\nsite:\n  playbook: play.yml\n  inventory: inv\n",
        "version: 1\nsite: {dir: '', verify: ''}\n",
        "version: 1\nsite: {ansible: .venv2/bin}\n",
        "version: 1\nansible: {bytecode_cache: sometimes}\n",
        "version: 1\nansible:\n  bytecode_cache: 1\n",
        "version: 1\nansible: {cache: on}\n",
        "version: 1\nlibvirt: {uri: localhost}\n",
        "version: 1\nnetwork: {subnet: 10.213.47.5/24}\n",
        "version: 1\nruns: {keep: 0, dir: ~me/runs}\n",
        "version: 1\nruns: {keep: many}\n",
        "version: 1\ncerts: {directory: 'http://ca/dir', domain: '*.example.org'}\n",
        "version: 1\ncerts: {root: roots.pem, domain: localhost}\n",
        "version: 1\ncerts: {dns: {provider: route53, token: 'a b'}}\n",
        "version: 1\ncerts: {dns: {token: 'a-b'}, tokn: x}\n",
        "version: 1\ncerts:\n  dns:\n    token: vault.gandi-pat\n",
        "version: 1\nlimits: {timeouts: {up: 5}}\n",
        "version: 1\nlimits: {timeouts: {boot: 5m}}\n",
        "version: 1\nlimits: {memory_reserve: 1e9}\n",
        "version: 1\nlimits: {vms: 0}\n",
        "version: 1\nlimits: {vms: 9}\n",
        "{}\n",
        "",
    ];
    insta::assert_snapshot!(errors("harness/harness.yml", &cases));
}

#[test]
fn errors_in_overrides() {
    let cases = ["- a\n", "a: 1\na: 2\n", "a: {b: 1, b: 2}\n", "a: [\n", "# nothing\n", "---\n"];
    insta::assert_snapshot!(errors("overrides/askari.yml", &cases));
}

#[test]
fn errors_for_missing_and_duplicate_files() {
    let change = |title: &str, change: &dyn Fn(&Fixture)| {
        let fixture = Fixture::valid();
        change(&fixture);
        errors_of(&format!("{title}\n"), &fixture)
    };
    let told = [
        change("no override", &|f| f.remove("overrides/askari.yml")),
        change("a misspelt override", &|f| {
            f.remove("overrides/askari.yml");
            f.write("overrides/askri.yml", b"{}\n");
        }),
        change("two overrides", &|f| f.write("overrides/askari.json", b"{}")),
        change("two profiles", &|f| f.write("profiles/askari.yaml", b"{}\n")),
        change("two scenarios", &|f| {
            f.write("scenarios/incident-2026-06-17.json", b"{\"profile\": \"askari\"}")
        }),
        change("no profiles", &|f| f.remove("profiles/askari.yml")),
        change("no harness.yml", &|f| f.remove("harness/harness.yml")),
        change("two harness.yml", &|f| f.write("harness/harness.json", b"{}")),
        change("no UTF-8", &|f| f.write("profiles/askari.yml", b"version: 1\nroles: [b\xe4se]\n")),
    ]
    .join("\n");
    insta::assert_snapshot!(told);
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
    let error = fixture.plan("askari", Some("incident-2026-06-17"), &RunOptions::default()).unwrap_err();
    insta::assert_snapshot!(error);
}

proptest::proptest! {
    /// Never a panic.
    #[test]
    fn any_typing_error_gives_a_plan_or_an_error_with_its_place(
        at in 0.0..1.0_f64, cut in 0..8_usize, typed in "[ a-z0-9:,'\"{}\\[\\]!&*|>%@#\n\t-]{0,6}",
    ) {
        let text = super::INCIDENT;
        let from = (at * text.len() as f64) as usize;
        let content = format!("{}{typed}{}", &text[..from], &text[(from + cut).min(text.len())..]);
        let fixture = Fixture::valid();
        fixture.write("scenarios/incident-2026-06-17.yml", content.as_bytes());
        let project = fixture.load().unwrap();
        proptest::prop_assert_eq!(project.trials().len() + project.invalid_files().len(), 2);
        let errors = project.trials().filter_map(|trial| project.plan(trial, &RunOptions::default()).err());
        for error in errors.chain(project.invalid_files().iter().map(|invalid| invalid.error.clone())) {
            for problem in error.problems {
                let lines = content.lines().count() + 1;
                proptest::prop_assert!(problem.position.is_none_or(|position| position.line <= lines), "{problem}");
            }
        }
    }
}

#[test]
fn errors_in_the_secrets_of_the_harness_file() {
    let cases = [
        "secrets: {token: {envv: TOKEN}}\n",
        "secrets:\n  vault.pat: {env: PAT, file: pat}\n  vault.key: {}\n",
        "secrets:\n  token: {env: A}\n  token: {env: B}\n",
        "secrets: [token]\n",
        "secrets: {token: not-really-a-token}\n",
        "secrets: {token: 12345678}\n",
        "secrets: {token: {env: 'fake value'}}\n",
        "secrets:\n  vault-pat: {env: A}\n  a..b: {env: A}\n  .a: {env: A}\n",
        "secrets:\n  boma_it_token: {env: A}\n  ansible_password: {env: A}\n",
        "secrets:\n  vault: {env: A}\n  vault.pat: {env: B}\n",
        "secrets:\n  token: {file: ''}\n",
        "secrets:\n  token: {vault: vault.yml}\n",
        "secrets: {token: {vault: vault.yml}}\nvault: {password_fil: x}\n",
        "vault: {password_file: x, password_command: y}\n",
        "vault: {password_command: ' '}\n",
        "vault: {}\n",
    ];
    let cases: Vec<String> = cases.iter().map(|case| format!("version: 1\n{case}")).collect();
    let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
    let told = errors("harness/harness.yml", &cases);
    assert_eq!(told.matches("not-really-a-token").count(), 1, "a pasted value is repeated");
    insta::assert_snapshot!(told);
}

#[test]
fn errors_in_the_secrets_of_a_profile() {
    let told = |secrets: &str| {
        let fixture =
            with("profiles/askari.yml", &format!("version: 1\nroles: [base]\nsecrets: {secrets}\n"));
        fixture.write("harness/harness.yml", b"version: 1\nsecrets: {vault.gandi.pat: {env: PAT}}\n");
        errors_of(secrets, &fixture)
    };
    let cases = ["[vault.gandi.pats]", "[vault.gandi.pat, vault.gandi.pat]", "vault.gandi.pat", "[1]"];
    insta::assert_snapshot!(cases.map(told).join("\n"));
}

#[test]
fn deep_nesting_is_refused_before_it_costs_time() {
    let deep = ["[", "{a: ", "[\"]\", ", "[ # ]\n", "[a, [], ", "? [", "[']', \"}\", "];
    for text in deep.map(|one| format!("deep: {}\n", one.repeat(12_000))) {
        let fixture = Fixture::valid();
        fixture.write("overrides/askari.yml", text.as_bytes());
        let begun = std::time::Instant::now();
        let told = fixture.errors();
        assert!(begun.elapsed().as_secs() < 5, "{} s for {:.20}", begun.elapsed().as_secs(), text);
        let line = told.lines().next_back().unwrap();
        assert!(line.starts_with("overrides/askari.yml:"), "{line}");
    }
}

#[test]
fn wide_files_and_files_that_are_deep_within_reason_are_read() {
    let wide = format!("wide: [{}]\n", "[], {a: b}, ".repeat(5_000));
    let deep = format!("deep: {}{}\n", "[".repeat(99), "]".repeat(99));
    for text in [wide, deep] {
        let fixture = Fixture::valid();
        fixture.write("overrides/askari.yml", text.as_bytes());
        assert_eq!(fixture.errors(), "", "{text:.20}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    let fixture = Fixture::valid();
    for file in ["harness/harness.yml", "profiles/askari.yml", "scenarios/incident-2026-06-17.yml"] {
        let text = std::fs::read(fixture.root().join(file)).unwrap();
        fixture.write(file, &[b"\xef\xbb\xbf", &text[..]].concat());
    }
    fixture.write(
        "scenarios/other.json",
        "\u{feff}{\"version\": 1, \"profile\": \"askari\", \"description\": \"x\"}".as_bytes(),
    );
    assert_eq!(fixture.errors(), "");
    assert_eq!(fixture.load().unwrap().trials().len(), 3);
}

#[test]
fn what_is_no_regular_file_of_a_sane_size_is_not_read() {
    let told = |file: &str, make: &dyn Fn(&std::path::Path)| {
        let fixture = Fixture::valid();
        fixture.remove(file);
        make(&fixture.root().join(file));
        errors_of(file, &fixture)
    };
    let pipe =
        |path: &std::path::Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
    let device = |path: &std::path::Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    let large = |path: &std::path::Path| std::fs::write(path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let shown = [
        told("profiles/askari.yml", &pipe),
        told("scenarios/incident-2026-06-17.yml", &device),
        told("overrides/askari.yml", &large),
        told("harness/harness.yml", &pipe),
    ];
    insta::assert_snapshot!(shown.join("\n"));
}
