//! All checks of a site before any VM exists. Ansible starts twice, as each start takes most of a second: once to list the
//! production inventory (and print its version), once to read both playbooks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ansible::{self, Ansible, error_text};
use super::error::SiteError;
use super::inventory::{ProductionInventory, enumerate};
use super::never_counts::{Findings, findings};
use super::playbooks::{self, Play, Playbooks, Selection};
use super::search::{Sources, obstacle};
use super::secrets::Secrets;
use super::vars::{HarnessVars, Overrides};
use super::workspace::{CheckedSite, Workspace, read_site_config};
use super::{NEWEST_ANSIBLE, OLDEST_ANSIBLE};
use crate::catalog::plan::{BytecodeCache, PlaysForNobody, SitePlan};
use crate::catalog::variables::is_reserved;
use crate::support::deadline::Deadline;
use crate::support::name::near_miss;
use crate::support::ssh_access::SshAccess;

/// Checks whether the site can be run for `vars.host`, on this machine alone. `vars` are those of the run; while the VM's
/// address is unknown, any will do. `declared` are the assertions that the scenario expects to fail.
///
/// # Errors
/// [`SiteError`].
pub fn check(
    site: &SitePlan,
    vars: &HarnessVars,
    declared: &[String],
    deadline: &Deadline,
) -> Result<CheckedSite, SiteError> {
    let overrides = check_variables(site)?;
    let scratch = tempfile::Builder::new().prefix("boma-it-check-").tempdir();
    let scratch = scratch.map_err(SiteError::io(&std::env::temp_dir()))?;
    let Listed { ansible, python, collections, production } = list_inventory(site, scratch.path(), deadline)?;
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
    let playbooks = playbooks::read(&workspace, vars, &python, &production, deadline)?;
    let Findings { problems, notes } = check_plays(site, &vars.host, declared, &playbooks, &production)?;
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
        notes,
        problems,
        plays: playbooks.expected(&vars.host, &production),
        overrides,
        secrets,
    })
}

/// What `ansible-inventory` prints.
struct Listed {
    /// Version of ansible-core.
    ansible: String,
    /// Python that runs it.
    python: PathBuf,
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
    let python = ansible::python(&finished.stderr).ok_or(SiteError::NoInterpreter)?;
    Ok(Listed { ansible: found, python, collections: ansible::collections(&finished.stderr), production })
}

/// Both playbooks have a play for the host, and each role of the profile is a tag there.
fn check_plays(
    site: &SitePlan,
    host: &str,
    declared: &[String],
    playbooks: &Playbooks,
    production: &ProductionInventory,
) -> Result<Findings, SiteError> {
    let for_host = |plays: &[Play], playbook: &Path| {
        let is_ours =
            |play: &Play| matches!(play.selection(host, production), Selection::Host | Selection::Unknown(_));
        if plays.iter().any(is_ours) {
            return Ok(());
        }
        let plays = enumerate(plays.iter().map(|play| play.name.as_str()), "none");
        Err(SiteError::NoPlay { playbook: playbook.to_owned(), host: host.to_owned(), plays })
    };
    for_host(&playbooks.site, &site.playbook)?;
    let Findings { problems, notes } = findings(&playbooks.verify, host, production, declared);
    // A play for nobody has a better reason among the problems.
    if problems.is_empty() {
        for_host(&playbooks.verify, &site.verify)?;
    }
    let for_nobody = playbooks.for_nobody(host, production);
    if let Some(play) = for_nobody.first().filter(|_| site.plays_for_nobody == PlaysForNobody::Error) {
        return Err(SiteError::PlayForNobody(play.clone()));
    }
    let ours = playbooks.site.iter().filter(|play| play.selection(host, production) == Selection::Host);
    let tags: BTreeSet<&str> = ours.flat_map(|play| &play.tags).map(String::as_str).collect();
    if let Some(role) = site.roles.iter().find(|role| !tags.contains(role.as_str())) {
        return Err(SiteError::UnknownRole {
            role: role.clone(),
            playbook: site.playbook.clone(),
            host: host.to_owned(),
            near: near_miss(role, tags.iter().copied()).map(str::to_owned),
            known: enumerate(tags, "none"),
        });
    }
    let notes = [for_nobody, playbooks.notes(host, production), notes].concat();
    Ok(Findings { problems, notes })
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
