//! Secrets out of a real Ansible Vault, and into a real playbook.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use boma_it::catalog::secrets::{SecretPlan, SecretSource, VaultPassword};
use boma_it::site::secrets::{SecretError, Secrets, read};
use boma_it::site::{Phase, Workspace};
use boma_it::support::process::Process;
use boma_it::support::secret::Redactor;

use crate::sshd::Sshd;
use crate::world::{World, minute};

const TOKEN: &str = "not-a-token: 'quoted' \"twice\" {{ and }} $braced";
/// What a person keeps in a vault.
const PLAIN: &str = "vault:\n  gandi:\n    pat: |-\n      not-a-token: 'quoted' \"twice\" {{ and }} $braced\n    id: 12345678\n  list: [1]\n";

fn file(world: &World, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = world.dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// `text` as `ansible-vault` encrypts it with the password `not-a-secret`.
fn encrypted(world: &World, text: &str) -> String {
    let (plain, password) =
        (file(world, "plain", text, 0o600), file(world, "encrypting-password", "not-a-secret\n", 0o600));
    let program = world.plan.ansible.clone().unwrap_or_default().join("ansible-vault");
    let process = Process::new(program)
        .args(["encrypt", "--output", "-", "--vault-password-file"])
        .arg(password)
        .arg(plain);
    process.run_ok(&minute()).unwrap()
}

fn need(name: &str, file: PathBuf, password: &VaultPassword) -> SecretPlan {
    SecretPlan { name: name.to_owned(), source: SecretSource::Vault { file, password: password.clone() } }
}

fn had(world: &World, needs: &[SecretPlan]) -> Result<Vec<(String, String)>, String> {
    let read = read(needs, world.plan.ansible.as_deref(), world.dir.path(), &minute());
    let shown = |secrets: Secrets| {
        secrets.iter().map(|(name, secret)| (name.to_owned(), secret.reveal().to_owned())).collect()
    };
    read.map(shown).map_err(|error| {
        assert!(matches!(error, SecretError::Refused(_)), "{error:?}");
        world.relative(&error.into())
    })
}

#[test]
fn values_come_out_of_a_vaulted_file_and_of_a_file_with_vaulted_values() {
    let world = World::new(&[]);
    let whole = file(&world, "whole.yml", &encrypted(&world, PLAIN), 0o644);
    let value: String = encrypted(&world, TOKEN).lines().map(|line| format!("      {line}\n")).collect();
    let part =
        file(&world, "part.yml", &format!("open: 1\nvault:\n  one:\n    pat: !vault |\n{value}"), 0o644);
    // A command finds its way in the root, and a file may be one that prints.
    file(&world, "phrase", "not-a-secret\n", 0o600);
    let passwords = [
        VaultPassword::Command("tr -d x <phrase | cat".to_owned()),
        VaultPassword::File(file(&world, "password", "not-a-secret\n", 0o640)),
        VaultPassword::File(file(&world, "printing", "#!/bin/sh\necho not-a-secret\n", 0o755)),
    ];
    for password in &passwords {
        let needs = [
            need("vault.gandi.pat", whole.clone(), password),
            need("vault.gandi.id", whole.clone(), password),
            need("vault.one.pat", part.clone(), password),
        ];
        let expected = [("vault.gandi.pat", TOKEN), ("vault.gandi.id", "12345678"), ("vault.one.pat", TOKEN)];
        let had = had(&world, &needs).unwrap();
        assert_eq!(had, expected.map(|(name, value)| (name.to_owned(), value.to_owned())), "{password:?}");
    }
}

#[test]
fn a_vault_that_gives_nothing_is_told_with_the_reason_and_nothing_of_what_is_in_it() {
    let world = World::new(&[]);
    let good = VaultPassword::Command("echo not-a-secret".to_owned());
    let whole = file(&world, "whole.yml", &encrypted(&world, PLAIN), 0o644);
    let broken = file(&world, "broken.yml", &encrypted(&world, "not-a-token: [not-a-token\n"), 0o644);
    let plain = file(&world, "plain.yml", PLAIN, 0o644);
    let open = VaultPassword::File(file(&world, "open-password", "not-a-secret\n", 0o644));
    let loose = VaultPassword::File(file(&world, "loose-password", "#!/bin/sh\necho not-a-secret\n", 0o757));
    let failing = VaultPassword::Command("echo no pass here >&2; exit 3".to_owned());
    let wrong = VaultPassword::Command("echo another-password".to_owned());
    let gone = VaultPassword::File(world.dir.path().join("nowhere"));
    let needs = [
        need("vault.gandi.token", whole.clone(), &good),
        need("vault.list", whole.clone(), &good),
        need("vault.gandi", whole.clone(), &good),
        need("a", broken, &good),
        need("vault.gandi.pat", plain, &good),
        need("b", world.dir.path().join("no-vault.yml"), &good),
    ];
    let mut told = had(&world, &needs).unwrap_err();
    // Each opens the vault anew, as one that is open needs no password.
    for password in [open, loose, failing, wrong, gone] {
        told += "\n";
        told += &had(&world, &[need("vault.gandi.pat", whole.clone(), &password)]).unwrap_err();
    }
    assert!(!told.contains("not-a-token"), "{told}");
    let temporary = std::env::temp_dir();
    insta::with_settings!({filters => vec![(r"\S*/boma-it-vault-\w+", "[temporary]")]}, {
        insta::assert_snapshot!(told.replace(temporary.to_str().unwrap(), "[tmp]"));
    });
}

#[test]
fn a_playbook_has_the_value_as_it_is_and_nothing_that_is_written_has_it() {
    let sshd = Sshd::start();
    let tasks = "- name: show\n  ansible.builtin.debug: {msg: 'it is {{ vault.gandi.pat }} and {{ vault.stub }}'}\n\
                 - name: a file arrives\n  ansible.builtin.copy: {content: '{{ vault.gandi.pat }}', dest: '{{ dest }}', mode: '0600'}\n\
                 - name: fail\n  ansible.builtin.command: {argv: [sh, -c, 'echo \"$0\" >&2; printf %s \"$0\" | base64; exit 3', '{{ vault.gandi.pat }}']}\n";
    let mut world = World::new(&[
        ("site/roles/base/tasks/main.yml", tasks),
        ("overrides/askari.yml", "vault: {stub: yes, gandi: {pat: x}}\n"),
    ]);
    let dest = world.dir.path().join("arrived");
    world.plan.vars = [("dest".into(), serde_json::json!(dest))].into();
    world.target = sshd.target();
    // Ansible takes an extra variable for a template, so that the braces are left out here.
    let plain = PLAIN.replace("{{ and }}", "{ and }");
    let token = TOKEN.replace("{{ and }}", "{ and }");
    let whole = file(&world, "whole.yml", &encrypted(&world, &plain), 0o644);
    let password = VaultPassword::Command("echo not-a-secret".to_owned());
    let needs = [need("vault.gandi.pat", whole, &password)];
    let secrets = read(&needs, world.plan.ansible.as_deref(), world.dir.path(), &minute()).unwrap();
    for (name, secret) in secrets.iter() {
        Redactor::of_process().add(name, secret).unwrap();
    }
    let checked = world.check("askari").unwrap().with_secrets(secrets);
    let workspace = Workspace::prepare(&world.folder(), &world.plan, &checked, &world.target).unwrap();
    let mut heard = String::new();
    let result = workspace
        .run(Phase::Apply, &world.vars("askari"), &minute(), &mut |event| heard += &format!("{event:?}\n"));
    let error = result.unwrap_err().to_string();
    assert_eq!(fs::read_to_string(dest).unwrap(), token);
    assert!(heard.contains("it is [secret vault.gandi.pat] and"), "{heard}");
    assert!(error.contains("exit status 3") && error.contains("[secret vault.gandi.pat]"), "{error}");
    let base64 = "bm90LWEtdG9rZW46ICdxdW90ZWQnICJ0d2ljZSIgeyBhbmQgfSAkYnJhY2Vk";
    let mut seen = 0;
    for entry in fs::read_dir(world.folder()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
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
