//! Libvirt's errors, translated: by their code where that is enough, by their text where it is not.

use virt::error::{Error, ErrorNumber};

use super::connection::CallInfo;
use crate::machine::hypervisor::HypervisorError;

/// Why a call failed, before it is known what the call was for.
pub(super) enum Failure {
    /// Libvirt's own error.
    Libvirt(Error),
    /// An error that needs no translation.
    Known(HypervisorError),
    /// The caller has given up.
    Cancelled,
    /// The `virt` crate panicked.
    Panicked,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Libvirt(error)
    }
}

impl From<HypervisorError> for Failure {
    fn from(error: HypervisorError) -> Self {
        Self::Known(error)
    }
}

/// `None` when libvirt says that the object does not exist.
pub(super) fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Err(error) if is_missing(&error) => Ok(None),
        result => result.map(Some),
    }
}

pub(super) fn is_missing(error: &Error) -> bool {
    use ErrorNumber::{NoDomain, NoNetwork, NoNwfilter, NoStoragePool, NoStorageVolume};
    has_code(error, &[NoDomain, NoNetwork, NoNwfilter, NoStoragePool, NoStorageVolume])
}

/// What a failure of this call means.
pub(super) fn translate(failure: Failure, info: &CallInfo) -> HypervisorError {
    let (verb, object) = (info.verb, info.object.clone());
    let source = match failure {
        Failure::Known(error) => return error,
        Failure::Cancelled => "the caller has stopped waiting for it".into(),
        Failure::Panicked => "the `virt` crate panicked".into(),
        Failure::Libvirt(error) => {
            use ErrorNumber::{DomExist, NetworkExist, StorageVolExist};
            if is_missing(&error) {
                return HypervisorError::NotFound { object };
            }
            if has_code(&error, &[DomExist, NetworkExist, StorageVolExist]) {
                return HypervisorError::Exists { object };
            }
            if is_disk_full(error.message()) {
                return HypervisorError::DiskFull { verb, object, source: message(&error) };
            }
            message(&error)
        }
    };
    HypervisorError::Other { verb, object, source }
}

/// Why no connection to `uri` could be opened.
pub(super) fn cannot_open(error: Error, uri: &str) -> HypervisorError {
    use ErrorNumber::{AccessDenied, AuthCancelled, AuthFailed, AuthUnavailable, InvalidArg, NoConnect};
    let (text, source, uri) = (error.message(), message(&error), uri.to_owned());
    // An unknown driver or transport has a code, an unknown path of a known driver has only a text.
    if has_code(&error, &[InvalidArg, NoConnect]) || text.contains(" URI path ") {
        return HypervisorError::BadUri { uri, source };
    }
    let is_refused = has_code(&error, &[AccessDenied, AuthCancelled, AuthFailed, AuthUnavailable])
        || text.contains("Permission denied");
    let hint = match (is_local(&uri), is_refused) {
        (true, true) => "join its group with `sudo usermod -aG libvirt $USER` and log in again".to_owned(),
        (true, false) => "start it with `make setup`, or `sudo systemctl start libvirtd`".to_owned(),
        (false, _) => format!("check whether `virsh -c {uri} uri` works"),
    };
    match is_refused {
        true => HypervisorError::Permission { uri, hint, source },
        false => HypervisorError::NoDaemon { uri, hint, source },
    }
}

/// Whether the URI names this machine: `qemu:///system`.
pub(super) fn is_local(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(_, rest)| rest.starts_with('/') || rest.is_empty())
}

fn has_code(error: &Error, codes: &[ErrorNumber]) -> bool {
    codes.iter().any(|code| error.code().is(*code))
}

fn is_disk_full(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["no space left on device", "disk quota exceeded", "not enough free space", "insufficient free space"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// Libvirt's message without its codes.
fn message(error: &Error) -> Box<dyn std::error::Error + Send + Sync> {
    error.message().trim().into()
}

#[cfg(test)]
mod tests {
    use virt::connect::Connect;

    use super::*;

    #[rstest::rstest]
    #[case("qemu:///system", true)]
    #[case("qemu:///session", true)]
    #[case("qemu+ssh://root@kvm.example/system", false)]
    #[case("qemu+unix:///system?socket=/run/x", true)]
    fn a_uri_without_a_host_is_local(#[case] uri: &str, #[case] local: bool) {
        assert_eq!(is_local(uri), local);
    }

    fn open(uri: &str) -> HypervisorError {
        Connect::open(Some(uri)).map_err(|error| cannot_open(error, uri)).err().unwrap()
    }

    #[test]
    fn an_unknown_transport_is_a_bad_uri() {
        let error = open("qemu+sssh:///system");
        assert!(matches!(error, HypervisorError::BadUri { .. }), "{error:?}");
        insta::assert_snapshot!(error, @"libvirt does not accept the URI `qemu+sssh:///system`; correct `libvirt.uri` in harness/harness.yml, or BOMA_IT_URI (this machine is `qemu:///system`)");
    }

    #[test]
    fn a_daemon_that_does_not_run_is_named_with_the_command_that_starts_it() {
        let error = open("qemu+unix:///system?socket=/nowhere/libvirt-sock");
        assert!(matches!(error, HypervisorError::NoDaemon { .. }), "{error:?}");
        insta::assert_snapshot!(error, @"no libvirt daemon answers at qemu+unix:///system?socket=/nowhere/libvirt-sock; start it with `make setup`, or `sudo systemctl start libvirtd`");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("/nowhere/libvirt-sock"), "{source}");
    }
}
