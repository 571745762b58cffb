//! The `ansible.cfg` of a run, and the settings of the site's own that it takes over.
//!
//! Ansible reads only the one written here. A site often relies on its own, so settings about *where files are* and *how the
//! site is written* are taken over from `ansible.cfg` in the site's folder, with absolute paths. Settings about *which hosts,
//! reached how, with which secrets* are not. [`super::settings`] decides each setting.
//! No plugin of variables runs either. `host_vars/` and `group_vars/`, beside the inventory and beside the playbook, are already
//! flattened into the inventory of the one host. If they were read again, they would override how the VM is reached.

use std::collections::BTreeMap;
use std::path::Path;

use configparser::ini::Ini;

use super::settings::{Carried, Decision, carried};

/// Lines of a configuration, by section.
type Lines = BTreeMap<&'static str, String>;

/// Settings taken over from the site's `ansible.cfg`, each as a line of the new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SiteConfig {
    run: Lines,
    /// Only for listing the production inventory.
    listing: Lines,
    /// Every path of a list that is taken over, with the setting that names it: `~`, variables and macros as written.
    pub(super) paths: Vec<(&'static str, String)>,
    /// Python on the host, if the site names one, or a word such as `auto_silent`.
    pub(super) interpreter: Option<String>,
}

/// Where Ansible looks for roles beside those of the site, unless `roles_path` says otherwise.
const USUAL_ROLES: &str = "~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles";

impl SiteConfig {
    /// From the text of `ansible.cfg` in `dir`; the site's `roles` folder is added if it sets no `roles_path`.
    ///
    /// # Errors
    /// What is wrong with the syntax.
    pub(super) fn parse(text: &str, dir: &Path) -> Result<Self, String> {
        let mut ini = Ini::new();
        ini.set_multiline(true);
        ini.set_inline_comment_symbols(Some(&[]));
        ini.read(without_inline_comments(text))?;
        let get = |section: &str, key: &str| ini.get(section, key).map(|value| value.replace('\n', ""));
        let found = |decision: Decision| {
            carried(decision).filter_map(move |it| get(it.section, it.key).map(|value| (it, value)))
        };
        let paths = |decision| found(decision).map(|(it, list)| (it, absolute(&list, dir)));
        let mut config = Self::default();
        let mut lists: Vec<(Carried, String)> = paths(Decision::Paths).collect();
        for (it, value) in lists.iter().cloned().chain(found(Decision::Value)) {
            add(&mut config.run, it, &value);
        }
        if !lists.iter().any(|(it, _)| it.key == "roles_path") {
            let roles = Carried { section: "defaults", key: "roles_path" };
            add(&mut config.run, roles, &format!("{}:{USUAL_ROLES}", dir.join("roles").display()));
            // The site's own folder is searched anyway.
            lists.push((roles, USUAL_ROLES.to_owned()));
        }
        for (it, value) in paths(Decision::ListingPaths).chain(found(Decision::ListingValue)) {
            add(&mut config.listing, it, &value);
        }
        let each = lists.iter().flat_map(|(it, list)| list.split(':').map(|path| (it.key, path.to_owned())));
        config.paths = each.filter(|(_, path)| !path.is_empty()).collect();
        let interpreter = ini.get("defaults", "interpreter_python").map(|it| it.trim().to_owned());
        config.interpreter = interpreter.filter(|it| !it.is_empty());
        Ok(config)
    }

    /// The configuration of a run. `callbacks` is the folder of the callback plugin; `patience` is how many times slower than
    /// with KVM the host is.
    pub(super) fn render(&self, callbacks: &Path, patience: u32) -> String {
        // For a connection, and for sudo: a guest that is emulated and busy needs more than half a minute for either.
        let timeout = 30 * patience;
        let mut lines = self.run.clone();
        let ours = [
            (
                "defaults",
                format!(
                    "callback_plugins = {}\n\
                     callbacks_enabled = boma_it\n\
                     stdout_callback = ansible.builtin.default\n\
                     callback_result_format = yaml\n\
                     host_key_checking = True\n\
                     retry_files_enabled = False\n\
                     nocows = True\n\
                     vars_plugins_enabled =\n\
                     fact_caching = memory\n\
                     timeout = {timeout}\n",
                    callbacks.display()
                ),
            ),
            (
                "inventory",
                "enable_plugins = ansible.builtin.yaml\nany_unparsed_is_failed = True\n".to_owned(),
            ),
            // The inventory of a run is a JSON file, whatever the site calls its own.
            ("inventory_plugin_yaml", "yaml_valid_extensions = .json\n".to_owned()),
            ("connection", "pipelining = True\n".to_owned()),
        ];
        for (section, text) in ours {
            lines.entry(section).or_default().push_str(&text);
        }
        format!("# Written by boma-it for one run; Ansible does not read the site's own.\n{}", render(&lines))
    }

    /// The configuration for listing the production inventory.
    pub(super) fn render_for_inventory(&self) -> String {
        let mut lines = self.run.clone();
        for (section, text) in &self.listing {
            lines.entry(section).or_default().push_str(text);
        }
        let strict = "any_unparsed_is_failed = True\nunparsed_is_failed = True\n";
        lines.entry("inventory").or_default().push_str(strict);
        render(&lines)
    }
}

fn add(lines: &mut Lines, Carried { section, key }: Carried, value: &str) {
    lines.entry(section).or_default().push_str(&format!("{key} = {value}\n"));
}

fn render(lines: &Lines) -> String {
    lines.iter().map(|(section, text)| format!("[{section}]\n{text}")).collect::<Vec<_>>().join("\n")
}

/// Ansible's parser (Python's configparser with `inline_comment_prefixes=(';',)`) takes `;` for the start of a comment only
/// after white space; the crate would take any.
fn without_inline_comments(text: &str) -> String {
    let line = |line: &str| {
        let comment = [" ;", "\t;"].iter().filter_map(|start| line.find(start)).min();
        line[..comment.unwrap_or(line.len())].to_owned() + "\n"
    };
    text.lines().map(line).collect()
}

/// A list of paths with the relative ones made absolute; `~`, variables and Ansible's `{{…}}` macros stay.
fn absolute(list: &str, dir: &Path) -> String {
    let one = |path: &str| match path.trim() {
        path if path.starts_with(['/', '~', '$', '{']) || path.is_empty() => path.to_owned(),
        path => dir.join(path.strip_prefix("./").unwrap_or(path)).to_string_lossy().into_owned(),
    };
    list.split(':').map(one).collect::<Vec<_>>().join(":")
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
lookup_plugins = plugins;lookup # no comment
vars_plugins = plugins/vars
vars_plugins_enabled = host_group_vars, ours
vault_password_file = ~/.vault
host_key_checking = False
hash_behaviour = merge
allow_broken_conditionals = True
module_strict_utf8_response = False
plugin_filters_cfg = filters.yml
inventory_plugins = plugins/inventory

[privilege_escalation]
become = True
become_ask_pass = True
become_flags = -H -n

[sudo_become_plugin]
flags = -H
password = hunter2

[jinja2]
dont_type_filters = to_json

[tags]
skip = slow

[ssh_connection]
ssh_args = -J bastion

[inventory]
enable_plugins = yaml,
    constructed
";

    #[test]
    fn settings_about_files_are_taken_over_and_settings_about_hosts_are_not() {
        let site = SiteConfig::parse(SITE, Path::new("/srv/site")).unwrap();
        let run = site.render(Path::new("/runs/1/ansible/callback"), 4);
        insta::assert_snapshot!(run, @r"
        # Written by boma-it for one run; Ansible does not read the site's own.
        [connection]
        pipelining = True

        [defaults]
        roles_path = /srv/site/roles:/srv/site/vendor/roles:~/.ansible/roles
        filter_plugins = /srv/site/plugins/filter
        lookup_plugins = /srv/site/plugins;lookup # no comment
        plugin_filters_cfg = /srv/site/filters.yml
        allow_broken_conditionals = True
        hash_behaviour = merge
        module_strict_utf8_response = False
        callback_plugins = /runs/1/ansible/callback
        callbacks_enabled = boma_it
        stdout_callback = ansible.builtin.default
        callback_result_format = yaml
        host_key_checking = True
        retry_files_enabled = False
        nocows = True
        vars_plugins_enabled =
        fact_caching = memory
        timeout = 120

        [inventory]
        enable_plugins = ansible.builtin.yaml
        any_unparsed_is_failed = True

        [inventory_plugin_yaml]
        yaml_valid_extensions = .json

        [jinja2]
        dont_type_filters = to_json

        [privilege_escalation]
        become = True
        become_flags = -H -n

        [sudo_become_plugin]
        flags = -H
        ");
        // The inventory is listed with the same of the site's, and with what finds its hosts.
        let listing = site.render_for_inventory();
        let only_in = |text: &str, other: &str| {
            let is_other = |line: &&str| !other.lines().any(|it| it == *line);
            text.lines().filter(is_other).collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(only_in(&listing, &run), @r"
        inventory_plugins = /srv/site/plugins/inventory
        vars_plugins = /srv/site/plugins/vars
        vars_plugins_enabled = host_group_vars, ours
        enable_plugins = yaml,constructed
        unparsed_is_failed = True
        ");
        let nobodys = SiteConfig::parse("", Path::new("/srv/site")).unwrap();
        let ours = nobodys.render(Path::new("/runs/1/ansible/callback"), 4);
        assert_eq!(only_in(&only_in(&run, &listing), &ours), "");
    }

    #[test]
    fn the_roles_of_a_site_without_a_configuration_are_found() {
        let site = SiteConfig::parse("", Path::new("/srv/site")).unwrap();
        assert_eq!(
            site.run["defaults"],
            "roles_path = /srv/site/roles:~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles\n"
        );
    }

    #[test]
    fn a_section_without_its_closing_bracket_is_an_error() {
        insta::assert_snapshot!(
            SiteConfig::parse("[defaults\n", Path::new("/srv/site")).unwrap_err(),
            @"line 1: Found opening bracket for section name but no closing bracket"
        );
    }
}
