//! A site in a temporary folder, and what a run of it is given.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boma_it::catalog::plan::{SitePlan, Tier};
use boma_it::site::certs::Acme;
use boma_it::site::{
    Checked, HarnessVars, Phase, PlaybookError, PlaybookReport, SiteError, TaskEvent, Workspace, check,
};
use boma_it::support::deadline::Deadline;
use boma_it::support::process::is_available;
use boma_it::support::ssh_access::SshAccess;
use tempfile::TempDir;

pub(crate) const SITE: &[(&str, &str)] = &[
    (
        "site/production/hosts.yml",
        "all: {children: {debian: {children: {edge: {}, ops: {}}}, edge: {hosts: {askari: {ansible_host: 203.0.113.5, ansible_ssh_common_args: -J bastion}}}, ops: {hosts: {ubongo: {}}}}}\n",
    ),
    (
        "site/production/group_vars/all.yml",
        "where: inventory/all\nurl: 'https://{{ inventory_hostname }}/'\nports: '22:22'\nraw: !unsafe '{{ raw }}'\n",
    ),
    ("site/group_vars/edge.yml", "where: playbook/edge\n"),
    ("site/roles/base/tasks/main.yml", "- name: say\n  ansible.builtin.debug: {msg: '{{ url }}'}\n"),
    (
        "site/site.yml",
        "- name: edge hosts\n  hosts: edge\n  gather_facts: false\n  roles: [{role: base, tags: [base]}]\n",
    ),
    (
        "harness/verify.yml",
        "- name: verify\n  hosts: all\n  gather_facts: false\n  tasks:\n    - name: it holds\n      ansible.builtin.assert: {that: true}\n",
    ),
    ("overrides/askari.yml", "# nothing\n"),
];

/// A repository of an operator's, and how its VM is reached.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) plan: SitePlan,
    pub(crate) target: SshAccess,
}

impl World {
    /// The plain site with `files` on top.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, text) in SITE.iter().chain(files) {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
        }
        let plan = SitePlan {
            dir: at("site"),
            playbook: at("site/site.yml"),
            inventory: at("site/production"),
            verify: at("harness/verify.yml"),
            ansible: ansible(),
            overrides: at("overrides/askari.yml"),
            vars: Default::default(),
            roles: vec!["base".into()],
        };
        let target = SshAccess {
            address: "192.0.2.1".parse().unwrap(),
            port: 22,
            user: "nobody".into(),
            private_key: at("no-key"),
            host_key: "ssh-ed25519 AAAA".into(),
        };
        Self { dir, plan, target }
    }

    /// With programs of Ansible's that are shell scripts: name and body.
    pub(crate) fn with_programs(mut self, programs: &[(&str, &str)]) -> Self {
        let bin = self.dir.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        for (name, body) in programs {
            fs::write(bin.join(format!("{name}.body")), body).unwrap();
            let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ansible/program.sh");
            std::os::unix::fs::symlink(program, bin.join(name)).unwrap();
        }
        self.plan.ansible = Some(bin);
        self
    }

    pub(crate) fn vars(&self, host: &str) -> HarnessVars {
        let address: IpAddr = self.target.address;
        let acme = Acme::default();
        HarnessVars { host: host.into(), scenario: None, address, certs: Tier::Internal, acme, egress: true }
    }

    pub(crate) fn check(&self, host: &str) -> Result<Checked, SiteError> {
        check(&self.plan, &self.vars(host), &minute())
    }

    /// The complaint of [`check`] with its causes, this world's folder replaced by `.`.
    pub(crate) fn refusal(&self, host: &str) -> String {
        self.relative(&self.check(host).unwrap_err().into())
    }

    pub(crate) fn relative(&self, error: &anyhow::Error) -> String {
        let root = self.dir.path().to_str().unwrap();
        format!("{error:#}").replace(root, ".")
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("run/ansible")
    }

    pub(crate) fn workspace(&self) -> Workspace {
        let checked = self.check("askari").unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)));
        Workspace::prepare(&self.folder(), &self.plan, &checked, &self.target).unwrap()
    }

    /// Checks, prepares and runs.
    pub(crate) fn run(&self, phase: Phase) -> (Result<PlaybookReport, PlaybookError>, Vec<TaskEvent>) {
        let mut events = Vec::new();
        let result =
            self.workspace().run(phase, &self.vars("askari"), &minute(), &mut |event| events.push(event));
        (result, events)
    }

    pub(crate) fn error(&self, phase: Phase) -> String {
        self.relative(&self.run(phase).0.unwrap_err().into())
    }
}

pub(crate) fn minute() -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(60), "the test")
}

/// The folder of Ansible's programs: the project's own first.
pub(crate) fn ansible() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin");
    if own.join("ansible-playbook").is_file() {
        return Some(own);
    }
    assert!(is_available("ansible-playbook"), "no Ansible in .venv/bin or on PATH: run `make setup`");
    None
}
