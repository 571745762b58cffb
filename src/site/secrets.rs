//! The secrets of a plan, read from their sources before any VM exists. `vault` opens Ansible Vault; `secrets_file` passes
//! the secrets to a playbook in a file that exists only while Ansible runs.
//!
//! A value is never in an argument, in a child's environment, or in an error.

mod secrets_file;
mod vault;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::ansible::Ansible;
use super::error::SiteError;
use crate::catalog::secrets::{SecretPlan, SecretSource};
use crate::support::deadline::Deadline;
use crate::support::env;
use crate::support::secret::{InvalidSecret, Secret};
use vault::Vaults;

pub use secrets_file::remove_leftovers;
pub(super) use secrets_file::{SecretsFile, lay_over};

/// Where the sources of secrets are documented.
const DOCUMENT: &str = "docs/certificates-and-secrets.md#secrets";

/// Secrets by name.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<(String, Secret)>);

impl Secrets {
    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret))
    }
}

/// Why secrets could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Some are missing or rejected.
    #[error("{}", lines(.0))]
    Refused(Vec<UnreadableSecret>),
    /// Ansible Vault could not be run.
    #[error("cannot ask Ansible Vault for secrets")]
    Site(#[from] SiteError),
}

/// A secret that is missing or rejected.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret `{name}` from {from}: {problem}")]
pub struct UnreadableSecret {
    name: String,
    from: String,
    problem: SourceProblem,
}

/// What is wrong with the source of a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceProblem {
    #[error("it is not set")]
    NotSet,
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is not UTF-8 text", .0.display())]
    NoText(PathBuf),
    #[error("everybody on this machine can read {} (mode {mode:04o}); `chmod o= {}`", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("everybody on this machine can change {} (mode {mode:04o}); `chmod o-w {}`", path.display(), path.display())]
    Changeable { path: PathBuf, mode: u32 },
    #[error("its value is rejected: {0}")]
    Rejected(#[from] InvalidSecret),
    #[error("{0}")]
    Vault(String),
}

fn lines(secrets: &[UnreadableSecret]) -> String {
    let each: Vec<_> = secrets.iter().map(ToString::to_string).collect();
    format!("{} (see {DOCUMENT})", each.join("\n"))
}

/// Reads the secrets of a plan. `programs` is the folder of Ansible's programs, unless they are on `PATH`; `root` is the
/// folder in which a password command runs. Vaults come last, so that a missing token is reported before anything starts.
///
/// # Errors
/// [`SecretError::Refused`] with all that are missing or rejected; [`SecretError::Site`] if Ansible Vault could not be run.
pub fn read(
    plans: &[SecretPlan],
    programs: Option<&Path>,
    root: &Path,
    deadline: &Deadline,
) -> Result<Secrets, SecretError> {
    let (mut secrets, mut unreadable) = (Secrets::default(), Vec::new());
    let mut vaults =
        Vaults::new(Ansible { programs: programs.map(Path::to_owned), site: root.to_owned() }, deadline);
    let is_vault = |plan: &&SecretPlan| matches!(plan.source, SecretSource::Vault { .. });
    let plain = plans.iter().filter(|plan| !is_vault(plan));
    for plan in plain.chain(plans.iter().filter(is_vault)) {
        let secret = match &plan.source {
            SecretSource::Env(variable) => env::named(variable).ok_or(SourceProblem::NotSet).and_then(secret),
            SecretSource::File(path) => check_private(path).and_then(|()| read_text(path)).and_then(secret),
            SecretSource::Vault { file, password } => vaults.read(&plan.name, file, password)?,
        };
        match secret {
            Ok(secret) => secrets.0.push((plan.name.clone(), secret)),
            Err(problem) => {
                let (name, from) = (plan.name.clone(), plan.source.to_string());
                unreadable.push(UnreadableSecret { name, from, problem });
            }
        }
    }
    if unreadable.is_empty() { Ok(secrets) } else { Err(SecretError::Refused(unreadable)) }
}

fn secret(text: String) -> Result<Secret, SourceProblem> {
    Ok(Secret::new(text)?)
}

fn read_text(path: &Path) -> Result<String, SourceProblem> {
    let bytes =
        fs::read(path).map_err(|source| SourceProblem::Unreadable { path: path.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|_| SourceProblem::NoText(path.to_owned()))
}

/// Only the owner and the group can read the file, and nobody else can change it.
fn check_private(path: &Path) -> Result<(), SourceProblem> {
    let mode = mode(path)?;
    if mode & 0o004 != 0 {
        return Err(SourceProblem::Exposed { path: path.to_owned(), mode });
    }
    check_unchangeable(path)
}

/// Only the owner and the group can change the file.
fn check_unchangeable(path: &Path) -> Result<(), SourceProblem> {
    let mode = mode(path)?;
    if mode & 0o002 != 0 {
        return Err(SourceProblem::Changeable { path: path.to_owned(), mode });
    }
    Ok(())
}

fn mode(path: &Path) -> Result<u32, SourceProblem> {
    let metadata =
        fs::metadata(path).map_err(|source| SourceProblem::Unreadable { path: path.to_owned(), source })?;
    Ok(metadata.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests;
