//! Why Debian's own image cannot be downloaded: what happened, at which address, and what to do next.

use std::io;

use ureq::http::StatusCode;

use crate::support::deadline::WaitError;

/// Why Debian's own image cannot be downloaded. `url` is the address of the request, `got` the number of bytes on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfficialError {
    /// There was no response.
    #[error("cannot reach {url}")]
    Unreachable { url: String, source: Box<ureq::Error> },
    /// The server refused.
    #[error("the server answers {status} to {url}")]
    Status { url: String, status: StatusCode },
    /// The connection ended, or fell silent, in the middle. `total` is the size of the file in bytes, if the server named
    /// it; there is no `source` if the connection just ended.
    #[error(
        "the download of {url} broke off after {got} bytes of {}",
        .total.map_or_else(|| "an unknown number".to_owned(), |total| total.to_string())
    )]
    Broken { url: String, got: u64, total: Option<u64>, source: Option<io::Error> },
    /// The bytes have the digest `found`, not the one that the list of sums promises.
    #[error(
        "{url} has {got} bytes and SHA-512 {}…, expected {}… as in the server's SHA512SUMS",
        found.get(..16).unwrap_or(found), expected.get(..16).unwrap_or(expected)
    )]
    Digest { url: String, got: u64, found: String, expected: String },
    /// The response is not the file that should be there. `why` says what is wrong with it, and what was expected.
    #[error("{url} is not the expected file: {why}")]
    Unexpected { url: String, why: String },
    /// Interrupted, or the deadline passed.
    #[error("the download of {url} was stopped")]
    Stopped { url: String, source: Box<WaitError> },
}

impl OfficialError {
    /// What to do next: an imperative that fits before "or set `image.source: build`".
    pub(in super::super) fn next_step(&self) -> &'static str {
        match self {
            Self::Unreachable { source, .. } if is_tls(source) => {
                "add the CA of the server, or of the proxy, to this machine's certificate store \
                 (`update-ca-certificates`, or SSL_CERT_FILE)"
            }
            Self::Unreachable { .. } => "check the network and HTTPS_PROXY",
            Self::Status { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. } => {
                "check `image.url` and `image.release` (Debian keeps a build for some months)"
            }
            Self::Status { status, .. } if status.is_server_error() => "run again later",
            Self::Status { .. } => "check `image.url`, and whether the proxy needs a password",
            Self::Broken { .. } | Self::Stopped { .. } => "run again to continue the download",
            Self::Digest { .. } => {
                "run again later (the download was removed: it was damaged or tampered with, or the server is just \
                 being updated)"
            }
            Self::Unexpected { .. } => {
                "check `image.url`, and that no login page of the network answers instead"
            }
        }
    }
}

/// Whether TLS failed. A certificate that is not trusted is an I/O error of the handshake, with rustls' own error inside.
fn is_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => true,
        ureq::Error::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
        _ => false,
    }
}
