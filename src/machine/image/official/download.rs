//! Downloads one large file and checks its digest. After an early end the partial file stays, and the next try continues
//! it; a file with the wrong digest is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::http::StatusCode;

use super::super::space::SpaceRequirement;
use super::super::{ImageError, Operation, qcow2};
use super::error::OfficialError;
use super::http::{self, Patience, Response};
use crate::support::file;

/// The largest image that is accepted, in bytes. Debian's has some 330 MiB.
const LARGEST: u64 = 4 << 30;
/// Space for an image whose server does not name its size, in bytes.
const USUAL: u64 = 600 << 20;
/// How often progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// A download about to run.
pub(super) struct Download<'a> {
    pub url: &'a str,
    /// The file in words, for progress.
    pub what: &'a str,
    /// Where the file is written. Its name has the digest, so what is there already is the beginning of this file.
    pub partial: &'a Path,
    /// The promised SHA-512: lower-case hexadecimal.
    pub sha512: &'a str,
    pub patience: Patience,
    pub operation: Operation<'a>,
}

/// How one request ended.
enum End {
    /// The whole file is there.
    Complete,
    /// The connection ended too early.
    Broken(OfficialError),
    /// The response does not continue the partial file.
    Mismatch,
}

impl Download<'_> {
    /// Afterwards `partial` is the whole file, on disk, with the promised digest. After an error it is the beginning of
    /// the file, or is not there.
    pub(super) fn run(&self) -> Result<(), ImageError> {
        let mut restarted = false;
        loop {
            let before = self.size();
            match self.request(before)? {
                End::Complete => break,
                End::Broken(error) if self.size() <= before => return Err(error.into()),
                End::Broken(_) => self.report("the connection broke: continuing the download"),
                // The partial file may be complete already.
                End::Mismatch if self.digest()? == self.sha512 => return Ok(()),
                End::Mismatch if restarted => {
                    return Err(
                        self.unexpected("it answers with another part of the file than requested".to_owned())
                    );
                }
                End::Mismatch => {
                    self.remove()?;
                    restarted = true;
                }
            }
        }
        let found = self.digest()?;
        if found == self.sha512 {
            return Ok(());
        }
        let got = self.size();
        self.remove()?;
        Err(OfficialError::Digest { url: self.url.to_owned(), got, found, expected: self.sha512.to_owned() }
            .into())
    }

    /// Requests the file from byte `have` on and writes what arrives.
    fn request(&self, have: u64) -> Result<End, ImageError> {
        self.report(&format!("requesting {}", self.url));
        let response = match http::get(self.url, have, self.patience, self.operation.deadline) {
            Err(OfficialError::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. }) if have > 0 => {
                return Ok(End::Mismatch);
            }
            response => response?,
        };
        let (from, total) = match (response.head.status, http::content_range(&response.head.headers)) {
            (StatusCode::PARTIAL_CONTENT, (first, total)) if first == Some(have) => {
                (have, total.or_else(|| response.length().map(|length| have + length)))
            }
            (StatusCode::PARTIAL_CONTENT, _) if have > 0 => return Ok(End::Mismatch),
            // Also from a server that knows no ranges.
            _ => (0, response.length()),
        };
        self.check_size(total.unwrap_or_default())?;
        self.space(total.unwrap_or(USUAL).saturating_sub(from)).check()?;
        let (got, source) = self.receive(&response, from, total)?;
        if source.is_some() || total.is_some_and(|total| got < total) {
            return Ok(End::Broken(OfficialError::Broken { url: self.url.to_owned(), got, total, source }));
        }
        Ok(End::Complete)
    }

    /// Writes the body to the file from byte `from` on. Gives the size of the file, and why the connection broke if it
    /// did.
    fn receive(
        &self,
        response: &Response<'_>,
        from: u64,
        total: Option<u64>,
    ) -> Result<(u64, Option<io::Error>), ImageError> {
        let mut file = self.open(from).map_err(|error| self.write_error(error))?;
        let (mut got, mut shown) = (from, None::<Instant>);
        let broken = loop {
            match response.next(self.operation.deadline)? {
                Ok(chunk) if chunk.is_empty() => break None,
                Ok(chunk) => {
                    file.write_all(&chunk).map_err(|error| self.write_error(error))?;
                    got += chunk.len() as u64;
                }
                Err(error) => break Some(error),
            }
            self.check_size(got)?;
            if shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL) {
                self.report(&self.so_far(got, total));
                shown = Some(Instant::now());
            }
        };
        self.report(&self.so_far(got, total));
        file.sync_all().map_err(|error| self.write_error(error))?;
        Ok((got, broken))
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

    /// Bytes that are on disk.
    fn size(&self) -> u64 {
        fs::metadata(self.partial).map_or(0, |file| file.len())
    }

    fn open(&self, from: u64) -> io::Result<File> {
        let file = OpenOptions::new().create(true).append(true).open(self.partial)?;
        file.set_len(from)?;
        Ok(file)
    }

    fn report(&self, what: &str) {
        (self.operation.progress)(what);
    }

    fn digest(&self) -> Result<String, ImageError> {
        self.report("checking the download's SHA-512");
        qcow2::digest("sha512sum", self.partial, self.operation)
    }

    fn remove(&self) -> Result<(), ImageError> {
        file::remove_if_exists(self.partial).map(drop).map_err(ImageError::io("remove", self.partial))
    }

    fn check_size(&self, size: u64) -> Result<(), ImageError> {
        if size <= LARGEST {
            return Ok(());
        }
        self.remove()?;
        Err(self.unexpected(format!("it has {size} bytes, expected an image of at most {LARGEST}")))
    }

    fn unexpected(&self, why: String) -> ImageError {
        OfficialError::Unexpected { url: self.url.to_owned(), why }.into()
    }

    fn space(&self, bytes: u64) -> SpaceRequirement {
        SpaceRequirement::for_image(self.partial, bytes, "the official image")
    }

    fn write_error(&self, error: io::Error) -> ImageError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.space(USUAL).exhausted().into(),
            _ => ImageError::io("write the download", self.partial)(error),
        }
    }
}
