//! Bad input, with its whole error and its exit code. Nothing is started.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::project::{Project, Transcript};

/// The transcript for a project with one broken thing. Standard output stays empty, and nothing is started.
#[track_caller]
fn refused(project: &Project, args: &[&str], code: i32) -> Transcript {
    refused_with(project, args, &[], code)
}

#[track_caller]
fn refused_with(project: &Project, args: &[&str], variables: &[(&str, &str)], code: i32) -> Transcript {
    let transcript = project.run_with(args, variables);
    assert_eq!((transcript.code, &*transcript.stdout), (Some(code), ""), "{transcript}");
    project.assert_nothing_started();
    transcript
}

/// Wrong files are reported before the hypervisor is contacted.
#[track_caller]
fn bad_file(breaks: impl FnOnce(&Project)) -> Transcript {
    let project = Project::new();
    breaks(&project);
    let transcript = refused(&project, &["cycle", "--host", "askari"], 2);
    assert_eq!(
        project.run(&["plan", "--host", "askari"]).stderr,
        transcript.stderr,
        "`plan` reports the same"
    );
    transcript
}

#[test]
fn an_unknown_key() {
    insta::assert_snapshot!(bad_file(|it| {
        it.replace("profiles/askari.yml", "roles:", "rols:");
    }));
}

#[test]
fn a_wrong_type() {
    insta::assert_snapshot!(bad_file(|it| {
        it.replace("profiles/askari.yml", "vcpus: 2", "vcpus: two");
    }));
}

#[test]
fn a_wrong_unit() {
    insta::assert_snapshot!(bad_file(|it| {
        it.replace("profiles/askari.yml", "3GiB", "3 gigs");
    }));
}

#[test]
fn a_missing_file() {
    insta::assert_snapshot!(bad_file(|it| {
        it.remove("site/site.yml").remove("harness/verify.yml");
    }));
}

#[test]
fn a_duplicate_name() {
    insta::assert_snapshot!(bad_file(|it| {
        it.write("profiles/askari.json", "{\"version\": 1}");
    }));
}

#[test]
fn a_profile_without_override() {
    insta::assert_snapshot!(bad_file(|it| {
        it.remove("overrides/askari.yml");
    }));
}

#[test]
fn a_file_that_is_not_yaml() {
    insta::assert_snapshot!(bad_file(|it| {
        it.write("profiles/askari.yml", "version: 1\nroles: [base\n");
    }));
}

#[test]
fn an_unknown_host() {
    insta::assert_snapshot!(refused(&Project::new(), &["up", "--host", "askri"], 2));
}

#[test]
fn an_unknown_scenario() {
    let args = ["up", "--host", "askari", "--scenario", "incident-2026-06-16"];
    insta::assert_snapshot!(refused(&Project::new(), &args, 2));
}

#[test]
fn an_invalid_name() {
    insta::assert_snapshot!(refused(&Project::new(), &["down", "--host", "../askari"], 2));
}

#[test]
fn an_unknown_role() {
    let project = Project::with_hypervisor();
    project.replace("profiles/askari.yml", "docker_host", "doker_host");
    insta::assert_snapshot!(refused(&project, &["up", "--host", "askari"], 2));
}

#[test]
fn a_host_missing_from_the_inventory() {
    let project = Project::with_hypervisor();
    project.write("profiles/kijani.yml", "version: 1\nroles: [base]\n").write("overrides/kijani.yml", "{}\n");
    insta::assert_snapshot!(refused(&project, &["up", "--host", "kijani"], 2));
}

#[test]
fn a_broken_playbook() {
    let project = Project::with_hypervisor();
    project.write(
        "site/site.yml",
        "- name: site\n  hosts: all\n  tasks:\n    - name: none\n      no_such_module: {}\n",
    );
    insta::assert_snapshot!(refused(&project, &["up", "--host", "askari"], 2));
}

#[test]
fn a_broken_verification() {
    let project = Project::with_hypervisor();
    project.write("harness/verify.yml", "- name: verify\n  hosts: all\n  taks: []\n");
    insta::assert_snapshot!(refused(&project, &["up", "--host", "askari"], 2));
}

#[test]
fn a_missing_ansible_folder() {
    let project = Project::with_hypervisor();
    project.replace("harness/harness.yml", "  # ansible: .venv/bin", "  ansible: .venv2/bin");
    insta::assert_snapshot!(refused(&project, &["up", "--host", "askari"], 2));
}

#[test]
fn no_ansible() {
    let project = Project::with_hypervisor();
    project.write("no/ansible/here/README", "");
    project.replace("harness/harness.yml", "  # ansible: .venv/bin", "  ansible: no/ansible/here");
    insta::assert_snapshot!(refused(&project, &["up", "--host", "askari"], 3));
}

#[test]
fn no_libvirt_daemon() {
    let project = Project::new();
    let up = refused(&project, &["up", "--host", "askari"], 3);
    for args in [&["down", "--host", "askari"][..], &["console", "--host", "askari"], &["prune"]] {
        assert_eq!(refused(&project, args, 3).stderr, up.stderr, "{args:?}");
    }
    insta::assert_snapshot!(up);
}

#[test]
fn an_unknown_libvirt_uri() {
    let args = ["up", "--host", "askari"];
    insta::assert_snapshot!(refused_with(
        &Project::new(),
        &args,
        &[("BOMA_IT_URI", "qemu+sssh:///system")],
        2
    ));
}

#[test]
fn a_missing_image() {
    let project = Project::with_hypervisor();
    project.replace("harness/harness.yml", "  source: build", "  source: path\n  path: images/none.qcow2");
    let transcript = refused(&project, &["up", "--host", "askari"], 2);
    assert_eq!(refused(&project, &["image", "build"], 2).stderr, transcript.stderr);
    insta::assert_snapshot!(transcript);
}

#[test]
fn an_image_that_is_a_folder() {
    let project = Project::with_hypervisor();
    let (built, folder) = ("{source: build, packages: none}", "{source: path, path: profiles}");
    project.replace("scenarios/bare-image.yml", built, folder);
    let args = ["up", "--host", "askari", "--scenario", "bare-image"];
    insta::assert_snapshot!(refused(&project, &args, 2));
}

#[test]
fn an_image_without_read_permission() {
    let project = Project::with_hypervisor();
    project.write("images/own.qcow2", "");
    let image = project.path("images/own.qcow2");
    fs::set_permissions(&image, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&image).is_ok() {
        eprintln!("skipped: root may read everything");
        return;
    }
    project.replace("profiles/askari.yml", "vm:", "image: {source: path, path: images/own.qcow2}\nvm:");
    insta::assert_snapshot!(refused(&project, &["up", "--host", "askari"], 2));
}

#[test]
fn a_variable_with_an_unknown_value() {
    let project = Project::with_hypervisor();
    let variables = [
        ("BOMA_IT_CERTS", "le-stagin"),
        ("BOMA_IT_ACCEPT_RISK", "R66"),
        ("BOMA_IT_ACCEL", "kvmm"),
        ("BOMA_IT_ACCEL", "KVM"),
        ("BOMA_IT_WAIT", "1"),
        ("BOMA_IT_PROGRESS", "fancy"),
    ];
    let all = variables.map(|(name, value)| {
        let transcript = refused_with(&project, &["up", "--host", "askari"], &[(name, value)], 2);
        format!("{name}={value}\n{transcript}\n")
    });
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn an_image_name_that_does_not_exist() {
    let project = Project::with_hypervisor();
    let transcript = project.run(&["image", "remove", "TYPO"]);
    assert_eq!(transcript.code, Some(2));
    insta::assert_snapshot!(transcript);
}

#[test]
fn a_vm_name_that_does_not_exist() {
    let project = Project::with_hypervisor();
    let commands: [&[&str]; 4] = [
        &["down", "--host", "askri"],
        &["down", "--host", "askari", "--scenario", "incident"],
        &["console", "--host", "askri"],
        &["ssh", "--host", "askri", "--", "true"],
    ];
    let all = commands.map(|args| {
        let transcript = project.run(args);
        assert_eq!(transcript.code, Some(2), "{transcript}");
        format!("{transcript}\n")
    });
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_vm_that_is_already_gone_needs_no_down() {
    let transcript = Project::with_hypervisor().run(&["down", "--host", "askari"]);
    assert_eq!((transcript.code, &*transcript.stdout), (Some(0), "askari::cycle has no VM\n"));
}

/// The URL of a server that does not listen.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn an_official_image_from_a_server_that_does_not_answer() {
    let (project, url) = (Project::with_hypervisor(), nowhere());
    let image = format!("  source: official\n  release: 20251117-2299\n  url: {url}");
    project.replace("harness/harness.yml", "  source: build", &image);
    let started = std::time::Instant::now();
    let transcript = project.run(&["image", "build"]);
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    assert_eq!(transcript.code, Some(3));
    insta::assert_snapshot!(transcript.to_string().replace(&url, "[server]"));
    assert_eq!(
        project.run(&["image", "list"]).stdout,
        "no images yet; the next run makes the one it needs, or `boma-it image build` now\n"
    );
}

#[test]
fn a_tier_with_unmet_requirements() {
    let project = Project::with_hypervisor();
    let tier = |tier| ["up", "--host", "askari", "--certs", tier];
    let path = [("PATH", "/nonexistent")];
    let accepted = ["cycle", "--host", "askari", "--certs", "le-prod-wildcard", "--accept-risk", "R6"];
    let transcript = [
        refused(&project, &tier("le-staging"), 4),
        refused(&project, &tier("le-prod-wildcard"), 4),
        refused_with(&project, &tier("le-prod-wildcard"), &[("BOMA_IT_ACCEPT_RISK", "R6")], 4),
        refused_with(&project, &tier("pebble"), &path, 4),
        refused_with(&project, &["cycle", "--host", "askari"], &[path[0], ("BOMA_IT_CERTS", "pebble")], 4),
        refused(&project, &accepted, 4),
    ];
    insta::assert_snapshot!(transcript.map(|transcript| format!("{transcript}\n")).join("\n"));
}

#[test]
fn a_verification_that_can_never_count_is_refused_by_a_run_and_by_its_plan() {
    let project = Project::with_hypervisor();
    project.write(
        "harness/verify.yml",
        "- {name: empty, hosts: all, gather_facts: false, tasks: [{name: nothing, assert: {that: []}}]}
- {name: misspelt, hosts: docker_hots, gather_facts: false, tasks: [{name: unseen, assert: {that: false}}]}\n",
    );
    let run = refused(&project, &["cycle", "--host", "askari"], 2);
    let plan = project.run(&["plan", "--host", "askari"]);
    assert_eq!((plan.code, &plan.stderr), (Some(2), &run.stderr));
    insta::assert_snapshot!(run);
}

#[test]
fn a_plan_without_ansible_says_that_the_site_was_not_checked() {
    let project = Project::new();
    project.write("harness/verify.yml", "- {name: empty, hosts: all, tasks: [{assert: {that: []}}]}\n");
    fs::remove_file(project.path(".venv")).unwrap();
    let transcript = project.run_with(&["plan", "--host", "askari"], &[("PATH", "/nonexistent")]);
    assert_eq!(transcript.code, Some(0), "{transcript}");
    assert_eq!(
        transcript.stderr,
        "note: the site was not checked: cannot run Ansible: cannot start `ansible-inventory`; is it installed and on PATH? \
         (`make setup` installs what boma-it needs): No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_plan_with_an_ansible_that_lost_its_interpreter_is_an_error() {
    let project = Project::new();
    fs::remove_file(project.path(".venv")).unwrap();
    project.write("bin/ansible-inventory", "#!/nonexistent/python3\n");
    fs::set_permissions(project.path("bin/ansible-inventory"), fs::Permissions::from_mode(0o755)).unwrap();
    let bin = project.path("bin").to_string_lossy().into_owned();
    let transcript = project.run_with(&["plan", "--host", "askari"], &[("PATH", &bin)]);
    assert_eq!(transcript.code, Some(3), "{transcript}");
}

#[test]
fn a_tier_that_needs_egress_without_egress() {
    let project = Project::new();
    project
        .write("scenarios/cut.yml", "version: 1\nprofile: askari\ndescription: no way out\negress: false\n");
    let args = ["up", "--host", "askari", "--scenario", "cut"];
    let transcript = refused_with(&project, &args, &[("BOMA_IT_CERTS", "pebble")], 2);
    let option = refused(&project, &["up", "--host", "askari", "--scenario", "cut", "--certs", "pebble"], 2);
    assert_eq!(transcript.stderr, option.stderr);
    insta::assert_snapshot!(transcript);
}

#[test]
fn an_unknown_risk() {
    let args = ["up", "--host", "askari", "--accept-risk", "R66"];
    insta::assert_snapshot!(refused(&Project::new(), &args, 2));
}

#[test]
fn an_unknown_tier() {
    insta::assert_snapshot!(refused(&Project::new(), &["up", "--host", "askari", "--certs", "pebbel"], 2));
}

#[test]
fn a_tier_that_the_scenario_does_not_allow() {
    let args = ["up", "--host", "askari", "--scenario", "incident-2026-06-17", "--certs", "pebble"];
    insta::assert_snapshot!(refused(&Project::new(), &args, 2));
}

#[test]
fn a_step_without_a_vm() {
    let project = Project::with_hypervisor();
    insta::assert_snapshot!(project.run(&["ssh", "--host", "askari"]));
}

#[test]
fn a_missing_secret() {
    let project = Project::with_hypervisor();
    project.replace(
        "harness/harness.yml",
        "  vault.mesh.setup_key: {vault: harness/vault.yml}",
        "  vault.mesh.setup_key: {env: MESH_SETUP_KEY}\n  vault.gandi.pat: {file: secrets/gandi}",
    );
    project.replace(
        "profiles/askari.yml",
        "[vault.mesh.setup_key]",
        "[vault.mesh.setup_key, vault.gandi.pat]",
    );
    insta::assert_snapshot!(refused(&project, &["up", "--host", "askari"], 4));
}

#[test]
fn an_invalid_secret_is_not_repeated() {
    let project = Project::with_hypervisor();
    project.replace("harness/harness.yml", "{vault: harness/vault.yml}", "{env: MESH_SETUP_KEY}");
    let transcript = project.run_with(&["up", "--host", "askari"], &[("MESH_SETUP_KEY", "q-7")]);
    assert_eq!(transcript.code, Some(4));
    assert!(!transcript.stderr.contains("q-7"), "{transcript}");
    insta::assert_snapshot!(transcript);
}

#[test]
fn a_secret_in_an_error_message_is_redacted() {
    let project = Project::with_hypervisor();
    project.replace("harness/harness.yml", "{vault: harness/vault.yml}", "{env: MESH_SETUP_KEY}");
    project.replace("site/site.yml", "\n  roles:", "\n  cGFnZQ-not-a-key: true\n  roles:");
    let args = ["up", "--host", "askari"];
    let transcript =
        project.run_with(&args, &[("MESH_SETUP_KEY", "cGFnZQ-not-a-key"), ("BOMA_IT_LOG", "trace")]);
    assert_eq!(transcript.code, Some(2), "{transcript}");
    assert!(!transcript.stderr.contains("cGFnZQ"), "{transcript}");
    let (_, error) = transcript.stderr.split_once("error: ").unwrap_or_else(|| panic!("{transcript}"));
    insta::assert_snapshot!(error);
}
