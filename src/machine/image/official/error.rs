//! Why Debian's own image could not be had: what happened, where, and what to do next.

use std::io;

use ureq::http::StatusCode;

use crate::support::deadline::WaitError;

/// Why Debian's own image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum OfficialError {
    /// No answer.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// How it failed.
        #[source]
        source: Box<ureq::Error>,
    },
    /// An answer without what was asked for.
    #[error("the server says {status} to {url}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The connection ended, or fell silent, in the middle.
    #[error(
        "{url} broke off after {got} bytes of {}",
        .total.map_or_else(|| "an unknown number".to_owned(), |total| total.to_string())
    )]
    Broken {
        /// What was asked for.
        url: String,
        /// Bytes that are there.
        got: u64,
        /// How many there should be, as the server said.
        total: Option<u64>,
        /// How it failed, where the connection did.
        #[source]
        source: Option<Box<io::Error>>,
    },
    /// Larger than an image can be.
    #[error("{url} has {size} bytes, expected an image of no more than {limit}")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// How large it is, at least.
        size: u64,
        /// How large it may be.
        limit: u64,
    },
    /// Not the bytes that the list of sums promises.
    #[error(
        "{url} came with {got} bytes and SHA-512 {}…, expected {}…, which is what the server's SHA512SUMS promises",
        found.get(..16).unwrap_or(found), expected.get(..16).unwrap_or(expected)
    )]
    Digest {
        /// What was asked for.
        url: String,
        /// Its size.
        got: u64,
        /// Its digest.
        found: String,
        /// The promised one.
        expected: String,
    },
    /// A file that is not what it should be.
    #[error("{url} cannot be what was asked for: {why}")]
    Nonsense {
        /// What was asked for.
        url: String,
        /// What is wrong with it, and what was expected.
        why: String,
    },
    /// Interrupted, or the deadline passed.
    #[error("getting {url} was stopped")]
    Stopped {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: Box<WaitError>,
    },
}

impl OfficialError {
    /// What to do next: the end of a sentence.
    pub(in super::super) fn next_step(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "is there a network, and a proxy to go by (HTTPS_PROXY)? `image.source: build` in harness.yml needs \
                 Debian's archive only"
            }
            Self::Status { status, .. }
                if *status == StatusCode::NOT_FOUND || *status == StatusCode::GONE =>
            {
                "Debian keeps a build for some months: is `image.release` an old one, and is `image.url` right?"
            }
            Self::Status { status, .. } if status.is_server_error() => {
                "run again later, or set `image.source: build` in harness.yml"
            }
            Self::Status { .. } => "is `image.url` right, and does a proxy want a password?",
            Self::Broken { .. } | Self::Stopped { .. } => {
                "what came of it is kept, and the next run goes on from there"
            }
            Self::TooLarge { .. } => "nothing of it was kept; is `image.url` right?",
            Self::Digest { .. } => {
                "it was removed: damaged or tampered with on its way, or the server is changing it just now. Run again \
                 later, and do not use it by hand"
            }
            Self::Nonsense { .. } => "is `image.url` right, and no login page of a network in between?",
        }
    }
}
