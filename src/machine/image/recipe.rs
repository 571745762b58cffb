//! The recipe of the golden image: everything that decides its contents, as data in this binary. Its hash names the image,
//! so that a changed recipe gives another image and an unchanged one is built once.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::layout;
use crate::catalog::plan::Packages;

/// The Debian release as mmdebstrap expects it: its code name. Its number, 13, is in the image's name.
pub(super) const SUITE: &str = "trixie";

macro_rules! tree {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("recipe/tree/", $path)))),*]
    };
}

/// Files of the system's tree that do not depend on the layout.
const TREE: &[(&str, &str)] = &tree![
    "etc/cloud/cloud.cfg.d/10_boma-it.cfg",
    "etc/default/locale",
    "etc/initramfs-tools/conf.d/boma-it",
    "etc/kernel/entry-token",
    "etc/kernel/install.conf",
    "etc/systemd/journald.conf.d/10-boma-it.conf",
    "etc/systemd/system/boma-it-journal.service",
    "etc/udev/rules.d/90-boma-it-journal.rules",
];

const PACKAGES: &str = include_str!("recipe/packages.txt");
/// The packages that the roles of the reference site install.
const REFERENCE_SITE: &str = include_str!("recipe/reference-site.txt");

// The scripts that mmdebstrap runs as hooks.
pub(super) const COPY_TREE: &str = "copy-tree.sh";
pub(super) const CONFIGURE: &str = "configure.sh";
pub(super) const FILL_DISK: &str = "fill-disk.sh";
const HOOKS: &[(&str, &str)] = &[
    (COPY_TREE, include_str!("recipe/copy-tree.sh")),
    (CONFIGURE, include_str!("recipe/configure.sh")),
    (FILL_DISK, include_str!("recipe/fill-disk.sh")),
];

/// Everything that decides the image's contents, except what Debian's archive has on the day of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    packages: BTreeSet<String>,
    /// Files of the system's tree: path relative to its root, and contents.
    tree: Vec<(&'static str, String)>,
    /// The partition table, as sfdisk reads it.
    pub(super) partitions: String,
}

impl Recipe {
    /// The golden image of Debian 13: the base system and these `extra` packages.
    pub(super) fn debian(extra: &Packages) -> Self {
        let mut packages: BTreeSet<String> = listed(PACKAGES).map(str::to_owned).collect();
        match extra {
            Packages::ReferenceSite => packages.extend(listed(REFERENCE_SITE).map(str::to_owned)),
            Packages::None => {}
            Packages::These(names) => packages.extend(names.iter().map(|name| name.as_str().to_owned())),
        }
        let mut tree: Vec<_> = TREE.iter().map(|(path, contents)| (*path, (*contents).to_owned())).collect();
        tree.push(("etc/fstab", layout::fstab()));
        tree.push(("etc/kernel/cmdline", layout::COMMAND_LINE.to_owned()));
        Self { packages, tree, partitions: layout::sfdisk_script() }
    }

    /// The image's name: `debian-13-` and the first 12 hexadecimal digits of [`Recipe::digest`].
    pub(super) fn name(&self) -> String {
        format!("debian-13-{}", &self.digest()[..12])
    }

    /// SHA-256 of the whole recipe, hexadecimal.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        // Each part follows its length, so that different recipes never hash the same bytes.
        let mut part = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        part(SUITE);
        part(&self.partitions);
        part(&self.include());
        let files = self.tree.iter().map(|(path, contents)| (*path, contents.as_str()));
        for (name, contents) in files.chain(HOOKS.iter().copied()) {
            part(name);
            part(contents);
        }
        hex(&hash.finalize())
    }

    /// The packages as mmdebstrap expects them: sorted, joined by commas.
    pub(super) fn include(&self) -> String {
        self.packages.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// Writes the hook scripts into `dir` and the tree's files into `dir/tree`, with the image's name in
    /// `/etc/boma-it/image`. Everyone can read them, as the hooks can run as another user.
    pub(super) fn write_into(&self, dir: &Path) -> io::Result<()> {
        for (name, script) in HOOKS {
            write(&dir.join(name), script, 0o755)?;
        }
        let tree = dir.join("tree");
        for (path, contents) in &self.tree {
            write(&tree.join(path), contents, 0o644)?;
        }
        write(&tree.join("etc/boma-it/image"), &format!("{}\n", self.name()), 0o644)
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The packages of an embedded list.
fn listed(list: &'static str) -> impl Iterator<Item = &'static str> {
    let names = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    names.filter(|name| !name.is_empty())
}

fn write(path: &Path, contents: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(dir) = path.parent() {
        for missing in dir.ancestors().take_while(|dir| !dir.exists()).collect::<Vec<_>>().iter().rev() {
            fs::create_dir(missing)?;
            fs::set_permissions(missing, fs::Permissions::from_mode(0o755))?;
        }
    }
    fs::write(path, contents)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn plain() -> Recipe {
        Recipe::debian(&Packages::ReferenceSite)
    }

    #[test]
    fn an_image_is_named_by_release_and_recipe_hash() {
        let name = plain().name();
        let hash = name.strip_prefix("debian-13-").unwrap();
        assert_eq!(hash.len(), 12);
        assert!(plain().digest().starts_with(hash));
    }

    #[test]
    fn a_change_to_any_part_of_the_recipe_changes_the_name() {
        let mut changed = vec![plain()];
        let mut change = |by: &dyn Fn(&mut Recipe)| {
            let mut recipe = plain();
            by(&mut recipe);
            changed.push(recipe);
        };
        change(&|r| r.tree[0].1.push(' '));
        change(&|r| r.tree[0].0 = "etc/other");
        change(&|r| r.tree.swap(0, 1));
        change(&|r| r.partitions.push(' '));
        change(&|r| assert!(r.packages.insert("hello".into())));
        change(&|r| assert!(r.packages.remove("cloud-init")));
        let names: BTreeSet<_> = changed.iter().map(Recipe::name).collect();
        assert_eq!(names.len(), changed.len());
    }

    fn with(names: &[&str]) -> Recipe {
        Recipe::debian(&Packages::These(names.iter().map(|name| name.parse().unwrap()).collect()))
    }

    #[test]
    fn named_packages_join_the_base_system_in_any_order() {
        let one = with(&["restic", "wireguard-tools"]);
        let two = with(&["wireguard-tools", "restic", "curl"]);
        assert_eq!(one, two);
        assert!(one.packages.contains("restic") && one.packages.is_superset(&with(&[]).packages));
        assert!(!one.include().contains('#') && !one.include().contains(' '));
    }

    #[test]
    fn a_bare_image_lacks_the_reference_sites_packages_and_has_another_name() {
        let bare = Recipe::debian(&Packages::None);
        assert_eq!(bare, with(&[]));
        assert_ne!(bare.name(), plain().name());
        let missing: Vec<_> = plain().packages.difference(&bare.packages).cloned().collect();
        assert_eq!(missing, listed(REFERENCE_SITE).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        for role_installs in ["docker.io", "caddy", "busybox-static", "nftables"] {
            assert!(!bare.packages.contains(role_installs), "{role_installs}");
        }
    }

    #[test]
    fn every_file_of_the_recipes_tree_is_embedded() {
        fn files(dir: &Path) -> Vec<std::path::PathBuf> {
            let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
            entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/machine/image/recipe/tree");
        let on_disk: BTreeSet<_> =
            files(&root).iter().map(|f| f.strip_prefix(&root).unwrap().to_owned()).collect();
        let embedded: BTreeSet<_> = TREE.iter().map(|(path, _)| std::path::PathBuf::from(path)).collect();
        assert_eq!(on_disk, embedded);
    }

    #[test]
    fn everyone_can_read_the_written_files_and_run_the_hooks() {
        let dir = tempfile::tempdir().unwrap();
        plain().write_into(dir.path()).unwrap();
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(FILL_DISK), mode("tree/etc"), mode("tree/etc/fstab")), (0o755, 0o755, 0o644));
        let image = fs::read_to_string(dir.path().join("tree/etc/boma-it/image")).unwrap();
        assert_eq!(image.trim(), plain().name());
    }
}
