//! What must be in order before any VM exists. Two starts of Ansible in all, as each costs most of a second: one lists
//! the production inventory (and tells the version), one lists both playbooks.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::control::ControlDir;
use super::environment::Ansible;
use super::error::SiteError;
use super::inventory::{HostEntry, Production, enumerate};
use super::listing::{self, ListedPlay};
use super::secrets::{Secrets, lay_over};
use super::vars::{HarnessVars, Phase};
use super::workspace::{Workspace, read_site_config};
use crate::catalog::plan::SitePlan;
use crate::catalog::variables::is_reserved;
use crate::support::deadline::Deadline;
use crate::support::name::near_miss;
use crate::support::process::Finished;
use crate::support::ssh_access::SshAccess;

/// The oldest ansible-core that drives Debian 13's Python 3.13
/// (<https://docs.ansible.com/ansible-core/devel/reference_appendices/release_and_maintenance.html>, support matrix).
pub(super) const OLDEST: (u32, u32) = (2, 18);
/// How Ansible begins to tell a place: 2.19, and before.
const PLACES: [&str; 2] = ["Origin: ", "The error appears to be in "];
/// How many lines of Ansible's own words an error shows.
const SHOWN_LINES: usize = 30;

/// A site found in order for a host.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Version of ansible-core: `2.19.14`.
    pub ansible: String,
    /// The host as production has it.
    pub entry: HostEntry,
    pub(super) has_overrides: bool,
    secrets: Secrets,
}

impl Checked {
    /// With the secrets that its roles need.
    #[must_use]
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// The variables that hold the secrets, laid over what production, the override and the scenario say of them.
    pub(super) fn secret_variables(&self, site: &SitePlan) -> Result<Map<String, Value>, SiteError> {
        if self.secrets.is_empty() {
            return Ok(Map::new());
        }
        let overrides = self.overridden(site)?;
        let scenario: Map<String, Value> = site.vars.clone().into_iter().collect();
        Ok(lay_over(&self.secrets, &[&self.entry.vars, &overrides, &scenario]))
    }

    /// What the override says of variables that hold secrets.
    fn overridden(&self, site: &SitePlan) -> Result<Map<String, Value>, SiteError> {
        let path = &site.overrides;
        let text =
            std::fs::read_to_string(path).map_err(|source| SiteError::Io { path: path.clone(), source })?;
        let parsed: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_default();
        let mut overridden = Map::new();
        for (name, _) in self.secrets.iter() {
            let top = name.split('.').next().unwrap_or(name);
            let Some(value) = parsed.get(top) else { continue };
            if is_tagged(value) {
                let why = format!(
                    "`{top}` has a tag (`!vault`, `!unsafe`) in it, and the secret `{name}` is laid into the same variable: list what is tagged under `secrets` as well"
                );
                return Err(SiteError::BadVariables { what: path.display().to_string(), why });
            }
            overridden.insert(top.to_owned(), serde_json::to_value(value).unwrap_or_default());
        }
        Ok(overridden)
    }
}

fn is_tagged(value: &serde_yaml::Value) -> bool {
    match value {
        serde_yaml::Value::Tagged(_) => true,
        serde_yaml::Value::Mapping(map) => map.values().any(is_tagged),
        serde_yaml::Value::Sequence(list) => list.iter().any(is_tagged),
        _ => false,
    }
}

/// Finds out whether the site can be run for `vars.host`, with nothing but this machine. `vars` are those of the run
/// to come; where the VM's address is not known yet, any will do.
///
/// # Errors
/// [`SiteError`].
pub fn check(site: &SitePlan, vars: &HarnessVars, deadline: &Deadline) -> Result<Checked, SiteError> {
    let has_overrides = check_variables(site)?;
    let scratch = tempfile::Builder::new().prefix("boma-it-check-").tempdir();
    let scratch = scratch.map_err(|source| SiteError::Io { path: std::env::temp_dir(), source })?;
    let (ansible, production) = list_inventory(site, scratch.path(), deadline)?;
    let mut entry = production
        .host(&vars.host)
        .map_err(|source| SiteError::UnknownHost { path: site.inventory.clone(), source })?;
    // Files beside the production inventory are still found there.
    let beside =
        if site.inventory.is_dir() { Some(site.inventory.as_path()) } else { site.inventory.parent() };
    entry.vars.extend(beside.map(|dir| ("inventory_dir".to_owned(), dir.to_string_lossy().into())));
    // Nothing is reached while playbooks are listed.
    let nowhere = SshAccess {
        address: vars.address,
        port: 22,
        user: "nobody".into(),
        private_key: scratch.path().join("no-key"),
        host_key: String::new(),
    };
    let workspace = Workspace::fill(scratch.path(), site, &entry, &nowhere, has_overrides)?;
    let playbooks = list_playbooks(&workspace, vars, deadline)?;
    judge(site, &vars.host, &playbooks)?;
    Ok(Checked { ansible, entry, has_overrides, secrets: Secrets::default() })
}

fn list_inventory(
    site: &SitePlan,
    scratch: &Path,
    deadline: &Deadline,
) -> Result<(String, Production), SiteError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SiteError::Io { path, source }
    };
    if let Err(source) = site.inventory.metadata() {
        return Err(io(&site.inventory)(source));
    }
    let config = scratch.join("inventory.cfg");
    std::fs::write(&config, read_site_config(&site.dir)?.render_for_inventory()).map_err(io(&config))?;
    let playbook_dir = site.playbook.parent().unwrap_or(&site.dir);
    let finished = Ansible { programs: site.ansible.clone(), site: site.dir.clone() }
        .program("ansible-inventory", &config, None)
        .env("ANSIBLE_VERBOSE_TO_STDERR", "1")
        // Twice verbose: the version is told first, on standard error.
        .args(["-vv", "--list", "--playbook-dir"])
        .arg(playbook_dir)
        .arg("--inventory")
        .arg(&site.inventory)
        .run(deadline)
        .map_err(SiteError::Process)?;
    let version = version(&finished.stderr);
    if version.is_none_or(|(numbers, _)| numbers < OLDEST) {
        // A version that is not told is told by an old or foreign program, unless it failed for another reason.
        if let Some((_, found)) = version {
            return Err(SiteError::TooOld { found: found.to_owned() });
        }
        finished.into_ok().map_err(SiteError::Process)?;
        return Err(SiteError::TooOld { found: "unknown".to_owned() });
    }
    let refused = |shown: String| SiteError::Inventory { path: site.inventory.clone(), shown };
    if !finished.status.success() {
        return Err(refused(complaint(&finished)));
    }
    let production = Production::parse(&finished.stdout).map_err(|error| refused(format!("  {error}")))?;
    let found = version.map(|(_, text)| text.to_owned()).unwrap_or_default();
    Ok((found, production))
}

fn list_playbooks(
    workspace: &Workspace,
    vars: &HarnessVars,
    deadline: &Deadline,
) -> Result<Vec<Vec<ListedPlay>>, SiteError> {
    let control = ControlDir::create(&workspace.file("bin/ssh"))
        .map_err(|source| SiteError::Io { path: std::env::temp_dir(), source })?;
    let finished = workspace
        .playbook(vars, Phase::Apply, control.path(), None)?
        .args(["--list-hosts", "--list-tags"])
        .arg(&workspace.site.playbook)
        .arg(&workspace.site.verify)
        .run(deadline)
        .map_err(SiteError::Process)?;
    if !finished.status.success() {
        return Err(SiteError::BrokenPlaybook { shown: complaint(&finished) });
    }
    Ok(listing::parse(&finished.stdout))
}

fn judge(site: &SitePlan, host: &str, playbooks: &[Vec<ListedPlay>]) -> Result<(), SiteError> {
    let for_host = |index: usize, playbook: &Path| {
        let plays = playbooks.get(index).map(Vec::as_slice).unwrap_or_default();
        let ours: Vec<_> = plays.iter().filter(|play| play.hosts.iter().any(|name| name == host)).collect();
        if ours.is_empty() {
            let names: Vec<_> = plays.iter().map(|play| play.name.as_str()).collect();
            let plays = enumerate(&names, "none");
            return Err(SiteError::NoPlay { playbook: playbook.to_owned(), host: host.to_owned(), plays });
        }
        Ok(ours)
    };
    let plays = for_host(0, &site.playbook)?;
    for_host(1, &site.verify)?;
    let tags: BTreeSet<&str> = plays.iter().flat_map(|play| &play.tags).map(String::as_str).collect();
    match site.roles.iter().find(|role| !tags.contains(role.as_str())) {
        None => Ok(()),
        Some(role) => Err(SiteError::UnknownRole {
            role: role.clone(),
            playbook: site.playbook.clone(),
            host: host.to_owned(),
            near: near_miss(role, tags.iter().copied()).map(str::to_owned),
            known: enumerate(&tags, "none"),
        }),
    }
}

/// Whether the override file says anything; and neither it nor the scenario may redirect the run.
fn check_variables(site: &SitePlan) -> Result<bool, SiteError> {
    let path = &site.overrides;
    let bad = |what: String, why: String| SiteError::BadVariables { what, why };
    let text =
        std::fs::read_to_string(path).map_err(|source| SiteError::Io { path: path.clone(), source })?;
    // Ansible parses it again, with its own tags; here only the names matter.
    let parsed: serde_yaml::Value =
        serde_yaml::from_str(&text).map_err(|error| bad(path.display().to_string(), error.to_string()))?;
    let keys: Vec<String> = match &parsed {
        serde_yaml::Value::Null => Vec::new(),
        serde_yaml::Value::Mapping(map) => {
            map.keys().filter_map(|key| key.as_str().map(str::to_owned)).collect()
        }
        _ => {
            let why = "expected a mapping of Ansible variables, as `name: value`";
            return Err(bad(path.display().to_string(), why.to_owned()));
        }
    };
    let sources = [
        (path.display().to_string(), keys.iter().find(|key| is_reserved(key))),
        ("vars of the scenario".to_owned(), site.vars.keys().find(|key| is_reserved(key))),
    ];
    for (what, key) in sources {
        if let Some(key) = key {
            let why =
                format!("`{key}` is the harness's to set: it says what the run reaches or is; remove it");
            return Err(bad(what, why));
        }
    }
    Ok(!keys.is_empty())
}

/// The version in a line such as `ansible-inventory [core 2.19.14]`.
fn version(stderr: &str) -> Option<((u32, u32), &str)> {
    let text = stderr.split_once("[core ")?.1.split(']').next()?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some(((numbers.next()?.ok()?, numbers.next()?.ok()?), text))
}

/// Ansible's own words, indented: from its error on where that names a place, else from the first warning on.
pub(super) fn complaint(finished: &Finished) -> String {
    let lines: Vec<&str> = finished.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let starting = |prefix: &str| lines.iter().position(|line| line.starts_with(prefix));
    let error = starting("[ERROR]").or_else(|| starting("ERROR!"));
    let is_located = error
        .is_some_and(|at| lines[at..].iter().any(|line| PLACES.iter().any(|place| line.starts_with(place))));
    let from = if is_located { error } else { starting("[WARNING]").or(error) };
    let shown = lines[from.unwrap_or(0)..].iter().take(SHOWN_LINES);
    shown.map(|line| format!("  {line}\n")).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_wherever_it_stands() {
        assert_eq!(version("x\nansible-inventory [core 2.19.14]\n"), Some(((2, 19), "2.19.14")));
        assert_eq!(version("ansible-inventory [core 2.20.0b1] (x)"), Some(((2, 20), "2.20.0b1")));
        assert_eq!(version("no Ansible"), None);
    }
}
