//! What a VM's serial console and its streamed journal show of a boot: that it failed, long before a deadline passes, or
//! that it finished, whether or not SSH answers.
//!
//! Pure functions on text; the module `machine` reads the console and the journal.

use std::time::Duration;

use anstream::adapter::strip_str;

/// Why a boot cannot finish by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: the console says `{line}`{}", list(.causes))]
pub struct BootFault {
    /// What happened.
    pub kind: BootFaultKind,
    /// The console line that shows it, without escape sequences.
    pub line: String,
    /// Failures that systemd or the initramfs reported earlier in the same boot, oldest first, at most five.
    pub causes: Vec<String>,
    /// Whether the line shows that software or configuration from the guest's own disk is at fault. A kernel that panics
    /// before anything of the disk matters may as well be the emulator's fault.
    pub is_own_doing: bool,
}

/// The ways in which a boot fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootFaultKind {
    /// The firmware found nothing to boot, or Secure Boot rejected it.
    #[error("the firmware cannot boot the disk")]
    Firmware,
    /// The initramfs did not find the root file system and started a shell.
    #[error("the initramfs gave up")]
    Initramfs,
    /// systemd entered emergency or rescue mode, mostly because a mount failed.
    #[error("the guest is in emergency mode")]
    Emergency,
    /// The kernel panicked.
    #[error("the kernel panicked")]
    Panic,
    /// A vCPU stopped receiving timer interrupts, so whatever waits for a timer waits for ever.
    #[error("the guest's kernel stalled: a vCPU stopped receiving timer interrupts")]
    Stalled,
}

/// Text that identifies each kind, as firmware, kernel, initramfs-tools, dracut, systemd and sulogin print it.
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
/// Panics that come of what the disk holds: no root file system, no init, or an init that ended (init/do_mounts.c, init/main.c,
/// kernel/exit.c).
const DISK_PANICS: &[&str] =
    &["Unable to mount root fs", "No working init found", "Requested init ", "Attempted to kill init"];
/// How systemd shows a job that its boot waits for, in both forms of a name: `A start job is running for X (1min 2s / no limit)`.
const START_JOB: &str = "A start job is running for ";
/// How systemd shows that a job ended.
const JOB_ENDS: &[&str] = &["[  OK  ]", "[FAILED]", "[DEPEND]", "[ TIME ]"];
/// How the firmware reports that Secure Boot rejected a boot entry. Our VMs have no other device to fall back to.
const DENIED: (&str, &str) = ("BdsDxe: failed to load", "Access Denied");
/// How the kernel's stall detector reports a CPU without timer interrupts (kernel/rcu/tree_stall.h). A busy host can cause one
/// report; a second one, a minute later, means that nothing has moved.
const STALL: (&str, usize) = ("kthread timer wakeup didn't happen", 2);
/// The first output of systemd and of its units: from here on, software from the disk runs.
const INIT: &[&str] = &["systemd[1]:", "Welcome to ", "[  OK  ]"];
/// How systemd and initramfs-tools mark a failure that may be the cause.
const CAUSES: &[&str] = &["[FAILED]", "[DEPEND]", "[ TIME ]", "ALERT!"];
/// How many causes a fault carries.
const MAX_CAUSES: usize = 5;
/// What systemd logs when a boot is complete ("startup finished" and "unit started" in systemd.messages(7)). User managers
/// log it too, under another process number.
const FINISHED: [&str; 2] = ["Startup finished in ", "Reached target multi-user.target"];

/// What a console shows of its latest boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BootLog {
    /// Why that boot cannot finish.
    pub(crate) fault: Option<BootFault>,
    /// How many boots began.
    pub(crate) boots: usize,
    /// Whether the disk's own init has started: before that, only firmware, kernel and initramfs ran.
    pub(crate) init_started: bool,
    /// The line that shows that the guest came up: a login prompt, or `multi-user.target` reached.
    pub(crate) up: Option<String>,
    /// The line that shows that the boot finished: `multi-user.target` reached. A prompt may appear long before.
    pub(crate) finished: Option<String>,
    /// What systemd waited for when it last said so, and for how long.
    pub(crate) job: Option<StartJob>,
    /// The last line that is not blank.
    pub(crate) last_line: Option<String>,
}

/// A job that keeps a boot from ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartJob {
    /// Its unit or that unit's description.
    pub(crate) name: String,
    /// For how long it has run.
    pub(crate) elapsed: Duration,
}

impl StartJob {
    /// `[ *** ] (1 of 2) A start job is running for data.mount - /data (1min 2s / no limit)`
    fn parse(line: &str) -> Option<Self> {
        let (_, job) = line.split_once(START_JOB)?;
        let (name, times) = job.rsplit_once(" (")?;
        let (elapsed, _) = times.split_once(" / ")?;
        Some(Self { name: name.to_owned(), elapsed: time_span(elapsed)? })
    }
}

/// A time span as systemd writes it: `1min 2s` (systemd.time(7)).
fn time_span(text: &str) -> Option<Duration> {
    text.split_whitespace().try_fold(Duration::ZERO, |sum, part| {
        let unit = part.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = part.split_at(unit);
        let seconds = match unit {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        sum.checked_add(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
    })
}

impl BootLog {
    /// Reads a console from byte `since` on: its length when the VM was last started or restarted, or 0.
    ///
    /// A boot begins with output of the firmware or of a kernel, and the next one when either speaks after a kernel has, or
    /// after the guest came up. So a panic or a login prompt from before a restart does not count for the boot after it.
    pub(crate) fn read(console: &str, since: usize) -> Self {
        let mut reader = Reader::default();
        let (_, console) = console.split_at(console.floor_char_boundary(since));
        for line in console.lines() {
            reader.line(strip_str(line).to_string().replace(char::is_control, "").trim());
        }
        reader.log
    }
}

/// The line that shows that a boot finished, in a journal stream whose lines are all of that boot.
pub(crate) fn end_of_boot(journal: &str) -> Option<String> {
    let is_end = |line: &&str| {
        // `[   77.505858] systemd[1]: Reached target …`
        let message = line.split_once("] systemd[1]: ").map(|(_, message)| message);
        message.is_some_and(|message| FINISHED.iter().any(|words| message.starts_with(words)))
    };
    journal.lines().find(is_end).map(|line| line.trim().to_owned())
}

/// The boots that begin in a journal stream: where each begins and the kernel's time of it. A stream that starts anew repeats
/// its boot, so a time that was there before is the same boot.
pub(crate) fn kernels(journal: &str) -> Vec<(usize, &str)> {
    let mut found: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    for line in journal.split_inclusive('\n') {
        // `[   39.033990] kernel: Linux version 6.12…`
        if let Some((time, rest)) = line.split_once("] ")
            && line.starts_with('[')
            && rest.starts_with("kernel: Linux version ")
            && !found.iter().any(|(_, known)| *known == time)
        {
            found.push((at, time));
        }
        at += line.len();
    }
    found
}

/// Whether the last boot in a journal stream is on its way down, or has been told to go: until it is gone, it may refuse logins
/// (pam_nologin(8)).
pub(crate) fn goes_down(journal: &str) -> bool {
    let start = kernels(journal).last().map_or(0, |(at, _)| *at);
    journal.get(start..).unwrap_or_default().lines().any(|line| {
        let Some((_, entry)) = line.split_once("] ").filter(|_| line.starts_with('[')) else { return false };
        let of_logind = entry.strip_prefix("systemd-logind[").and_then(|rest| rest.split_once("]: "));
        entry.starts_with("systemd[1]: Stopped target multi-user.target")
            || of_logind.is_some_and(|(_, says)| {
                says.starts_with("System is ") || says.starts_with("The system will ")
            })
    })
}

/// The latest boot so far.
#[derive(Default)]
struct Reader {
    log: BootLog,
    kernel: bool,
    stalls: usize,
    causes: Vec<String>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let is_kernel = line.contains("Linux version ");
        let is_early = is_kernel || line.contains("BdsDxe:");
        let begins_again = is_early && (self.kernel || self.log.up.is_some());
        if begins_again {
            *self = Self { log: BootLog { boots: self.log.boots, ..BootLog::default() }, ..Self::default() };
        }
        let begins = begins_again || (is_early && self.log.boots == 0);
        self.log.boots += usize::from(begins);
        if begins || is_kernel {
            // Earlier output came from the shutdown of the boot before, or from a boot loader that says "Welcome" too.
            (self.log.init_started, self.stalls) = (false, 0);
        }
        if is_kernel {
            self.kernel = true;
            // Whatever the firmware complained about, it found something to boot.
            self.log.fault = None;
        }
        let found = |is_found: bool| is_found.then(|| line.to_owned());
        if self.log.boots > 0 {
            let log = &mut self.log;
            log.finished = log.finished.take().or_else(|| found(is_multi_user(line)));
            log.up = log.up.take().or_else(|| found(is_prompt(line) || is_multi_user(line)));
        }
        self.log.init_started |= INIT.iter().any(|words| line.contains(words));
        self.stalls += usize::from(line.contains(STALL.0));
        if CAUSES.iter().any(|cause| line.contains(cause)) {
            if self.causes.len() == MAX_CAUSES {
                self.causes.remove(0);
            }
            self.causes.push(line.to_owned());
        }
        if self.log.fault.is_none() {
            let kind = if self.stalls >= STALL.1 { Some(BootFaultKind::Stalled) } else { fault_kind(line) };
            let (causes, init_started) = (|| self.causes.clone(), self.log.init_started);
            self.log.fault = kind.map(|kind| BootFault {
                kind,
                line: line.to_owned(),
                causes: causes(),
                is_own_doing: is_own_doing(kind, line, init_started),
            });
        }
        if let Some(job) = StartJob::parse(line) {
            self.log.job = Some(job);
        } else if JOB_ENDS.iter().any(|words| line.contains(words)) {
            self.log.job = None;
        }
        self.log.last_line = found(!line.is_empty()).or(self.log.last_line.take());
    }
}

/// agetty's prompt, `askari login: ` (agetty(8)).
fn is_prompt(line: &str) -> bool {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    line.split_once(" login:").is_some_and(|(host, _)| !host.is_empty() && host.chars().all(is_in_name))
}

fn is_multi_user(line: &str) -> bool {
    line.contains("Reached target")
        && (line.contains("multi-user.target") || line.contains("Multi-User System"))
}

fn fault_kind(line: &str) -> Option<BootFaultKind> {
    let sign = SIGNS.iter().find(|(_, words)| line.contains(words)).map(|(kind, _)| *kind);
    sign.or_else(|| (line.contains(DENIED.0) && line.contains(DENIED.1)).then_some(BootFaultKind::Firmware))
}

fn is_own_doing(kind: BootFaultKind, line: &str, init_started: bool) -> bool {
    match kind {
        BootFaultKind::Emergency | BootFaultKind::Initramfs => true,
        BootFaultKind::Panic => init_started || DISK_PANICS.iter().any(|words| line.contains(words)),
        BootFaultKind::Firmware | BootFaultKind::Stalled => false,
    }
}

fn list(causes: &[String]) -> String {
    if causes.is_empty() { String::new() } else { format!("; before it: {}", causes.join(" / ")) }
}

#[cfg(test)]
mod tests;
