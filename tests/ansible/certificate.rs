//! How the role `reverse_proxy` of the reference site gets its certificate: a real Ansible runs its tasks, with the variables and
//! the override of askari, against a folder that stands for the host; lego is real, and Pebble serves ACME on loopback.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use boma_it::catalog::plan::{CertsPlan, DnsPlan, DnsProvider, Tier};
use boma_it::site::certs::pebble::PebbleFiles;
use boma_it::site::certs::{Acme, Pebble};
use boma_it::support::env;
use boma_it::support::process::{Finished, Process, is_available};
use serde_json::{Value, json};

use crate::fixture::{checkout, patient, shipped_ansible};

const DOMAIN: &str = "askari.boma.example";
/// The certificate tasks of the role, for a folder that stands for the host.
const PLAYBOOK: &str = "
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {ansible_python_interpreter: '{{ ansible_playbook_python }}'}
  environment: {ROOT: '{{ root }}', PATH: '{{ path }}'}
  tasks:
    - ansible.builtin.import_role: {name: reverse_proxy, tasks_from: certificate}
";

/// A folder that stands for the host, with a fake `systemctl` that records its calls.
struct Host {
    folder: tempfile::TempDir,
    address: IpAddr,
}

impl Host {
    fn new(last: u8) -> Self {
        let host = Self { folder: tempfile::tempdir().unwrap(), address: [127, 84, 2, last].into() };
        for folder in ["root/etc/systemd/system", "root/usr/local/sbin"] {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        host.program(
            "bin/systemctl",
            &format!("#!/bin/sh\necho \"$@\" >>{}\n", host.path("systemctl-calls").display()),
        );
        host.program(
            "bin/curl",
            &format!(
                "#!/bin/sh\necho \"$@\" >>{}\nPATH=${{PATH#*:}} exec curl \"$@\"\n",
                host.path("argv").display()
            ),
        );
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn pebble(&self) -> Pebble {
        let files = PebbleFiles { folder: self.path("certs"), key: self.path("key") };
        Pebble::start(&files, self.address, &patient()).unwrap()
    }

    /// Where the programs of the host are.
    fn programs(&self) -> String {
        format!("{}:{}", self.path("bin").display(), env::path().to_string_lossy())
    }

    /// Applies the role's tasks, with `more` as the last extra variables.
    fn apply(&self, more: &Value) -> Finished {
        let group = Process::new("id").args(["--group", "--name"]).run_ok(&patient()).unwrap();
        let mut vars = json!({
            "root": self.path("root"),
            "path": self.programs(),
            "reverse_proxy_certificates": self.path("served"),
            "reverse_proxy_group": group.trim(),
            "reverse_proxy_dns_token_file": self.path("token"),
        });
        vars.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fs::write(self.path("vars.json"), vars.to_string()).unwrap();
        fs::write(self.path("play.yml"), PLAYBOOK).unwrap();
        let program =
            shipped_ansible().map_or(PathBuf::from("ansible-playbook"), |dir| dir.join("ansible-playbook"));
        let mut process = Process::new(program).arg("--inventory").arg("localhost,");
        let files = [
            "site/inventory/production/group_vars/all.yml",
            "site/inventory/production/host_vars/askari.yml",
            "overrides/askari.yml",
        ];
        for file in files.map(checkout).iter().chain([&self.path("vars.json")]) {
            process = process.arg("--extra-vars").arg(format!("@{}", file.display()));
        }
        process
            .arg(self.path("play.yml"))
            .env("ANSIBLE_ROLES_PATH", checkout("site/roles"))
            .env("ANSIBLE_HOME", self.path("ansible"))
            .run(&patient())
            .unwrap()
    }

    fn apply_under(&self, tier: Tier, pebble: &Pebble) -> Finished {
        let settings = CertsPlan {
            directory: None,
            root: None,
            domain: None,
            dns: DnsPlan { provider: DnsProvider::Gandi, token: "vault.gandi.pat".to_owned() },
        };
        let acme = Acme::of(tier, &settings, Some(pebble.authority()), None);
        self.apply(&json!({
            "boma_it_certs": tier,
            "boma_it_acme_directory": acme.directory,
            "boma_it_acme_ca": acme.ca,
            "boma_it_dns_provider": acme.dns,
            "boma_it_certs_domain": acme.domain,
        }))
    }

    fn script(&self, args: &[&str]) -> Finished {
        let process = Process::new(self.path("root/usr/local/sbin/reverse-proxy-certificate")).args(args);
        process.env("PATH", self.programs()).env("ROOT", self.path("root")).run(&patient()).unwrap()
    }

    /// What the script prints as changed; it must succeed.
    #[track_caller]
    fn changed(&self, what: &str) -> String {
        let finished = self.script(&[what]);
        assert!(finished.status.success(), "{}{}", finished.stdout, finished.stderr);
        finished.stdout
    }

    fn openssl(&self, args: &[&str]) -> String {
        let process = Process::new("openssl").args(args).cwd(self.folder.path());
        process.run_ok(&patient()).unwrap()
    }

    fn systemctl_calls(&self) -> String {
        fs::read_to_string(self.path("systemctl-calls")).unwrap_or_default()
    }
}

/// Whether the programs that these tests need are there. CI fails without them.
fn programs_available() -> bool {
    let missing: Vec<_> = ["pebble", "pebble-challtestsrv", "lego", "openssl", "curl"]
        .into_iter()
        .filter(|program| !is_available(program))
        .collect();
    assert!(missing.is_empty() || !env::is_ci(), "not on PATH: {missing:?}; `make setup` installs them");
    if !missing.is_empty() {
        eprintln!("skipped: not on PATH: {missing:?}; `make setup` installs them");
    }
    missing.is_empty()
}

#[test]
fn a_wildcard_certificate_is_issued_kept_renewed_and_survives_a_reset_of_the_authority() {
    if !programs_available() {
        return;
    }
    let host = Host::new(1);
    let pebble = host.pebble();
    let first = host.apply_under(Tier::Pebble, &pebble);
    assert!(
        first.status.success() && first.stdout.contains("changed=1 "),
        "{}{}",
        first.stdout,
        first.stderr
    );
    assert_eq!(host.systemctl_calls(), "--quiet enable --now reverse-proxy-certificate.timer\n");
    let unit = "root/etc/systemd/system/reverse-proxy-certificate@.service";
    let service = fs::read_to_string(host.path(unit)).unwrap();
    assert!(service.contains("\n[Service]\nType=oneshot\nExecStart=/"), "{service}");
    let names = host.openssl(&["x509", "-noout", "-ext", "subjectAltName", "-in", "served/site.crt"]);
    assert!(
        names.contains(&format!("DNS:{DOMAIN}")) && names.contains(&format!("DNS:*.{DOMAIN}")),
        "{names}"
    );
    let verify = [
        "verify",
        "-x509_strict",
        "-CAfile",
        "certs/roots.pem",
        "-untrusted",
        "served/site.crt",
        "served/site.crt",
    ];
    host.openssl(&verify);
    let mode = |name: &str| fs::metadata(host.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("served"), mode("served/site.key")), (0o750, 0o640));
    assert_eq!(mode("root/var/lib/reverse-proxy-certificate"), 0o700);
    assert!(!host.path("token").exists(), "this tier needs no token");
    // Caddy's configuration did not name the first certificate yet, so nothing was reloaded.
    assert_eq!(host.changed("due"), "", "nothing is due");
    let again = host.apply_under(Tier::Pebble, &pebble);
    assert!(again.status.success() && again.stdout.contains("changed=0 "), "{}", again.stdout);
    let second = host.changed("now");
    assert!(second.starts_with(&format!("certificate of {DOMAIN}: serial=")), "{second}");
    host.openssl(&verify);
    assert!(host.systemctl_calls().ends_with("timer\nreload caddy.service\n"), "{}", host.systemctl_calls());

    // Another server at the same address, with other roots and no accounts.
    pebble.stop();
    let pebble = host.pebble();
    let third = host.changed("now");
    assert!(third != second && !third.is_empty(), "{third}");
    host.openssl(&verify);
    pebble.stop();
    // No server: the script prints lego's error, and the served certificate stays.
    let finished = host.script(&["now"]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("connection refused"), "{}", finished.stderr);
    host.openssl(&verify);
}

#[test]
fn the_authority_refuses_a_missing_dns_record() {
    if !programs_available() {
        return;
    }
    let host = Host::new(2);
    let pebble = host.pebble();
    // The hook reports that it created the record, but does not create it.
    host.program("bin/curl", "#!/bin/sh\nexit 0\n");
    let finished = host.apply_under(Tier::Pebble, &pebble);
    assert!(!finished.status.success(), "{}", finished.stdout);
    assert!(finished.stdout.contains("urn:ietf:params:acme:error:unauthorized"), "{}", finished.stdout);
    assert!(!host.path("served").exists());
}

#[test]
fn the_record_is_created_at_gandi_and_the_token_is_on_no_command_line() {
    if !programs_available() {
        return;
    }
    let host = Host::new(3);
    let listener = TcpListener::bind((host.address, 0)).unwrap();
    let api = format!("http://{}/v5/livedns", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || [request(&listener), request(&listener)]);
    // No ACME server answers there, but the hook gets what it needs on the host.
    let finished = host.apply(&json!({
        "boma_it_certs": "le-staging",
        "boma_it_acme_directory": "https://127.0.0.1:1/dir",
        "boma_it_acme_ca": null,
        "boma_it_dns_provider": {"name": "gandi"},
        "boma_it_certs_domain": null,
        "vault": {"gandi": {"pat": "a'made up token, no secret"}},
    }));
    assert!(finished.stdout.contains("connection refused"), "{}{}", finished.stdout, finished.stderr);
    let token = fs::metadata(host.path("token")).unwrap();
    assert_eq!(token.permissions().mode() & 0o777, 0o600);
    let settings = host.path("root/etc/reverse-proxy-certificate.env");
    let text = fs::read_to_string(&settings).unwrap();
    assert!(text.contains("\nDNS_API='https://api.gandi.net/v5/livedns'\n"), "{text}");
    assert!(!text.contains("made up"), "{text}");
    fs::write(settings, text + &format!("DNS_API={api}\n")).unwrap();
    let record = format!("_acme-challenge.{DOMAIN}.");
    for word in ["present", "cleanup"] {
        let finished = host.script(&[word, &record, "the-proof"]);
        assert!(finished.status.success(), "{}", finished.stderr);
    }
    let [put, delete] = server.join().unwrap();
    let path = "/v5/livedns/domains/boma.example/records/_acme-challenge.askari/TXT";
    assert!(put.starts_with(&format!("PUT {path} ")), "{put}");
    assert!(put.ends_with(r#"{"rrset_ttl": 300, "rrset_values": ["the-proof"]}"#), "{put}");
    assert!(delete.starts_with(&format!("DELETE {path} ")), "{delete}");
    for request in [put, delete] {
        assert!(request.contains("Authorization: Bearer a'made up token, no secret\r\n"), "{request}");
    }
    let argv = fs::read_to_string(host.path("argv")).unwrap();
    assert!(argv.lines().count() == 2 && !argv.contains("made up"), "{argv}");
}

/// Answers one request and returns it.
fn request(listener: &TcpListener) -> String {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
    head + &String::from_utf8(body).unwrap()
}
