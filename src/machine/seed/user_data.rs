//! The seed's `user-data`: a cloud-config document, from types. It does what makes the guest reachable and nothing that
//! a role might be about: no sshd setting, no package, no locale.

use serde::Serialize;

use super::{SeedError, SeedSpec};

/// Where a guest keeps what its seed did, for whoever looks at it later.
const RECORD: &str = "/etc/boma-it/seed.json";

#[derive(Debug, Serialize)]
pub(super) struct UserData<'a> {
    hostname: &'a str,
    users: [User<'a>; 1],
    /// Host keys that a golden image may have brought are somebody else's.
    ssh_deletekeys: bool,
    ssh_keys: HostKey<'a>,
    /// Early, before any timer starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bootcmd: Vec<Vec<&'a str>>,
    write_files: [File; 1],
    package_update: bool,
    package_upgrade: bool,
    /// Neither keys nor fingerprints on the console: nobody reads them there, and the final stage is shorter.
    ssh: Ssh,
    no_ssh_fingerprints: bool,
}

#[derive(Debug, Serialize)]
struct User<'a> {
    name: &'a str,
    shell: &'static str,
    lock_passwd: bool,
    sudo: &'static str,
    ssh_authorized_keys: [&'a str; 1],
}

/// With keys given, cloud-init makes none of its own: this one is the only one.
#[derive(Debug, Serialize)]
struct HostKey<'a> {
    ed25519_private: &'a str,
    ed25519_public: &'a str,
}

#[derive(Debug, Serialize)]
struct Ssh {
    emit_keys_to_console: bool,
}

#[derive(Debug, Serialize)]
struct File {
    path: &'static str,
    permissions: &'static str,
    content: String,
}

/// The content of [`RECORD`].
#[derive(Debug, Serialize)]
struct Record<'a> {
    instance_id: &'a str,
    masked_until_reboot: &'a [String],
}

pub(super) fn user_data(spec: &SeedSpec) -> Result<UserData<'_>, SeedError> {
    let masks = spec.first_boot_masks.iter().map(String::as_str);
    let mask = ["systemctl", "mask", "--runtime", "--now"].into_iter().chain(masks).collect();
    let record = Record { instance_id: &spec.instance_id, masked_until_reboot: &spec.first_boot_masks };
    let failed = |source| SeedError::Text { file: "the record", source };
    let record = serde_json::to_string(&record).map_err(failed)?;
    Ok(UserData {
        hostname: &spec.hostname,
        users: [User {
            name: &spec.user,
            shell: "/bin/bash",
            lock_passwd: true,
            sudo: "ALL=(ALL) NOPASSWD:ALL",
            ssh_authorized_keys: [spec.authorized_key.trim_end()],
        }],
        ssh_deletekeys: true,
        ssh_keys: HostKey {
            ed25519_private: &spec.host_key_private,
            ed25519_public: spec.host_key_public.trim_end(),
        },
        bootcmd: if spec.first_boot_masks.is_empty() { Vec::new() } else { vec![mask] },
        write_files: [File { path: RECORD, permissions: "0644", content: record + "\n" }],
        package_update: false,
        package_upgrade: false,
        ssh: Ssh { emit_keys_to_console: false },
        no_ssh_fingerprints: true,
    })
}
