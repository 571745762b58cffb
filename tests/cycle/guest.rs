//! A guest for the hypervisor in memory. When the fake starts a domain, a real sshd answers at the domain's address, with the
//! host key of the run and a shell script in place of a system. A restart gives it another boot id.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boma_it::cycle::RunContext;
use boma_it::machine::DomainState;
use boma_it::machine::VmVolumes;
use boma_it::machine::fake::{Fake, Verb};
use boma_it::support::deadline::{Deadline, Progress, Waited};
use boma_it::support::interrupt::Interrupt;
use boma_it::support::process::Process;

use crate::fixture::{ASKARI, Fixture, RecordedEvents};

/// The boots, in their order.
const BOOTS: [&str; 2] = ["11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"];

/// What the harness reports while the first boot still answers after the restart.
pub(crate) const OLD: &str = "still the old boot 11111111";

/// The console at the beginning of a boot.
macro_rules! begun {
    () => {
        "BdsDxe: starting Boot0001\r\n[    0.000000] Linux version 6.12.48+deb13\r\n"
    };
}
pub(crate) const BEGUN: &str = begun!();
/// The console of a finished boot.
pub(crate) const BOOTED: &str =
    concat!(begun!(), "[  OK  ] Reached target getty.target - Login Prompts.\r\n\r\naskari login: ");

/// The console of a kernel whose vCPU stopped receiving timer interrupts. One message alone does not count.
pub(crate) const STALLS: &str = concat!(
    begun!(),
    "rcu: rcu_preempt kthread timer wakeup didn't happen for 5254 jiffies!\r\n",
    "rcu: rcu_preempt kthread timer wakeup didn't happen for 15758 jiffies!\r\n"
);

/// What a guest does when it is asked to restart.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum OnRestart {
    /// It comes back as another boot.
    AnotherBoot,
    /// It ignores the request.
    SameBoot,
    /// Its old boot keeps answering until the harness reports that, and then it comes back as another boot.
    OldBootLingers,
    /// Its next boot hangs before its init. After a reset it comes back as another boot.
    BootHangs,
    /// Its sshd never answers again, and its console is silent.
    Silent,
    /// It prints this on its console, and its sshd is gone.
    Prints(&'static str),
    /// The same. Once the harness has read it, the second text goes into the journal.
    PrintsAndLogs(&'static str, &'static str),
    /// Its domain comes into this state.
    ChangesState(DomainState),
    /// It comes back as another boot, prints the first text on its console and logs the second one.
    AnotherBootThatLogs(&'static str, &'static str),
    /// It comes back as another boot, whose jobs are these and never end.
    BootWaitsFor(&'static str),
    /// It boots, and its sshd has this configuration before its own. Its journal has what sshd says, and the end of the boot.
    LocksOut(&'static str),
}

/// The end of a boot, in the journal.
pub(crate) const END: &str =
    "[   60.000000] systemd[1]: Startup finished in 20s (kernel) + 40s (userspace) = 1min.\n";

/// A guest that ends when it is dropped.
pub(crate) struct Guest {
    stop: Interrupt,
    threads: Vec<JoinHandle<()>>,
    happened: Arc<OnceLock<Instant>>,
}

impl Guest {
    /// Starts a guest for every domain of askari that the fixture's hypervisor starts from now on.
    pub(crate) fn start(fixture: &Fixture, context: &RunContext, on_restart: OnRestart) -> Self {
        Self::start_as(ASKARI, "guest", fixture, context, on_restart)
    }

    /// The same for every domain of that name, with its files in a folder of the fixture.
    pub(crate) fn start_as(
        domain: &'static str,
        folder: &str,
        fixture: &Fixture,
        context: &RunContext,
        on_restart: OnRestart,
    ) -> Self {
        let stop = Interrupt::never();
        let script = fixture.path(folder);
        let happened = Arc::new(OnceLock::new());
        let server = Arc::new(Server::default());
        let gone = server.clone();
        let folder = script.clone();
        // A layer has the keys of the run that made it.
        fixture.fake.after(Verb::Save, move |saved| {
            if saved != domain {
                return;
            }
            for name in ["host", "authorized"] {
                fs::copy(folder.join(name), folder.join(format!("layer-{name}"))).unwrap();
            }
        });
        // The sshd ends with its domain: the next domain has other keys at the same address.
        fixture.fake.after(Verb::Undefine, move |undefined| {
            if undefined == domain {
                gone.end();
            }
        });
        let guest = GuestThread {
            domain,
            fake: fixture.fake.clone(),
            events: fixture.events.clone(),
            port: context.login.port,
            folder: script,
            stop: stop.clone(),
            server,
            happened: happened.clone(),
        };
        Self { stop, threads: vec![std::thread::spawn(move || guest.run(&on_restart))], happened }
    }

    /// The same, and whatever its sshd says goes into its journal.
    pub(crate) fn start_with_journal(fixture: &Fixture, context: &RunContext, on_restart: OnRestart) -> Self {
        let mut guest = Self::start(fixture, context, on_restart);
        let (fake, log, stop) = (fixture.fake.clone(), fixture.path("guest/log"), guest.stop.clone());
        // Held while something is logged: a journal ends with its domain.
        let is_open = Arc::new(Mutex::new(true));
        let open = is_open.clone();
        fixture.fake.after(Verb::PowerOff, move |_| *open.lock().unwrap() = false);
        guest.threads.push(std::thread::spawn(move || stream(&fake, &log, &is_open, stop)));
        guest
    }

    /// When it first reacted to a restart.
    pub(crate) fn happened(&self) -> Instant {
        *self.happened.get().unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop.raise(15);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join()
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Streams the log of an sshd into the journal, line by line. As in a journal, each connection is served by a process of its own.
fn stream(fake: &Fake, log: &Path, is_open: &Mutex<bool>, stop: Interrupt) {
    let (mut read, mut session) = (0, 700);
    let deadline = Deadline::after(Duration::from_secs(300), "a journal", stop, Waited::default());
    let _ = deadline.wait_for("the end of the test", Duration::from_millis(5), || {
        let text = fs::read_to_string(log).unwrap_or_default();
        for line in text.get(read..).unwrap_or_default().split_inclusive('\n').filter(|it| it.ends_with('\n'))
        {
            read += line.len();
            let line = line.trim_end();
            session += usize::from(line.starts_with("Connection from "));
            let is_listener = line.starts_with("Server listening ") || line.starts_with("Received ");
            let process =
                if is_listener { "sshd[500]".to_owned() } else { format!("sshd-session[{session}]") };
            let is_open = is_open.lock().unwrap();
            if *is_open {
                fake.log(ASKARI, &format!("[  200.000000] {process}: {line}\n"));
            }
        }
        Ok(Progress::<()>::Pending(String::new()))
    });
}

struct GuestThread {
    domain: &'static str,
    fake: Arc<Fake>,
    events: Arc<RecordedEvents>,
    port: u16,
    folder: PathBuf,
    stop: Interrupt,
    server: Arc<Server>,
    happened: Arc<OnceLock<Instant>>,
}

/// The sshd of the current boot, if it runs.
#[derive(Default)]
struct Server(Mutex<Option<(Interrupt, JoinHandle<()>)>>);

impl Server {
    /// Starts one with the configuration that `prepare` wrote, unless it returns none. [`Server::end`] waits meanwhile.
    fn begin(&self, prepare: impl FnOnce() -> Option<PathBuf>) {
        let mut server = self.0.lock().unwrap();
        let Some(config) = prepare() else { return };
        let off = Interrupt::never();
        let deadline = Deadline::after(Duration::from_secs(300), "sshd", off.clone(), Waited::default());
        let thread = std::thread::spawn(move || {
            let log = config.with_file_name("log");
            let sshd = Process::new("/usr/sbin/sshd").args(["-D", "-E"]).arg(log).arg("-f").arg(&config);
            let ended = sshd.run(&deadline);
            let may_end = config.with_file_name("may-end").exists();
            assert!(ended.is_err() || may_end, "sshd ended by itself: {ended:?}");
        });
        *server = Some((off, thread));
    }

    /// Ends it. When this returns, nothing listens any more.
    fn end(&self) {
        if let Some((off, thread)) = self.0.lock().unwrap().take() {
            off.raise(15);
            thread.join().unwrap();
        }
    }
}

impl GuestThread {
    fn run(&self, on_restart: &OnRestart) {
        let mut calls = 0;
        while self.sees(&[Verb::Start, Verb::Restore], &mut calls).is_some() {
            self.boot(0);
            self.server.begin(|| self.configure(""));
            if self.sees(&[Verb::Restart, Verb::Undefine], &mut calls) == Some(Verb::Restart) {
                match on_restart {
                    OnRestart::AnotherBoot => self.boot(1),
                    OnRestart::OldBootLingers => {
                        self.wait(&mut || self.events.activities().iter().any(|doing| doing == OLD));
                        self.boot(1);
                    }
                    OnRestart::BootHangs => {
                        self.fake.print(self.domain, STALLS);
                        self.sees(&[Verb::Restart], &mut calls);
                        self.boot(1);
                    }
                    OnRestart::SameBoot => {}
                    OnRestart::Silent => self.server.end(),
                    OnRestart::Prints(text) => {
                        self.server.end();
                        self.fake.print(self.domain, text);
                    }
                    OnRestart::PrintsAndLogs(text, journal) => {
                        self.server.end();
                        self.print_and_log(text, journal);
                    }
                    OnRestart::AnotherBootThatLogs(text, journal) => {
                        self.fake.print(self.domain, text);
                        self.fake.log(self.domain, journal);
                        self.boot(1);
                    }
                    OnRestart::BootWaitsFor(units) => {
                        let says = format!("boot {}\njobs {units}\n", BOOTS[1]);
                        fs::write(self.folder.join("says.new"), says).unwrap();
                        fs::rename(self.folder.join("says.new"), self.folder.join("says")).unwrap();
                    }
                    OnRestart::LocksOut(config) => {
                        self.server.end();
                        self.print_and_log(BEGUN, "[   30.000000] kernel: Linux version 6.12\n");
                        self.fake.log(self.domain, END);
                        self.server.begin(|| self.configure(config));
                    }
                    OnRestart::ChangesState(state) => {
                        self.server.end();
                        self.fake.set_state(self.domain, state.clone());
                    }
                }
                let _ = self.happened.set(Instant::now());
                self.sees(&[Verb::Undefine], &mut calls);
            }
            self.server.end();
        }
    }

    /// Prints `text` on the console. Once the harness has read it, `journal` goes into the journal.
    fn print_and_log(&self, text: &str, journal: &str) {
        let look = |volume: String| {
            let call = (Verb::Download, volume);
            self.fake.calls().iter().filter(|it| **it == call).count()
        };
        let (console, streamed) = (VmVolumes(self.domain).console(), VmVolumes(self.domain).journal());
        let before = look(console.clone());
        self.fake.print(self.domain, text);
        self.wait(&mut || look(console.clone()) > before + 1);
        let before = look(streamed.clone());
        self.wait(&mut || look(streamed.clone()) > before);
        self.fake.log(self.domain, journal);
    }

    /// Waits for the next call of one of `verbs`, after the first `calls` ones, which it then counts. None at the test's end.
    fn sees(&self, verbs: &[Verb], calls: &mut usize) -> Option<Verb> {
        let mut seen = None;
        self.wait(&mut || {
            let new = self.fake.calls().into_iter().enumerate().skip(*calls);
            let mut ours = new.filter(|(_, (_, name))| name == self.domain).map(|(at, (verb, _))| (at, verb));
            seen = ours.find(|(_, verb)| verbs.contains(verb));
            seen.is_some()
        });
        let (at, verb) = seen?;
        *calls = at + 1;
        Some(verb)
    }

    /// Waits until `is_so`, or for the test's end.
    fn wait(&self, is_so: &mut dyn FnMut() -> bool) {
        let deadline =
            Deadline::after(Duration::from_secs(120), "a guest", self.stop.clone(), Waited::default());
        let _ = deadline.wait_for("the harness", Duration::from_millis(5), || {
            Ok(if is_so() { Progress::Ready(()) } else { Progress::Pending(String::new()) })
        });
    }

    fn boot(&self, index: usize) {
        fs::create_dir_all(&self.folder).unwrap();
        let cloud_init = fs::read_to_string(self.folder.join("cloud-init"));
        let cloud_init = cloud_init.unwrap_or_else(|_| "cloud-init absent".to_owned());
        let says = format!("boot {}\n{cloud_init}\nstate running\n", BOOTS[index]);
        let list = |(at, id): (usize, &&str)| format!(" {at} {id} Mon 2026-11-23 08:49:43 UTC\n");
        let boots: String = BOOTS[..=index].iter().enumerate().map(list).collect();
        fs::write(self.folder.join("boots"), boots).unwrap();
        // In one step, as a reader may be at work.
        fs::write(self.folder.join("says.new"), says).unwrap();
        fs::rename(self.folder.join("says.new"), self.folder.join("says")).unwrap();
    }

    /// Writes the configuration of the domain's sshd, if there is a domain. What sshd reads first counts.
    fn configure(&self, first: &str) -> Option<PathBuf> {
        let owned = self.fake.spec(self.domain)?.ownership;
        let keys = owned.run_folder.join("keys");
        let (folder, keys_folder) = (self.folder.display(), keys.display());
        let answer = format!(
            "case $SSH_ORIGINAL_COMMAND in\n*--list-boots*) cat {folder}/boots ;;\n\
             *'is-system-running --wait'*) cat {folder}/says ;;\n\
             *'sh -s') cat >{folder}/renewal; [ ! -e {folder}/refuses ] || {{ echo refused >&2; exit 1; }}\n\
             cp {keys_folder}/host {folder}/host; cp {keys_folder}/client.pub {folder}/authorized\n\
             kill -HUP $(cat {folder}/pid); sleep 1 ;;\n*) echo \"as a guest would say\"; [ ! -e {folder}/words ] || cat {folder}/words ;;\nesac\n"
        );
        fs::write(self.folder.join("answer"), answer).unwrap();
        // Copies: the run removes its keys before the domain is gone, and at once where the restore of a layer failed.
        let copy = |name: &str, to: &Path| fs::copy(keys.join(name), to).ok();
        if owned.layer.is_some() {
            for name in ["host", "authorized"] {
                fs::copy(self.folder.join(format!("layer-{name}")), self.folder.join(name)).unwrap();
            }
        } else {
            copy("host", &self.folder.join("host"))?;
            copy("client.pub", &self.folder.join("authorized"))?;
        }
        let config = self.folder.join("config");
        // A second one of these would be in addition.
        let unless = |key: &str, line: String| if first.contains(key) { String::new() } else { line };
        let port = unless("Port ", format!("Port {}\n", self.port));
        let address = unless("ListenAddress ", format!("ListenAddress {}\n", owned.address));
        let text = format!(
            "{first}\n{port}{address}HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nPidFile {folder}/pid\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\nLogLevel VERBOSE\nForceCommand /bin/sh {folder}/answer\n",
        );
        fs::write(&config, text).unwrap();
        // Where sshd runs as root, it insists on this folder; elsewhere it needs none.
        let _ = fs::create_dir_all("/run/sshd");
        Some(config)
    }
}
