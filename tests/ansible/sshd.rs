//! A real sshd on loopback, as the user who runs the tests: it stands for the VM's.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use boma_it::support::deadline::Progress;
use boma_it::support::process::Process;
use boma_it::support::ssh_access::SshAccess;

use crate::fixture::patient;

pub(crate) struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    user: String,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let user = run("id", &["-un"]).trim().to_owned();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for key in ["host_key", "client_key"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]);
        }
        // Of root's sshd, its privilege separation wants this folder (Debian makes it at the service's start).
        if user == "root" {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nStrictModes no\n\
             UsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n",
            at("host_key"),
            at("client_key.pub"),
            at("pid"),
        );
        fs::write(at("config"), config).unwrap();
        run("/usr/sbin/sshd", &["-f", &at("config"), "-E", &at("log")]);
        patient()
            .wait_for("sshd", Duration::from_millis(10), || {
                Ok(match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    Ok(_) => Progress::Ready(()),
                    Err(error) => Progress::Pending(error.to_string()),
                })
            })
            .unwrap();
        Self { dir, port, user }
    }

    pub(crate) fn access(&self) -> SshAccess {
        SshAccess {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: self.port,
            user: self.user.clone(),
            private_key: self.path("client_key"),
            host_key: fs::read_to_string(self.path("host_key.pub")).unwrap(),
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("pid")).unwrap_or_default();
        run("kill", &[pid.trim()]);
    }
}

fn run(program: &str, args: &[&str]) -> String {
    assert!(
        !Path::new(program).is_absolute() || Path::new(program).exists(),
        "no {program}: run `make setup` (Debian: apt install openssh-server)"
    );
    Process::new(program).args(args).run_ok(&patient()).unwrap()
}
