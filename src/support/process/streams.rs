//! The three streams of a child: its input fed, its outputs read line by line, each by a thread of its own, so that
//! none of them ever blocks the child.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of output, its line feed included.
pub(super) type Line = (Stream, Vec<u8>);
/// A child's input, and what to feed it.
pub(super) type Input = (ChildStdin, Vec<u8>);

/// Feeds `input` and gives the lines of both outputs as they come; the channel closes when both are at their end.
pub(super) fn read_streams(child: &mut Child, input: Option<Input>) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        read_lines(stdout, Stream::Stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        read_lines(stderr, Stream::Stderr, sender);
    }
    if let Some((mut stdin, bytes)) = input {
        // A child that does not read its input is its own affair: its exit status tells.
        std::thread::spawn(move || stdin.write_all(&bytes));
    }
    receiver
}

fn read_lines(from: impl Read + Send + 'static, stream: Stream, to: mpsc::Sender<Line>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if to.send((stream, std::mem::take(&mut line))).is_err() {
                return;
            }
        }
    });
}
