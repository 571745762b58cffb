//! What a serial console gives away: that a boot is lost, before any deadline says so, or that it came up, whether or not
//! SSH answers. Pure: text in, verdict out; reading the console is left to the machine.

/// A boot that will not come to an end by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: the console says `{line}`{}", causes(.because))]
pub struct BootFault {
    /// What happened.
    pub kind: BootFaultKind,
    /// The console's line that says so, without escape sequences.
    pub line: String,
    /// What failed before it in that boot, as systemd or the initramfs said, latest last; five lines at most.
    pub because: Vec<String>,
}

/// The ways in which a boot is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BootFaultKind {
    /// The firmware found nothing to boot, or was not allowed to.
    Firmware,
    /// The initramfs did not find the root file system and gave a shell.
    Initramfs,
    /// systemd went into emergency or rescue mode: a mount that failed, above all.
    Emergency,
    /// The kernel panicked.
    Panic,
    /// A CPU of the guest hears no timer any more, and what waits for one waits for ever.
    Stalled,
}

impl std::fmt::Display for BootFaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Firmware => "the firmware cannot boot the disk",
            Self::Initramfs => "the initramfs gave up",
            Self::Emergency => "the guest is in emergency mode",
            Self::Panic => "the kernel panicked",
            Self::Stalled => "the guest's kernel stands still, a CPU of it hears no timer",
        })
    }
}

/// Each kind's telling words, as firmware, kernel, initramfs-tools, dracut, systemd and sulogin print them.
const SIGNS: &[(BootFaultKind, &str)] = &[
    (BootFaultKind::Panic, "Kernel panic - not syncing"),
    (BootFaultKind::Emergency, "You are in emergency mode"),
    (BootFaultKind::Emergency, "You are in rescue mode"),
    (BootFaultKind::Emergency, "Cannot open access to console, the root account is locked"),
    (BootFaultKind::Emergency, "Emergency Shell"),
    (BootFaultKind::Emergency, "Entering emergency mode"),
    (BootFaultKind::Initramfs, "Gave up waiting for root"),
    (BootFaultKind::Initramfs, "(initramfs)"),
    (BootFaultKind::Firmware, "No bootable option or device was found"),
    (BootFaultKind::Firmware, "No bootable device"),
    (BootFaultKind::Firmware, "UEFI Interactive Shell"),
];
/// How the kernel's stall detector names a CPU that hears no timer (kernel/rcu/tree_stall.h). A host that was busy for long may
/// bring it about once; a second time, a minute later, nothing has moved.
const STALL: (&str, usize) = ("kthread timer wakeup didn't happen", 2);
/// The first words of systemd, and of its units: from then on something of the disk runs.
const INIT: &[&str] = &["systemd[1]:", "Welcome to ", "[  OK  ]"];
/// The firmware may go on to another device after a denial, but not to one of ours.
const DENIED: (&str, &str) = ("BdsDxe: failed to load", "Access Denied");
/// What systemd and initramfs-tools write of a failure that may be the cause.
const CAUSES: &[&str] = &["[FAILED]", "[DEPEND]", "[ TIME ]", "ALERT!"];
/// How many causes a fault carries.
const SHOWN: usize = 5;

/// What a console tells of its latest boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootLog {
    /// Why that boot is lost.
    pub fault: Option<BootFault>,
    /// How many boots began.
    pub boots: usize,
    /// Whether the disk's own init spoke in it: before that, firmware, kernel and initramfs ran, and nothing of the guest.
    pub init: bool,
    /// The line that shows that it came up: a login prompt, or systemd's word that `multi-user.target` is reached.
    pub up: Option<String>,
    /// The line that shows that it came to its end: the target's. A prompt may stand there long before.
    pub ended: Option<String>,
    /// The last line with anything in it.
    pub last: Option<String>,
}

/// What `console` tells of its latest boot. Only what follows byte `since` counts: the length that it had when the VM was
/// last started or restarted, 0 for all of it.
///
/// A boot begins where the firmware or a kernel speaks; and again where one speaks after a kernel has, or after the boot
/// came up. A panic followed by an automatic restart is no fault of the boot that follows, and a login prompt that was there
/// before the restart is none of the boot that follows either.
pub fn hear(console: &str, since: usize) -> BootLog {
    let (mut boot, mut told) = (Boot::default(), BootLog::default());
    for line in console.get(floor(console, since)..).unwrap_or_default().lines() {
        let line = plain(line);
        boot.hear(&line);
        told.boots += usize::from(boot.begins);
        if !line.trim().is_empty() {
            told.last = Some(line.trim().to_owned());
        }
    }
    BootLog { fault: boot.fault, init: boot.init, up: boot.up, ended: boot.ended, ..told }
}

/// The fault of [`hear`] alone.
pub fn fault(console: &str, since: usize) -> Option<BootFault> {
    hear(console, since).fault
}

#[derive(Debug, Default)]
struct Boot {
    /// With the line that was heard last.
    begins: bool,
    begun: bool,
    kernel: bool,
    init: bool,
    stalls: usize,
    causes: Vec<String>,
    fault: Option<BootFault>,
    up: Option<String>,
    ended: Option<String>,
}

impl Boot {
    fn hear(&mut self, line: &str) {
        let line = line.trim();
        let is_kernel = line.contains("Linux version ");
        let is_beginning = is_kernel || line.contains("BdsDxe:");
        if is_beginning && (self.kernel || self.up.is_some()) {
            *self = Self::default();
        }
        self.begins = is_beginning && !self.begun;
        self.begun |= is_beginning;
        if self.begins || is_kernel {
            // What went before was the end of another boot, or a boot loader's welcome.
            (self.init, self.stalls) = (false, 0);
        }
        if self.begun && self.ended.is_none() && is_end(line) {
            self.ended = Some(line.to_owned());
        }
        if self.begun && self.up.is_none() && (prompts(line) || is_end(line)) {
            self.up = Some(line.to_owned());
        }
        self.init |= INIT.iter().any(|word| line.contains(word));
        self.stalls += usize::from(line.contains(STALL.0));
        if is_kernel {
            self.kernel = true;
            // A kernel runs: whatever the firmware complained about, it found something.
            self.fault = None;
        }
        if CAUSES.iter().any(|cause| line.contains(cause)) {
            if self.causes.len() == SHOWN {
                self.causes.remove(0);
            }
            self.causes.push(line.to_owned());
        }
        if self.fault.is_none() {
            let kind = if self.stalls >= STALL.1 { Some(BootFaultKind::Stalled) } else { kind_of(line) };
            self.fault =
                kind.map(|kind| BootFault { kind, line: line.to_owned(), because: self.causes.clone() });
        }
    }
}

/// agetty's prompt, `askari login: ` (agetty(8)).
fn prompts(line: &str) -> bool {
    let is_name = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
    };
    line.split_once(" login:").is_some_and(|(host, _)| is_name(host))
}

/// systemd's target, which waits for what it wants.
fn is_end(line: &str) -> bool {
    line.contains("Reached target")
        && (line.contains("multi-user.target") || line.contains("Multi-User System"))
}

fn kind_of(line: &str) -> Option<BootFaultKind> {
    let sign = SIGNS.iter().find(|(_, words)| line.contains(words)).map(|(kind, _)| *kind);
    sign.or_else(|| (line.contains(DENIED.0) && line.contains(DENIED.1)).then_some(BootFaultKind::Firmware))
}

/// `line` without ANSI escape sequences (ECMA-48) and other control characters.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(next) = rest.next() {
        if next != '\u{1b}' {
            if !next.is_control() {
                text.push(next);
            }
            continue;
        }
        if rest.clone().next() == Some('[') {
            rest.next();
            // Parameters end with a byte from @ to ~.
            for parameter in rest.by_ref() {
                if ('@'..='~').contains(&parameter) {
                    break;
                }
            }
        }
    }
    text
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn causes(causes: &[String]) -> String {
    if causes.is_empty() { String::new() } else { format!("; before it: {}", causes.join(" / ")) }
}

#[cfg(test)]
mod tests;
