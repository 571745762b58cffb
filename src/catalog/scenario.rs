//! `scenarios/<name>.yml`: a change to a host, and the declared result.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::document::{Check, Document};
use super::plan::{Expectation, ExpectedFailure, ExpectedFault, ExpectedResult, ImageSource, Restart, Tier};
use super::problem::ProjectError;
use super::profile::one_line;
use super::sections::{ImageFile, Version, VmFile};
use super::variables::{OURS, Vars, is_connection_var, is_identifier, is_ours};
use crate::outcome::Stage;

/// `scenarios/<name>.yml`: a change to a host, and the declared result.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(title = "Scenario of boma-it")]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ScenarioFile {
    #[expect(dead_code, reason = "reading it is the check")]
    /// Version of the file's format.
    version: Version,
    /// The host it belongs to.
    profile: String,
    /// What it shows, in one line.
    #[schemars(regex(pattern = r"\S"))]
    description: String,
    /// Variables that replace those of the override.
    vars: Option<Vars>,
    /// Certificate tiers it may run with; the first is its default. Left out: all of them, or with `egress: false` only
    /// `internal`.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    certs: Option<Vec<Tier>>,
    /// How the VM is restarted; `graceful` if it is left out.
    restart: Option<Restart>,
    /// Whether the guest reaches anything beyond the harness's network; it does if this is left out.
    egress: Option<bool>,
    /// The declared result.
    expect: Option<ExpectFile>,
    /// Size of the VM, where it differs from the profile's.
    vm: Option<VmFile>,
    /// Its own golden image, instead of the profile's or the harness's.
    image: Option<ImageFile>,
    /// Where the schema of the file is: for editors.
    #[serde(rename = "$schema")]
    #[expect(dead_code, reason = "for editors, not for us")]
    schema: Option<String>,
}

/// A scenario, checked.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// The host it belongs to, as written.
    pub(super) profile: String,
    /// What it shows; none: the host's description says it.
    pub(super) description: Option<String>,
    /// Variables that replace those of the override.
    pub(super) vars: BTreeMap<String, Value>,
    /// Certificate tiers it may run with, in the order of the file. At least one.
    pub(super) certs: Vec<Tier>,
    /// How the VM is restarted.
    pub(super) restart: Restart,
    /// Whether the guest reaches anything beyond the harness's network.
    pub(super) egress: bool,
    /// The declared result.
    pub(super) expect: Expectation,
    /// Size of the VM, where it differs from the profile's.
    pub(super) vm: VmFile,
    /// Its own golden image.
    pub(super) image: Option<ImageSource>,
}

impl Scenario {
    /// The plain cycle of a host: changes nothing.
    pub(super) fn plain(host: &str) -> Self {
        Self {
            profile: host.to_owned(),
            description: None,
            vars: BTreeMap::new(),
            certs: Tier::value_variants().to_vec(),
            restart: Restart::default(),
            egress: true,
            expect: Expectation::default(),
            vm: VmFile::default(),
            image: None,
        }
    }
}

/// Reads a scenario.
pub(super) fn read(root: &Path, file: &Path) -> Result<Scenario, ProjectError> {
    let (mut check, written): (_, ScenarioFile) = Check::read(root, file)?;
    let plain = Scenario::plain(&written.profile);
    let description = one_line(&written.description);
    if description.is_empty() {
        check.value(&["description"], "`description` is empty: say what the scenario shows");
    }
    let vars = written.vars.unwrap_or_default().0;
    check_vars(&vars, &mut check);
    let egress = written.egress.unwrap_or(plain.egress);
    let all = if egress { plain.certs } else { vec![Tier::Internal] };
    let certs = written.certs.unwrap_or(all);
    check_certs(&certs, egress, &mut check);
    let vm = written.vm.unwrap_or_default();
    vm.check(&mut check);
    let image = written.image.map(|image| image.resolve(root, &check.document)).transpose();
    let image = check.collect(image).flatten();
    let expect = written.expect.unwrap_or_default().resolve(&mut check);
    check.finish(Scenario {
        profile: written.profile,
        description: Some(description),
        vars,
        certs,
        restart: written.restart.unwrap_or_default(),
        egress,
        expect,
        vm,
        image,
    })
}

fn check_certs(certs: &[Tier], egress: bool, check: &mut Check) {
    if certs.is_empty() {
        let message = "`certs` is empty: name the tiers it may run with, or remove the key to allow all";
        check.key(&["certs"], message);
    }
    check.repeated(&["certs"], certs, "tier");
    let needs_egress = certs.iter().position(|tier| *tier != Tier::Internal);
    if let Some(index) = needs_egress.filter(|_| !egress) {
        let message = format!(
            "tier `{}` needs egress, which `egress: false` cuts: only `certs: [internal]` is possible with it",
            certs[index]
        );
        check.item(&["certs"], index, message);
    }
}

fn check_vars(vars: &BTreeMap<String, Value>, check: &mut Check) {
    for (name, value) in vars {
        let path = ["vars", name.as_str()];
        if !is_identifier(name) {
            check.key(
                &path,
                format!("`{name}` is not the name of an Ansible variable (expected letters, digits and `_`)"),
            );
        } else if is_ours(name) {
            check.key(&path, format!("`{name}` is reserved: boma-it sets the variables `{OURS}*` itself"));
        } else if is_connection_var(name) {
            check.key(&path, format!("`{name}` is reserved: boma-it sets how the VM is reached; remove it"));
        }
        check_booleans(value, &path, check);
    }
}

/// Ansible reads YAML 1.1, where a bare `no` is false. We read YAML 1.2, where it is a text, and Ansible would take that
/// text for true. So a bare one is an error.
fn check_booleans(value: &Value, path: &[&str], check: &mut Check) {
    let mut inner = |step: &str, value: &Value| check_booleans(value, &[path, &[step]].concat(), check);
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| inner(key, value)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| inner(&index.to_string(), value));
        }
        Value::String(text) => {
            let means = match text.to_ascii_lowercase().as_str() {
                "yes" | "on" => true,
                "no" | "off" => false,
                _ => return,
            };
            if is_bare(text, path, &check.document) {
                check.value(path, format!(
                    "a bare `{text}` is {means} to Ansible but text here: write `{means}`, or `\"{text}\"` for the text"
                ));
            }
        }
        _ => {}
    }
}

/// Whether `text`, the value at `path`, stands there without quotes.
fn is_bare(text: &str, path: &[&str], document: &Document) -> bool {
    let Some(position) = document.value_position(path) else { return false };
    let Some(column) = position.column else { return false };
    let line = document.text().lines().nth(position.line - 1).unwrap_or_default();
    line.chars().skip(column - 1).collect::<String>().starts_with(text)
}

/// `expect:`, the declared result. A declaration that could never come true is refused: its trial would fail for ever or,
/// worse, prove nothing.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ExpectFile {
    /// How `verify.yml` must end before the restart; left out: it does not run there.
    before_reboot: Option<ExpectedResult>,
    /// The failure that the trial must show; left out: every assertion passes after the reboot.
    fail: Option<FailFile>,
}

/// `expect.fail`: where, and one of the other three.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = fail_schemas()))]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{at: assert, task: <its name>}`")]
struct FailFile {
    /// The stage.
    at: At,
    /// The one task that fails: its name in the playbook.
    task: Option<String>,
    /// The tasks that fail, all of them and no others.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    tasks: Option<Vec<String>>,
    /// What becomes of the VM.
    reason: Option<Reason>,
}

/// A stage at which a failure can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum At {
    /// The site playbook.
    Apply,
    /// The restart, and the proof of it.
    Reboot,
    /// `verify.yml` after the reboot.
    Assert,
}

/// What can become of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Reason {
    /// The guest is up, and nobody can log in: a lockout.
    Unreachable,
    /// The boot ends in emergency mode.
    Emergency,
    /// The initramfs does not find the root file system.
    Initramfs,
    /// The kernel panics.
    Panic,
    /// A job keeps the boot from ending.
    Hung,
}

impl Reason {
    fn fault(self) -> ExpectedFault {
        match self {
            Self::Unreachable => ExpectedFault::Unreachable,
            Self::Emergency => ExpectedFault::Emergency,
            Self::Initramfs => ExpectedFault::Initramfs,
            Self::Panic => ExpectedFault::Panic,
            Self::Hung => ExpectedFault::Hung,
        }
    }
}

/// What `expect.fail` can be: tasks by their names, or a reason why the VM is lost.
fn fail_schemas() -> Value {
    json!([
        {"required": ["task"], "properties": {"at": {"enum": ["apply", "assert"]}, "task": {"type": "string"}}},
        {"required": ["tasks"], "properties": {"at": {"enum": ["apply", "assert"]}, "tasks": {"type": "array"}}},
        {"required": ["reason"], "properties": {"at": {"enum": ["apply", "reboot"]}, "reason": {"type": "string"}}},
    ])
}

impl ExpectFile {
    /// The expectation. Where something is wrong it is reported, and the value does not matter.
    fn resolve(self, check: &mut Check) -> Expectation {
        if let Some(FailFile { at: At::Apply, .. }) = self.fail
            && self.before_reboot.is_some()
        {
            check.key(
                &["expect", "before_reboot"],
                "`before_reboot` is never reached when `fail` is declared at `apply`: remove one of the two",
            );
        }
        let fail = self.fail.and_then(|fail| {
            fail.resolve().map_err(|(key, message)| check.key(&["expect", "fail", key], message)).ok()
        });
        if let Some(ExpectedFailure { what: ExpectedFault::Tasks(tasks), .. }) = &fail {
            check_tasks(tasks, check);
        }
        Expectation { before_reboot: self.before_reboot, fail }
    }
}

impl FailFile {
    /// The declared failure, or the key that is wrong and what is wrong with it.
    fn resolve(self) -> Result<ExpectedFailure, (&'static str, &'static str)> {
        let (key, tasks) = match (self.task, self.tasks) {
            (Some(_), Some(_)) => return Err(("tasks", "`task` and `tasks` exclude each other: keep one")),
            (Some(task), None) => ("task", Some(vec![task])),
            (None, tasks) => ("tasks", tasks),
        };
        let (at, what) = match (self.at, tasks, self.reason) {
            (_, None, None) => {
                return Err(("at", "`fail` does not say what fails: add `task`, `tasks` or `reason`"));
            }
            (_, Some(_), Some(_)) => {
                return Err(("reason", "`reason` and tasks exclude each other: keep one"));
            }
            (At::Reboot, Some(_), None) => {
                let why =
                    "no task runs at `reboot`: declare `at: assert`, or a `reason` (such as unreachable)";
                return Err((key, why));
            }
            (At::Apply, Some(tasks), None) if tasks.len() > 1 => {
                let why = "a playbook stops at its first failure, so at `apply` only one `task` can fail";
                return Err(("tasks", why));
            }
            (At::Apply, None, Some(Reason::Unreachable)) => (Stage::Apply, ExpectedFault::Unreachable),
            (At::Apply, None, Some(_)) => {
                return Err(("reason", "only a boot ends like this: declare it `at: reboot`"));
            }
            (At::Assert, None, Some(_)) => {
                let why = "at `assert` only assertions fail: name them with `task` or `tasks`, or declare the reason `at: reboot`";
                return Err(("reason", why));
            }
            (At::Apply, Some(tasks), None) => (Stage::Apply, ExpectedFault::Tasks(tasks)),
            (At::Assert, Some(tasks), None) => (Stage::Assert, ExpectedFault::Tasks(tasks)),
            (At::Reboot, None, Some(reason)) => (Stage::Reboot, reason.fault()),
        };
        Ok(ExpectedFailure { at, what })
    }
}

fn check_tasks(tasks: &[String], check: &mut Check) {
    let list = ["expect", "fail", "tasks"];
    if check.document.value_position(&list).is_none() {
        if tasks.iter().any(|task| task.trim().is_empty()) {
            check.value(&["expect", "fail", "task"], EMPTY_TASK);
        }
        return;
    }
    if tasks.is_empty() {
        check.key(&list, "`tasks` is empty: name the tasks that fail");
    }
    if let Some(index) = tasks.iter().position(|task| task.trim().is_empty()) {
        check.item(&list, index, EMPTY_TASK);
    }
    check.repeated(&list, tasks, "task");
}

const EMPTY_TASK: &str = "the task's name is empty: write it as in the playbook";
