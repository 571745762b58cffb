//! Which secrets a plan needs and where each comes from: plain data, never a value.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A secret that a plan needs, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPlan {
    /// Its name: the dotted path of the Ansible variable that holds it, such as `vault.gandi.pat`.
    pub name: String,
    /// Where it comes from.
    pub source: SecretSource,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// This environment variable.
    Env(String),
    /// The whole of this file, without line ends at its end: absolute.
    File(PathBuf),
    /// The value at the secret's own dotted path in a YAML file of Ansible Vault's.
    Vault {
        /// The file, encrypted as a whole or with encrypted values in it: absolute.
        file: PathBuf,
        /// The vault's password.
        password: VaultPassword,
    },
}

/// Where the password of Ansible Vault comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaultPassword {
    /// The content of this file, or its output if it is executable: absolute.
    File(PathBuf),
    /// The output of this command of a POSIX shell, run in the root.
    Command(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(variable) => write!(f, "the environment variable {variable}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Vault { file, .. } => write!(f, "the vault {}", file.display()),
        }
    }
}

impl fmt::Display for VaultPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the password of {}", path.display()),
            Self::Command(command) => write!(f, "the password that `{command}` prints"),
        }
    }
}
