//! The store with fake programs: shell scripts that record their run and do as little as needed.

use std::cell::RefCell;
use std::time::Duration;

use super::*;
use crate::catalog::plan::Packages;
use crate::support::deadline::{WaitError, Waited};
use crate::support::interrupt::Interrupt;
use crate::support::process::ProcessError;

const MMDEBSTRAP: &str = r#"[ "$1" = --version ] && { echo "mmdebstrap 1.3.5"; exit; }
echo run >> "${0%/*}/../builds""#;
const INFO: &str =
    r#"if [ "$1" = info ]; then echo '{"format": "qcow2", "virtual-size": 4294967296}'; exit; fi"#;
const CONVERT: &str = r#"[ "$1" = --version ] && { echo "qemu-img version 10.0.2"; exit; }
for last; do :; done; echo image > "$last""#;

impl ImageStore {
    /// Images and scratch folders in `dir`.
    pub(in crate::machine::image) fn for_tests(
        dir: &std::path::Path,
        tools: Toolbox,
        patience: Patience,
    ) -> Self {
        let scratch_parent = dir.join("scratch");
        fs::create_dir_all(&scratch_parent).unwrap();
        Self { dir: dir.join("images"), tools, scratch_parent, patience }
    }
}

/// An image folder, fake programs, and the reported progress.
struct Fixture {
    dir: tempfile::TempDir,
    progress: RefCell<Vec<String>>,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap(), progress: RefCell::default() };
        fs::create_dir(fixture.dir.path().join("bin")).unwrap();
        for program in ["sfdisk", "mkfs.ext4", "mformat", "mcopy"] {
            fixture.tool(program, ":");
        }
        fixture.tool("unshare", r#"while case $1 in -*) ;; *) false;; esac; do shift; done; exec "$@""#);
        fixture.tool("mmdebstrap", &format!("{MMDEBSTRAP}; echo 'I: running apt-get update...' >&2"));
        fixture.tool("qemu-img", &format!("{INFO}\n{CONVERT}"));
        fixture
    }

    fn tool(&self, program: &str, script: &str) {
        Toolbox::script(&self.dir.path().join("bin"), program, script);
    }

    fn store(&self) -> ImageStore {
        let tools = Toolbox::first_of(&self.dir.path().join("bin"));
        ImageStore::for_tests(self.dir.path(), tools, Patience::default())
    }

    fn ensure(&self, source: &ImageSource) -> Result<Image, ImageError> {
        self.ensure_by(source, &deadline())
    }

    fn ensure_by(&self, source: &ImageSource, deadline: &Deadline) -> Result<Image, ImageError> {
        let on_progress = |line: &str| self.progress.borrow_mut().push(line.to_owned());
        self.store().ensure(source, deadline, &on_progress)
    }

    fn builds(&self) -> usize {
        fs::read_to_string(self.dir.path().join("builds")).unwrap_or_default().lines().count()
    }

    /// Every file in the image and scratch folders, the name of the image shortened.
    fn files(&self) -> Vec<String> {
        let name = recipe().name();
        let files = ["images", "scratch"].into_iter().flat_map(|dir| fs::read_dir(self.dir.path().join(dir)));
        let mut names: Vec<_> =
            files.flatten().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.iter().map(|file| file.replace(&name, "NAME")).collect()
    }

    fn own_file(&self, contents: &str) -> ImageSource {
        let path = self.dir.path().join("mine.qcow2");
        fs::write(&path, contents).unwrap();
        ImageSource::Path { path }
    }
}

const BUILT: &ImageSource = &ImageSource::Build { packages: Packages::ReferenceSite };

fn recipe() -> Recipe {
    Recipe::debian(&Packages::ReferenceSite)
}

fn deadline() -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(60), "the test")
}

/// The whole chain of the error, without this run's paths.
fn chain(fixture: &Fixture, error: ImageError) -> String {
    format!("{:#}", anyhow::Error::from(error)).replace(fixture.dir.path().to_str().unwrap(), "DIR")
}

#[test]
fn an_image_is_built_once_and_found_again() {
    let fixture = Fixture::new();
    let image = fixture.ensure(BUILT).unwrap();
    assert_eq!(fs::read_to_string(&image.path).unwrap(), "image\n");
    assert_eq!((image.virtual_size, image.file_size), (4 << 30, 6));
    assert_eq!(image.sha256, "254eddf15d9534e3b20c55469077aa2f24f167aa4b897a36381d3e251e4829c2");
    let again = fixture.ensure(BUILT).unwrap();
    assert_eq!(again, image);
    assert_eq!(fixture.store().list().unwrap(), [image]);
    assert_eq!(fixture.builds(), 1);
    assert_eq!(fixture.files(), ["NAME.json", "NAME.qcow2", "lock"]);
    insta::assert_snapshot!(fixture.progress.borrow().join("\n").replace(&again.name, "NAME"), @"
    building image NAME; this happens once and takes about a minute
    partitioning the disk
    installing Debian
    reading Debian's package lists
    writing the qcow2 file
    computing the image's digest
    ");
}

#[test]
fn a_truncated_image_is_built_again() {
    let fixture = Fixture::new();
    let image = fixture.ensure(BUILT).unwrap();
    fs::write(&image.path, "im").unwrap();
    assert_eq!(fixture.store().find(BUILT), None);
    fixture.ensure(BUILT).unwrap();
    assert_eq!(fixture.builds(), 2);
}

#[test]
fn of_two_processes_one_builds_and_the_other_waits() {
    let fixture = Fixture::new();
    // The first keeps the lock until the second waits for it.
    let waits = fixture.dir.path().join("waits");
    let held = format!("until [ -e {} ]; do sleep 0.05; done", waits.display());
    fixture.tool("mmdebstrap", &format!("{MMDEBSTRAP}; {held}"));
    let (store, messages) = (fixture.store(), std::sync::Mutex::new(Vec::new()));
    let on_progress = |line: &str| {
        if line.starts_with("waiting for pid ") {
            fs::write(&waits, "").unwrap();
            messages.lock().unwrap().push(line.to_owned());
        }
    };
    let build = || store.ensure(BUILT, &deadline(), &on_progress).unwrap();
    let (one, two) = std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(build), scope.spawn(build));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(one, two);
    assert_eq!(fixture.builds(), 1);
    let holder = format!("waiting for pid {}, getting image {}", std::process::id(), one.name);
    assert_eq!(messages.into_inner().unwrap(), [holder]);
}

#[test]
fn a_failed_build_leaves_only_its_log() {
    let fixture = Fixture::new();
    fixture.tool("mmdebstrap", "echo 'E: apt-get update failed' >&2; exit 25");
    let error = fixture.ensure(BUILT).unwrap_err();
    assert_eq!(
        error.to_string().replace(fixture.dir.path().to_str().unwrap(), "DIR"),
        "building the golden image failed while installing Debian; the whole output is in DIR/images/build.log"
    );
    let ImageError::Step { source, .. } = &error else { panic!("{error}") };
    let ProcessError::Failed { status, shown, .. } = &**source else { panic!("{source}") };
    assert_eq!((status.code(), &**shown), (Some(25), "\n  stderr:\n    E: apt-get update failed"));
    assert_eq!(fixture.files(), ["build.log", "lock"]);
    // The next build succeeds and removes the log.
    fixture.tool("mmdebstrap", ":");
    fixture.ensure(BUILT).unwrap();
    assert_eq!(fixture.files(), ["NAME.json", "NAME.qcow2", "lock"]);
}

#[test]
fn a_failed_conversion_leaves_no_half_written_image() {
    let fixture = Fixture::new();
    fixture.tool("qemu-img", &format!("{INFO}\n{CONVERT}; exit 1"));
    let error = fixture.ensure(BUILT).unwrap_err();
    assert!(matches!(error, ImageError::Step { step: "writing the qcow2 file", .. }), "{error}");
    assert_eq!(fixture.files(), ["build.log", "lock"]);
}

#[test]
fn an_error_for_a_full_disk_names_the_free_and_the_needed_space() {
    let fixture = Fixture::new();
    fixture.tool(
        "qemu-img",
        &format!("{CONVERT}; echo 'error while writing: No space left on device' >&2; exit 1"),
    );
    let error = fixture.ensure(BUILT).unwrap_err();
    let ImageError::NotEnoughSpace(space) = &error else { panic!("{error}") };
    assert!(
        space.free > 0 && space.needed.bytes > 1 << 30 && space.needed.dir.ends_with("images"),
        "{space:?}"
    );
    let free = (space.free >> 20).to_string();
    insta::assert_snapshot!(chain(&fixture, error).replace(&free, "N"), @"
    not enough space in DIR/images: N MiB are free, the golden image needs 1100 MiB; free some there, or remove images that are no longer used (`boma-it image remove`)
    ");
}

#[test]
fn an_interrupted_build_ends_soon_and_leaves_only_its_log() {
    let fixture = Fixture::new();
    let (interrupt, started) = (Interrupt::never(), Instant::now());
    let begun = fixture.dir.path().join("begun");
    fixture.tool("mmdebstrap", &format!("mkdir \"$TMPDIR/tree.d\"; : > {}; sleep 60", begun.display()));
    let deadline = Deadline::after(Duration::from_secs(50), "the test", interrupt.clone(), Waited::default());
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !begun.exists() {
                std::thread::yield_now();
            }
            interrupt.raise(2);
        });
        fixture.ensure_by(BUILT, &deadline).unwrap_err()
    });
    let ImageError::Step { source, .. } = &error else { panic!("{error}") };
    let interrupted = matches!(**source, ProcessError::Ended { source: WaitError::Interrupted(_), .. });
    assert!(interrupted, "{source:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(fixture.files(), ["build.log", "lock"]);
}

#[test]
fn a_build_removes_what_a_killed_one_left() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fs::create_dir_all(store.scratch().join("mmdebstrap.XYZ/proc")).unwrap();
    fs::create_dir_all(&store.dir).unwrap();
    fs::write(store.file(&recipe().name(), "qcow2.partial"), "half").unwrap();
    fixture.ensure(BUILT).unwrap();
    assert_eq!(fixture.files(), ["NAME.json", "NAME.qcow2", "lock"]);
}

#[test]
fn missing_programs_are_an_error_before_anything_is_created() {
    let fixture = Fixture::new();
    let store = ImageStore { tools: Toolbox::only(&fixture.dir.path().join("bin")), ..fixture.store() };
    insta::assert_snapshot!(store.ensure(BUILT, &deadline(), &|_| {}).unwrap_err(), @"
    no golden image without `sha256sum` (package coreutils); `make setup` installs what is missing
    ");
    assert!(fixture.files().is_empty());
}

#[test]
fn other_packages_give_another_image() {
    let fixture = Fixture::new();
    let bare = ImageSource::Build { packages: Packages::None };
    assert_ne!(fixture.ensure(BUILT).unwrap().name, fixture.ensure(&bare).unwrap().name);
    assert_eq!((fixture.builds(), fixture.store().list().unwrap().len()), (2, 2));
}

#[test]
fn the_digest_of_an_operators_file_is_taken_again_only_after_a_change() {
    let fixture = Fixture::new();
    let source = fixture.own_file("one");
    let first = fixture.ensure(&source).unwrap();
    assert!(
        first.name.starts_with("mine-")
            && first.sha256.starts_with(first.name.strip_prefix("mine-").unwrap())
    );
    assert_eq!(fixture.ensure(&source).unwrap(), first);
    assert_eq!(fixture.progress.borrow().len(), 1, "the digest is taken once");
    let second = fixture.ensure(&fixture.own_file("another")).unwrap();
    assert_ne!(second.name, first.name);
}

#[test]
fn a_file_that_is_not_a_whole_qcow2_image_is_refused() {
    let fixture = Fixture::new();
    let refused = |source: &ImageSource| {
        let error = fixture.ensure(source).unwrap_err();
        assert!(matches!(error, ImageError::Unusable { .. }), "{error:?}");
        assert_eq!(fixture.files(), ["lock"]);
        chain(&fixture, error)
    };
    let by_info = [
        r#"{"format": "raw", "virtual-size": 1}"#,
        r#"{"format": "qcow2", "virtual-size": 1, "backing-filename": "/b.qcow2"}"#,
        r#"{"format": "qcow2", "virtual-size": 1, "encrypted": true}"#,
        "[]",
    ]
    .map(|info| {
        fixture.tool("qemu-img", &format!("echo '{info}'"));
        refused(&fixture.own_file("x"))
    });
    let folder = refused(&ImageSource::Path { path: fixture.dir.path().to_owned() });
    insta::assert_snapshot!([&by_info[..], &[folder]].concat().join("\n"), @"
    DIR/mine.qcow2 cannot be a golden image: its format is raw, expected qcow2 (`qemu-img convert -O qcow2 DIR/mine.qcow2 NEW.qcow2`)
    DIR/mine.qcow2 cannot be a golden image: it is an overlay of /b.qcow2, expected a whole image (`qemu-img convert -O qcow2` makes one)
    DIR/mine.qcow2 cannot be a golden image: it is encrypted
    DIR/mine.qcow2 cannot be a golden image: cannot understand the output of `qemu-img info`: invalid length 0, expected struct QemuInfo with 4 elements at line 1 column 2
    DIR cannot be a golden image: it is not a regular file (expected a qcow2 image)
    ");
}

#[test]
fn a_missing_file_is_an_error() {
    let fixture = Fixture::new();
    let error = fixture.ensure(&ImageSource::Path { path: "/no/such.qcow2".into() }).unwrap_err();
    let expected = "cannot read the image /no/such.qcow2: No such file or directory (os error 2)";
    assert_eq!(chain(&fixture, error), expected);
}

#[test]
fn removing_an_image_never_removes_the_operators_file() {
    let fixture = Fixture::new();
    let source = fixture.own_file("one");
    let (mine, ours) = (fixture.ensure(&source).unwrap(), fixture.ensure(BUILT).unwrap());
    let remove = |name: &str| fixture.store().remove(name, &deadline(), &|_| {});
    remove(&mine.name).unwrap();
    assert!(mine.path.exists());
    let error = remove("debian-12").unwrap_err().to_string();
    assert_eq!(error, format!("unknown image `debian-12` (known: {})", ours.name));
    remove(&ours.name).unwrap();
    assert_eq!(fixture.files(), ["lock"]);
    let error = remove(&ours.name).unwrap_err().to_string();
    assert_eq!(error, format!("unknown image `{}` (known: none)", ours.name));
}
