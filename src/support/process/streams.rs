//! The outputs of a child, read line by line by the thread that runs it, without blocking.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};

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

/// Both outputs of a child, each until it is closed.
pub(super) struct Outputs {
    open: Vec<Output>,
}

struct Output {
    stream: Stream,
    pipe: File,
    /// The beginning of a line.
    begun: Vec<u8>,
    ended: bool,
}

impl Outputs {
    pub(super) fn of(child: &mut Child) -> Self {
        let output =
            |stream, pipe| Output { stream, pipe: File::from(pipe), begun: Vec::new(), ended: false };
        let stdout = child.stdout.take().map(|pipe| output(Stream::Stdout, OwnedFd::from(pipe)));
        let stderr = child.stderr.take().map(|pipe| output(Stream::Stderr, OwnedFd::from(pipe)));
        Self { open: stdout.into_iter().chain(stderr).collect() }
    }

    /// Whether both outputs are closed.
    pub(super) fn are_at_their_end(&self) -> bool {
        self.open.is_empty()
    }

    /// Waits at most `patience` for output, and returns the lines that it completes.
    pub(super) fn wait(&mut self, patience: Duration) -> io::Result<Vec<Line>> {
        let mut asked: Vec<_> =
            self.open.iter().map(|output| PollFd::new(&output.pipe, PollFlags::IN)).collect();
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        match poll(&mut asked, Some(&patience)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let speaks: Vec<bool> = asked.iter().map(|output| !output.revents().is_empty()).collect();
        let mut lines = Vec::new();
        for (output, speaks) in self.open.iter_mut().zip(speaks) {
            // No other process reads it, so there is data or the end of the stream: this does not block.
            if speaks && output.read(CHUNK, &mut lines)? == 0 {
                output.break_off(&mut lines);
                output.ended = true;
            }
        }
        self.open.retain(|output| !output.ended);
        Ok(lines)
    }

    /// Reads what is in the pipes now, and nothing written later. For a child that has exited this is all its output.
    pub(super) fn held(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        for output in &mut self.open {
            let mut left = ioctl_fionread(&output.pipe)?;
            while left > 0 {
                match output.read(left, &mut lines)? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
        }
        Ok(lines)
    }

    /// Returns the unfinished last lines.
    pub(super) fn break_off(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        self.open.drain(..).for_each(|mut output| output.break_off(&mut lines));
        lines
    }
}

/// The capacity of a pipe.
const CHUNK: u64 = 64 * 1024;

impl Output {
    /// Reads once, at most `most` bytes. Returns how many, 0 at the end of the stream.
    fn read(&mut self, most: u64, lines: &mut Vec<Line>) -> io::Result<u64> {
        let mut bytes = vec![0; usize::try_from(most.min(CHUNK)).unwrap_or_default()];
        let read = loop {
            match self.pipe.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        for piece in bytes[..read].split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend(piece);
            if piece.ends_with(b"\n") {
                lines.push((self.stream, std::mem::take(&mut self.begun)));
            }
        }
        Ok(read as u64)
    }

    fn break_off(&mut self, lines: &mut Vec<Line>) {
        if !self.begun.is_empty() {
            lines.push((self.stream, std::mem::take(&mut self.begun)));
        }
    }
}
