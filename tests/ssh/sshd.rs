//! A real sshd on loopback, with keys of its own in a temporary folder. It ends when it is dropped.

#![expect(clippy::unwrap_used, reason = "a fixture: a test whose ground cannot be laid may panic")]

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use boma_it::support::deadline::{Deadline, Progress, Waited};
use boma_it::support::interrupt::Interrupt;
use boma_it::support::process::Process;
use boma_it::support::ssh_access::SshAccess;

pub(crate) struct Sshd {
    pub(crate) folder: tempfile::TempDir,
    port: u16,
    stop: Interrupt,
    server: Option<JoinHandle<()>>,
}

impl Sshd {
    /// Starts one; `extra` is appended to its configuration.
    pub(crate) fn start(extra: &str) -> Self {
        Self::start_with(|_| extra.to_owned())
    }

    /// Starts one; what `extra` makes of its folder is appended to its configuration.
    fn start_with(extra: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for key in ["host", "client", "stranger"] {
            let path = folder.path().join(key);
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", path.to_str().unwrap()]);
        }
        let port = free_port();
        let mut sshd = Self { folder, port, stop: Interrupt::never(), server: None };
        sshd.configure(&extra(sshd.folder.path()));
        sshd.serve();
        sshd
    }

    /// Starts one that answers every command with the content of its file `guest`, as a guest that settled (or not) would:
    /// `says`, until the test writes something else there.
    pub(crate) fn answering(says: &str) -> Self {
        let sshd = Self::start_with(|folder| format!("ForceCommand cat {}", folder.join("guest").display()));
        std::fs::write(sshd.path("guest"), says).unwrap();
        sshd
    }

    fn configure(&self, extra: &str) {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\nLogLevel ERROR\n{extra}\n",
            self.port,
            at("host"),
            at("client.pub"),
        );
        std::fs::write(self.folder.path().join("config"), config).unwrap();
    }

    fn serve(&mut self) {
        // Where sshd runs as root, it insists on this folder; elsewhere it needs none.
        let _ = std::fs::create_dir_all("/run/sshd");
        let config = self.folder.path().join("config").display().to_string();
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

    /// How to reach it, as whoever runs the tests.
    pub(crate) fn access(&self) -> SshAccess {
        SshAccess {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: self.port,
            user: run("id", &["-un"]),
            private_key: self.path("client"),
            host_key: std::fs::read_to_string(self.path("host.pub")).unwrap(),
        }
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

/// A port of loopback that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn run(program: &str, args: &[&str]) -> String {
    let deadline = Deadline::uninterrupted(Duration::from_secs(30), "test fixtures");
    Process::new(program).args(args).run_ok(&deadline).unwrap().trim().to_owned()
}
