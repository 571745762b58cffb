//! The search through every file that a run can use: for what could read the variable that names Python on the host, and for
//! the digest of the site.
//!
//! The cache of byte-code is used only if no file has the variable's name, except where it is clear that the file only sets
//! it, and to what.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ansible_cfg::SiteConfig;
use super::bytecode::{another, is_the_same};
use super::inventory::{HostEntry, INTERPRETER_VARIABLE as VARIABLE};
use super::workspace::{CheckedSite, read_site_config};
use crate::catalog::plan::SitePlan;

/// Parts of the names of all variables that say which Python is used, `ansible_python_interpreter` and
/// `discovered_interpreter_python`, also where a template makes the name from parts.
const NAMES: [&str; 2] = ["python_interpreter", "interpreter_python"];
/// What a play sets for tasks on this machine: Python of Ansible itself, never the host's.
const OF_ANSIBLE: &str = "{{ansible_playbook_python}}";
/// Up to which size a file is read as a whole, in bytes.
const WHOLE: u64 = 4 << 20;
/// How much of a larger file is read at a time.
const CHUNK: usize = 1 << 20;
/// A site beyond these bounds is not searched to its end.
const MOST_FILES: usize = 50_000;
const MOST_BYTES: u64 = 512 << 20;
/// Where plugins are found beside those that the configuration names.
const USUAL_PLUGINS: [&str; 2] = ["~/.ansible/plugins", "/usr/share/ansible/plugins"];
/// What Ansible loads on this machine from a collection. Its modules run in the guest, where they see no variable, and its
/// documents and tests are never loaded.
const OF_A_COLLECTION: [&str; 3] = ["roles", "playbooks", "plugins"];
const IN_THE_GUEST: [&str; 3] = ["modules", "module_utils", "doc_fragments"];

/// What a run can use, beside the site's own files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub(super) site: &'a SitePlan,
    pub(super) config: &'a SiteConfig,
    pub(super) entry: &'a HostEntry,
    /// Folders that may have an `ansible_collections`; none if Ansible did not say.
    pub(super) collections: Option<&'a [PathBuf]>,
}

/// Why the byte-code of modules is not cached for this site: a fragment that names the place.
pub(super) fn obstacle(sources: &Sources<'_>) -> Option<String> {
    let Sources { site, config, entry, .. } = sources;
    if let Some(own) = another(entry.interpreter.as_deref()) {
        return Some(format!("the inventory has its own `{VARIABLE}`, `{own}`"));
    }
    if let Some(own) = another(config.interpreter.as_deref()) {
        return Some(format!("ansible.cfg has its own `interpreter_python`, `{own}`"));
    }
    let values = [
        ("the inventory", serde_json::to_string(&entry.vars)),
        ("the scenario", serde_json::to_string(&site.vars)),
    ];
    for (whose, values) in values {
        if let Some(name) = values.ok().and_then(|text| NAMES.into_iter().find(|name| text.contains(name))) {
            return Some(format!("a variable of {whose} has `{name}`"));
        }
    }
    Search::new(sources, Purpose::Mentions).and_then(|mut search| search.run()).err()
}

/// SHA-256, hexadecimal, of every file that the site playbook can use, with their paths. `verify.yml` is none of them, and
/// what the playbook reads elsewhere on this machine is not known.
///
/// # Errors
/// Why there is none, as a fragment: a file cannot be read, or holds secrets.
pub fn digest(site: &SitePlan, checked: &CheckedSite) -> Result<String, String> {
    let config = read_site_config(&site.dir).map_err(|error| error.to_string())?;
    let collections = checked.collections.as_deref();
    digest_of(&Sources { site, config: &config, entry: &checked.entry, collections })
}

fn digest_of(sources: &Sources<'_>) -> Result<String, String> {
    let mut search = Search::new(sources, Purpose::Digest(Sha256::new()))?;
    search.run()?;
    let Purpose::Digest(digest) = search.purpose else { return Err("no digest was made".to_owned()) };
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a search is for.
#[derive(Clone)]
enum Purpose {
    /// It ends at the first file that could read the variable.
    Mentions,
    /// It reads every file, and ends at the first that is encrypted: what is in it would be in the guest.
    Digest(Sha256),
}

/// A search in progress. Its errors are the reason for which it ended.
struct Search<'a> {
    site: &'a SitePlan,
    purpose: Purpose,
    /// Folders and files that are searched whole.
    roots: Vec<PathBuf>,
    /// Roles outside the site, and collections, that are searched once a file has their name.
    installed: BTreeMap<String, Vec<PathBuf>>,
    /// Every word of the files so far that can be such a name.
    words: BTreeSet<String>,
    seen: HashSet<(u64, u64)>,
    /// Files that were found and are still to be read: only then is every collection known.
    files: Vec<(PathBuf, u64)>,
    bytes: u64,
}

impl<'a> Search<'a> {
    fn new(sources: &Sources<'a>, purpose: Purpose) -> Result<Self, String> {
        let Sources { site, config, collections, .. } = *sources;
        let folder = |path: &'a Path| path.parent().unwrap_or(path).to_owned();
        let inventory =
            if site.inventory.is_dir() { site.inventory.clone() } else { folder(&site.inventory) };
        let verify = matches!(purpose, Purpose::Mentions).then(|| folder(&site.verify));
        let playbooks = [folder(&site.playbook)].into_iter().chain(verify);
        let mut search = Self {
            site,
            purpose,
            roots: [site.dir.clone(), inventory, site.overrides.clone()]
                .into_iter()
                .chain(playbooks)
                .collect(),
            installed: BTreeMap::new(),
            words: BTreeSet::new(),
            seen: HashSet::new(),
            files: Vec::new(),
            bytes: 0,
        };
        for (setting, path) in &config.paths {
            let path = expand(path).ok_or_else(|| format!("`{setting}` of ansible.cfg has `{path}`"))?;
            match *setting {
                "roles_path" => search.install_roles(&path),
                "collections_path" | "collections_paths" => {}
                _ => search.roots.push(path),
            }
        }
        search.roots.extend(USUAL_PLUGINS.into_iter().filter_map(expand));
        let unknown = || "Ansible does not say where its collections are".to_owned();
        for path in collections.ok_or_else(unknown)? {
            search.install_collections(&path.join("ansible_collections"));
        }
        Ok(search)
    }

    fn install_roles(&mut self, folder: &Path) {
        for (name, path) in sub_folders(folder) {
            self.installed.entry(name).or_default().push(path);
        }
    }

    fn install_collections(&mut self, folder: &Path) {
        for (namespace, path) in sub_folders(folder) {
            for (name, path) in sub_folders(&path) {
                let parts = OF_A_COLLECTION.map(|part| path.join(part));
                self.installed.entry(format!("{namespace}.{name}")).or_default().extend(parts);
            }
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut next = std::mem::take(&mut self.roots);
        // A role or collection can name others.
        while !next.is_empty() {
            next.iter().try_for_each(|path| self.look(path))?;
            let files = std::mem::take(&mut self.files);
            files.iter().try_for_each(|(path, bytes)| self.read(path, *bytes))?;
            let named: Vec<_> =
                self.installed.keys().filter(|name| self.words.contains(*name)).cloned().collect();
            next = named.iter().filter_map(|name| self.installed.remove(name)).flatten().collect();
        }
        Ok(())
    }

    /// Finds a file, or those in a folder and everything below. As Ansible does, it follows links.
    fn look(&mut self, path: &Path) -> Result<(), String> {
        let found = match fs::metadata(path) {
            Ok(found) => found,
            // A link to nowhere, or a folder that only some machines have.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(format!("{} cannot be read: {error}", self.shown(path))),
        };
        if !self.seen.insert((found.dev(), found.ino())) {
            return Ok(());
        }
        if self.seen.len() > MOST_FILES || self.bytes > MOST_BYTES {
            return Err(format!("{} and the rest of the site are too much to search", self.shown(path)));
        }
        if found.is_file() {
            self.bytes += found.len();
            self.files.push((path.to_owned(), found.len()));
            return Ok(());
        }
        if !found.is_dir() || is_not_the_sites(path) {
            return Ok(());
        }
        if path.file_name().is_some_and(|name| name == "ansible_collections") {
            self.install_collections(path);
            return Ok(());
        }
        let unreadable = |error: io::Error| format!("{} cannot be read: {error}", self.shown(path));
        let entries = fs::read_dir(path).map_err(unreadable)?;
        let mut paths =
            entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
        paths.sort();
        // Their code decides what a playbook does, but they read no variable.
        let is_plugins = matches!(self.purpose, Purpose::Mentions)
            && path.file_name().is_some_and(|name| name == "plugins")
            && is_in_a_collection(path);
        paths.retain(|path| !(is_plugins && IN_THE_GUEST.iter().any(|name| path.ends_with(name))));
        paths.iter().try_for_each(|path| self.look(path))
    }

    fn read(&mut self, path: &Path, bytes: u64) -> Result<(), String> {
        match self.purpose {
            Purpose::Mentions => self.search(path, bytes),
            Purpose::Digest(_) if path == self.site.verify => Ok(()),
            Purpose::Digest(_) => self.add(path),
        }
    }

    /// Adds a file to the digest.
    fn add(&mut self, path: &Path) -> Result<(), String> {
        let unreadable = |error: io::Error| format!("{} cannot be read: {error}", self.shown(path));
        let bytes = fs::read(path).map_err(unreadable)?;
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("$ANSIBLE_VAULT;") {
            return Err(format!("{} is encrypted, and the guest's memory would have it", self.shown(path)));
        }
        self.collect_words(&text);
        let shown = self.shown(path);
        if let Purpose::Digest(digest) = &mut self.purpose {
            // Lengths, so that no two lists of files are the same bytes.
            for part in [shown.as_bytes(), &bytes] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
        Ok(())
    }

    /// Searches a file for the variable.
    fn search(&mut self, path: &Path, bytes: u64) -> Result<(), String> {
        // Its one setting about this is known already, and Ansible does not read the file.
        if path == self.site.dir.join("ansible.cfg") {
            return Ok(());
        }
        let unreadable = |error: io::Error| format!("{} cannot be read: {error}", self.shown(path));
        let place = |line: usize, name: &str| Err(format!("{}:{line} has `{name}`", self.shown(path)));
        if bytes > WHOLE {
            return match find_in_large(path).map_err(unreadable)? {
                Some(name) => Err(format!("{} has `{name}`", self.shown(path))),
                None => Ok(()),
            };
        }
        let bytes = fs::read(path).map_err(unreadable)?;
        let text = String::from_utf8_lossy(&bytes);
        let is_inventory = self.is_inventory(path);
        if NAMES.iter().any(|name| text.contains(name)) {
            for (index, line) in text.lines().enumerate() {
                if let Some(name) = mention(line, is_inventory) {
                    return place(index + 1, name);
                }
            }
        }
        if !self.installed.is_empty() {
            self.collect_words(&text);
        }
        Ok(())
    }

    /// Remembers the words that can name a role, or a collection before the name of something in it.
    fn collect_words(&mut self, text: &str) {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        for word in text.split(|c| !is_part(c)).filter(|word| !word.is_empty()) {
            let second_dot = word.match_indices('.').nth(1).map(|(at, _)| at);
            for name in [Some(word), second_dot.map(|at| &word[..at])].into_iter().flatten() {
                if self.installed.contains_key(name) && !self.words.contains(name) {
                    self.words.insert(name.to_owned());
                }
            }
        }
    }

    /// Whether Ansible reads variables of hosts from the file, and [`HostEntry`] has them.
    fn is_inventory(&self, path: &Path) -> bool {
        let folders = ["group_vars", "host_vars"];
        path.starts_with(&self.site.inventory)
            || path.components().any(|part| folders.iter().any(|name| part.as_os_str() == *name))
    }

    /// The path as an operator writes it: from the folder that holds the site.
    fn shown(&self, path: &Path) -> String {
        let root = self.site.dir.parent().filter(|root| root.parent().is_some());
        root.and_then(|root| path.strip_prefix(root).ok()).unwrap_or(path).display().to_string()
    }
}

/// Folders that hold no part of the site: a repository's history, a Python of its own, a build (CACHEDIR.TAG), a run of boma-it.
fn is_not_the_sites(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    folder.ends_with(".git")
        || has("pyvenv.cfg")
        || has("CACHEDIR.TAG")
        || (has("plan.json") && has("events.jsonl"))
}

fn is_in_a_collection(plugins: &Path) -> bool {
    plugins.ancestors().nth(3).is_some_and(|it| it.ends_with("ansible_collections"))
}

/// Names and paths of the folders in `folder`; none where it does not exist.
fn sub_folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    folders.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path))).collect()
}

/// A path of the configuration, `~/` replaced; none if Ansible replaces more in it.
fn expand(path: &str) -> Option<PathBuf> {
    match path.strip_prefix("~/") {
        Some(rest) => Some(etcetera::home_dir().ok()?.join(rest)),
        None => path.starts_with('/').then(|| path.into()),
    }
}

/// One of the names, in a file that is too large to be read as a whole.
fn find_in_large(path: &Path) -> io::Result<Option<&'static str>> {
    let (mut file, mut held) = (File::open(path)?, Vec::new());
    loop {
        let before = held.len();
        if (&mut file).take(CHUNK as u64).read_to_end(&mut held)? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&held);
        if let Some(name) = NAMES.into_iter().find(|name| text.contains(name)) {
            return Ok(Some(name));
        }
        // A name may lie across two chunks.
        let overlap = VARIABLE.len().min(held.len());
        held = held.split_off(held.len() - overlap);
        debug_assert!(before <= overlap);
    }
}

/// The first word of a line that has one of the names and may read the variable.
fn mention(line: &str, is_inventory: bool) -> Option<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = line;
    while let Some(at) = NAMES.iter().filter_map(|name| rest.find(name)).min() {
        let start = rest[..at].rfind(|c| !is_part(c)).map_or(0, |before| before + 1);
        let start = (start..=at).find(|at| rest.is_char_boundary(*at)).unwrap_or(at);
        let length = rest[at..].find(|c| !is_part(c)).unwrap_or(rest.len() - at);
        let (word, after) = (&rest[start..at + length], &rest[at + length..]);
        let is_harmless = word == VARIABLE
            && is_key(&rest[..start])
            && setting(after).is_some_and(|value| value == OF_ANSIBLE || is_inventory && is_the_same(&value));
        if !is_harmless {
            return Some(word);
        }
        rest = after;
    }
    None
}

/// Whether a key of YAML, or of an INI inventory, can follow.
fn is_key(before: &str) -> bool {
    let before = before.trim_end_matches(['"', '\'']);
    before.trim().is_empty() || before.ends_with([' ', '\t', '{', ','])
}

/// The value that follows a key, without its quotes and spaces; none if what follows is no value.
fn setting(after: &str) -> Option<String> {
    let after = after.trim_start_matches(['"', '\'']).trim_start();
    let value = after.strip_prefix(':').or_else(|| after.strip_prefix('='))?.trim_start();
    let value = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split(quote).next()?,
        _ => value.split([',', '}', '#', ' ', '\t']).next()?,
    };
    Some(value.split_whitespace().collect())
}

#[cfg(test)]
mod tests;
