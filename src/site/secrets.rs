//! The secrets of a plan: read where they come from, before any VM exists, and handed to playbooks by a file that is
//! there only while Ansible runs. Here they are read; `vault` asks Ansible Vault, `handover` is that file.
//!
//! A value is never an argument, never in a child's environment, never in an error.

mod handover;
mod vault;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::environment::Ansible;
use super::error::SiteError;
use crate::catalog::secrets::{SecretPlan, SecretSource};
use crate::support::deadline::Deadline;
use crate::support::env;
use crate::support::secret::{Secret, Unfit};
use vault::Vaults;

pub use handover::forget_leftovers;
pub(super) use handover::{SecretsFile, lay_over};

/// Where a person reads how secrets are given.
const DOCUMENT: &str = "docs/runbooks/integration-testing.md, Secrets";

/// Secrets that were had, by name.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<(String, Secret)>);

impl Secrets {
    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why secrets were not had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Some are not where they should be, or are not fit.
    #[error("{}", lines(.0))]
    Refused(Vec<Missing>),
    /// Ansible Vault could not be asked.
    #[error("cannot ask Ansible Vault for secrets")]
    Site(#[from] SiteError),
}

/// A secret that is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("the secret `{name}` is not to be had from {from}: {why}")]
pub struct Missing {
    name: String,
    from: String,
    why: Why,
}

/// What is wrong with where a secret comes from.
#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
    #[error("it is not set")]
    NotSet,
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is no UTF-8 text", .0.display())]
    NoText(PathBuf),
    #[error("everybody on this machine may read {} (mode {mode:04o}); `chmod o= {}`", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("everybody on this machine may change {} (mode {mode:04o}); `chmod o-w {}`", path.display(), path.display())]
    Changeable { path: PathBuf, mode: u32 },
    #[error("what is there is unfit: {0}")]
    Unfit(#[from] Unfit),
    #[error("{0}")]
    Vault(String),
}

fn lines(missing: &[Missing]) -> String {
    let each: Vec<_> = missing.iter().map(ToString::to_string).collect();
    format!("{} (see {DOCUMENT})", each.join("\n"))
}

/// Reads what `needs` names. `programs` is the folder of Ansible's programs, if it is not to be found on `PATH`; `root`
/// the folder that a password command runs in. What needs no other program is read first: a token that is not there is
/// told before anything is started.
///
/// # Errors
/// [`SecretError::Refused`] with all that is missing; [`SecretError::Site`] where Ansible Vault could not be run.
pub fn read(
    needs: &[SecretPlan],
    programs: Option<&Path>,
    root: &Path,
    deadline: &Deadline,
) -> Result<Secrets, SecretError> {
    let (vaulted, plain): (Vec<_>, Vec<_>) =
        needs.iter().partition(|need| matches!(need.source, SecretSource::Vault { .. }));
    let (mut secrets, mut missing) = (Secrets::default(), Vec::new());
    let mut book = |need: &SecretPlan, had: Result<Secret, Why>| match had {
        Ok(secret) => secrets.0.push((need.name.clone(), secret)),
        Err(why) => missing.push(Missing { name: need.name.clone(), from: need.source.to_string(), why }),
    };
    for need in plain {
        book(need, read_plain(&need.source));
    }
    let ansible = Ansible { programs: programs.map(Path::to_owned), site: root.to_owned() };
    let mut vaults = Vaults::new(ansible, deadline);
    for need in vaulted {
        if let SecretSource::Vault { file, password } = &need.source {
            book(need, vaults.read(&need.name, file, password)?);
        }
    }
    if missing.is_empty() { Ok(secrets) } else { Err(SecretError::Refused(missing)) }
}

fn read_plain(source: &SecretSource) -> Result<Secret, Why> {
    let text = match source {
        SecretSource::Env(variable) => env::named(variable).ok_or(Why::NotSet)?,
        SecretSource::File(path) => {
            check_private(path)?;
            read_text(path)?
        }
        SecretSource::Vault { file, .. } => read_text(file)?,
    };
    Ok(Secret::new(text)?)
}

fn read_text(path: &Path) -> Result<String, Why> {
    let bytes = fs::read(path).map_err(|source| Why::Unreadable { path: path.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|_| Why::NoText(path.to_owned()))
}

/// The file is for its owner, and at most its group.
fn check_private(path: &Path) -> Result<(), Why> {
    let mode = mode(path)?;
    if mode & 0o004 != 0 {
        return Err(Why::Exposed { path: path.to_owned(), mode });
    }
    check_unchangeable(path)
}

/// Nobody else says what the file holds or does.
fn check_unchangeable(path: &Path) -> Result<(), Why> {
    let mode = mode(path)?;
    if mode & 0o002 != 0 {
        return Err(Why::Changeable { path: path.to_owned(), mode });
    }
    Ok(())
}

fn mode(path: &Path) -> Result<u32, Why> {
    let metadata = fs::metadata(path).map_err(|source| Why::Unreadable { path: path.to_owned(), source })?;
    Ok(metadata.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests;
