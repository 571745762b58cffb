//! Transcripts of the driver: what it prints, to which stream, and its exit code. No VM, no libvirt daemon.

#[cfg(test)]
#[path = "cli/bad_input.rs"]
mod bad_input;
#[cfg(test)]
#[path = "cli/certificate_store.rs"]
mod certificate_store;
#[cfg(test)]
#[path = "cli/project.rs"]
mod project;

use project::Project;

#[test]
fn help_of_everything() {
    let project = Project::new();
    let commands: [&[&str]; 18] = [
        &["--help"],
        &["-h"],
        &["up", "--help"],
        &["apply", "--help"],
        &["reboot", "--help"],
        &["assert", "--help"],
        &["cycle", "--help"],
        &["down", "--help"],
        &["prune", "--help"],
        &["console", "--help"],
        &["ssh", "--help"],
        &["list", "--help"],
        &["plan", "--help"],
        &["schema", "--help"],
        &["image", "--help"],
        &["image", "build", "--help"],
        &["image", "remove", "--help"],
        &["image", "list", "--help"],
    ];
    let mut all = String::new();
    for command in commands {
        let transcript = project.run(command);
        assert_eq!((transcript.code, &*transcript.stderr), (Some(0), ""), "{transcript}");
        all += &format!("{transcript}\n\n");
    }
    insta::assert_snapshot!(all);
}

#[test]
fn an_invalid_command_line_is_usage() {
    let project = Project::new();
    let commands: [&[&str]; 8] = [
        &[],
        &["upp"],
        &["up"],
        &["up", "--hots", "askari"],
        &["down", "--host"],
        &["cycle", "--host", "askari", "--repeat", "5"],
        &["cycle", "--host", "askari", "--repeat"],
        &["schema", "override"],
    ];
    let mut all = String::new();
    for command in commands {
        let transcript = project.run(command);
        assert_eq!((transcript.code, &*transcript.stdout), (Some(2), ""), "{transcript}");
        all += &format!("{transcript}\n\n");
    }
    insta::assert_snapshot!(all);
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(
        Project::new().run(&["--version"]).stdout,
        concat!("boma-it ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn the_removed_repeat_variable_is_refused_with_its_replacement() {
    let project = Project::new();
    let transcript = project.run_with(&["cycle", "--host", "askari"], &[("BOMA_IT_REPEAT", "5")]);
    insta::assert_snapshot!(transcript);
    assert_eq!(transcript.code, Some(2));
    project.assert_nothing_started();
}

#[test]
fn schema_needs_no_project() {
    let nowhere = Project::new();
    nowhere.remove("harness/harness.yml");
    for kind in ["profile", "scenario", "harness"] {
        let transcript = nowhere.run(&["schema", kind]);
        assert_eq!((transcript.code, &*transcript.stderr), (Some(0), ""), "{transcript}");
        let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let committed = std::fs::read_to_string(committed.join(format!("{kind}.schema.json"))).unwrap();
        assert!(transcript.stdout == committed, "{transcript}");
    }
}

#[test]
fn list_prints_every_trial_as_text_and_as_json() {
    let project = Project::new();
    let transcript = project.run(&["list"]);
    insta::assert_snapshot!(transcript);
    let json = project.run(&["list", "--json"]);
    assert_eq!(json.code, Some(0));
    let parsed: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    insta::assert_json_snapshot!(parsed);
    project.assert_nothing_started();
}

#[test]
fn plan_prints_the_plan_and_does_nothing() {
    let project = Project::new();
    insta::assert_snapshot!(project.run(&["plan", "--host", "askari"]));
    let transcript = project.run(&["plan", "--host", "askari", "--scenario", "incident-2026-06-17"]);
    insta::assert_snapshot!(transcript);
    project.assert_nothing_started();
}

#[test]
fn options_and_variables_reach_the_plan() {
    let project = Project::new();
    let variables =
        [("BOMA_IT_CERTS", "pebble"), ("BOMA_IT_URI", "qemu+ssh://far/system"), ("BOMA_IT_RUNS", "here")];
    let plan = |options: &[&str]| -> serde_yaml::Value {
        let transcript = project.run_with(&[&["plan", "--host", "askari"], options].concat(), &variables);
        serde_yaml::from_str(&transcript.stdout.replace("[project]", "/project"))
            .unwrap_or_else(|error| panic!("{error}: {transcript}"))
    };
    let by_variables = plan(&[]);
    assert_eq!(by_variables["certs"], "pebble");
    assert_eq!(by_variables["harness"]["uri"], "qemu+ssh://far/system");
    assert_eq!(by_variables["harness"]["runs"], "/project/here");
    assert_eq!(plan(&["--certs", "internal"])["certs"], "internal", "the option wins");
}

#[test]
fn the_project_is_named_or_found_upwards() {
    let project = Project::new();
    let from_elsewhere = |root: &str| project.run_with(&["--root", root, "list"], &[]);
    assert_eq!(from_elsewhere(".").stdout, project.run(&["list"]).stdout);
    let wrong = from_elsewhere("site");
    insta::assert_snapshot!(wrong);
    let wrong = project.run_with(&["list"], &[("BOMA_IT_ROOT", "/nonexistent")]);
    assert_eq!(wrong.code, Some(2), "{wrong}");
}

#[test]
fn output_into_a_closed_pipe_is_not_an_error() {
    let project = Project::new();
    let script = format!("{} list | true", env!("CARGO_BIN_EXE_boma-it"));
    let output = assert_cmd::Command::new("bash")
        .args(["-o", "pipefail", "-c", &script])
        .current_dir(project.path(""))
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
