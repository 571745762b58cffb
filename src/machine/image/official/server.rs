//! An HTTP server on loopback that misbehaves on demand, for the tests of downloads. One request a connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How a file is served.
#[derive(Clone, Debug)]
pub(in super::super) enum Act {
    /// As it should be, ranges included.
    Serve(Vec<u8>),
    /// Whole, whatever part was asked for.
    IgnoreRange(Vec<u8>),
    /// Ranges included, but the connection ends after so many bytes of the body.
    Cut(Vec<u8>, usize),
    /// Whole, whatever part was asked for, and the connection ends after so many bytes.
    CutIgnoringRange(Vec<u8>, usize),
    /// With a `Content-Length` of this instead of its own.
    Claim(Vec<u8>, u64),
    /// With another part than was asked for.
    OtherPart(Vec<u8>),
    /// Without `Content-Length`: its end is the connection's.
    Unsized(Vec<u8>),
    /// So many bytes, and then silence.
    Silent(Vec<u8>, usize),
    /// A status, and a few words.
    Status(&'static str),
    /// The connection ends before any answer.
    HangUp,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Act>,
    asked: Vec<String>,
    /// Connections that are kept open in silence.
    held: Vec<TcpStream>,
}

/// The server; it ends with the test's process.
pub(in super::super) struct Server {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(in super::super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<Mutex<State>>::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // A client that hangs up is no trouble of ours.
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        Self { address, state }
    }

    /// `http://127.0.0.1:PORT`.
    pub(in super::super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `path` is served so.
    pub(in super::super) fn put(&self, path: &str, act: Act) {
        self.state.lock().unwrap().files.insert(path.to_owned(), act);
    }

    /// What was asked for since the last call: `/path`, or `/path from 100`.
    pub(in super::super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let (path, from) = request(&stream)?;
    let act = {
        let mut state = state.lock().unwrap();
        state.asked.push(if from > 0 { format!("{path} from {from}") } else { path.clone() });
        state.files.get(&path).cloned().unwrap_or(Act::Status("404 Not Found"))
    };
    match act {
        Act::Serve(body) => part(&mut stream, &body, from, body.len()),
        Act::Cut(body, after) => part(&mut stream, &body, from, after),
        Act::OtherPart(body) => part(&mut stream, &body, from / 2, body.len()),
        Act::IgnoreRange(body) => whole(&mut stream, &body, body.len() as u64),
        Act::CutIgnoringRange(body, after) => {
            let length = body.len() as u64;
            whole(&mut stream, body.get(..after)?, length)
        }
        Act::Claim(body, length) if from == 0 => whole(&mut stream, &body, length),
        Act::Claim(body, _) => part(&mut stream, &body, from, body.len()),
        Act::Unsized(body) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").ok()?;
            stream.write_all(&body).ok()
        }
        Act::Silent(body, after) => {
            let length = body.len() as u64;
            whole(&mut stream, body.get(..after)?, length)?;
            state.lock().unwrap().held.push(stream);
            return Some(());
        }
        Act::Status(status) => {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsorry");
            stream.write_all(answer.as_bytes()).ok()
        }
        Act::HangUp => Some(()),
    }?;
    let _ = stream.shutdown(Shutdown::Write);
    Some(())
}

fn request(stream: &TcpStream) -> Option<(String, usize)> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut from = 0;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok()?;
        }
    }
    Some((path, from))
}

fn whole(stream: &mut TcpStream, body: &[u8], length: u64) -> Option<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
}

/// The body from `from` on, cut after so many of its bytes.
fn part(stream: &mut TcpStream, body: &[u8], from: usize, cut: usize) -> Option<()> {
    let total = body.len();
    let end = from.saturating_add(cut).min(total);
    if from == 0 {
        return whole(stream, body.get(..end)?, total as u64);
    }
    if from >= total {
        let head = format!(
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return stream.write_all(head.as_bytes()).ok();
    }
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n",
        total - 1,
        total - from
    );
    let rest = body.get(from..end)?;
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(rest)).ok()
}
