//! HTTP requests that heed the deadline and Ctrl-C. Each runs in a thread of its own, as it can block for long in name
//! resolution, connecting, TLS or reading; the caller waits on a channel. ureq does redirects, proxies and TLS.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ureq::http::response::Parts;
use ureq::http::{HeaderMap, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use super::super::Operation;
use super::error::OfficialError;
use crate::support::deadline::Deadline;

/// How often a waiting caller checks its deadline.
const POLL: Duration = Duration::from_millis(50);
/// Bytes read at a time.
const CHUNK: usize = 128 << 10;
/// Chunks that the thread may read ahead of the caller.
const AHEAD: usize = 4;
/// The largest text file that is accepted. The manifest lists the image's packages and has some 50 KiB.
const LARGEST_TEXT: usize = 4 << 20;

/// How long to wait for a server.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Patience {
    /// For name resolution, and then for the connection: short, so that a machine without a network notices soon.
    pub connect: Duration,
    /// For the head of the response, and for each next byte of its body.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), silence: Duration::from_secs(30) }
    }
}

/// A response whose body is still arriving.
pub(super) struct Response<'a> {
    url: &'a str,
    pub head: Parts,
    chunks: Receiver<io::Result<Vec<u8>>>,
}

/// Requests `url`, from byte `from` on.
///
/// # Errors
/// [`OfficialError::Unreachable`], [`OfficialError::Status`] for anything but success, [`OfficialError::Stopped`].
pub(super) fn get<'a>(
    url: &'a str,
    from: u64,
    patience: Patience,
    deadline: &Deadline,
) -> Result<Response<'a>, OfficialError> {
    let (head_sender, heads) = sync_channel(1);
    let (chunk_sender, chunks) = sync_channel(AHEAD);
    let asked = url.to_owned();
    // Not joined: when the caller gives up, the thread ends at its next byte or when `patience` runs out.
    std::thread::spawn(move || request(&asked, from, patience, &head_sender, &chunk_sender));
    let unreachable =
        |source: ureq::Error| OfficialError::Unreachable { url: url.to_owned(), source: source.into() };
    let head = receive(url, &heads, deadline)?.unwrap_or_else(|| Err(ended().into())).map_err(unreachable)?;
    match head.status.is_success() {
        true => Ok(Response { url, head, chunks }),
        false => Err(OfficialError::Status { url: url.to_owned(), status: head.status }),
    }
}

/// Requests a small text file.
pub(super) fn get_text(
    url: &str,
    patience: Patience,
    operation: Operation<'_>,
) -> Result<String, OfficialError> {
    (operation.progress)(&format!("requesting {url}"));
    let unexpected = |why: String| OfficialError::Unexpected { url: url.to_owned(), why };
    let response = get(url, 0, patience, operation.deadline)?;
    let mut text = Vec::new();
    loop {
        let chunk = response.next(operation.deadline)?.map_err(|error| {
            unexpected(format!("the connection broke after {} bytes ({error})", text.len()))
        })?;
        if chunk.is_empty() {
            return String::from_utf8(text).map_err(|_| unexpected("it is not UTF-8 text".to_owned()));
        }
        text.extend(chunk);
        if text.len() > LARGEST_TEXT {
            return Err(unexpected(format!("it has more than {LARGEST_TEXT} bytes")));
        }
    }
}

impl Response<'_> {
    /// The next chunk of the body: empty at its end, an error if the connection broke.
    pub(super) fn next(&self, deadline: &Deadline) -> Result<io::Result<Vec<u8>>, OfficialError> {
        Ok(receive(self.url, &self.chunks, deadline)?.unwrap_or_else(|| Err(ended())))
    }

    /// `Content-Length`: bytes of the body.
    pub(super) fn length(&self) -> Option<u64> {
        self.head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
    }
}

/// The next message, or nothing if the sender is gone.
fn receive<T>(url: &str, messages: &Receiver<T>, deadline: &Deadline) -> Result<Option<T>, OfficialError> {
    deadline.time_wait(|| {
        loop {
            deadline
                .check(url)
                .map_err(|error| OfficialError::Stopped { url: url.to_owned(), source: error.into() })?;
            match messages.recv_timeout(POLL) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    })
}

/// What runs in the thread. It ends as soon as nobody receives any more.
fn request(
    url: &str,
    from: u64,
    patience: Patience,
    head: &SyncSender<Result<Parts, ureq::Error>>,
    chunks: &SyncSender<io::Result<Vec<u8>>>,
) {
    let mut request = agent(url, patience).get(url);
    if from > 0 {
        request = request.header(header::RANGE, format!("bytes={from}-"));
    }
    let (parts, body) = match request.call() {
        Ok(response) => response.into_parts(),
        Err(error) => {
            let _ = head.send(Err(error));
            return;
        }
    };
    let mut received = head.send(Ok(parts)).is_ok();
    let mut body = body.into_reader();
    while received {
        let mut chunk = vec![0; CHUNK];
        let read = body.read(&mut chunk);
        let more = read.as_ref().is_ok_and(|read| *read > 0);
        chunk.truncate(*read.as_ref().unwrap_or(&0));
        received = chunks.send(read.map(|_| chunk)).is_ok() && more;
    }
}

/// An address with https is never redirected to plain http.
fn agent(url: &str, patience: Patience) -> Agent {
    let secure = url.starts_with("https://");
    let proxy = if secure { Proxy::try_from_env() } else { None };
    // The certificates of the machine, so that a proxy's or a mirror's own CA works like anywhere else.
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    Agent::config_builder()
        .https_only(secure)
        .http_status_as_error(false)
        .proxy(proxy)
        .tls_config(tls)
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.silence))
        .timeout_per_read(Some(patience.silence))
        .user_agent(concat!("boma-it/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// `Content-Range`: where the body's first byte is in the file, and the size of the file. RFC 9110, 14.4:
/// `bytes 100-199/200`, `bytes 100-199/*`, or `bytes */200` for a range that does not exist.
pub(super) fn content_range(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let text = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let Some((range, total)) = text.and_then(|text| text.strip_prefix("bytes ")?.split_once('/')) else {
        return (None, None);
    };
    (range.split('-').next().and_then(|first| first.parse().ok()), total.parse().ok())
}

/// The thread ended without a result: a library panicked in it.
fn ended() -> io::Error {
    io::Error::other("the request ended without a response")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("bytes 100-199/200", (Some(100), Some(200)))]
    #[case("bytes 100-199/*", (Some(100), None))]
    #[case("bytes */200", (None, Some(200)))]
    #[case("lines 1-2/3", (None, None))]
    #[case("bytes", (None, None))]
    fn a_content_range_gives_the_first_byte_and_the_size(
        #[case] text: &str,
        #[case] expected: (Option<u64>, Option<u64>),
    ) {
        let headers = [(header::CONTENT_RANGE, text.parse().unwrap())].into_iter().collect();
        assert_eq!(content_range(&headers), expected);
    }

    #[test]
    fn an_https_address_is_never_redirected_to_plain_http() {
        assert!(agent("https://mirror.example/x", Patience::default()).config().https_only());
    }
}
