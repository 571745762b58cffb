//! The file that passes secrets to a playbook: extra variables, nested by the dots in their names, mode 0600. It exists only
//! while Ansible runs. After a SIGKILL, the next run or `prune` removes it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Secrets;
use crate::site::error::SiteError;
use crate::support::file::remove_if_exists;
use crate::support::run_folder;

/// Its name in the workspace.
const NAME: &str = "secrets.vars.json";
/// The workspace in a run folder.
const WORKSPACE: &str = "ansible";

/// The file, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SecretsFile(PathBuf);

impl SecretsFile {
    /// Writes `variables` into the workspace `folder`, which exists.
    pub(crate) fn write(folder: &Path, variables: Map<String, Value>) -> Result<Self, SiteError> {
        let file = Self(folder.join(NAME));
        let write = || {
            remove_if_exists(&file.0)?;
            let mut new = File::options().write(true).create_new(true).mode(0o600).open(&file.0)?;
            new.write_all(Value::Object(variables).to_string().as_bytes())
        };
        write().map_err(SiteError::io(&file.0))?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SecretsFile {
    fn drop(&mut self) {
        if let Err(error) = remove_if_exists(&self.0) {
            tracing::error!("{} holds secrets and cannot be removed: {error}", self.0.display());
        }
    }
}

/// Removes the files that killed runs left in the run folders in `root`, and returns their paths. A folder that a living
/// process works in is left alone.
///
/// # Errors
/// When one cannot be removed.
pub fn remove_leftovers(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for folder in run_folder::all(root)? {
        let path = folder.join(WORKSPACE).join(NAME);
        if !path.exists() {
            continue;
        }
        if let Some(_lock) = run_folder::claim(&folder)?
            && remove_if_exists(&path)?
        {
            removed.push(path);
        }
    }
    Ok(removed)
}

/// The variables with the secrets: `vault.gandi.pat` is `{"vault": {"gandi": {"pat": …}}}`. An extra variable replaces all of
/// a variable of that name, so each starts as a merge of its values in `layers`, of which later ones win.
pub(crate) fn lay_over(secrets: &Secrets, layers: &[&Map<String, Value>]) -> Map<String, Value> {
    let mut variables = Map::new();
    for (name, secret) in secrets.iter() {
        let (top, rest) = name.split_once('.').map_or((name, None), |(top, rest)| (top, Some(rest)));
        let value = variables.entry(top).or_insert_with(|| {
            let mut base = Value::Null;
            layers.iter().filter_map(|layer| layer.get(top)).for_each(|layer| merge(&mut base, layer));
            base
        });
        let steps = rest.into_iter().flat_map(|rest| rest.split('.'));
        *steps.fold(value, step) = Value::from(secret.reveal());
    }
    variables
}

/// The value at `key` of `value`, which becomes a mapping if it is not one.
fn step<'v>(value: &'v mut Value, key: &str) -> &'v mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    &mut value[key]
}

/// Merges `over` into `base`: mappings key by key, other values whole. A value that is still vaulted is left out, because
/// Ansible has no password for it: a task that uses it fails with its name.
fn merge(base: &mut Value, over: &Value) {
    let is_vaulted = |value: &Value| value.get("__ansible_vault").is_some();
    match over {
        vaulted if is_vaulted(vaulted) => {}
        Value::Object(over) => {
            if !base.is_object() {
                *base = Value::Object(Map::new());
            }
            for (key, over) in over.iter().filter(|(_, over)| !is_vaulted(over)) {
                merge(&mut base[key], over);
            }
        }
        other => *base = other.clone(),
    }
}
