//! One large file, over HTTP, checked against its digest. What came stays in a partial file when the transfer ends early,
//! and the next try goes on from there; a file that is not what was promised is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::http::StatusCode;

use super::super::space::SpaceRequirement;
use super::super::tools::Toolbox;
use super::super::{ImageError, Progress, local};
use super::error::OfficialError;
use super::http::{self, Head, Next, Patience};
use crate::support::deadline::Deadline;
use crate::support::file;

/// The largest image that is believed to be one. Debian's has some 330 MiB.
const LARGEST: u64 = 4 << 30;
/// Room for an image whose server does not say how large it is.
const USUAL: u64 = 600 << 20;
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// A download about to run.
pub(super) struct Download<'a> {
    pub url: &'a str,
    /// What it is, for a person.
    pub what: &'a str,
    /// Where it comes in. Named by the digest: what is there already is the beginning of this file.
    pub partial: &'a Path,
    /// The promised SHA-512: lower-case hexadecimal.
    pub sha512: &'a str,
    pub patience: Patience,
    pub tools: &'a Toolbox,
}

/// How one request ended.
enum End {
    /// All of it came.
    Whole,
    /// The connection ended before it should.
    Broken(OfficialError),
    /// What is there already is not the beginning of what the server has.
    Misfit,
}

impl Download<'_> {
    /// Afterwards `partial` is the whole file, on disk, with the promised digest. On an error it is the beginning of it,
    /// or is not there.
    pub(super) fn run(&self, deadline: &Deadline, progress: Progress<'_>) -> Result<(), ImageError> {
        let mut furthest = self.have();
        let mut began_anew = false;
        loop {
            match self.request(deadline, progress)? {
                End::Whole => break,
                End::Broken(error) if self.have() <= furthest => return Err(error.into()),
                // As long as each connection brings it further.
                End::Broken(_) => {
                    furthest = self.have();
                    progress("the connection broke; going on where it did");
                }
                End::Misfit => {
                    let whole = self.have() > 0 && self.digest(deadline, progress)? == self.sha512;
                    if whole {
                        return Ok(());
                    }
                    self.remove()?;
                    if began_anew {
                        let why = "it answers with another part of the file than it was asked for".to_owned();
                        return Err(OfficialError::Nonsense { url: self.url.to_owned(), why }.into());
                    }
                    began_anew = true;
                    furthest = 0;
                }
            }
        }
        let found = self.digest(deadline, progress)?;
        if found == self.sha512 {
            return Ok(());
        }
        let got = self.have();
        self.remove()?;
        let (url, expected) = (self.url.to_owned(), self.sha512.to_owned());
        Err(OfficialError::Digest { url, got, found, expected }.into())
    }

    /// Asks for what is not there yet and writes what comes.
    fn request(&self, deadline: &Deadline, progress: Progress<'_>) -> Result<End, ImageError> {
        let have = self.have();
        progress(&format!("asking for {}", self.url));
        let (head, answer) = http::get(self.url, have, self.patience, deadline)?;
        let (from, total) = match self.place(&head, have)? {
            Some(place) => place,
            None => return Ok(End::Misfit),
        };
        if let Some(size) = total.filter(|size| *size > LARGEST) {
            return Err(self.too_large(size)?);
        }
        self.room(total.unwrap_or(USUAL).saturating_sub(from)).check()?;
        let mut file = self.open(from)?;
        let (mut got, mut told) = (from, None::<Instant>);
        let broken = loop {
            match answer.next(deadline)? {
                Next::Chunk(chunk) => {
                    file.write_all(&chunk).map_err(|error| self.write_error(error))?;
                    got += chunk.len() as u64;
                }
                Next::End => break None,
                Next::Broken(error) => break Some(error),
            }
            if got > LARGEST {
                return Err(self.too_large(got)?);
            }
            if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                progress(&self.so_far(got, total));
                told = Some(Instant::now());
            }
        };
        progress(&self.so_far(got, total));
        file.sync_all().map_err(|error| self.write_error(error))?;
        if broken.is_some() || total.is_some_and(|total| got < total) {
            let (url, source) = (self.url.to_owned(), broken.map(Box::new));
            return Ok(End::Broken(OfficialError::Broken { url, got, total, source }));
        }
        Ok(End::Whole)
    }

    /// Where in the file the answer's body begins, and how large the file is; nothing if it does not fit what is there.
    fn place(&self, head: &Head, have: u64) -> Result<Option<(u64, Option<u64>)>, ImageError> {
        match head.status {
            // A server that knows no ranges sends everything.
            StatusCode::OK => Ok(Some((0, head.length))),
            StatusCode::PARTIAL_CONTENT => {
                let (first, total) = head.range;
                let total = total.or_else(|| head.length.map(|length| have + length));
                Ok((first == Some(have)).then_some((have, total)))
            }
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => Ok(None),
            status => Err(OfficialError::Status { url: self.url.to_owned(), status }.into()),
        }
    }

    fn so_far(&self, got: u64, total: Option<u64>) -> String {
        let what = self.what;
        match total.filter(|total| *total > 0) {
            Some(total) => {
                let percent = got.saturating_mul(100) / total;
                format!("downloading {what}: {} of {} MiB, {percent} %", got >> 20, total.div_ceil(1 << 20))
            }
            None => format!("downloading {what}: {} MiB", got >> 20),
        }
    }

    /// Bytes that are there already.
    fn have(&self) -> u64 {
        fs::metadata(self.partial).map_or(0, |file| file.len())
    }

    fn open(&self, from: u64) -> Result<File, ImageError> {
        let file = OpenOptions::new().create(true).append(true).open(self.partial);
        let cut = |file: File| file.set_len(from).map(|()| file);
        file.and_then(cut).map_err(ImageError::io("write the download", self.partial))
    }

    fn digest(&self, deadline: &Deadline, progress: Progress<'_>) -> Result<String, ImageError> {
        progress("checking the download's SHA-512");
        local::digest("sha512sum", self.partial, self.tools, deadline)
    }

    fn remove(&self) -> Result<(), ImageError> {
        file::remove_if_exists(self.partial).map(drop).map_err(ImageError::io("remove", self.partial))
    }

    fn too_large(&self, size: u64) -> Result<ImageError, ImageError> {
        self.remove()?;
        Ok(OfficialError::TooLarge { url: self.url.to_owned(), size, limit: LARGEST }.into())
    }

    fn room(&self, bytes: u64) -> SpaceRequirement<'_> {
        let dir = self.partial.parent().unwrap_or(self.partial);
        let hint = ", or remove images that are not used any more (`boma-it image remove`)";
        SpaceRequirement { dir, bytes, what: "the official image", hint }
    }

    fn write_error(&self, error: io::Error) -> ImageError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.room(USUAL).refusal_now().into()
            }
            _ => ImageError::io("write the download", self.partial)(error),
        }
    }
}
