//! What the guest's sshd says about our logins, in a journal that is streamed without a network: that it ended our connections, or
//! that it listens somewhere else. Both are found by our own ends of the connections and by our own address, not by a list of
//! what sshd may say.
//!
//! Pure functions on text of one boot, in the format of `journalctl --output=short-monotonic --no-hostname`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::boot_log::kernels;

/// How sshd and its parts call themselves; since OpenSSH 9.8, a program of its own serves each connection.
const PROGRAMS: [&str; 3] = ["sshd", "sshd-session", "sshd-auth"];
/// How many lines of sshd a proof shows at most, of its reasons and of the end of the connection.
const SHOWN: usize = 3;
/// How many connections it must have ended. One may have been early or late for something.
const ENOUGH: usize = 2;
/// How sshd says that it does not take our *kind* of key (sshd_config(5), `PubkeyAcceptedAlgorithms`).
const KEY_TYPE: &str = "not in PubkeyAccepted";
/// How sshd says that nothing more is needed to log in.
const ACCEPTED: &str = "Accepted ";

/// The lines of sshd in a journal.
pub(crate) struct SshdLog<'a>(Vec<Line<'a>>);

struct Line<'a> {
    pid: &'a str,
    message: &'a str,
}

/// What sshd says about a login that it gave no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It refused the account; its own words, and what they show of the cause.
    Account(String, RefusalCause),
    /// It takes no key of our kind, so nothing is known about other keys; its own words.
    KeyType(String),
}

/// Why sshd refused an account, as far as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalCause {
    /// Its words name the cause.
    Named,
    /// It accepted the key, and no command ran.
    NoShell,
    /// It says only that it ended the connection.
    Unnamed,
}

impl<'a> SshdLog<'a> {
    /// The lines of sshd in the last boot in `journal`.
    pub(crate) fn read(journal: &'a str) -> Self {
        let start = kernels(journal).last().map_or(0, |(at, _)| *at);
        Self(journal.get(start..).unwrap_or_default().lines().filter_map(Line::parse).collect())
    }

    /// What sshd says about `connections`, our ends of those on which it gave the account `user` no session, if it knows at
    /// least two of them.
    pub(crate) fn refusal(&self, user: &str, connections: &[SocketAddr]) -> Option<Refusal> {
        let servers = connections.iter().filter_map(|ours| Some((*ours, self.server_of(*ours, user)?)));
        let servers: Vec<_> = servers.collect();
        let (ours, server) = *servers.last().filter(|_| servers.len() >= ENOUGH)?;
        let said = self.0.iter().filter(|line| line.pid == server).map(|line| line.message);
        let (about, mut reasons): (Vec<_>, Vec<_>) =
            said.partition(|message| has_word(message, &end_of(ours)));
        let is_key_type = reasons.iter().any(|message| message.contains(KEY_TYPE));
        let cause = match reasons.is_empty() {
            _ if about.iter().any(|message| message.starts_with(ACCEPTED)) => RefusalCause::NoShell,
            true => RefusalCause::Unnamed,
            false => RefusalCause::Named,
        };
        // A reason does not repeat the connection; beside it, how the connection ended. Of the end the journal may lack a line,
        // so the one before it, which says more, must be there in any case.
        reasons.truncate(SHOWN);
        let end = &about[about.len().saturating_sub(SHOWN)..];
        let words = quoted(reasons.into_iter().chain(end.iter().copied()));
        Some(if is_key_type { Refusal::KeyType(words) } else { Refusal::Account(words, cause) })
    }

    /// The process that served the connection with this end of ours, if it named the account too.
    fn server_of(&self, ours: SocketAddr, user: &str) -> Option<&'a str> {
        let pid = self.0.iter().rfind(|line| has_word(line.message, &end_of(ours)))?.pid;
        let is_for_user =
            self.0.iter().any(|line| line.pid == pid && has_word(line.message, &format!(" {user}")));
        is_for_user.then_some(pid)
    }

    /// Where sshd listens, in its own words, if that is not where we knock (`peer`).
    pub(crate) fn listens_elsewhere(&self, peer: SocketAddr) -> Option<String> {
        let mut listening: BTreeMap<&str, Vec<(SocketAddr, &str)>> = BTreeMap::new();
        for Line { pid, message } in &self.0 {
            if let Some(endpoint) = endpoint(message) {
                listening.entry(pid).or_default().push((endpoint, message));
            } else if message.starts_with("Received signal ") || message.starts_with("Received SIGHUP") {
                listening.remove(pid);
            }
        }
        let all: Vec<_> = listening.into_values().flatten().collect();
        let serves = |(at, _): &(SocketAddr, &str)| {
            let is_any = at.ip().is_unspecified() && at.is_ipv4() == peer.is_ipv4();
            at.port() == peer.port() && (is_any || at.ip() == peer.ip())
        };
        let is_elsewhere = !all.is_empty() && !all.iter().any(serves);
        is_elsewhere.then(|| quoted(all.into_iter().map(|(_, message)| message).take(SHOWN)))
    }

    /// The last thing that sshd's listener said, for a person.
    pub(crate) fn last_words(&self) -> Option<&'a str> {
        self.0.last().map(|line| line.message)
    }
}

impl<'a> Line<'a> {
    /// `[  107.754363] sshd-session[701]: Accepted publickey …`
    fn parse(line: &'a str) -> Option<Self> {
        let (_, line) = line.strip_prefix('[')?.split_once("] ")?;
        let (program, rest) = line.split_once('[')?;
        let (pid, message) = rest.split_once("]: ")?;
        PROGRAMS.contains(&program).then_some(Self { pid, message })
    }
}

/// `Server listening on 0.0.0.0 port 2222.`
fn endpoint(message: &str) -> Option<SocketAddr> {
    let mut words = message.strip_prefix("Server listening on ")?.split(' ');
    let address: IpAddr = words.next()?.parse().ok()?;
    let port = words.nth(1)?.trim_end_matches('.').parse().ok()?;
    Some(SocketAddr::new(address, port))
}

/// Whether `text` contains `words`, which begin with a space, and they end there.
fn has_word(text: &str, words: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let text = format!(" {text}");
    text.match_indices(words).any(|(at, _)| !text[at + words.len()..].starts_with(goes_on))
}

/// How sshd names a connection.
fn end_of(ours: SocketAddr) -> String {
    format!(" {} port {}", ours.ip(), ours.port())
}

/// Lines of sshd, each as it is.
fn quoted<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    lines.into_iter().map(|line| format!("`{}`", line.trim())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
