//! All checks of a site before any VM exists. Ansible starts twice, as each start takes most of a second: once to list the
//! production inventory (and print its version), once to list both playbooks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ansible::{self, Ansible, ListedPlay, error_text};
use super::error::SiteError;
use super::inventory::{ProductionInventory, enumerate};
use super::search::{Sources, obstacle};
use super::secrets::Secrets;
use super::ssh::ControlDir;
use super::vars::{HarnessVars, Overrides, Phase};
use super::workspace::{CheckedSite, Workspace, read_site_config};
use super::{NEWEST_ANSIBLE, OLDEST_ANSIBLE};
use crate::catalog::plan::{BytecodeCache, SitePlan};
use crate::catalog::variables::is_reserved;
use crate::support::deadline::Deadline;
use crate::support::name::near_miss;
use crate::support::ssh_access::SshAccess;

/// Checks whether the site can be run for `vars.host`, on this machine alone. `vars` are those of the run; while the VM's
/// address is unknown, any will do.
///
/// # Errors
/// [`SiteError`].
pub fn check(site: &SitePlan, vars: &HarnessVars, deadline: &Deadline) -> Result<CheckedSite, SiteError> {
    let overrides = check_variables(site)?;
    let scratch = tempfile::Builder::new().prefix("boma-it-check-").tempdir();
    let scratch = scratch.map_err(SiteError::io(&std::env::temp_dir()))?;
    let Listed { ansible, collections, production } = list_inventory(site, scratch.path(), deadline)?;
    let mut entry = production
        .host(&vars.host)
        .map_err(|source| SiteError::UnknownHost { path: site.inventory.clone(), source })?;
    // Files beside the production inventory must still be found there.
    let beside =
        if site.inventory.is_dir() { Some(site.inventory.as_path()) } else { site.inventory.parent() };
    entry.vars.extend(beside.map(|dir| ("inventory_dir".to_owned(), dir.to_string_lossy().into())));
    // Listing playbooks connects to nothing.
    let nowhere = SshAccess {
        address: vars.address,
        port: 22,
        user: "nobody".into(),
        private_key: scratch.path().join("no-key"),
        host_key: String::new(),
    };
    let workspace =
        Workspace::fill(scratch.path(), site, &entry, (None, 1), &nowhere, !overrides.is_empty())?;
    let playbooks = list_playbooks(&workspace, vars, deadline)?;
    check_plays(site, &vars.host, &playbooks)?;
    let config = read_site_config(&site.dir)?;
    let sources = Sources { site, config: &config, entry: &entry, collections: collections.as_deref() };
    let is_wanted = site.bytecode_cache != BytecodeCache::Off;
    let bytecode_obstacle = is_wanted.then(|| obstacle(&sources)).flatten();
    let secrets = Secrets::default();
    Ok(CheckedSite {
        ansible,
        entry,
        bytecode_obstacle,
        python: None,
        collections,
        patience: 1,
        overrides,
        secrets,
    })
}

/// What `ansible-inventory` prints.
struct Listed {
    /// Version of ansible-core.
    ansible: String,
    /// Folders that may have an `ansible_collections`; none if it does not say.
    collections: Option<Vec<PathBuf>>,
    production: ProductionInventory,
}

/// The version of Ansible, where its collections are, and the production inventory.
fn list_inventory(site: &SitePlan, scratch: &Path, deadline: &Deadline) -> Result<Listed, SiteError> {
    site.inventory.metadata().map_err(SiteError::io(&site.inventory))?;
    let config = scratch.join("inventory.cfg");
    std::fs::write(&config, read_site_config(&site.dir)?.render_for_inventory())
        .map_err(SiteError::io(&config))?;
    let playbook_dir = site.playbook.parent().unwrap_or(&site.dir);
    let finished = Ansible { programs: site.ansible.clone(), site: site.dir.clone() }
        .program("ansible-inventory", &config, None)
        .env("ANSIBLE_VERBOSE_TO_STDERR", "1")
        // At this verbosity the version comes first, on standard error.
        .args(["-vv", "--list", "--playbook-dir"])
        .arg(playbook_dir)
        .arg("--inventory")
        .arg(&site.inventory)
        .run(deadline)
        .map_err(SiteError::Process)?;
    let found = match ansible::version(&finished.stderr) {
        Some((Some(series), found)) if (OLDEST_ANSIBLE..=NEWEST_ANSIBLE).contains(&series) => {
            found.to_owned()
        }
        Some((_, found)) => return Err(SiteError::UnsupportedAnsible(found.to_owned())),
        None => {
            // An old or foreign program prints no version; nor does one that failed for another reason.
            finished.into_ok().map_err(SiteError::Process)?;
            return Err(SiteError::UnsupportedAnsible("unknown".to_owned()));
        }
    };
    let invalid = |shown: String| SiteError::Inventory { path: site.inventory.clone(), shown };
    if !finished.status.success() {
        return Err(invalid(error_text(&finished)));
    }
    let production =
        ProductionInventory::parse(&finished.stdout).map_err(|error| invalid(format!("  {error}")))?;
    Ok(Listed { ansible: found, collections: ansible::collections(&finished.stderr), production })
}

/// The plays of the site playbook and those of `verify.yml`.
fn list_playbooks(
    workspace: &Workspace,
    vars: &HarnessVars,
    deadline: &Deadline,
) -> Result<Vec<Vec<ListedPlay>>, SiteError> {
    let control = ControlDir::create(&workspace.file("bin/ssh"))?;
    let finished = workspace
        .playbook(vars, Phase::Apply, control.path(), None)?
        .args(["--list-hosts", "--list-tags"])
        .arg(&workspace.site.playbook)
        .arg(&workspace.site.verify)
        .run(deadline)
        .map_err(SiteError::Process)?;
    if !finished.status.success() {
        return Err(SiteError::BrokenPlaybook(error_text(&finished)));
    }
    Ok(ansible::parse_plays(&finished.stdout))
}

/// Both playbooks have a play for the host, and each role of the profile is a tag there.
fn check_plays(site: &SitePlan, host: &str, playbooks: &[Vec<ListedPlay>]) -> Result<(), SiteError> {
    let for_host = |index: usize, playbook: &Path| {
        let plays = playbooks.get(index).map(Vec::as_slice).unwrap_or_default();
        let matching: Vec<_> =
            plays.iter().filter(|play| play.hosts.iter().any(|name| name == host)).collect();
        if matching.is_empty() {
            let plays = enumerate(plays.iter().map(|play| play.name.as_str()), "none");
            return Err(SiteError::NoPlay { playbook: playbook.to_owned(), host: host.to_owned(), plays });
        }
        Ok(matching)
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
            known: enumerate(tags, "none"),
        }),
    }
}

/// The variables of the override file. Neither it nor the scenario can redirect the run.
fn check_variables(site: &SitePlan) -> Result<Overrides, SiteError> {
    let overrides = Overrides::read(&site.overrides)?;
    let sources = [
        (site.overrides.display().to_string(), overrides.names().find(|name| is_reserved(name))),
        (
            "vars of the scenario".to_owned(),
            site.vars.keys().map(String::as_str).find(|name| is_reserved(name)),
        ),
    ];
    for (what, name) in sources {
        if let Some(name) = name {
            let why =
                format!("only the harness sets `{name}`, as it says what the run is or reaches: remove it");
            return Err(SiteError::InvalidFile { what, why });
        }
    }
    Ok(overrides)
}
