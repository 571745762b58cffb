//! The `ansible.cfg` of a run, and the settings of the site's own that it takes over.
//!
//! Ansible reads only the one written here. A site often relies on its own, so settings about *where files are* and *how the
//! site is written* are taken over from `ansible.cfg` in the site's folder, with absolute paths. Settings about *which hosts,
//! reached how, with which secrets* are not: inventory, SSH, vault passwords, callbacks and fact caches stay the harness's.
//! No plugin of variables runs either. `host_vars/` and `group_vars/`, beside the inventory and beside the playbook, are already
//! flattened into the inventory of the one host. If they were read again, they would override how the VM is reached.

use std::path::Path;

use configparser::ini::Ini;

/// Lists of paths in section `defaults` that are taken over.
const PATHS: [&str; 10] = [
    "roles_path",
    "collections_path",
    "collections_paths",
    "library",
    "module_utils",
    "action_plugins",
    "filter_plugins",
    "lookup_plugins",
    "test_plugins",
    "strategy_plugins",
];
/// Other settings in section `defaults` that are taken over.
const OPTIONS: [&str; 8] = [
    "hash_behaviour",
    "jinja2_extensions",
    "jinja2_native",
    "gathering",
    "gather_subset",
    "inject_facts_as_vars",
    "force_handlers",
    "remote_tmp",
];
/// Settings in section `privilege_escalation` that are taken over.
const ESCALATION: [&str; 3] = ["become", "become_method", "become_user"];

/// Settings taken over from the site's `ansible.cfg`, each as a line of the new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SiteConfig {
    defaults: String,
    escalation: String,
    /// Inventory plugins, and plugins of variables: only for listing the production inventory.
    inventory_plugins: String,
    vars_plugins: String,
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
        let path = |key: &str| get("defaults", key).map(|list| format!("{key} = {}\n", absolute(&list, dir)));
        let option = |section: &str, key: &str| get(section, key).map(|value| format!("{key} = {value}\n"));
        let roles = dir.join("roles");
        let roles =
            path("roles_path").is_none().then(|| format!("roles_path = {}:{USUAL_ROLES}\n", roles.display()));
        let listed = |key| {
            let usual = (key == "roles_path").then(|| USUAL_ROLES.to_owned());
            get("defaults", key).map(|list| absolute(&list, dir)).or(usual).map(|list| (key, list))
        };
        let each = |(key, list): (&'static str, String)| {
            list.split(':').map(|path| (key, path.to_owned())).collect::<Vec<_>>()
        };
        let paths = PATHS.into_iter().filter_map(listed).flat_map(each);
        let interpreter = get("defaults", "interpreter_python").map(|it| it.trim().to_owned());
        let options = OPTIONS.into_iter().filter_map(|key| option("defaults", key));
        Ok(Self {
            defaults: roles.into_iter().chain(PATHS.into_iter().filter_map(path)).chain(options).collect(),
            escalation: ESCALATION
                .into_iter()
                .filter_map(|key| option("privilege_escalation", key))
                .collect(),
            inventory_plugins: option("inventory", "enable_plugins").unwrap_or_default(),
            vars_plugins: [path("vars_plugins"), option("defaults", "vars_plugins_enabled")]
                .into_iter()
                .flatten()
                .collect(),
            paths: paths.filter(|(_, path)| !path.is_empty()).collect(),
            interpreter: interpreter.filter(|it| !it.is_empty()),
        })
    }

    /// The configuration of a run. `callbacks` is the folder of the callback plugin; `patience` is how many times slower than
    /// with KVM the host is.
    pub(super) fn render(&self, callbacks: &Path, patience: u32) -> String {
        // For a connection, and for sudo: a guest that is emulated and busy needs more than half a minute for either.
        let timeout = 30 * patience;
        let plugins = callbacks.display();
        let Self { defaults, escalation, .. } = self;
        format!(
            "# Written by boma-it for one run; Ansible does not read the site's own.\n\
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
             timeout = {timeout}\n\
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

    /// The configuration for listing the production inventory.
    pub(super) fn render_for_inventory(&self) -> String {
        let Self { defaults, inventory_plugins, vars_plugins, .. } = self;
        format!(
            "[defaults]\n{defaults}{vars_plugins}\n[inventory]\n{inventory_plugins}any_unparsed_is_failed = True\n\
             unparsed_is_failed = True\n"
        )
    }
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
    fn settings_about_files_are_taken_over_and_settings_about_hosts_are_not() {
        let site = SiteConfig::parse(SITE, Path::new("/srv/site")).unwrap();
        insta::assert_snapshot!(site.render(Path::new("/runs/1/ansible/callback"), 4), @r"
        # Written by boma-it for one run; Ansible does not read the site's own.
        [defaults]
        roles_path = /srv/site/roles:/srv/site/vendor/roles:~/.ansible/roles
        filter_plugins = /srv/site/plugins/filter
        lookup_plugins = /srv/site/plugins;lookup # no comment
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
        timeout = 120

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
        lookup_plugins = /srv/site/plugins;lookup # no comment
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
    fn the_roles_of_a_site_without_a_configuration_are_found() {
        let site = SiteConfig::parse("", Path::new("/srv/site")).unwrap();
        assert_eq!(
            site.defaults,
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
