//! The seed: what a fresh guest learns about itself at its first boot, as cloud-init's NoCloud reads it from a small
//! FAT volume. Rendering is pure: a [`SeedSpec`] in, the volume's bytes out. Where the volume goes is the
//! hypervisor's business.
//!
//! Sources: <https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html> and, for the keys of
//! user-data, <https://docs.cloud-init.io/en/latest/reference/modules.html>.

mod document;
mod keys;
mod network_config;
mod user_data;
mod volume;

pub use keys::{KeyError, KeyPair};
pub use volume::LABEL;

/// Units that reach for apt at a first boot and would hold its lock while Ansible wants it. They are masked until the
/// reboot, so that what runs afterwards is what the roles made.
pub const FIRST_BOOT_MASKS: [&str; 5] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "apt-daily.service",
    "apt-daily-upgrade.service",
    "unattended-upgrades.service",
];

/// The user that Ansible and our own sessions log in as.
pub const USER: &str = "ansible";

/// Everything a guest is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedSpec {
    /// The guest's host name.
    pub hostname: String,
    /// Identifies this guest for cloud-init: another id is another first boot. The run's id serves well.
    pub instance_id: String,
    /// The user to make: key only, and root by sudo without a password. [`USER`], mostly.
    pub user: String,
    /// Public key that may log in as `user`: a line as in `id_ed25519.pub`.
    pub authorized_key: String,
    /// The guest's only host key, in OpenSSH's private key format.
    pub host_key_private: String,
    /// Its public half: a line as in `ssh_host_ed25519_key.pub`.
    pub host_key_public: String,
    /// MAC address of the interface that gets its address by DHCP: `52:54:00:62:69:01`.
    pub mac: String,
    /// Units masked from early in the first boot until the reboot: [`FIRST_BOOT_MASKS`], mostly.
    pub first_boot_masks: Vec<String>,
}

/// Why a seed could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A part cannot be written as text.
    #[error("cannot write {file} of the seed")]
    Text {
        /// Which of the seed's files.
        file: &'static str,
        /// What the serialiser said.
        #[source]
        source: serde_json::Error,
    },
    /// The volume cannot be written; it is in memory, so most likely the parts do not fit.
    #[error("cannot write the seed's volume ({bytes} bytes of files)")]
    Volume {
        /// The size of all files together.
        bytes: usize,
        /// What the file system's writer said.
        #[source]
        source: std::io::Error,
    },
}

/// The files on the seed volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedFiles {
    /// `user-data`: holds the private host key.
    pub user_data: String,
    /// `meta-data`.
    pub meta_data: String,
    /// `network-config`.
    pub network_config: String,
}

impl SeedSpec {
    /// The files, as text: JSON, which is YAML to cloud-init and leaves no doubt what is a string.
    ///
    /// # Errors
    /// [`SeedError::Text`].
    pub fn files(&self) -> Result<SeedFiles, SeedError> {
        let meta = MetaData { instance_id: &self.instance_id, local_hostname: &self.hostname };
        Ok(SeedFiles {
            user_data: format!("#cloud-config\n{}", text("user-data", &user_data::user_data(self)?)?),
            meta_data: text("meta-data", &meta)?,
            network_config: text("network-config", &network_config::network_config(&self.mac))?,
        })
    }

    /// The whole volume: a raw disk image without a partition table, a FAT file system labelled [`LABEL`]. The same
    /// spec gives the same bytes. It holds the private host key: keep a file of it to yourself.
    ///
    /// # Errors
    /// [`SeedError`].
    pub fn render(&self) -> Result<Vec<u8>, SeedError> {
        let SeedFiles { user_data, meta_data, network_config } = self.files()?;
        volume::write(&[
            ("user-data", &user_data),
            ("meta-data", &meta_data),
            ("network-config", &network_config),
        ])
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct MetaData<'a> {
    instance_id: &'a str,
    local_hostname: &'a str,
}

fn text(file: &'static str, value: &impl serde::Serialize) -> Result<String, SeedError> {
    document::document(value).map_err(|source| SeedError::Text { file, source })
}

#[cfg(test)]
mod tests;
