//! Secrets from a real Ansible Vault to a real playbook.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use boma_it::catalog::secrets::{SecretPlan, SecretSource, VaultPassword};
use boma_it::site::secrets::{SecretError, Secrets, read};
use boma_it::site::{Phase, TaskEvent, Workspace};
use boma_it::support::process::Process;
use boma_it::support::secret::Redactor;

use crate::fixture::{TestSite, patient};
use crate::sshd::Sshd;

const TOKEN: &str = "not-a-token: 'quoted' \"twice\" {{ and }} $braced";
/// The plain text of a vault.
const PLAIN: &str = "vault:\n  gandi:\n    pat: |-\n      not-a-token: 'quoted' \"twice\" {{ and }} $braced\n    id: 12345678\n  list: [1]\n";

fn file(site: &TestSite, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = site.dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// `text` as `ansible-vault` encrypts it with the password `not-a-secret`.
fn encrypted(site: &TestSite, text: &str) -> String {
    let (plain, password) =
        (file(site, "plain", text, 0o600), file(site, "encrypting-password", "not-a-secret\n", 0o600));
    let program = site.plan.ansible.clone().unwrap_or_default().join("ansible-vault");
    let process = Process::new(program)
        .args(["encrypt", "--output", "-", "--vault-password-file"])
        .arg(password)
        .arg(plain);
    process.run_ok(&patient()).unwrap()
}

fn plan(name: &str, file: PathBuf, password: &VaultPassword) -> SecretPlan {
    SecretPlan { name: name.to_owned(), source: SecretSource::Vault { file, password: password.clone() } }
}

fn read_all(site: &TestSite, plans: &[SecretPlan]) -> Result<Vec<(String, String)>, String> {
    let read = read(plans, site.plan.ansible.as_deref(), site.dir.path(), &patient());
    let shown = |secrets: Secrets| {
        secrets.iter().map(|(name, secret)| (name.to_owned(), secret.reveal().to_owned())).collect()
    };
    read.map(shown).map_err(|error| {
        assert!(matches!(error, SecretError::Refused(_)), "{error:?}");
        site.without_folder(&error.into())
    })
}

#[test]
fn values_are_read_from_a_vaulted_file_and_from_a_file_with_vaulted_values() {
    let site = TestSite::new(&[]);
    let whole = file(&site, "whole.yml", &encrypted(&site, PLAIN), 0o644);
    let value: String = encrypted(&site, TOKEN).lines().map(|line| format!("      {line}\n")).collect();
    let part =
        file(&site, "part.yml", &format!("open: 1\nvault:\n  one:\n    pat: !vault |\n{value}"), 0o644);
    // A command runs in the root, and a password file can be a program that prints it.
    file(&site, "phrase", "not-a-secret\n", 0o600);
    let passwords = [
        VaultPassword::Command("tr -d x <phrase | cat".to_owned()),
        VaultPassword::File(file(&site, "password", "not-a-secret\n", 0o640)),
        VaultPassword::File(file(&site, "printing", "#!/bin/sh\necho not-a-secret\n", 0o755)),
    ];
    for password in &passwords {
        let plans = [
            plan("vault.gandi.pat", whole.clone(), password),
            plan("vault.gandi.id", whole.clone(), password),
            plan("vault.one.pat", part.clone(), password),
        ];
        let expected = [("vault.gandi.pat", TOKEN), ("vault.gandi.id", "12345678"), ("vault.one.pat", TOKEN)];
        let secrets = read_all(&site, &plans).unwrap();
        assert_eq!(
            secrets,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())),
            "{password:?}"
        );
    }
}

#[test]
fn an_error_about_a_vault_has_the_cause_and_none_of_its_content() {
    let site = TestSite::new(&[]);
    let good = VaultPassword::Command("echo not-a-secret".to_owned());
    let whole = file(&site, "whole.yml", &encrypted(&site, PLAIN), 0o644);
    let broken = file(&site, "broken.yml", &encrypted(&site, "not-a-token: [not-a-token\n"), 0o644);
    let plain = file(&site, "plain.yml", PLAIN, 0o644);
    let open = VaultPassword::File(file(&site, "open-password", "not-a-secret\n", 0o644));
    let loose = VaultPassword::File(file(&site, "loose-password", "#!/bin/sh\necho not-a-secret\n", 0o757));
    let failing = VaultPassword::Command("echo no pass here >&2; exit 3".to_owned());
    let wrong = VaultPassword::Command("echo another-password".to_owned());
    let gone = VaultPassword::File(site.dir.path().join("nowhere"));
    let plans = [
        plan("vault.gandi.token", whole.clone(), &good),
        plan("vault.list", whole.clone(), &good),
        plan("vault.gandi", whole.clone(), &good),
        plan("a", broken, &good),
        plan("vault.gandi.pat", plain, &good),
        plan("b", site.dir.path().join("no-vault.yml"), &good),
    ];
    let mut errors = read_all(&site, &plans).unwrap_err();
    // Each call opens the vault again; an open one needs no password.
    for password in [open, loose, failing, wrong, gone] {
        errors += "\n";
        errors += &read_all(&site, &[plan("vault.gandi.pat", whole.clone(), &password)]).unwrap_err();
    }
    assert!(!errors.contains("not-a-token"), "{errors}");
    let temporary = std::env::temp_dir();
    insta::with_settings!({filters => vec![(r"\S*/boma-it-vault-\w+", "[temporary]")]}, {
        insta::assert_snapshot!(errors.replace(temporary.to_str().unwrap(), "[tmp]"));
    });
}

#[test]
fn a_playbook_gets_a_secret_and_no_file_of_the_run_has_it() {
    let sshd = Sshd::start();
    let tasks = "- name: show\n  ansible.builtin.debug: {msg: 'it is {{ vault.gandi.pat }} and {{ vault.stub }}'}\n\
                 - name: a file arrives\n  ansible.builtin.copy: {content: '{{ vault.gandi.pat }}', dest: '{{ dest }}', mode: '0600'}\n\
                 - name: fail\n  ansible.builtin.command: {argv: [sh, -c, 'echo \"$0\" >&2; printf %s \"$0\" | base64; exit 3', '{{ vault.gandi.pat }}']}\n";
    let mut site = TestSite::new(&[
        ("site/roles/base/tasks/main.yml", tasks),
        ("overrides/askari.yml", "vault: {stub: yes, gandi: {pat: x}}\n"),
    ]);
    let dest = site.dir.path().join("arrived");
    site.plan.vars = [("dest".into(), serde_json::json!(dest))].into();
    site.access = sshd.access();
    // Ansible takes an extra variable for a template, so this one has no double braces.
    let plain = PLAIN.replace("{{ and }}", "{ and }");
    let token = TOKEN.replace("{{ and }}", "{ and }");
    let whole = file(&site, "whole.yml", &encrypted(&site, &plain), 0o644);
    let password = VaultPassword::Command("echo not-a-secret".to_owned());
    let plans = [plan("vault.gandi.pat", whole, &password)];
    let secrets = read(&plans, site.plan.ansible.as_deref(), site.dir.path(), &patient()).unwrap();
    for (name, secret) in secrets.iter() {
        Redactor::of_process().add(name, secret).unwrap();
    }
    let checked = site.check("askari").unwrap().with_secrets(secrets);
    let workspace = Workspace::prepare(&site.folder(), &site.plan, &checked, &site.access).unwrap();
    let mut messages = Vec::new();
    let result = workspace.run(Phase::Apply, &site.vars("askari"), &patient(), &mut |event| {
        if let TaskEvent::Finished(task) = event {
            messages.push((task.task, task.message.unwrap_or_default()));
        }
    });
    let error = result.unwrap_err().to_string();
    assert_eq!(fs::read_to_string(dest).unwrap(), token);
    insta::assert_snapshot!(format!("{messages:#?}\n{error}"));
    let base64 = "bm90LWEtdG9rZW46ICdxdW90ZWQnICJ0d2ljZSIgeyBhbmQgfSAkYnJhY2Vk";
    let mut seen = 0;
    for entry in fs::read_dir(site.folder()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let text = fs::read_to_string(entry.path()).unwrap();
        assert!(
            !text.contains(&base64[..40]) && !text.contains("not-a-token"),
            "{}: {text}",
            entry.path().display()
        );
        assert_ne!(entry.file_name(), "secrets.vars.json");
        seen += text.matches("[secret vault.gandi.pat]").count();
    }
    assert!(seen > 6, "seen {seen} times");
}
