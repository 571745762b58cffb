//! An HTTP server on loopback that misbehaves on demand. It serves one request per connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How the server answers a request for a file.
#[derive(Clone, Debug)]
pub(super) enum Behavior {
    /// Correctly, ranges included.
    Serve(Vec<u8>),
    /// With the whole file, whatever range was requested.
    IgnoreRange(Vec<u8>),
    /// Ranges included, but the connection ends after this many bytes of the body.
    Cut(Vec<u8>, usize),
    /// With the whole file, whatever range was requested, and the connection ends after this many bytes.
    CutIgnoringRange(Vec<u8>, usize),
    /// With this `Content-Length` instead of the true one.
    Claim(Vec<u8>, u64),
    /// With another range than requested.
    WrongRange(Vec<u8>),
    /// Without `Content-Length`: the file ends with the connection.
    Unsized(Vec<u8>),
    /// With this many bytes, and then silence.
    Silent(Vec<u8>, usize),
    /// With this status and a short body.
    Status(&'static str),
    /// Not at all: the connection ends.
    HangUp,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Behavior>,
    requests: Vec<String>,
    /// Silent connections, kept open.
    silent: Vec<TcpStream>,
}

/// The server; it ends with the process.
pub(super) struct Server {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<Mutex<State>>::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        Self { address, state }
    }

    /// `http://127.0.0.1:PORT`.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets how requests for `path` are answered.
    pub(super) fn set(&self, path: &str, behavior: Behavior) {
        self.state.lock().unwrap().files.insert(path.to_owned(), behavior);
    }

    /// The requests since the last call: `/path`, or `/path from 100`.
    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let (path, from) = request(&stream)?;
    let behavior = {
        let mut state = state.lock().unwrap();
        state.requests.push(if from > 0 { format!("{path} from {from}") } else { path.clone() });
        state.files.get(&path).cloned().unwrap_or(Behavior::Status("404 Not Found"))
    };
    match behavior {
        Behavior::Serve(body) => part(&mut stream, &body, from, body.len()),
        Behavior::Cut(body, after) => part(&mut stream, &body, from, after),
        Behavior::WrongRange(body) => part(&mut stream, &body, from / 2, body.len()),
        Behavior::IgnoreRange(body) => whole(&mut stream, &body, body.len() as u64),
        Behavior::CutIgnoringRange(body, after) => {
            let length = body.len() as u64;
            whole(&mut stream, body.get(..after)?, length)
        }
        Behavior::Claim(body, length) if from == 0 => whole(&mut stream, &body, length),
        Behavior::Claim(body, _) => part(&mut stream, &body, from, body.len()),
        Behavior::Unsized(body) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").ok()?;
            stream.write_all(&body).ok()
        }
        Behavior::Silent(body, after) => {
            let length = body.len() as u64;
            whole(&mut stream, body.get(..after)?, length)?;
            state.lock().unwrap().silent.push(stream);
            return Some(());
        }
        Behavior::Status(status) => {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsorry");
            stream.write_all(answer.as_bytes()).ok()
        }
        Behavior::HangUp => Some(()),
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

/// The body from byte `from` on, cut after `cut` bytes.
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
