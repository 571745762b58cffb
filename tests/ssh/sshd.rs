//! A real sshd on loopback, with its own keys in a temporary folder. It ends when it is dropped.

#![expect(clippy::unwrap_used, reason = "a fixture: a test that cannot set up its server may panic")]

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use boma_it::guest::Session;
use boma_it::support::deadline::{Deadline, Progress, Waited};
use boma_it::support::interrupt::Interrupt;
use boma_it::support::process::Process;
use boma_it::support::ssh_access::SshAccess;

pub(crate) struct Sshd {
    folder: tempfile::TempDir,
    port: u16,
    stop: Interrupt,
    server: Option<JoinHandle<()>>,
}

impl Sshd {
    /// Starts one that runs commands.
    pub(crate) fn start() -> Self {
        Self::with(tempfile::tempdir().unwrap(), "")
    }

    /// Starts one that answers every command with the content of its file `guest`, as a guest would: `report`, until the test
    /// writes another one.
    pub(crate) fn answering(report: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("guest");
        std::fs::write(&file, report).unwrap();
        Self::with(folder, &format!("ForceCommand cat {}\n", file.display()))
    }

    fn with(folder: tempfile::TempDir, config: &str) -> Self {
        let port = free_port();
        let mut sshd = Self { folder, port, stop: Interrupt::never(), server: None };
        let at = |name: &str| sshd.path(name).display().to_string();
        for key in ["host", "client", "stranger"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]);
        }
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\nLogLevel ERROR\n{config}",
            at("host"),
            at("client.pub"),
        );
        std::fs::write(sshd.path("config"), config).unwrap();
        sshd.serve();
        sshd
    }

    fn serve(&mut self) {
        // As root, sshd requires this folder; as another user, it needs none.
        let _ = std::fs::create_dir_all("/run/sshd");
        let config = self.path("config").display().to_string();
        let deadline =
            Deadline::after(Duration::from_secs(300), "sshd", self.stop.clone(), Waited::default());
        let server = Process::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &config]);
        self.server = Some(std::thread::spawn(move || {
            let ended = server.run(&deadline);
            assert!(ended.is_err(), "sshd ended by itself: {ended:?}");
        }));
        let listening = Deadline::uninterrupted(Duration::from_secs(10), "sshd");
        listening
            .wait_for("sshd to listen", Duration::from_millis(20), || {
                Ok(match TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
                    Ok(_) => Progress::Ready(()),
                    Err(error) => Progress::Pending(error.to_string()),
                })
            })
            .unwrap();
    }

    /// How to reach it, as the user who runs the tests.
    pub(crate) fn access(&self) -> SshAccess {
        SshAccess {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: self.port,
            user: run("id", &["-un"]),
            private_key: self.path("client"),
            host_key: std::fs::read_to_string(self.path("host.pub")).unwrap(),
        }
    }

    /// A session with it.
    pub(crate) fn connect(&self) -> Session {
        let deadline = Deadline::uninterrupted(Duration::from_secs(20), "the session");
        Session::connect(&self.access(), &deadline).unwrap()
    }

    /// The fingerprint of one of its keys, as ssh-keygen shows it: `SHA256:…`.
    pub(crate) fn fingerprint(&self, key: &str) -> String {
        let shown = run("ssh-keygen", &["-l", "-f", self.path(key).to_str().unwrap()]);
        shown.split_whitespace().nth(1).unwrap().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop.raise(15);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// A port of loopback on which nothing listens.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn run(program: &str, args: &[&str]) -> String {
    let deadline = Deadline::uninterrupted(Duration::from_secs(30), "test fixtures");
    Process::new(program).args(args).run_ok(&deadline).unwrap().trim().to_owned()
}
