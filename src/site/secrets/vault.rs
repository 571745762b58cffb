//! Ansible Vault: `ansible-vault` opens a file, and a value is read from its YAML. The password goes straight from its source
//! to `ansible-vault`. The decrypted text comes over a pipe and is written nowhere.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_yaml::Value;
use tempfile::TempDir;

use super::{SourceProblem, check_private, check_unchangeable, mode, read_text, secret};
use crate::catalog::secrets::VaultPassword;
use crate::site::ansible::{Ansible, error_text};
use crate::site::error::SiteError;
use crate::support::deadline::Deadline;
use crate::support::process::quote;
use crate::support::secret::Secret;

/// How a vaulted text starts.
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

    /// The value at the dotted path `name` in `file`. The outer error means that Ansible Vault could not be run.
    pub(super) fn read(
        &mut self,
        name: &str,
        file: &Path,
        password: &VaultPassword,
    ) -> Result<Result<Secret, SourceProblem>, SiteError> {
        if !self.open.contains_key(file) {
            match self.open(file, password)? {
                Ok(values) => drop(self.open.insert(file.to_owned(), values)),
                Err(problem) => return Ok(Err(problem)),
            }
        }
        let problem = |what: String| Err(SourceProblem::Vault(what));
        let text = match self.open.get(file).and_then(|values| at(values, name)) {
            None => problem(format!("it has no value at `{name}`, written as nested mappings")),
            Some(Value::Tagged(tagged)) if tagged.tag == TAG => match tagged.value.as_str() {
                Some(vaulted) => self.decrypt(vaulted, password)?,
                None => problem(format!("the vaulted value at `{name}` is not text")),
            },
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::Bool(flag)) => Ok(flag.to_string()),
            Some(_) => problem(format!("`{name}` is a list or a mapping, expected a value")),
        };
        Ok(text.and_then(secret))
    }

    /// The values of a file that is vaulted as a whole, or of a plain one with vaulted values.
    fn open(&self, file: &Path, password: &VaultPassword) -> Result<Result<Value, SourceProblem>, SiteError> {
        let text = match read_text(file) {
            Ok(text) => text,
            Err(why) => return Ok(Err(why)),
        };
        let is_whole = text.trim_start().starts_with(HEADER);
        if !is_whole && !text.contains(HEADER) {
            let what = "it has no vaulted value: run `ansible-vault encrypt` on it".to_owned();
            return Ok(Err(SourceProblem::Vault(what)));
        }
        let text = match is_whole {
            true => self.decrypt(&text, password)?,
            false => Ok(text),
        };
        // The parser's error would quote the decrypted text.
        let invalid = || SourceProblem::Vault("its content is not valid YAML".to_owned());
        Ok(text.and_then(|text| serde_yaml::from_str(&text).map_err(|_| invalid())))
    }

    /// Decrypts a vaulted text.
    fn decrypt(
        &self,
        vaulted: &str,
        password: &VaultPassword,
    ) -> Result<Result<String, SourceProblem>, SiteError> {
        let scratch = Scratch::create(password, &self.ansible.site)?;
        let file = match password {
            VaultPassword::Command(_) => scratch.script(),
            VaultPassword::File(file) => match check_password(file) {
                Ok(()) => file.clone(),
                Err(problem) => return Ok(Err(problem)),
            },
        };
        let process = self
            .ansible
            .program("ansible-vault", &scratch.config(), None)
            .arg("decrypt")
            .arg("--vault-password-file")
            .arg(file)
            .args(["--output", "-"])
            .input(vaulted);
        let finished = process.run(self.deadline).map_err(SiteError::Process)?;
        if !finished.status.success() {
            let what = format!("ansible-vault cannot open it with {password}\n{}", error_text(&finished));
            return Ok(Err(SourceProblem::Vault(what)));
        }
        Ok(Ok(finished.stdout))
    }
}

/// A temporary folder with the other files that `ansible-vault` needs: an empty configuration, because the operator's own
/// may name other vault ids and ask for passwords; and a script that runs the password command, because Ansible takes a script
/// in the place of a password file. The script has the command and no password.
struct Scratch(TempDir);

impl Scratch {
    fn create(password: &VaultPassword, root: &Path) -> Result<Self, SiteError> {
        let folder = tempfile::Builder::new().prefix("boma-it-vault-").tempdir();
        let scratch = Self(folder.map_err(SiteError::io(&std::env::temp_dir()))?);
        scratch.write(&scratch.config(), "", 0o600)?;
        if let VaultPassword::Command(command) = password {
            let text = format!("#!/bin/sh\ncd {} || exit 1\n{command}\n", quote(&root.to_string_lossy()));
            scratch.write(&scratch.script(), &text, 0o700)?;
        }
        Ok(scratch)
    }

    fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), SiteError> {
        fs::write(path, text)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
            .map_err(SiteError::io(self.0.path()))
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("ansible.cfg")
    }

    fn script(&self) -> PathBuf {
        self.0.path().join("password")
    }
}

/// A password file must be private. One that is executed can be readable by all, but not writable.
fn check_password(file: &Path) -> Result<(), SourceProblem> {
    if mode(file)? & 0o111 == 0 { check_private(file) } else { check_unchangeable(file) }
}

fn at<'v>(values: &'v Value, name: &str) -> Option<&'v Value> {
    name.split('.').try_fold(values, |values, key| match values {
        Value::Mapping(map) => map.get(key),
        _ => None,
    })
}
