//! Variables of Ansible's that neither an override nor a scenario may set: those that boma-it sets itself, and those that
//! say how a host is reached.

/// What the names of our own variables begin with.
pub const OURS: &str = "boma_it";

const EXACT: &[&str] = &[
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_password",
    "ansible_connection",
    "ansible_transport",
    "ansible_private_key",
    "ansible_private_key_file",
    "ansible_private_key_passphrase",
    "ansible_host_key_checking",
    "ansible_host_key_auto_add",
    "ansible_pipelining",
    "ansible_timeout",
    "ansible_connection_timeout",
    "ansible_python_interpreter",
    "ansible_become_password",
    "ansible_become_pass",
    "ansible_sudo_pass",
    "ansible_su_pass",
];
const PREFIXES: &[&str] = &[
    "ansible_ssh_",
    "ansible_sshpass_",
    "ansible_sftp_",
    "ansible_scp_",
    "ansible_control_path",
    "ansible_paramiko_",
    "ansible_libssh_",
    "ansible_winrm_",
    "ansible_psrp_",
    "ansible_httpapi_",
];

/// Whether a variable is the harness's to set: one of ours, or one that says how the host is reached.
pub fn is_reserved(name: &str) -> bool {
    is_ours(name) || is_connection_var(name)
}

/// Whether a variable is one of boma-it's own.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

/// Whether a variable says how a host is reached or with which secret: those of the real host are left out of the
/// transient inventory.
pub fn is_connection_var(name: &str) -> bool {
    EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The names that [`is_reserved`] leaves, as a regular expression of JSON Schema's.
pub(super) fn pattern() -> String {
    let (exact, prefixes) = (EXACT.join("|"), PREFIXES.join("|"));
    format!("^(?!{OURS}|(?:{exact})$|{prefixes})[A-Za-z_][A-Za-z0-9_]*$")
}
