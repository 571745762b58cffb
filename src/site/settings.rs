//! Every setting of ansible-core, and what a run does with the one in the site's `ansible.cfg`: the one table. A test holds it
//! against `ansible-config list` of each supported version, so that a new setting is decided before it is supported.

/// What a run does with a setting of the site's `ansible.cfg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Carried over: a list of paths, of which the relative ones are made absolute.
    Paths,
    /// Carried over as it is written.
    Value,
    /// Carried over where the production inventory is listed, and not into a run: paths.
    ListingPaths,
    /// The same, as it is written.
    ListingValue,
    /// boma-it sets it itself.
    Set,
    /// Left out: Ansible's default holds.
    LeftOut,
}

/// Settings that are decided alike, for one reason.
#[derive(Debug)]
pub struct Settings {
    /// What is done with them.
    pub decision: Decision,
    /// Why.
    pub reason: &'static str,
    /// Their names as `ansible-config list` has them, or `plugin.option` for one of a plugin's; each with its place in
    /// `ansible.cfg`, as `NAME=section.key`, where it is carried over.
    names: &'static str,
}

/// A setting that is carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
}

impl Settings {
    /// The names, each with `section.key` if it is carried over.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        self.names.split_whitespace().map(|name| match name.split_once('=') {
            Some((name, place)) => (name, Some(place)),
            None => (name, None),
        })
    }
}

/// The settings of one decision that are carried over, in the order of the table.
pub(super) fn carried(decision: Decision) -> impl Iterator<Item = Carried> {
    let settings = SETTINGS.iter().filter(move |settings| settings.decision == decision);
    let places = settings.flat_map(Settings::names).filter_map(|(_, place)| place?.split_once('.'));
    places.map(|(section, key)| Carried { section, key })
}

/// Every setting of ansible-core, once.
pub const SETTINGS: &[Settings] = &[
    Settings {
        decision: Decision::Paths,
        reason: "where the site's roles, collections and plugins are",
        names: "DEFAULT_ROLES_PATH=defaults.roles_path COLLECTIONS_PATHS=defaults.collections_path \
            COLLECTIONS_PATHS=defaults.collections_paths DEFAULT_MODULE_PATH=defaults.library \
            DEFAULT_MODULE_UTILS_PATH=defaults.module_utils DEFAULT_ACTION_PLUGIN_PATH=defaults.action_plugins \
            DEFAULT_FILTER_PLUGIN_PATH=defaults.filter_plugins DEFAULT_LOOKUP_PLUGIN_PATH=defaults.lookup_plugins \
            DEFAULT_TEST_PLUGIN_PATH=defaults.test_plugins DEFAULT_STRATEGY_PLUGIN_PATH=defaults.strategy_plugins \
            BECOME_PLUGIN_PATH=defaults.become_plugins DOC_FRAGMENT_PLUGIN_PATH=defaults.doc_fragment_plugins \
            PLUGIN_FILTERS_CFG=defaults.plugin_filters_cfg",
    },
    Settings {
        decision: Decision::Value,
        reason: "how the site is written: what its YAML, templates and conditions mean",
        names: "ALLOW_BROKEN_CONDITIONALS=defaults.allow_broken_conditionals \
            ALLOW_EMBEDDED_TEMPLATES=defaults.allow_embedded_templates \
            DEFAULT_ALLOW_UNSAFE_LOOKUPS=defaults.allow_unsafe_lookups \
            DEFAULT_UNDEFINED_VAR_BEHAVIOR=defaults.error_on_undefined_vars \
            DEFAULT_HASH_BEHAVIOUR=defaults.hash_behaviour DEFAULT_JINJA2_EXTENSIONS=defaults.jinja2_extensions \
            DEFAULT_JINJA2_NATIVE=defaults.jinja2_native DEFAULT_NULL_REPRESENTATION=defaults.null_representation \
            STRING_CONVERSION_ACTION=defaults.string_conversion_action STRING_TYPE_FILTERS=jinja2.dont_type_filters \
            DEFAULT_MANAGED_STR=defaults.ansible_managed DEFAULT_PRIVATE_ROLE_VARS=defaults.private_role_vars \
            DUPLICATE_YAML_DICT_KEY=defaults.duplicate_dict_key YAML_FILENAME_EXTENSIONS=defaults.yaml_valid_extensions \
            ERROR_ON_MISSING_HANDLER=defaults.error_on_missing_handler \
            INVALID_TASK_ATTRIBUTE_FAILED=defaults.invalid_task_attribute_failed \
            TRANSFORM_INVALID_GROUP_CHARS=defaults.force_valid_group_names \
            COLLECTIONS_ON_ANSIBLE_VERSION_MISMATCH=defaults.collections_on_ansible_version_mismatch \
            COLLECTIONS_SCAN_SYS_PATH=defaults.collections_scan_sys_path MODULE_IGNORE_EXTS=defaults.module_ignore_exts \
            OLD_PLUGIN_CACHE_CLEARING=defaults.old_plugin_cache_clear \
            VALIDATE_ACTION_GROUP_METADATA=defaults.validate_action_group_metadata",
    },
    Settings {
        decision: Decision::Value,
        reason: "how a play goes on, and what its results and facts have",
        names: "ANY_ERRORS_FATAL=defaults.any_errors_fatal DEFAULT_FORCE_HANDLERS=defaults.force_handlers \
            DEFAULT_GATHERING=defaults.gathering FACTS_MODULES=defaults.facts_modules \
            INJECT_FACTS_AS_VARS=defaults.inject_facts_as_vars INJECT_INVOCATION=defaults.inject_invocation \
            DEFAULT_NO_LOG=defaults.no_log DEFAULT_POLL_INTERVAL=defaults.poll_interval \
            MODULE_STRICT_UTF8_RESPONSE=defaults.module_strict_utf8_response",
    },
    Settings {
        decision: Decision::Value,
        reason: "how a task runs on the host, and as whom",
        names: "DEFAULT_BECOME=privilege_escalation.become DEFAULT_BECOME_METHOD=privilege_escalation.become_method \
            DEFAULT_BECOME_USER=privilege_escalation.become_user DEFAULT_BECOME_EXE=privilege_escalation.become_exe \
            DEFAULT_BECOME_FLAGS=privilege_escalation.become_flags \
            BECOME_ALLOW_SAME_USER=privilege_escalation.become_allow_same_user \
            AGNOSTIC_BECOME_PROMPT=privilege_escalation.agnostic_become_prompt \
            sudo.become_user=sudo_become_plugin.user sudo.become_exe=sudo_become_plugin.executable \
            sudo.become_flags=sudo_become_plugin.flags su.become_user=su_become_plugin.user \
            su.become_exe=su_become_plugin.executable su.become_flags=su_become_plugin.flags \
            DEFAULT_EXECUTABLE=defaults.executable sh.remote_tmp=defaults.remote_tmp \
            sh.system_tmpdirs=defaults.system_tmpdirs sh.admin_users=defaults.admin_users sh.async_dir=defaults.async_dir \
            sh.common_remote_group=defaults.common_remote_group \
            sh.world_readable_temp=defaults.allow_world_readable_tmpfiles \
            DEFAULT_SELINUX_SPECIAL_FS=selinux.special_context_filesystems \
            PYTHON_MODULE_RLIMIT_NOFILE=defaults.python_module_rlimit_nofile \
            DEFAULT_NO_TARGET_SYSLOG=defaults.no_target_syslog DEFAULT_SYSLOG_FACILITY=defaults.syslog_facility \
            TARGET_LOG_INFO=defaults.target_log_info",
    },
    Settings {
        decision: Decision::ListingPaths,
        reason: "where plugins are that the production inventory needs; its variables are flattened onto the one host",
        names: "DEFAULT_INVENTORY_PLUGIN_PATH=defaults.inventory_plugins DEFAULT_VARS_PLUGIN_PATH=defaults.vars_plugins",
    },
    Settings {
        decision: Decision::ListingValue,
        reason: "what the production inventory means; its variables are flattened onto the one host",
        names: "INVENTORY_ENABLED=inventory.enable_plugins VARIABLE_PLUGINS_ENABLED=defaults.vars_plugins_enabled \
            RUN_VARS_PLUGINS=defaults.run_vars_plugins VARIABLE_PRECEDENCE=defaults.precedence \
            PLAYBOOK_VARS_ROOT=defaults.playbook_vars_root \
            INVENTORY_IGNORE_EXTS=defaults.inventory_ignore_extensions INVENTORY_IGNORE_EXTS=inventory.ignore_extensions \
            INVENTORY_IGNORE_PATTERNS=defaults.inventory_ignore_patterns INVENTORY_IGNORE_PATTERNS=inventory.ignore_patterns",
    },
    Settings {
        decision: Decision::Set,
        reason: "only the VM may be reached, and by SSH with the run's own keys",
        names: "CONFIG_FILE DEFAULT_HOST_LIST HOST_KEY_CHECKING DEFAULT_TRANSPORT DEFAULT_REMOTE_USER DEFAULT_REMOTE_PORT \
            DEFAULT_PRIVATE_KEY_FILE INTERPRETER_PYTHON ANSIBLE_PIPELINING DEFAULT_TIMEOUT",
    },
    Settings {
        decision: Decision::Set,
        reason: "boma-it reads what Ansible records and prints",
        names: "CALLBACKS_ENABLED DEFAULT_CALLBACK_PLUGIN_PATH DEFAULT_STDOUT_CALLBACK ANSIBLE_NOCOLOR ANSIBLE_FORCE_COLOR \
            ANSIBLE_NOCOWS RETRY_FILES_ENABLED CACHE_PLUGIN INVENTORY_ANY_UNPARSED_IS_FAILED \
            INVENTORY_UNPARSED_IS_FAILED PLAYBOOK_DIR VERBOSE_TO_STDERR",
    },
    Settings {
        decision: Decision::LeftOut,
        reason: "it reaches or names other hosts, or another way to the VM",
        names: "DEFAULT_CONNECTION_PLUGIN_PATH DEFAULT_CLICONF_PLUGIN_PATH DEFAULT_HTTPAPI_PLUGIN_PATH \
            DEFAULT_NETCONF_PLUGIN_PATH DEFAULT_TERMINAL_PLUGIN_PATH NETCONF_SSH_CONFIG NETWORK_GROUP_MODULES \
            CONNECTION_FACTS_MODULES USE_PERSISTENT_CONNECTIONS ANSIBLE_CONNECTION_PATH _ANSIBLE_CONNECTION_PATH \
            PERSISTENT_COMMAND_TIMEOUT PERSISTENT_CONNECT_RETRY_TIMEOUT PERSISTENT_CONNECT_TIMEOUT \
            PERSISTENT_CONTROL_PATH_DIR PARAMIKO_HOST_KEY_AUTO_ADD PARAMIKO_LOOK_FOR_KEYS SSH_AGENT SSH_AGENT_EXECUTABLE \
            SSH_AGENT_KEY_LIFETIME HOST_PATTERN_MISMATCH DEFAULT_LIBVIRT_LXC_NOSECLABEL DEFAULT_SU \
            WIN_ASYNC_STARTUP_TIMEOUT",
    },
    Settings {
        decision: Decision::LeftOut,
        reason: "secrets come from `secrets` and `vault` of harness.yml, and nobody is there to be asked",
        names: "BECOME_PASSWORD_FILE CONNECTION_PASSWORD_FILE DEFAULT_ASK_PASS DEFAULT_ASK_VAULT_PASS \
            DEFAULT_BECOME_ASK_PASS DEFAULT_VAULT_ENCRYPT_IDENTITY DEFAULT_VAULT_IDENTITY DEFAULT_VAULT_IDENTITY_LIST \
            DEFAULT_VAULT_ID_MATCH DEFAULT_VAULT_PASSWORD_FILE VAULT_ENCRYPT_SALT",
    },
    Settings {
        decision: Decision::LeftOut,
        reason: "which tasks run, and for how long, the profile's roles and the deadlines of harness.yml say",
        names: "TAGS_RUN TAGS_SKIP TASK_TIMEOUT DEFAULT_STRATEGY DEFAULT_FORKS",
    },
    Settings {
        decision: Decision::LeftOut,
        reason: "facts and inventories of an earlier run would hide what this one finds",
        names: "CACHE_PLUGIN_CONNECTION CACHE_PLUGIN_PREFIX CACHE_PLUGIN_TIMEOUT DEFAULT_CACHE_PLUGIN_PATH \
            INVENTORY_CACHE_ENABLED INVENTORY_CACHE_PLUGIN INVENTORY_CACHE_PLUGIN_CONNECTION INVENTORY_CACHE_PLUGIN_PREFIX \
            INVENTORY_CACHE_TIMEOUT INVENTORY_EXPORT",
    },
    Settings {
        decision: Decision::LeftOut,
        reason: "a debugger waits for a person, and files that are kept may have secrets",
        names: "ENABLE_TASK_DEBUGGER TASK_DEBUGGER_IGNORE_ERRORS DEFAULT_KEEP_REMOTE_FILES DEFAULT_DEBUG",
    },
    Settings {
        decision: Decision::LeftOut,
        reason: "files and processes of this machine: a run has its own",
        names: "ANSIBLE_HOME DEFAULT_LOCAL_TMP DEFAULT_LOG_PATH DEFAULT_LOG_FILTER LOG_VERBOSITY RETRY_FILES_SAVE_PATH \
            DEFAULT_INTERNAL_POLL_INTERVAL DEFAULT_MODULE_COMPRESSION WORKER_SESSION_ISOLATION WORKER_SHUTDOWN_POLL_COUNT \
            WORKER_SHUTDOWN_POLL_DELAY INTERPRETER_PYTHON_FALLBACK",
    },
    Settings {
        decision: Decision::LeftOut,
        reason: "only what is printed, or another command than a playbook",
        names: "ACTION_WARNINGS DEPRECATION_WARNINGS DEVEL_WARNING SYSTEM_WARNINGS LOCALHOST_WARNING \
            INVENTORY_UNPARSED_WARNING DEFAULT_VERBOSITY DIFF_ALWAYS DIFF_CONTEXT MAX_FILE_SIZE_FOR_DIFF \
            DISPLAY_ARGS_TO_STDOUT DISPLAY_SKIPPED_HOSTS DISPLAY_TRACEBACK SHOW_CUSTOM_STATS DEFAULT_LOAD_CALLBACK_PLUGINS \
            ANSIBLE_COW_ACCEPTLIST ANSIBLE_COW_PATH ANSIBLE_COW_SELECTION COLOR_CHANGED COLOR_CONSOLE_PROMPT COLOR_DEBUG \
            COLOR_DEPRECATE COLOR_DIFF_ADD COLOR_DIFF_LINES COLOR_DIFF_REMOVE COLOR_DOC_CONSTANT COLOR_DOC_DEPRECATED \
            COLOR_DOC_LINK COLOR_DOC_MODULE COLOR_DOC_PLUGIN COLOR_DOC_REFERENCE COLOR_ERROR COLOR_HIGHLIGHT \
            COLOR_INCLUDED COLOR_OK COLOR_SKIP COLOR_UNREACHABLE COLOR_VERBOSE COLOR_WARN DEFAULT_MODULE_ARGS \
            DEFAULT_MODULE_NAME DOCSITE_ROOT_URL EDITOR PAGER GALAXY_CACHE_DIR GALAXY_COLLECTIONS_PATH_WARNING \
            GALAXY_COLLECTION_IMPORT_POLL_FACTOR GALAXY_COLLECTION_IMPORT_POLL_INTERVAL GALAXY_COLLECTION_SKELETON \
            GALAXY_COLLECTION_SKELETON_IGNORE GALAXY_DISABLE_GPG_VERIFY GALAXY_DISPLAY_PROGRESS GALAXY_GPG_KEYRING \
            GALAXY_IGNORE_CERTS GALAXY_IGNORE_INVALID_SIGNATURE_STATUS_CODES GALAXY_REQUIRED_VALID_SIGNATURE_COUNT \
            GALAXY_ROLE_SKELETON GALAXY_ROLE_SKELETON_IGNORE GALAXY_SERVER GALAXY_SERVERS GALAXY_SERVER_LIST \
            GALAXY_SERVER_TIMEOUT GALAXY_TOKEN_PATH",
    },
    Settings {
        decision: Decision::LeftOut,
        reason: "Ansible's own developers use it; no file can set it",
        names: "COVERAGE_REMOTE_OUTPUT COVERAGE_REMOTE_PATHS _ANSIBALLZ_COVERAGE_CONFIG _ANSIBALLZ_DEBUGPY_CONFIG \
            _ANSIBALLZ_PYDEVD_CONFIG _CALLBACK_DISPATCH_ERROR_BEHAVIOR _MODULE_METADATA _TEMPLAR_SANDBOX_MODE \
            _TEMPLAR_UNKNOWN_TYPE_CONVERSION _TEMPLAR_UNKNOWN_TYPE_ENCOUNTERED _TEMPLAR_UNTRUSTED_TEMPLATE_BEHAVIOR",
    },
];
