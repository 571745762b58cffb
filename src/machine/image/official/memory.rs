//! What is remembered of the servers that were asked: which build was the latest, and that one could not be reached. So
//! a machine without a network does not pay for it at each trial. A file in the image folder, whose lock guards it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::support::file;

/// How long the latest build is taken for the latest.
const LATEST_HOLDS: SignedDuration = SignedDuration::from_hours(24);
/// How long a server that failed is not asked again.
const TROUBLE_HOLDS: SignedDuration = SignedDuration::from_hours(1);

/// The file, read whole. What cannot be read is as good as nothing.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    servers: BTreeMap<String, Server>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Server {
    latest: Option<Latest>,
    trouble: Option<ServerFailure>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Latest {
    build: String,
    checked: Timestamp,
}

/// A server could not give what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct ServerFailure {
    /// When.
    pub at: Timestamp,
    /// Why, the whole chain in a line.
    pub why: String,
}

impl ServerFailure {
    /// Until when the server is left alone, to the second.
    pub(in super::super) fn until(&self) -> Timestamp {
        let until = self.at.saturating_add(TROUBLE_HOLDS).unwrap_or(self.at);
        Timestamp::from_second(until.as_second()).unwrap_or(until)
    }
}

impl Memory {
    /// The memory in an image folder.
    pub(super) fn of(dir: &Path) -> Self {
        let path = dir.join("servers");
        let servers = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { path, servers: servers.unwrap_or_default() }
    }

    /// The build that was the latest at `url`, if that is not long ago.
    pub(super) fn latest(&self, url: &str) -> Option<&str> {
        let latest = self.servers.get(url)?.latest.as_ref()?;
        holds(latest.checked, LATEST_HOLDS).then_some(&latest.build)
    }

    /// The trouble with `url`, if that is not long ago.
    pub(super) fn trouble(&self, url: &str) -> Option<&ServerFailure> {
        let trouble = self.servers.get(url)?.trouble.as_ref()?;
        holds(trouble.at, TROUBLE_HOLDS).then_some(trouble)
    }

    /// `build` was said to be the latest.
    pub(super) fn note_latest(&mut self, url: &str, build: &str) -> io::Result<()> {
        let server = self.servers.entry(url.to_owned()).or_default();
        server.latest = Some(Latest { build: build.to_owned(), checked: Timestamp::now() });
        self.save()
    }

    /// All is well with `url`.
    pub(super) fn note_success(&mut self, url: &str) -> io::Result<()> {
        match self.servers.get_mut(url).and_then(|server| server.trouble.take()) {
            Some(_) => self.save(),
            None => Ok(()),
        }
    }

    /// `url` could not give what was asked for.
    pub(super) fn note_trouble(&mut self, url: &str, why: String) -> io::Result<ServerFailure> {
        let trouble = ServerFailure { at: Timestamp::now(), why };
        self.servers.entry(url.to_owned()).or_default().trouble = Some(trouble.clone());
        self.save().map(|()| trouble)
    }

    /// Whoever asks next asks the server.
    pub(super) fn forget(dir: &Path) -> io::Result<()> {
        file::remove_if_exists(&Self::of(dir).path).map(drop)
    }

    fn save(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.servers)?;
        text.push(b'\n');
        file::replace(&self.path, 0o644, |file| file.write_all(&text))
    }
}

/// Whether `since` is less than `time` ago. What lies in the future was noted by a clock that was wrong.
fn holds(since: Timestamp, time: SignedDuration) -> bool {
    let ago = Timestamp::now().duration_since(since);
    !ago.is_negative() && ago < time
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://mirror.example";

    #[test]
    fn a_server_is_remembered_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::of(dir.path());
        assert_eq!((memory.latest(URL), memory.trouble(URL)), (None, None));
        memory.note_latest(URL, "20251117-2299").unwrap();
        let trouble = memory.note_trouble(URL, "no network".into()).unwrap();
        let again = Memory::of(dir.path());
        assert_eq!((again.latest(URL), again.trouble(URL)), (Some("20251117-2299"), Some(&trouble)));
        assert_eq!(again.latest("https://other.example"), None);
        memory.note_success(URL).unwrap();
        assert_eq!(Memory::of(dir.path()).trouble(URL), None);
        Memory::forget(dir.path()).unwrap();
        Memory::forget(dir.path()).unwrap();
        assert_eq!(Memory::of(dir.path()).latest(URL), None);
    }

    #[rstest::rstest]
    #[case(-1, false)]
    #[case(0, true)]
    #[case(3590, true)]
    #[case(3610, false)]
    fn what_is_long_ago_or_in_the_future_counts_for_nothing(#[case] seconds_ago: i64, #[case] counts: bool) {
        let then =
            Timestamp::now() - SignedDuration::from_secs(seconds_ago * if seconds_ago < 0 { 60 } else { 1 });
        assert_eq!(holds(then, TROUBLE_HOLDS), counts);
    }

    #[test]
    fn a_memory_that_cannot_be_read_is_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("servers"), "{half").unwrap();
        assert_eq!(Memory::of(dir.path()).latest(URL), None);
    }
}
