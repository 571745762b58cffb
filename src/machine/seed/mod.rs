//! The seed: what a fresh guest learns at its first boot. cloud-init's NoCloud reads it from a small FAT volume. Rendering is
//! pure: [`SeedSpec`] in, the volume's bytes out.
//!
//! The seed does what makes the guest reachable and nothing that a role might do: no sshd setting, no package, no locale.
//!
//! Sources: <https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>,
//! <https://docs.cloud-init.io/en/latest/reference/modules.html> (the keys of user-data) and
//! <https://docs.cloud-init.io/en/latest/reference/network-config-format-v2.html>.

mod keys;

use std::fmt::Write as _;
use std::io::{Cursor, Write};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use serde_json::{Value, json};

pub(crate) use keys::KeyPair;

/// The volume's label, by which NoCloud finds it.
const LABEL: &str = "CIDATA";
/// The volume's size in bytes; the files are a few KiB.
const SIZE: usize = 512 << 10;
/// Where a guest keeps a record of what its seed did, for a person to read.
const RECORD: &str = "/etc/boma-it/seed.json";

/// Units that use apt at the first boot and would hold its lock while Ansible needs it. They are masked until the reboot, so
/// that what runs after it is what the roles configured.
pub(crate) const FIRST_BOOT_MASKS: [&str; 5] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "apt-daily.service",
    "apt-daily-upgrade.service",
    "unattended-upgrades.service",
];

/// The user that Ansible and our own SSH sessions log in as.
pub(crate) const USER: &str = "ansible";

/// Everything that a guest learns from its seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeedSpec {
    /// The guest's host name.
    pub(crate) hostname: String,
    /// Identifies the guest for cloud-init, which runs again for another id: the run's id.
    pub(crate) instance_id: String,
    /// The user to create: logs in by key only, root by sudo without a password. Usually [`USER`].
    pub(crate) user: String,
    /// The public key that may log in as `user`: a line as in `id_ed25519.pub`.
    pub(crate) authorized_key: String,
    /// The guest's only host key, in OpenSSH's private key format.
    pub(crate) host_key_private: String,
    /// Its public half: a line as in `ssh_host_ed25519_key.pub`.
    pub(crate) host_key_public: String,
    /// MAC address of the interface that uses DHCP: `52:54:00:62:69:01`.
    pub(crate) mac: String,
    /// Units masked from early in the first boot until the reboot: usually [`FIRST_BOOT_MASKS`].
    pub(crate) first_boot_masks: Vec<String>,
}

/// The volume could not be written. It is in memory, so most likely the files do not fit.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the seed volume ({bytes} bytes of files)")]
pub(crate) struct SeedError {
    /// The size of all files together.
    bytes: usize,
    /// The error of the file system's writer.
    source: std::io::Error,
}

/// The files on the seed volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeedFiles {
    /// `user-data`: contains the private host key.
    pub(crate) user_data: String,
    /// `meta-data`.
    pub(crate) meta_data: String,
    /// `network-config`.
    pub(crate) network_config: String,
}

impl SeedSpec {
    /// The files.
    pub(crate) fn files(&self) -> SeedFiles {
        SeedFiles {
            user_data: format!("#cloud-config\n{}", document(&self.user_data())),
            meta_data: document(&json!({
                "instance-id": self.instance_id,
                "local-hostname": self.hostname,
            })),
            network_config: document(&json!({
                "version": 2,
                "ethernets": { "lan": {
                    "match": { "macaddress": self.mac },
                    "dhcp4": true,
                    // networkd's default is made from the machine id, and every guest in a slot is another machine.
                    "dhcp-identifier": "mac",
                } },
            })),
        }
    }

    /// The volume: a raw disk image without a partition table, with a FAT file system labelled `CIDATA`. The same spec gives
    /// the same bytes. It contains the private host key, so a file of it must be private.
    ///
    /// # Errors
    /// [`SeedError`].
    pub(crate) fn render(&self) -> Result<Vec<u8>, SeedError> {
        let SeedFiles { user_data, meta_data, network_config } = self.files();
        let files = [("user-data", user_data), ("meta-data", meta_data), ("network-config", network_config)];
        let bytes = files.iter().map(|(_, contents)| contents.len()).sum();
        fat_volume(&files).map_err(|source| SeedError { bytes, source })
    }

    fn user_data(&self) -> Value {
        let masks = &self.first_boot_masks;
        let record = json!({ "instance_id": self.instance_id, "masked_until_reboot": masks });
        let mut data = json!({
            "hostname": self.hostname,
            "users": [{
                "name": self.user,
                "shell": "/bin/bash",
                "lock_passwd": true,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [self.authorized_key.trim_end()],
            }],
            // A golden image's host keys would be shared by all its guests. With a key given, cloud-init makes no others.
            "ssh_deletekeys": true,
            "ssh_keys": {
                "ed25519_private": self.host_key_private,
                "ed25519_public": self.host_key_public.trim_end(),
            },
            "write_files": [{ "path": RECORD, "permissions": "0644", "content": format!("{record}\n") }],
            "package_update": false,
            "package_upgrade": false,
            // Nobody reads keys and fingerprints on the console, and without them cloud-init's final stage is shorter.
            "ssh": { "emit_keys_to_console": false },
            "no_ssh_fingerprints": true,
        });
        if !masks.is_empty() {
            // Runs early, before any timer starts; at the first boot only, unlike a plain boot command.
            let once = ["cloud-init-per", "instance", "boma-it-masks"].into_iter();
            let mask = once.chain(["systemctl", "mask", "--runtime", "--now"]);
            let command: Vec<&str> = mask.chain(masks.iter().map(String::as_str)).collect();
            data["bootcmd"] = json!([command]);
        }
        data
    }
}

/// `value` as a document that readers of YAML 1.1, YAML 1.2 and JSON all read alike.
///
/// cloud-init reads YAML 1.1, where a plain `on` is true, `2026-06-17` is a date, and the MAC address `52:54:00:12:34:56` is a
/// number to the base of 60. Our YAML serialiser writes YAML 1.2, where they are plain strings. JSON is valid in both
/// versions and quotes every string.
fn document(value: &Value) -> String {
    let mut text = String::new();
    for c in format!("{value:#}\n").chars() {
        match c {
            // Legal in JSON; in YAML 1.1 a line break, a byte order mark, or not printable.
            '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
}

fn fat_volume(files: &[(&str, String)]) -> std::io::Result<Vec<u8>> {
    let mut disk = Cursor::new(vec![0; SIZE]);
    let mut label = [b' '; 11];
    label[..LABEL.len()].copy_from_slice(LABEL.as_bytes());
    format_volume(&mut disk, FormatVolumeOptions::new().volume_label(label))?;
    let volume = FileSystem::new(&mut disk, FsOptions::new())?;
    for (name, contents) in files {
        let mut file = volume.root_dir().create_file(name)?;
        file.write_all(contents.as_bytes())?;
        file.flush()?;
    }
    volume.unmount()?;
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests;
