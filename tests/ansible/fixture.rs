//! A site in a temporary folder, and the versions of Ansible that it can run with.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boma_it::catalog::plan::{BytecodeCache, PlaysForNobody, SitePlan, Tier};
use boma_it::site::certs::Acme;
use boma_it::site::{
    CheckedSite, HarnessVars, Phase, PlaybookError, PlaybookReport, SiteError, TaskEvent, Workspace, check,
};
use boma_it::support::deadline::Deadline;
use boma_it::support::env;
use boma_it::support::process::is_available;
use boma_it::support::ssh_access::SshAccess;
use tempfile::TempDir;

use crate::sshd::Sshd;

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

/// The ansible-core that a test runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnsibleVersion {
    /// The oldest that boma-it supports.
    Oldest,
    /// The one that boma-it runs.
    Shipped,
    /// The newest that boma-it supports.
    Newest,
}

/// A repository as an operator has it, and how its VM is reached.
pub(crate) struct TestSite {
    pub(crate) dir: TempDir,
    pub(crate) plan: SitePlan,
    pub(crate) access: SshAccess,
    /// The assertions that the scenario expects to fail.
    pub(crate) declared: Vec<String>,
}

impl TestSite {
    /// The plain site with `files` added, or in the place of files of it. Runs with the Ansible that boma-it runs.
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
            ansible: shipped_ansible(),
            bytecode_cache: BytecodeCache::Auto,
            plays_for_nobody: PlaysForNobody::Note,
            overrides: at("overrides/askari.yml"),
            vars: Default::default(),
            roles: vec!["base".into()],
        };
        let access = SshAccess {
            address: "192.0.2.1".parse().unwrap(),
            port: 22,
            user: "nobody".into(),
            private_key: at("no-key"),
            host_key: "ssh-ed25519 AAAA".into(),
        };
        Self { dir, plan, access, declared: Vec::new() }
    }

    /// The same with `version` of Ansible. `None` if this machine does not have it; under CI that is a failure.
    pub(crate) fn with_ansible(version: AnsibleVersion, files: &[(&str, &str)]) -> Option<Self> {
        let mut site = Self::new(files);
        let folder = match version {
            AnsibleVersion::Oldest => ".venv-oldest/bin",
            AnsibleVersion::Shipped => return Some(site),
            AnsibleVersion::Newest => ".venv-newest/bin",
        };
        let programs = checkout(folder);
        if !programs.join("ansible-playbook").is_file() {
            assert!(!env::is_ci(), "no Ansible in {folder}: run `make setup`");
            eprintln!("skipped: no Ansible in {folder}: run `make setup`");
            return None;
        }
        site.plan.ansible = Some(programs);
        Some(site)
    }

    /// The same site with a VM that `sshd` stands for.
    pub(crate) fn reached_by(mut self, sshd: &Sshd) -> Self {
        self.access = sshd.access();
        self
    }

    /// The same site with shell scripts in the place of Ansible's programs: name and body.
    pub(crate) fn with_programs(mut self, programs: &[(&str, &str)]) -> Self {
        let bin = self.dir.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        for (name, body) in programs {
            fs::write(bin.join(format!("{name}.body")), body).unwrap();
            let program = checkout("tests/ansible/scripted_program.sh");
            std::os::unix::fs::symlink(program, bin.join(name)).unwrap();
        }
        self.plan.ansible = Some(bin);
        self
    }

    pub(crate) fn vars(&self, host: &str) -> HarnessVars {
        let address: IpAddr = self.access.address;
        let acme = Acme::default();
        HarnessVars { host: host.into(), scenario: None, address, certs: Tier::Internal, acme, egress: true }
    }

    pub(crate) fn check(&self, host: &str) -> Result<CheckedSite, SiteError> {
        check(&self.plan, &self.vars(host), &self.declared, &patient())
    }

    /// The error of [`check`], or what refuses `verify.yml`, with its causes; `.` stands for the folder of the site.
    pub(crate) fn check_error(&self, host: &str) -> String {
        let checked = self.check(host).and_then(|checked| checked.that_can_count(&self.plan));
        self.without_folder(&checked.unwrap_err().into())
    }

    pub(crate) fn without_folder(&self, error: &anyhow::Error) -> String {
        let root = self.dir.path().to_str().unwrap();
        format!("{error:#}").replace(root, ".")
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("run/ansible")
    }

    pub(crate) fn workspace(&self) -> Workspace {
        let checked = self.check("askari").unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)));
        Workspace::prepare(&self.folder(), &self.plan, &checked, &self.access).unwrap()
    }

    /// Checks the site, prepares a workspace and runs the playbook.
    pub(crate) fn run(&self, phase: Phase) -> (Result<PlaybookReport, PlaybookError>, Vec<TaskEvent>) {
        let mut events = Vec::new();
        let result =
            self.workspace().run(phase, &self.vars("askari"), &patient(), &mut |event| events.push(event));
        (result, events)
    }

    /// The error of a run with its causes; `.` stands for the folder of the site.
    pub(crate) fn run_error(&self, phase: Phase) -> String {
        self.without_folder(&self.run(phase).0.unwrap_err().into())
    }
}

/// A deadline that ends a test that hangs, and none that is only slow.
pub(crate) fn patient() -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(600), "the test")
}

/// The folder of Ansible's programs: those in this checkout, if it has any.
pub(crate) fn shipped_ansible() -> Option<PathBuf> {
    let programs = checkout(".venv/bin");
    if programs.join("ansible-playbook").is_file() {
        return Some(programs);
    }
    assert!(is_available("ansible-playbook"), "no Ansible in .venv/bin or on PATH: run `make setup`");
    None
}

/// A file of this checkout.
pub(crate) fn checkout(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
