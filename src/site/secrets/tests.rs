//! Secrets from the environment and from files, and the file that passes them to a playbook. For Ansible Vault see
//! `tests/ansible/vault.rs`.

use std::fs::Permissions;

use serde_json::{Map, Value, json};

use super::*;

fn plan(name: &str, source: SecretSource) -> SecretPlan {
    SecretPlan { name: name.to_owned(), source }
}

fn read_all(plans: &[SecretPlan]) -> Result<Secrets, SecretError> {
    let deadline = Deadline::uninterrupted(std::time::Duration::from_secs(10), "the test");
    read(plans, None, Path::new("/"), &deadline)
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn secrets_are_read_from_a_file_and_a_variable_without_final_line_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "not-really-a-token\r\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    // Cargo sets it for every test it runs.
    let variable = "CARGO_PKG_DESCRIPTION".to_owned();
    let secrets =
        read_all(&[plan("a.b", SecretSource::File(path)), plan("c", SecretSource::Env(variable))]).unwrap();
    let values: Vec<_> = secrets.iter().map(|(name, secret)| (name, secret.reveal())).collect();
    assert_eq!(values, [("a.b", "not-really-a-token"), ("c", env!("CARGO_PKG_DESCRIPTION"))]);
    assert!(!format!("{secrets:?}").contains("really"));
}

#[test]
fn one_error_lists_every_unreadable_secret_with_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8], mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        SecretSource::File(path)
    };
    let plans = [
        plan("vault.gandi.pat", SecretSource::Env("BOMA_IT_NO_SUCH_TOKEN".to_owned())),
        plan("gone", SecretSource::File(folder.path().join("nowhere"))),
        plan("open", file("open", b"not-really-a-token", 0o644)),
        plan("loose", file("loose", b"not-really-a-token", 0o602)),
        plan("short", file("short", b"abc\n", 0o600)),
        plan("empty", file("empty", b"\n", 0o600)),
        plan("binary", file("binary", b"\xff\xfe\xff\xfe\xff\xfe", 0o600)),
    ];
    let error =
        read_all(&plans).unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "[folder]");
    insta::assert_snapshot!(error);
}

#[test]
fn a_secret_is_added_to_the_mapping_that_the_site_has() {
    let secret = |text: &str| Secret::new(text).unwrap();
    let secrets = Secrets(vec![
        ("vault.gandi.pat".to_owned(), secret("fake-pat")),
        ("vault.mesh.key".to_owned(), secret("fake-key")),
        ("token".to_owned(), secret("fake-token")),
    ]);
    let inventory = object(json!({
        "vault": {"mail": {"host": "m", "password": {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n00"}}, "gandi": "stub"},
        "other": 1,
    }));
    let overrides = object(json!({"vault": {"mail": {"host": "stub"}, "mesh": {"key": "stub", "id": 7}}}));
    assert_eq!(
        Value::Object(lay_over(&secrets, &[&inventory, &overrides])),
        json!({
            "vault": {"mail": {"host": "stub"}, "gandi": {"pat": "fake-pat"}, "mesh": {"key": "fake-key", "id": 7}},
            "token": "fake-token",
        })
    );
}

#[test]
fn the_secrets_file_is_private_and_removed_on_drop_or_by_the_next_run() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("20260101T000000-askari");
    fs::create_dir_all(run.join("ansible")).unwrap();
    fs::write(run.join("plan.json"), "{}").unwrap();
    let variables = || object(json!({"token": "fake-token"}));
    let file = SecretsFile::write(&run.join("ansible"), variables()).unwrap();
    let path = file.path().to_owned();
    assert_eq!(mode(&path).unwrap(), 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"token":"fake-token"}"#);
    drop(file);
    assert!(!path.exists());

    let unwound = std::panic::catch_unwind(|| {
        let _file = SecretsFile::write(&run.join("ansible"), variables()).unwrap();
        panic!("in the middle of a playbook");
    });
    assert!(unwound.is_err() && !path.exists());

    std::mem::forget(SecretsFile::write(&run.join("ansible"), variables()).unwrap());
    assert_eq!(remove_leftovers(root.path()).unwrap(), std::slice::from_ref(&path));
    assert!(!path.exists() && remove_leftovers(root.path()).unwrap().is_empty());
    assert!(remove_leftovers(&root.path().join("nowhere")).unwrap().is_empty());
}
