//! Libvirt's errors, turned into ours: by their code where it says enough, by their text where it does not.

use virt::error::{Error, ErrorNumber};

use super::session::CallInfo;
use crate::machine::hypervisor::HypervisorError;

/// Why a call failed, before it is known what it was about.
pub(super) enum Failure {
    /// Libvirt said so.
    Libvirt(Error),
    /// We know better what it means.
    Ours(HypervisorError),
    /// Nobody wants its result any more.
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
        Self::Ours(error)
    }
}

/// Whether libvirt says that there is no such thing.
pub(super) fn is_missing(error: &Error) -> bool {
    use ErrorNumber::{NoDomain, NoNetwork, NoNwfilter, NoStoragePool, NoStorageVolume};
    [NoDomain, NoNetwork, NoNwfilter, NoStoragePool, NoStorageVolume]
        .iter()
        .any(|code| error.code().is(*code))
}

/// `None` for "there is no such thing".
pub(super) fn found<T>(looked_up: Result<T, Error>) -> Result<Option<T>, Error> {
    match looked_up {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a failure means, knowing what it was about.
pub(super) fn translate(failure: Failure, about: &CallInfo) -> HypervisorError {
    let (verb, object) = (about.verb, about.object.clone());
    let error = match failure {
        Failure::Ours(error) => return error,
        Failure::Cancelled => {
            let source = "nobody waits for it any more".into();
            return HypervisorError::Other { verb, object, source };
        }
        Failure::Panicked => {
            let source = "libvirt's binding panicked".into();
            return HypervisorError::Other { verb, object, source };
        }
        Failure::Libvirt(error) => error,
    };
    let is = |code| error.code().is(code);
    if is_missing(&error) {
        HypervisorError::NotFound { object }
    } else if is(ErrorNumber::DomExist) || is(ErrorNumber::NetworkExist) || is(ErrorNumber::StorageVolExist) {
        HypervisorError::Exists { object }
    } else if is_disk_full(error.message()) {
        HypervisorError::DiskFull { verb, object, source: said(&error) }
    } else {
        HypervisorError::Other { verb, object, source: said(&error) }
    }
}

/// What it means that no connection could be made.
pub(super) fn cannot_open(error: Error, uri: &str) -> HypervisorError {
    use ErrorNumber::{AccessDenied, AuthCancelled, AuthFailed, AuthUnavailable, InvalidArg, NoConnect};
    let uri = uri.to_owned();
    let is = |codes: &[ErrorNumber]| codes.iter().any(|code| error.code().is(*code));
    let message = error.message();
    // No driver of that name, no such transport; of a path that a driver does not know there are but the words.
    if is(&[InvalidArg, NoConnect]) || message.contains(" URI path ") {
        return HypervisorError::BadUri { uri, source: said(&error) };
    }
    let refused = [AccessDenied, AuthCancelled, AuthFailed, AuthUnavailable];
    if is(&refused) || message.contains("Permission denied") {
        let hint = if is_local(&uri) {
            "join its group with `sudo usermod -aG libvirt $USER` and log in again".to_owned()
        } else {
            format!("see whether `virsh -c {uri} uri` works")
        };
        return HypervisorError::Permission { uri, hint, source: said(&error) };
    }
    let hint = if is_local(&uri) {
        "start it with `make setup`, or `sudo systemctl start libvirtd`".to_owned()
    } else {
        format!("see whether `virsh -c {uri} uri` works")
    };
    HypervisorError::NoDaemon { uri, hint, source: said(&error) }
}

/// Whether a URI names no other machine: `qemu:///system`.
pub(super) fn is_local(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(_, rest)| rest.starts_with('/') || rest.is_empty())
}

fn is_disk_full(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["no space left on device", "disk quota exceeded", "not enough free space", "insufficient free space"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// What libvirt said, without its codes.
fn said(error: &Error) -> Box<dyn std::error::Error + Send + Sync> {
    error.message().trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("qemu:///system", true)]
    #[case("qemu:///session", true)]
    #[case("qemu+ssh://root@kvm.example/system", false)]
    #[case("qemu+unix:///system?socket=/run/x", true)]
    fn a_uri_without_a_host_is_local(#[case] uri: &str, #[case] local: bool) {
        assert_eq!(is_local(uri), local);
    }

    #[test]
    fn a_transport_that_libvirt_does_not_know_is_to_be_corrected() {
        let uri = "qemu+sssh:///system";
        let error = virt::connect::Connect::open(Some(uri)).map_err(|error| cannot_open(error, uri));
        let error = error.err().unwrap();
        assert!(matches!(error, HypervisorError::BadUri { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("`{uri}`; correct `libvirt.uri`")), "{error}");
    }

    #[test]
    fn a_daemon_that_is_not_there_is_named_with_the_command_that_starts_it() {
        let uri = "qemu+unix:///system?socket=/nowhere/libvirt-sock";
        let error = virt::connect::Connect::open(Some(uri)).map_err(|error| cannot_open(error, uri));
        let error = error.err().unwrap();
        assert!(matches!(error, HypervisorError::NoDaemon { .. }), "{error:?}");
        assert!(
            error.to_string().ends_with("start it with `make setup`, or `sudo systemctl start libvirtd`")
        );
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("/nowhere/libvirt-sock"), "{source}");
    }
}
