//! A run's SSH key pairs, made by ssh-keygen: the client's, and the guest's host key. As we know the host key, host key
//! checking is strict from the first connection on.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::support::deadline::Deadline;
use crate::support::process::{Process, ProcessError};

/// An ed25519 key pair in a folder: `<name>` (mode 0600) and `<name>.pub`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPair {
    private_path: PathBuf,
    public: String,
}

/// Why a key pair could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// A file of the pair cannot be used. `what` is as in "cannot … the key file": `read`.
    #[error("cannot {what} the key file {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    /// ssh-keygen failed.
    #[error("cannot generate an SSH key")]
    Keygen(#[source] Box<ProcessError>),
}

impl KeyPair {
    /// Generates a pair without a passphrase in `dir`.
    ///
    /// # Errors
    /// [`KeyError`], also when a key of that name exists: a run's keys are never replaced.
    pub(crate) fn generate(dir: &Path, name: &str, deadline: &Deadline) -> Result<Self, KeyError> {
        let path = dir.join(name);
        if path.exists() {
            return Err(KeyError::file("generate", &path)(io::ErrorKind::AlreadyExists.into()));
        }
        let keygen =
            Process::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "boma-it", "-f"]);
        keygen.arg(&path).run_ok(deadline).map_err(|source| KeyError::Keygen(source.into()))?;
        // In spite of the umask.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(KeyError::file("protect", &path))?;
        Self::open(dir, name)
    }

    /// Writes a pair that exists already into `dir`.
    ///
    /// # Errors
    /// [`KeyError`], also when a key of that name exists.
    pub(crate) fn keep(dir: &Path, name: &str, private: &str, public: &str) -> Result<Self, KeyError> {
        for (name, text) in [(name.to_owned(), private), (format!("{name}.pub"), public)] {
            let path = dir.join(name);
            let mut options = fs::File::options();
            let file = options.create_new(true).write(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(KeyError::file("write", &path))?;
        }
        Self::open(dir, name)
    }

    /// The pair that an earlier process of the same run generated.
    ///
    /// # Errors
    /// [`KeyError::File`] when it does not exist.
    pub(crate) fn open(dir: &Path, name: &str) -> Result<Self, KeyError> {
        let (private_path, public_path) = (dir.join(name), dir.join(format!("{name}.pub")));
        fs::metadata(&private_path).map_err(KeyError::file("find", &private_path))?;
        let public = fs::read_to_string(&public_path).map_err(KeyError::file("read", &public_path))?;
        Ok(Self { private_path, public: public.trim_end().to_owned() })
    }

    /// The private key, in OpenSSH's format.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub(crate) fn private(&self) -> Result<String, KeyError> {
        fs::read_to_string(&self.private_path).map_err(KeyError::file("read", &self.private_path))
    }

    /// The public key: `ssh-ed25519 AAAA… boma-it`, without a line feed.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }
}

impl KeyError {
    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { what, path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn generate(dir: &Path) -> Result<KeyPair, KeyError> {
        KeyPair::generate(dir, "id", &Deadline::uninterrupted(Duration::from_secs(30), "the test"))
    }

    #[test]
    fn a_generated_pair_is_private_and_can_be_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let pair = generate(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join("id")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(pair.public().starts_with("ssh-ed25519 AAAA") && pair.public().ends_with(" boma-it"));
        assert!(pair.private().unwrap().starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
        assert_eq!(KeyPair::open(dir.path(), "id").unwrap(), pair);
    }

    #[test]
    fn a_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let pair = generate(dir.path()).unwrap();
        let error = generate(dir.path()).unwrap_err();
        assert!(matches!(error, KeyError::File { what: "generate", .. }), "{error}");
        assert_eq!(KeyPair::open(dir.path(), "id").unwrap(), pair);
    }

    #[test]
    fn the_error_names_the_missing_key_file() {
        let error = KeyPair::open(Path::new("/no/such/run"), "id").unwrap_err();
        assert_eq!(error.to_string(), "cannot find the key file /no/such/run/id");
    }
}
