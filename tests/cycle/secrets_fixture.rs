//! A fixture whose programs print the secrets wherever they can, in every encoding, and the checks that no output has them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use boma_it::cycle::{Job, Keep, RunContext, run};
use boma_it::event::{Reporter, RunReport};
use boma_it::machine::VmVolumes;
use boma_it::report::json::JsonReporter;
use boma_it::report::summary::explain;
use boma_it::report::terminal::{HEARTBEAT, Terminal, TerminalUse};
use boma_it::support::deadline::Deadline;
use boma_it::support::process::quote;

use crate::fixture::{ASKARI, Fixture, PORTS, Task, record};

const TOKEN: &str = "cAnArY+fake/9f'8e\"7d$6c%5b";
const KEY: &str = "-----BEGIN CANARY KEY-----\nY2FuYXJ5IGNhbmFyeSBjYW5hcnkgY2FuYXJ5IGNhbmFyeSBjYW5hcnkgY2FuYXJ5\n\
                   IG5vdCByZWFsbHkgYSBrZXksIG9ubHkgYSBjYW5hcnk=\n-----END CANARY KEY-----\n";
/// A variable that cargo gives every test, for a secret that comes from the environment.
const VARIABLE: &str = "CARGO_PKG_DESCRIPTION";
const FROM_VARIABLE: &str = env!("CARGO_PKG_DESCRIPTION");

/// The encodings in which programs print the secrets.
pub(crate) fn encodings() -> Vec<String> {
    let mut forms = Vec::new();
    for secret in [TOKEN, KEY.trim_end(), FROM_VARIABLE] {
        let percent = |lower: bool| -> String {
            let byte = |byte: u8| match byte {
                b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
                b if lower => format!("%{b:02x}"),
                b => format!("%{b:02X}"),
            };
            secret.bytes().map(byte).collect()
        };
        forms.extend([secret.to_owned(), percent(false), percent(true), quote(secret)]);
        forms.extend([STANDARD.encode(secret), URL_SAFE.encode(secret)]);
        forms.extend(["x", "x:", "xy:"].map(|before| STANDARD.encode(format!("{before}{secret}"))));
        let json = serde_json::to_string(secret).unwrap();
        forms.push(json[1..json.len() - 1].to_owned());
    }
    forms.extend(KEY.lines().map(str::to_owned));
    forms
}

/// [`encodings`], also inside JSON, and inside JSON in JSON.
fn all_encodings() -> BTreeSet<String> {
    let mut all: BTreeSet<String> = encodings().into_iter().collect();
    // The ends of base64 may stay: they hold bits of the surrounding text.
    let middles: Vec<_> = all.iter().filter(|form| form.len() > 24).map(|form| middle(form)).collect();
    all.extend(middles);
    for _ in 0..2 {
        let escaped = |form: &String| {
            let json = serde_json::to_string(form).unwrap();
            json[1..json.len() - 1].to_owned()
        };
        let again: Vec<_> = all.iter().map(escaped).collect();
        all.extend(again);
    }
    all
}

fn middle(form: &str) -> String {
    let characters = form.chars().count();
    form.chars().skip(8).take(characters - 16).collect()
}

/// The encoding that `text` contains, if it contains one.
fn find_leak(text: &[u8], encodings: &BTreeSet<String>) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    encodings.iter().find(|form| text.contains(form.as_str())).cloned()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// A fixture whose programs print the canary secrets.
pub(crate) struct SecretsFixture {
    pub(crate) fixture: Fixture,
    pub(crate) context: RunContext,
    shown: Arc<Mutex<Vec<u8>>>,
    ours: PathBuf,
}

struct Shown(Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SecretsFixture {
    pub(crate) fn new(keep: Keep) -> Self {
        let fixture = Fixture::new();
        fixture.write(
            "harness/harness.yml",
            &format!(
                "version: 1\nsite: {{ansible: ansible}}\nsecrets:\n  vault.canary.token: {{file: token}}\n  vault.canary.key: {{file: key}}\n  \
                 described: {{env: {VARIABLE}}}\n"
            ),
        );
        let wanted = "[vault.canary.token, vault.canary.key, described]";
        fixture.write("profiles/askari.yml", &format!("version: 1\nroles: [base]\nsecrets: {wanted}\n"));
        fixture.write("overrides/askari.yml", "stub: true\nvault: {canary: {token: stub}, other: 1}\n");
        for (name, secret) in [("token", TOKEN), ("key", KEY)] {
            fixture.write(name, &format!("{secret}\n"));
            fs::set_permissions(fixture.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let words = encodings().join("\n") + "\n";
        fixture.write("words", &words);
        fixture.write("guest/words", &words);
        let shown = Arc::default();
        let mut context = fixture.context(keep);
        let terminal =
            Terminal::lines(Box::new(Shown(Arc::clone(&shown))), false, TerminalUse::Driver, HEARTBEAT);
        let reporters: Vec<Box<dyn Reporter>> = vec![Box::new(terminal), Box::new(JsonReporter::default())];
        context.reporter = Arc::new(reporters);
        let secrets = Self { fixture, context, shown, ours: std::env::current_exe().unwrap() };
        for (phase, play) in [("apply", "site"), ("before", "verify"), ("assert", "verify")] {
            secrets.playbook(phase, &record(play, &[Task::ok(PORTS).asserting()]));
        }
        secrets
    }

    /// What `ansible-playbook` does in a phase: it records its secrets, prints them on both streams, waits until the watch has
    /// inspected it, if there is one, and runs `script`.
    pub(crate) fn playbook(&self, phase: &str, script: &str) {
        let [words, seen, watched, looked] =
            ["words", "seen", "watched", "looked"].map(|name| self.fixture.path(name).display().to_string());
        let chatter = format!(
            "for word in \"$@\"; do case $word in *secrets.vars.json) cp \"${{word#@}}\" {seen}.json; stat -c %a \"${{word#@}}\" >{seen}.mode ;; esac; done\n\
             cat {words}; cat {words} >&2; echo {phase} >>{seen}\n\
             if [ -e {watched} ]; then\nrm -f {looked}\n\
             for moment in $(seq 300); do [ -e {looked} ] && break; sleep 0.05; done; [ -e {looked} ] || exit 97\nfi\n"
        );
        self.fixture.playbook(phase, &(chatter + script));
    }

    /// What the terminal shows so far.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8(self.shown.lock().unwrap().clone()).unwrap()
    }

    /// Runs `job` while a watch inspects its children and its run folder.
    pub(crate) fn run(&self, job: Job) -> RunReport {
        let done = AtomicBool::new(false);
        let all = all_encodings();
        self.fixture.write("watched", "");
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let (mut looked, mut spoken) = (false, false);
                while !done.load(Ordering::Relaxed) {
                    if !spoken
                        && self.fixture.path("seen").exists()
                        && self.fixture.fake.spec(ASKARI).is_some()
                    {
                        spoken = true;
                        self.print_in_guest();
                    }
                    if self.inspect(&all) {
                        looked = true;
                        // A playbook that waits for this is sure of the guest's words as well.
                        if spoken {
                            self.fixture.write("looked", "");
                        }
                    }
                    Deadline::uninterrupted(Duration::from_millis(10), "the watch").wait_a_moment();
                }
                looked
            });
            let report = run(&self.context, &self.fixture.plan(), job);
            done.store(true, Ordering::Relaxed);
            assert!(watch.join().unwrap(), "the watch saw no child of this run");
            report.unwrap()
        })
    }

    /// Prints the secrets on the guest's console and in its journal.
    fn print_in_guest(&self) {
        let words = encodings().join("\r\n");
        self.fixture.fake.print(ASKARI, &words);
        self.fixture.fake.put_volume(&VmVolumes(ASKARI).journal(), words.as_bytes());
    }

    /// Checks that no child and no file in the run folder has a secret. Returns whether a child of this run was seen.
    fn inspect(&self, all: &BTreeSet<String>) -> bool {
        let mut seen = false;
        let of = |child: u32, what: &str| fs::read(format!("/proc/{child}/{what}")).unwrap_or_default();
        for child in descendants(std::process::id()) {
            let [arguments, environment] = ["cmdline", "environ"].map(|what| of(child, what));
            assert_eq!(find_leak(&arguments, all), None, "{}", String::from_utf8_lossy(&arguments));
            // One that is still about to become another program has our own environment; and that of another test's is not
            // this run's business.
            let is_other = fs::read_link(format!("/proc/{child}/exe")).is_ok_and(|exe| exe != self.ours);
            let here = self.fixture.path("").display().to_string();
            let is_here =
                [&arguments, &environment].iter().any(|text| String::from_utf8_lossy(text).contains(&here));
            if is_other && is_here {
                seen = true;
                let told = String::from_utf8_lossy(&environment).into_owned();
                assert_eq!(find_leak(&environment, all), None, "{told}");
            }
        }
        for path in files(&self.fixture.path("runs"))
            .iter()
            .filter(|path| !path.ends_with("ansible/secrets.vars.json"))
        {
            let text = fs::read(path).unwrap_or_default();
            assert_eq!(find_leak(&text, all), None, "for a while, in {}", path.display());
        }
        seen
    }

    /// Checks that no output has a secret, and that each of `places` has a redacted one: it did see the secret.
    #[track_caller]
    pub(crate) fn assert_no_leak(&self, report: &RunReport, places: &[&str]) {
        let all = all_encodings();
        for path in files(&self.fixture.path("runs")) {
            assert_eq!(find_leak(&fs::read(&path).unwrap(), &all), None, "{}", path.display());
            assert!(!path.ends_with("secrets.vars.json"), "{} is left", path.display());
        }
        let shown = self.shown();
        assert_eq!(find_leak(shown.as_bytes(), &all), None, "on the terminal: {shown}");
        let explained = explain(report);
        assert_eq!(find_leak(explained.as_bytes(), &all), None, "{explained}");
        for place in places {
            let text = match *place {
                "the terminal" => shown.clone(),
                file => {
                    fs::read_to_string(report.folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
                }
            };
            // The terminal shows the beginning of a long message.
            let names = match *place {
                "the terminal" => &["vault.canary.token"][..],
                _ => &["vault.canary.token", "vault.canary.key", "described"],
            };
            for name in names {
                assert!(text.contains(&format!("[secret {name}]")), "{place} never had {name}:\n{text}");
            }
        }
        // The playbook did have them.
        let seen: serde_json::Value =
            serde_json::from_slice(&fs::read(self.fixture.path("seen.json")).unwrap()).unwrap();
        let handed = serde_json::json!({
            "vault": {"canary": {"token": TOKEN, "key": KEY.trim_end()}, "other": 1}, "described": FROM_VARIABLE,
        });
        assert_eq!(seen, handed);
        assert_eq!(fs::read_to_string(self.fixture.path("seen.mode")).unwrap(), "600\n");
    }
}

/// A task's message with every encoding.
pub(crate) fn message() -> &'static str {
    Box::leak(encodings().join("\n").into_boxed_str())
}

/// All processes below `root`.
fn descendants(root: u32) -> BTreeSet<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
    };
    let all =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_below = |pid: &u32| {
        let mut at = *pid;
        while let Some(above) = parent(at) {
            if above == root {
                return true;
            }
            if above == 0 {
                return false;
            }
            at = above;
        }
        false
    };
    all.filter(is_below).collect()
}

pub(crate) trait Moment {
    fn wait_a_moment(&self);
}

impl Moment for Deadline {
    fn wait_a_moment(&self) {
        let _ = self.wait_for("a moment", Duration::from_millis(10), || {
            Ok(boma_it::support::deadline::Progress::<()>::Pending(String::new()))
        });
    }
}
