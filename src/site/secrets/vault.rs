//! Ansible Vault: a file of it opened by `ansible-vault`, and a value taken out of its YAML. Its password goes from its
//! own place to `ansible-vault` and is not seen here; what is decrypted comes over a pipe and is not written anywhere.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_yaml::Value;
use tempfile::TempDir;

use super::{Why, check_private, check_unchangeable, mode, read_text};
use crate::catalog::secrets::VaultPassword;
use crate::site::environment::Ansible;
use crate::site::error::SiteError;
use crate::site::preflight::complaint;
use crate::support::deadline::Deadline;
use crate::support::process::quote;
use crate::support::secret::Secret;

/// How a vaulted text begins.
const HEADER: &str = "$ANSIBLE_VAULT;";
/// The YAML tag of a vaulted value.
const TAG: &str = "!vault";

/// Opens vaults, each file once.
pub(super) struct Vaults<'a> {
    ansible: Ansible,
    deadline: &'a Deadline,
    open: BTreeMap<PathBuf, Value>,
}

impl<'a> Vaults<'a> {
    pub(super) fn new(ansible: Ansible, deadline: &'a Deadline) -> Self {
        Self { ansible, deadline, open: BTreeMap::new() }
    }

    /// The value at the dotted path `name` in `file`. The outer error is that Ansible Vault could not be run.
    pub(super) fn read(
        &mut self,
        name: &str,
        file: &Path,
        password: &VaultPassword,
    ) -> Result<Result<Secret, Why>, SiteError> {
        if !self.open.contains_key(file) {
            match self.open(file, password)? {
                Ok(values) => drop(self.open.insert(file.to_owned(), values)),
                Err(why) => return Ok(Err(why)),
            }
        }
        let found = self.open.get(file).and_then(|values| at(values, name)).cloned();
        let text = match found {
            None => {
                let what = format!("it has no value at `{name}`, written as nested mappings");
                return Ok(Err(Why::Vault(what)));
            }
            Some(Value::Tagged(tagged)) if tagged.tag == TAG => match tagged.value.as_str() {
                Some(vaulted) => self.decrypt(vaulted, password)?,
                None => Err(Why::Vault(format!("what is vaulted at `{name}` is no text"))),
            },
            Some(value) => scalar(&value)
                .ok_or_else(|| Why::Vault(format!("what is at `{name}` is a list or mapping, and no value"))),
        };
        Ok(text.and_then(|text| Ok(Secret::new(text)?)))
    }

    /// What a vault holds: a file that is vaulted as a whole, or a plain one with vaulted values.
    fn open(&self, file: &Path, password: &VaultPassword) -> Result<Result<Value, Why>, SiteError> {
        let text = match read_text(file) {
            Ok(text) => text,
            Err(why) => return Ok(Err(why)),
        };
        let is_whole = text.trim_start().starts_with(HEADER);
        if !is_whole && !text.contains(HEADER) {
            let what = "nothing in it is vaulted: `ansible-vault encrypt` it".to_owned();
            return Ok(Err(Why::Vault(what)));
        }
        let text = match is_whole {
            true => self.decrypt(&text, password)?,
            false => Ok(text),
        };
        // Of the decrypted text nothing may be told, not even where it is wrong.
        let parse = |text: String| serde_yaml::from_str(&text);
        Ok(text.and_then(|text| parse(text).map_err(|_| Why::Vault("what it holds is no YAML".to_owned()))))
    }

    /// A vaulted text without its vault.
    fn decrypt(&self, vaulted: &str, password: &VaultPassword) -> Result<Result<String, Why>, SiteError> {
        let bench = Bench::lay_out(password, &self.ansible.site)?;
        let file = match password {
            VaultPassword::Command(_) => bench.script(),
            VaultPassword::File(file) => match check_password(file) {
                Ok(()) => file.clone(),
                Err(why) => return Ok(Err(why)),
            },
        };
        let process = self
            .ansible
            .program("ansible-vault", &bench.config(), None)
            .arg("decrypt")
            .arg("--vault-password-file")
            .arg(file)
            .args(["--output", "-"])
            .input(vaulted);
        let finished = process.run(self.deadline).map_err(SiteError::Process)?;
        if !finished.status.success() {
            let what = format!("ansible-vault cannot open it by {password}\n{}", complaint(&finished));
            return Ok(Err(Why::Vault(what)));
        }
        Ok(Ok(finished.stdout))
    }
}

/// What `ansible-vault` needs beside the vault, in a folder that goes away: a configuration that says nothing, as the
/// operator's own may name other vault ids and ask for passwords; and for a password command a script that runs it, as
/// Ansible takes one in the place of a password file. It names the command and holds no password.
struct Bench(TempDir);

impl Bench {
    fn lay_out(password: &VaultPassword, root: &Path) -> Result<Self, SiteError> {
        let folder = tempfile::Builder::new().prefix("boma-it-vault-").tempdir();
        let bench = Self(folder.map_err(|source| SiteError::Io { path: std::env::temp_dir(), source })?);
        bench.write(&bench.config(), "", 0o600)?;
        if let VaultPassword::Command(command) = password {
            let text = format!("#!/bin/sh\ncd {} || exit 1\n{command}\n", quote(&root.to_string_lossy()));
            bench.write(&bench.script(), &text, 0o700)?;
        }
        Ok(bench)
    }

    fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), SiteError> {
        fs::write(path, text)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
            .map_err(|source| SiteError::Io { path: self.0.path().to_owned(), source })
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("ansible.cfg")
    }

    fn script(&self) -> PathBuf {
        self.0.path().join("password")
    }
}

/// A password file is private; one that is executed may be read by all, but not changed.
fn check_password(file: &Path) -> Result<(), Why> {
    if mode(file)? & 0o111 == 0 { check_private(file) } else { check_unchangeable(file) }
}

fn at<'v>(values: &'v Value, name: &str) -> Option<&'v Value> {
    name.split('.').try_fold(values, |values, key| match values {
        Value::Mapping(map) => map.get(key),
        _ => None,
    })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
