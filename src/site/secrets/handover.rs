//! The file by which secrets reach a playbook: extra variables, nested by the dots of the names, mode 0600, there only
//! while Ansible runs. What SIGKILL leaves of it the next run or `prune` removes.

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

/// The file. Dropping it removes it, whatever the way out.
#[derive(Debug)]
pub(crate) struct SecretsFile {
    path: PathBuf,
}

impl SecretsFile {
    /// Writes `variables` into the workspace `folder`, which is there.
    pub(crate) fn write(folder: &Path, variables: Map<String, Value>) -> Result<Self, SiteError> {
        let ours = Self { path: folder.join(NAME) };
        let io = |source| SiteError::Io { path: ours.path.clone(), source };
        remove_if_exists(&ours.path).map_err(io)?;
        let file = File::options().write(true).create_new(true).mode(0o600).open(&ours.path);
        let text = Value::Object(variables).to_string();
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(io)?;
        Ok(ours)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SecretsFile {
    fn drop(&mut self) {
        if let Err(error) = remove_if_exists(&self.path) {
            tracing::error!("{} holds secrets and cannot be removed: {error}", self.path.display());
        }
    }
}

/// Removes what runs that were killed left in the run folders below `root`; nothing may run meanwhile. Gives what was
/// removed.
///
/// # Errors
/// That one is there and cannot be removed.
pub fn forget_leftovers(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for folder in run_folder::all(root)? {
        let path = folder.join(WORKSPACE).join(NAME);
        if remove_if_exists(&path)? {
            removed.push(path);
        }
    }
    Ok(removed)
}

/// The variables that hold the secrets: `vault.gandi.pat` is `{"vault": {"gandi": {"pat": …}}}`. An extra variable
/// replaces the whole of its namesake, so that each is laid over what `beneath` it has it, the last over the first.
pub(crate) fn lay_over(secrets: &Secrets, beneath: &[&Map<String, Value>]) -> Map<String, Value> {
    let mut variables = Map::new();
    for (name, secret) in secrets.iter() {
        let (top, rest) = name.split_once('.').map_or((name, None), |(top, rest)| (top, Some(rest)));
        let value = variables.entry(top).or_insert_with(|| {
            let mut base = Value::Null;
            beneath.iter().filter_map(|layer| layer.get(top)).for_each(|layer| merge(&mut base, layer));
            base
        });
        let steps = rest.into_iter().flat_map(|rest| rest.split('.'));
        *steps.fold(value, step) = Value::from(secret.reveal());
    }
    variables
}

/// What is at `key` of `value`, which is made a mapping if it is none.
fn step<'v>(value: &'v mut Value, key: &str) -> &'v mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    &mut value[key]
}

/// Lays `over` over `base`: mappings one by one, all else whole. A value that is still vaulted could not be opened, and
/// is left out, so that using it is an error that names it.
fn merge(base: &mut Value, over: &Value) {
    match over {
        Value::Object(over) if over.contains_key("__ansible_vault") => {}
        Value::Object(over) => {
            if !base.is_object() {
                *base = Value::Object(Map::new());
            }
            for (key, over) in over {
                let is_vaulted = over.get("__ansible_vault").is_some();
                if !is_vaulted {
                    merge(&mut base[key], over);
                }
            }
        }
        other => *base = other.clone(),
    }
}
