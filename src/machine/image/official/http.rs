//! One HTTP request after another, each in a thread of its own: whatever it blocks in (names, connecting, TLS, a silent
//! server), the caller sees the deadline and Ctrl-C within a moment. Certificates and redirects are ureq's business.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};
use ureq::{Agent, Proxy};

use super::error::OfficialError;
use crate::support::deadline::Deadline;

/// How often a caller that waits looks up.
const ATTENTION: Duration = Duration::from_millis(50);
/// Bytes read at a time.
const CHUNK: usize = 128 << 10;
/// Chunks that may wait to be written.
const AHEAD: usize = 4;

/// How long a server is waited for.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Patience {
    /// For its name, and then for a connection. A machine without a network should hear of it soon.
    pub connect: Duration,
    /// For the head of an answer, and for any next byte of it.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), silence: Duration::from_secs(30) }
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub status: StatusCode,
    /// `Content-Length`.
    pub length: Option<u64>,
    /// Of `Content-Range: bytes 100-199/200`, the first byte's place; and the total, if it is known.
    pub range: (Option<u64>, Option<u64>),
}

enum Message {
    Head(Head),
    Chunk(Vec<u8>),
    End,
    NoAnswer(Box<ureq::Error>),
    Broken(io::Error),
}

/// An answer that is coming in.
pub(super) struct Answer<'a> {
    url: &'a str,
    messages: Receiver<Message>,
}

/// A chunk of an answer's body, or why there is none.
pub(super) enum Next {
    Chunk(Vec<u8>),
    End,
    Broken(io::Error),
}

/// Asks for `url`, from byte `from` on.
pub(super) fn get<'a>(
    url: &'a str,
    from: u64,
    patience: Patience,
    deadline: &Deadline,
) -> Result<(Head, Answer<'a>), OfficialError> {
    let (sender, messages) = sync_channel(AHEAD);
    let asked = url.to_owned();
    // Not joined: when the caller gives up it ends by itself, at its next byte or after so much silence.
    std::thread::spawn(move || serve(&asked, from, patience, &sender));
    let answer = Answer { url, messages };
    match answer.receive(deadline)? {
        Message::Head(head) => Ok((head, answer)),
        Message::NoAnswer(source) => Err(OfficialError::Unreachable { url: url.to_owned(), source }),
        Message::Chunk(_) | Message::End | Message::Broken(_) => Err(gone(url)),
    }
}

impl Answer<'_> {
    /// The next chunk of the body.
    pub(super) fn next(&self, deadline: &Deadline) -> Result<Next, OfficialError> {
        Ok(match self.receive(deadline)? {
            Message::Chunk(chunk) => Next::Chunk(chunk),
            Message::End => Next::End,
            Message::Broken(error) => Next::Broken(error),
            Message::Head(_) | Message::NoAnswer(_) => return Err(gone(self.url)),
        })
    }

    fn receive(&self, deadline: &Deadline) -> Result<Message, OfficialError> {
        deadline.time_wait(|| {
            loop {
                deadline.check(self.url).map_err(|error| OfficialError::Stopped {
                    url: self.url.to_owned(),
                    source: error.into(),
                })?;
                match self.messages.recv_timeout(ATTENTION) {
                    Ok(message) => return Ok(message),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Err(gone(self.url)),
                }
            }
        })
    }
}

/// The thread's side.
fn serve(url: &str, from: u64, patience: Patience, sender: &SyncSender<Message>) {
    let mut request = agent(url, patience).get(url);
    if from > 0 {
        request = request.header(header::RANGE, format!("bytes={from}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => {
            let _ = sender.send(Message::NoAnswer(error.into()));
            return;
        }
    };
    let (parts, body) = response.into_parts();
    let head =
        Head { status: parts.status, length: number(&parts.headers), range: content_range(&parts.headers) };
    if sender.send(Message::Head(head)).is_err() {
        return;
    }
    let mut body = body.into_with_config().limit(u64::MAX).reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        let message = match body.read(&mut chunk) {
            Ok(0) => Message::End,
            Ok(read) => {
                chunk.truncate(read);
                Message::Chunk(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Message::Broken(error),
        };
        let last = !matches!(message, Message::Chunk(_));
        if sender.send(message).is_err() || last {
            return;
        }
    }
}

fn agent(url: &str, patience: Patience) -> Agent {
    let secure = url.starts_with("https://");
    let proxy = if secure { Proxy::try_from_env() } else { None };
    Agent::config_builder()
        .https_only(secure)
        .http_status_as_error(false)
        .proxy(proxy)
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.silence))
        .timeout_per_read(Some(patience.silence))
        .user_agent(concat!("boma-it/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

fn number(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// RFC 9110, 14.4: `bytes 100-199/200`, `bytes 100-199/*`, or `bytes */200` of a range that cannot be had.
fn content_range(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let text = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let Some((range, total)) = text.and_then(|text| text.strip_prefix("bytes ")?.split_once('/')) else {
        return (None, None);
    };
    (range.split('-').next().and_then(|first| first.parse().ok()), total.parse().ok())
}

/// The thread ended without a word, which a panic of a library's would do.
fn gone(url: &str) -> OfficialError {
    let source = ureq::Error::Io(io::Error::other("the request ended without an answer"));
    OfficialError::Unreachable { url: url.to_owned(), source: source.into() }
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
    fn a_range_says_where_it_begins_and_how_much_there_is(
        #[case] text: &str,
        #[case] expected: (Option<u64>, Option<u64>),
    ) {
        let headers = [(header::CONTENT_RANGE, text.parse().unwrap())].into_iter().collect();
        assert_eq!(content_range(&headers), expected);
    }

    #[test]
    fn who_was_asked_for_by_https_is_never_led_to_plain_http() {
        assert!(agent("https://mirror.example/x", Patience::default()).config().https_only());
    }
}
