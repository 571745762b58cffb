//! The `ansible.cfg` of a run, and what of the site's own is carried over.
//!
//! Ours is the only one that Ansible reads. A site often leans on its own, though, so that what says *where things
//! lie* and *how the site is written* is taken over from `ansible.cfg` in the site's folder ([`CARRIED`]), paths made
//! absolute. What says *which hosts, reached how, with which secrets* is not: inventory, SSH, vault passwords,
//! callbacks, fact caches and everything else are ours.
//! No plugin of variables runs, neither: what lies beside the inventory and beside the playbook (`host_vars/`,
//! `group_vars/`) is flattened into the inventory of the one host, and would outrank there what reaches the VM if it
//! were read again.

use std::path::{Path, PathBuf};

/// What is carried over: section, key, and whether its value is a list of paths.
pub(super) const CARRIED: &[(&str, &str, bool)] = &[
    ("defaults", "roles_path", true),
    ("defaults", "collections_path", true),
    ("defaults", "collections_paths", true),
    ("defaults", "library", true),
    ("defaults", "module_utils", true),
    ("defaults", "action_plugins", true),
    ("defaults", "filter_plugins", true),
    ("defaults", "lookup_plugins", true),
    ("defaults", "test_plugins", true),
    ("defaults", "strategy_plugins", true),
    ("defaults", "hash_behaviour", false),
    ("defaults", "jinja2_extensions", false),
    ("defaults", "jinja2_native", false),
    ("defaults", "gathering", false),
    ("defaults", "gather_subset", false),
    ("defaults", "inject_facts_as_vars", false),
    ("defaults", "force_handlers", false),
    ("defaults", "remote_tmp", false),
    ("privilege_escalation", "become", false),
    ("privilege_escalation", "become_method", false),
    ("privilege_escalation", "become_user", false),
];

/// Plugins that read the production inventory: needed to list it, and not after.
const ENABLE_PLUGINS: (&str, &str) = ("inventory", "enable_plugins");
/// Where the site's plugins of variables lie: the same.
const VARS_PLUGINS: (&str, &str) = ("defaults", "vars_plugins");
/// Which of them run: the same.
const VARS_PLUGINS_ENABLED: (&str, &str) = ("defaults", "vars_plugins_enabled");

/// What is taken over from the site's `ansible.cfg`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SiteConfig {
    defaults: Vec<(String, String)>,
    escalation: Vec<(String, String)>,
    enable_plugins: Option<String>,
    vars_plugins: Vec<(String, String)>,
}

impl SiteConfig {
    /// From the text of `ansible.cfg` in `dir`; the site's `roles` folder is added where no `roles_path` is set.
    pub(super) fn parse(text: &str, dir: &Path) -> Self {
        let mut site = Self::default();
        for (section, key, value) in entries(text) {
            if (section.as_str(), key.as_str()) == ENABLE_PLUGINS {
                site.enable_plugins = Some(value);
                continue;
            }
            if [VARS_PLUGINS, VARS_PLUGINS_ENABLED].contains(&(section.as_str(), key.as_str())) {
                let value = if key == VARS_PLUGINS.1 { absolute(&value, dir) } else { value };
                site.vars_plugins.push((key, value));
                continue;
            }
            let Some((_, _, is_path)) = CARRIED.iter().find(|(s, k, _)| (*s, *k) == (&section, &key)) else {
                continue;
            };
            let value = if *is_path { absolute(&value, dir) } else { value };
            match section.as_str() {
                "defaults" => site.defaults.push((key, value)),
                _ => site.escalation.push((key, value)),
            }
        }
        if !site.defaults.iter().any(|(key, _)| key == "roles_path") {
            let roles = dir.join("roles");
            let roles = roles.display();
            let roles = format!("{roles}:~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles");
            site.defaults.push(("roles_path".into(), roles));
        }
        site
    }

    /// The configuration of a run. `callbacks` is the folder of our callback plugin, `local_tmp` one that goes away.
    pub(super) fn render(&self, callbacks: &Path) -> String {
        let plugins = callbacks.display();
        let [defaults, escalation] = [&self.defaults, &self.escalation].map(|lines| section(lines));
        format!(
            "# Written by boma-it for one run; the site's own ansible.cfg is not read.\n\
             [defaults]\n\
             {defaults}\
             callback_plugins = {plugins}\n\
             callbacks_enabled = boma_it\n\
             stdout_callback = ansible.builtin.default\n\
             callback_result_format = yaml\n\
             host_key_checking = True\n\
             retry_files_enabled = False\n\
             nocows = True\n\
             vars_plugins_enabled =\n\
             fact_caching = memory\n\
             timeout = 30\n\
             \n\
             [privilege_escalation]\n\
             {escalation}\
             \n\
             [inventory]\n\
             enable_plugins = ansible.builtin.yaml\n\
             any_unparsed_is_failed = True\n\
             \n\
             [connection]\n\
             pipelining = True\n"
        )
    }

    /// The configuration with which the production inventory is listed.
    pub(super) fn render_for_inventory(&self) -> String {
        let plugins =
            self.enable_plugins.as_ref().map(|p| format!("enable_plugins = {p}\n")).unwrap_or_default();
        let [defaults, vars_plugins] = [&self.defaults, &self.vars_plugins].map(|lines| section(lines));
        format!(
            "[defaults]\n{defaults}{vars_plugins}\n[inventory]\n{plugins}any_unparsed_is_failed = True\n\
             unparsed_is_failed = True\n"
        )
    }
}

/// Section, key and value of each line of an INI file as Python's configparser reads it for Ansible: `;` begins a
/// comment anywhere after white space, `#` at the start of a line only; an indented line continues the one before.
fn entries(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut entries: Vec<(String, String, String)> = Vec::new();
    for line in text.lines() {
        let bare = match line.find(" ;") {
            Some(at) => &line[..at],
            None => line,
        };
        let trimmed = bare.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_owned();
        } else if bare.starts_with([' ', '\t']) && !entries.is_empty() {
            if let Some((_, _, value)) = entries.last_mut() {
                value.push_str(trimmed);
            }
        } else if let Some((key, value)) = trimmed.split_once(['=', ':']) {
            entries.push((section.clone(), key.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    entries
}

/// A list of paths with the relative ones made absolute; `~`, variables and Ansible's `{{…}}` macros stay.
fn absolute(list: &str, dir: &Path) -> String {
    let one = |path: &str| {
        let path = path.trim();
        if path.starts_with(['/', '~', '$', '{']) || path.is_empty() {
            return path.to_owned();
        }
        let path = Path::new(path);
        let joined: PathBuf = dir.join(path.strip_prefix(".").unwrap_or(path));
        joined.to_string_lossy().into_owned()
    };
    list.split(':').map(one).collect::<Vec<_>>().join(":")
}

fn section(lines: &[(String, String)]) -> String {
    lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "\
# the operator's
[defaults]
inventory = production
roles_path = roles:./vendor/roles : ~/.ansible/roles
filter_plugins: plugins/filter ; ours
vars_plugins = plugins/vars
vars_plugins_enabled = host_group_vars, ours
vault_password_file = ~/.vault
host_key_checking = False
hash_behaviour = merge

[privilege_escalation]
become = True
become_ask_pass = True

[ssh_connection]
ssh_args = -J bastion

[inventory]
enable_plugins = yaml,
    constructed
";

    #[test]
    fn what_says_where_things_lie_is_carried_over_and_what_reaches_hosts_is_not() {
        let site = SiteConfig::parse(SITE, Path::new("/srv/site"));
        insta::assert_snapshot!(site.render(Path::new("/runs/1/ansible/callback")), @r"
        # Written by boma-it for one run; the site's own ansible.cfg is not read.
        [defaults]
        roles_path = /srv/site/roles:/srv/site/vendor/roles:~/.ansible/roles
        filter_plugins = /srv/site/plugins/filter
        hash_behaviour = merge
        callback_plugins = /runs/1/ansible/callback
        callbacks_enabled = boma_it
        stdout_callback = ansible.builtin.default
        callback_result_format = yaml
        host_key_checking = True
        retry_files_enabled = False
        nocows = True
        vars_plugins_enabled =
        fact_caching = memory
        timeout = 30

        [privilege_escalation]
        become = True

        [inventory]
        enable_plugins = ansible.builtin.yaml
        any_unparsed_is_failed = True

        [connection]
        pipelining = True
        ");
        insta::assert_snapshot!(site.render_for_inventory(), @r"
        [defaults]
        roles_path = /srv/site/roles:/srv/site/vendor/roles:~/.ansible/roles
        filter_plugins = /srv/site/plugins/filter
        hash_behaviour = merge
        vars_plugins = /srv/site/plugins/vars
        vars_plugins_enabled = host_group_vars, ours

        [inventory]
        enable_plugins = yaml,constructed
        any_unparsed_is_failed = True
        unparsed_is_failed = True
        ");
    }

    #[test]
    fn a_site_without_a_configuration_has_its_roles_found() {
        let site = SiteConfig::parse("", Path::new("/srv/site"));
        assert_eq!(
            site.defaults[0].1,
            "/srv/site/roles:~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles"
        );
    }
}
