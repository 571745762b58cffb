//! The recipe of the golden image: everything that decides what is in it, as data in this binary. Its hash names the
//! image, so that a changed recipe is another image and an unchanged one is built once.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::layout::{self, GOLDEN, Layout};

/// The Debian release, and its number in the image's name.
const RELEASE: (&str, &str) = ("trixie", "13");

/// A file put into the system's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TreeFile {
    /// Relative to the root of the tree.
    path: &'static str,
    contents: String,
}

macro_rules! tree {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("recipe/tree/", $path)))),*]
    };
}

/// Files that need no figure of the layout.
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

/// Scripts that mmdebstrap runs as hooks.
pub(super) const COPY_TREE: &str = "copy-tree.sh";
pub(super) const CONFIGURE: &str = "configure.sh";
pub(super) const FILL_DISK: &str = "fill-disk.sh";
const HOOKS: &[(&str, &str)] = &[
    (COPY_TREE, include_str!("recipe/copy-tree.sh")),
    (CONFIGURE, include_str!("recipe/configure.sh")),
    (FILL_DISK, include_str!("recipe/fill-disk.sh")),
];

/// Everything that decides what is in the image, Debian's archive of the day aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    packages: BTreeSet<String>,
    tree: Vec<TreeFile>,
    pub(super) layout: Layout,
}

/// A word that is no Debian package name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name of a Debian package (expected lower-case letters, digits and `+-.`, as in `libc6` or `g++`)"
)]
pub struct InvalidPackage(pub String);

impl Recipe {
    /// The golden image of Debian 13, with `extra` packages beside our own.
    ///
    /// # Errors
    /// [`InvalidPackage`]: what is written here ends up in a command line.
    pub fn debian<S: AsRef<str>>(extra: &[S]) -> Result<Self, InvalidPackage> {
        let own = PACKAGES.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let mut packages: BTreeSet<String> = own.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        for name in extra {
            packages.insert(package(name.as_ref())?);
        }
        let mut tree: Vec<_> =
            TREE.iter().map(|(path, contents)| TreeFile { path, contents: (*contents).to_owned() }).collect();
        tree.push(TreeFile { path: "etc/fstab", contents: layout::fstab() });
        tree.push(TreeFile { path: "etc/kernel/cmdline", contents: layout::command_line() });
        Ok(Self { packages, tree, layout: GOLDEN })
    }

    /// The image's name: `debian-13-` and the first 12 hexadecimal digits of [`Recipe::digest`].
    pub fn name(&self) -> String {
        format!("debian-{}-{}", RELEASE.1, &self.digest()[..12])
    }

    /// Hash over everything in the recipe: SHA-256, hexadecimal.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        // Each part with its length before it, so that no two recipes write the same bytes.
        let mut part = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        part(RELEASE.0);
        part(&self.layout.sfdisk_script());
        part(&self.include());
        let files = self.tree.iter().map(|file| (file.path, file.contents.as_str()));
        for (name, contents) in files.chain(HOOKS.iter().copied()) {
            part(name);
            part(contents);
        }
        hex(&hash.finalize())
    }

    /// The release's code name, as mmdebstrap takes it.
    pub(super) fn suite(&self) -> &'static str {
        RELEASE.0
    }

    /// The packages as mmdebstrap takes them: sorted, joined by commas.
    pub(super) fn include(&self) -> String {
        self.packages.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// Writes the hook scripts into `dir` and the tree's files into `dir/tree`. The tree also says which image it is,
    /// in `/etc/boma-it/image`. All of it is readable for everyone: the hooks may run as another user.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn write_into(&self, dir: &Path) -> io::Result<()> {
        for (name, script) in HOOKS {
            write(&dir.join(name), script, 0o755)?;
        }
        let tree = dir.join("tree");
        for file in &self.tree {
            write(&tree.join(file.path), &file.contents, 0o644)?;
        }
        write(&tree.join("etc/boma-it/image"), &format!("{}\n", self.name()), 0o644)
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Debian policy 5.6.1, "Source": at least two characters, starting with an alphanumeric one.
fn package(name: &str) -> Result<String, InvalidPackage> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let all = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    // A trailing + or - means "install" or "remove" to apt: `g++` is a package all the same.
    let removal = name.ends_with('-');
    match first && all && !removal && name.len() > 1 {
        true => Ok(name.to_owned()),
        false => Err(InvalidPackage(name.to_owned())),
    }
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
        Recipe::debian::<&str>(&[]).unwrap()
    }

    #[test]
    fn the_name_is_the_release_and_the_hash() {
        let name = plain().name();
        let hash = name.strip_prefix("debian-13-").unwrap();
        assert_eq!(hash.len(), 12);
        assert!(plain().digest().starts_with(hash));
    }

    #[test]
    fn every_part_of_the_recipe_is_in_the_hash() {
        let mut changed = vec![plain()];
        let mut change = |by: &dyn Fn(&mut Recipe)| {
            let mut recipe = plain();
            by(&mut recipe);
            changed.push(recipe);
        };
        change(&|r| r.tree[0].contents.push(' '));
        change(&|r| r.tree[0].path = "etc/other");
        change(&|r| r.tree.swap(0, 1));
        change(&|r| r.layout.esp += 512);
        change(&|r| assert!(r.packages.insert("hello".into())));
        change(&|r| assert!(r.packages.remove("cloud-init")));
        let names: BTreeSet<_> = changed.iter().map(Recipe::name).collect();
        assert_eq!(names.len(), changed.len());
    }

    #[test]
    fn extra_packages_join_ours_and_the_order_does_not_matter() {
        let one = Recipe::debian(&["restic", "wireguard-tools"]).unwrap();
        let two = Recipe::debian(&["wireguard-tools", "restic", "curl"]).unwrap();
        assert_eq!(one, two);
        assert!(one.include().contains(",restic,"));
        assert!(!one.include().contains('#') && !one.include().contains(' '));
    }

    #[rstest::rstest]
    #[case("")]
    #[case("x")]
    #[case("Restic")]
    #[case("a b")]
    #[case("a,b")]
    #[case("-rf")]
    #[case("docker.io-")]
    #[case("$(reboot)")]
    fn what_is_no_package_name_is_refused(#[case] word: &str) {
        assert_eq!(Recipe::debian(&[word]).unwrap_err(), InvalidPackage(word.into()));
    }

    #[test]
    fn no_file_of_the_tree_is_forgotten() {
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
    fn the_written_files_can_be_read_and_run_by_everyone() {
        let dir = tempfile::tempdir().unwrap();
        plain().write_into(dir.path()).unwrap();
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(FILL_DISK), mode("tree/etc"), mode("tree/etc/fstab")), (0o755, 0o755, 0o644));
        let image = fs::read_to_string(dir.path().join("tree/etc/boma-it/image")).unwrap();
        assert_eq!(image.trim(), plain().name());
    }
}
