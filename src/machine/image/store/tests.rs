//! The store on fake tools: shell scripts on a search path, which note that they ran and do as little as needed.

use std::cell::RefCell;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;
use crate::support::deadline::Waited;
use crate::support::interrupt::Interrupt;

const MMDEBSTRAP: &str = r#"[ "$1" = --version ] && { echo "mmdebstrap 1.3.5"; exit; }
echo run >> "${0%/*}/../builds""#;
const INFO: &str =
    r#"if [ "$1" = info ]; then echo '{"format": "qcow2", "virtual-size": 4294967296}'; exit; fi"#;
const CONVERT: &str = r#"[ "$1" = --version ] && { echo "qemu-img version 10.0.2"; exit; }
for last; do :; done; echo image > "$last""#;

/// A cache folder, fake tools, and what was told as progress.
struct Bench {
    dir: tempfile::TempDir,
    told: RefCell<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap(), told: RefCell::default() };
        fs::create_dir(bench.dir.path().join("bin")).unwrap();
        for program in ["sfdisk", "mkfs.ext4", "mformat", "mcopy"] {
            bench.tool(program, ":");
        }
        bench.tool("unshare", r#"while case $1 in -*) ;; *) false;; esac; do shift; done; exec "$@""#);
        bench.tool("mmdebstrap", &format!("{MMDEBSTRAP}; echo 'I: running apt-get update...' >&2"));
        bench.tool("qemu-img", &format!("{INFO}\n{CONVERT}"));
        bench
    }

    fn tool(&self, program: &str, script: &str) {
        let bin = self.dir.path().join("bin");
        fs::write(bin.join(format!("{program}.body")), format!("{script}\n")).unwrap();
        // The program itself is not written: see there.
        let scripted = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ansible/program.sh");
        if !bin.join(program).exists() {
            symlink(scripted, bin.join(program)).unwrap();
        }
    }

    fn store(&self) -> ImageStore {
        let tools = Toolbox::first_of(&self.dir.path().join("bin"));
        ImageStore::for_tests(self.dir.path(), tools, Patience::default())
    }

    fn ensure(&self, source: &ImageSource) -> Result<Image, ImageError> {
        self.ensure_by(source, &plenty())
    }

    fn ensure_by(&self, source: &ImageSource, deadline: &Deadline) -> Result<Image, ImageError> {
        let told = |line: &str| self.told.borrow_mut().push(line.to_owned());
        self.store().ensure(source, deadline, &told).map(|chosen| chosen.image)
    }

    fn builds(&self) -> usize {
        fs::read_to_string(self.dir.path().join("builds")).unwrap_or_default().lines().count()
    }

    /// Every file in the image and scratch folders, the name of the image shortened.
    fn left(&self) -> Vec<String> {
        let name = recipe().name();
        let files = ["images", "scratch"].into_iter().flat_map(|dir| fs::read_dir(self.dir.path().join(dir)));
        let mut names: Vec<_> =
            files.flatten().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.iter().map(|file| file.replace(&name, "NAME")).collect()
    }

    fn operators_file(&self, contents: &str) -> ImageSource {
        let path = self.dir.path().join("mine.qcow2");
        fs::write(&path, contents).unwrap();
        ImageSource::Path { path }
    }
}

const BUILT: &ImageSource = &ImageSource::Build { packages: Packages::ReferenceSite };

fn recipe() -> Recipe {
    Recipe::debian(&Packages::ReferenceSite)
}

fn plenty() -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(60), "the test")
}

fn chain(error: ImageError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[test]
fn an_image_is_built_once_recorded_and_found_again() {
    let bench = Bench::new();
    let image = bench.ensure(BUILT).unwrap();
    assert_eq!(fs::read_to_string(&image.path).unwrap(), "image\n");
    assert_eq!((image.virtual_size, image.file_size), (4 << 30, 6));
    assert_eq!(image.sha256, "254eddf15d9534e3b20c55469077aa2f24f167aa4b897a36381d3e251e4829c2");
    let again = bench.ensure(BUILT).unwrap();
    assert_eq!(again, image);
    assert_eq!(bench.store().list().unwrap(), [image]);
    assert_eq!(bench.builds(), 1);
    assert_eq!(bench.left(), ["NAME.json", "NAME.qcow2", "lock"]);
    let told = bench.told.borrow();
    assert!(told[0].starts_with("building image debian-13-"), "{told:?}");
    assert!(told.contains(&"reading Debian's package lists".to_owned()), "{told:?}");
}

#[test]
fn a_truncated_image_is_built_again() {
    let bench = Bench::new();
    let image = bench.ensure(BUILT).unwrap();
    fs::write(&image.path, "im").unwrap();
    assert_eq!(bench.store().find(BUILT), None);
    bench.ensure(BUILT).unwrap();
    assert_eq!(bench.builds(), 2);
}

#[test]
fn two_at_once_build_one_image_and_the_second_says_what_it_waits_for() {
    let bench = Bench::new();
    // The first builds until the second waits for it.
    let waits = bench.dir.path().join("waits");
    let held = format!("until [ -e {} ]; do sleep 0.05; done", waits.display());
    bench.tool("mmdebstrap", &format!("{MMDEBSTRAP}; {held}"));
    let (store, told) = (bench.store(), std::sync::Mutex::new(Vec::new()));
    let tell = |line: &str| {
        if line.starts_with("waiting for pid ") {
            fs::write(&waits, "").unwrap();
        }
        told.lock().unwrap().push(line.to_owned());
    };
    let build = || store.ensure(BUILT, &plenty(), &tell).unwrap();
    let (one, two) = std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(build), scope.spawn(build));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(one, two);
    assert_eq!(bench.builds(), 1);
    let told = told.into_inner().unwrap();
    let waits = told.iter().filter(|line| line.starts_with("waiting for pid ")).count();
    assert_eq!(waits, 1, "{told:?}");
}

#[test]
fn a_failed_step_is_named_its_output_kept_and_nothing_half_built() {
    let bench = Bench::new();
    bench.tool("mmdebstrap", "echo 'E: apt-get update failed' >&2; exit 25");
    let error = chain(bench.ensure(BUILT).unwrap_err());
    assert!(
        error
            .starts_with("building the golden image failed while installing Debian; the whole output is in ")
    );
    assert!(error.contains("exit status 25") && error.contains("E: apt-get update failed"), "{error}");
    assert_eq!(bench.left(), ["build.log", "lock"]);
    // Mended, the next try succeeds and takes the log away.
    bench.tool("mmdebstrap", ":");
    bench.ensure(BUILT).unwrap();
    assert_eq!(bench.left(), ["NAME.json", "NAME.qcow2", "lock"]);
}

#[test]
fn a_failing_conversion_leaves_no_half_written_image() {
    let bench = Bench::new();
    bench.tool("qemu-img", &format!("{INFO}\n{CONVERT}; exit 1"));
    let error = chain(bench.ensure(BUILT).unwrap_err());
    assert!(error.contains("while writing the qcow2 file"), "{error}");
    assert_eq!(bench.left(), ["build.log", "lock"]);
}

#[test]
fn a_full_disk_is_called_one_with_figures() {
    let bench = Bench::new();
    bench.tool(
        "qemu-img",
        &format!("{CONVERT}; echo 'error while writing: No space left on device' >&2; exit 1"),
    );
    let error = bench.ensure(BUILT).unwrap_err();
    let ImageError::NoRoom(room) = &error else { panic!("{error}") };
    assert!(room.free > 0 && room.needed > 1 << 30 && room.dir.ends_with("images"), "{room:?}");
    assert!(
        error.to_string().ends_with("or remove images that are not used any more (`boma-it image remove`)"),
        "{error}"
    );
}

#[test]
fn an_interrupted_build_ends_soon_and_leaves_nothing() {
    let bench = Bench::new();
    let (interrupt, started) = (Interrupt::never(), Instant::now());
    let begun = bench.dir.path().join("begun");
    bench.tool("mmdebstrap", &format!("mkdir \"$TMPDIR/tree.d\"; : > {}; sleep 60", begun.display()));
    let deadline = Deadline::after(Duration::from_secs(50), "the test", interrupt.clone(), Waited::default());
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !begun.exists() {
                std::thread::yield_now();
            }
            interrupt.raise(2);
        });
        bench.ensure_by(BUILT, &deadline).unwrap_err()
    });
    let error = chain(error);
    assert!(error.ends_with("interrupted by signal 2"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.left(), ["build.log", "lock"]);
}

#[test]
fn what_a_killed_build_left_is_gone_after_the_next() {
    let bench = Bench::new();
    let store = bench.store();
    fs::create_dir_all(store.scratch().join("mmdebstrap.XYZ/proc")).unwrap();
    fs::create_dir_all(store.dir()).unwrap();
    fs::write(store.file(&recipe().name(), "qcow2.partial"), "half").unwrap();
    bench.ensure(BUILT).unwrap();
    assert_eq!(bench.left(), ["NAME.json", "NAME.qcow2", "lock"]);
}

#[test]
fn missing_programs_are_named_before_anything_is_made() {
    let bench = Bench::new();
    let store = ImageStore { tools: Toolbox::only(&bench.dir.path().join("bin")), ..bench.store() };
    let error = store.ensure(BUILT, &plenty(), &|_| {}).unwrap_err().to_string();
    let expected = "no golden image without `sha256sum` (package coreutils); \
                    `make setup` installs what is missing";
    assert_eq!(error, expected);
    assert!(bench.left().is_empty());
}

#[test]
fn other_packages_are_another_image_beside_the_first() {
    let bench = Bench::new();
    let bare = ImageSource::Build { packages: Packages::None };
    assert_ne!(bench.ensure(BUILT).unwrap().name, bench.ensure(&bare).unwrap().name);
    assert_eq!((bench.builds(), bench.store().list().unwrap().len()), (2, 2));
}

#[test]
fn a_file_of_the_operators_is_read_once_and_again_when_it_changed() {
    let bench = Bench::new();
    let source = bench.operators_file("one");
    let first = bench.ensure(&source).unwrap();
    assert!(
        first.name.starts_with("mine-")
            && first.sha256.starts_with(first.name.strip_prefix("mine-").unwrap())
    );
    assert_eq!(bench.ensure(&source).unwrap(), first);
    assert_eq!(bench.told.borrow().len(), 1, "the digest is taken once");
    let second = bench.ensure(&bench.operators_file("another")).unwrap();
    assert_ne!(second.name, first.name);
}

#[rstest::rstest]
#[case::raw(r#"{"format": "raw", "virtual-size": 1}"#, "its format is raw, expected qcow2")]
#[case::overlay(
    r#"{"format": "qcow2", "virtual-size": 1, "backing-filename": "/b.qcow2"}"#,
    "it only holds changes to /b.qcow2"
)]
#[case::encrypted(r#"{"format": "qcow2", "virtual-size": 1, "encrypted": true}"#, "it is encrypted")]
#[case::nonsense("[]", "cannot be understood")]
fn an_unfit_file_is_refused_with_the_reason(#[case] info: &str, #[case] why: &str) {
    let bench = Bench::new();
    bench.tool("qemu-img", &format!("echo '{info}'"));
    let error = bench.ensure(&bench.operators_file("x")).unwrap_err();
    assert!(matches!(&error, ImageError::Unfit { why: found, .. } if found.contains(why)), "{error}");
    assert_eq!(bench.left(), ["lock"]);
}

#[test]
fn a_file_that_is_not_there_and_a_folder_are_refused() {
    let bench = Bench::new();
    let gone = chain(bench.ensure(&ImageSource::Path { path: "/no/such.qcow2".into() }).unwrap_err());
    assert_eq!(gone, "cannot read the image /no/such.qcow2: No such file or directory (os error 2)");
    let folder =
        bench.ensure(&ImageSource::Path { path: bench.dir.path().to_owned() }).unwrap_err().to_string();
    assert!(folder.ends_with("it is no regular file (expected a qcow2 image)"), "{folder}");
}

#[test]
fn removing_takes_our_image_but_never_the_operators_file() {
    let bench = Bench::new();
    let source = bench.operators_file("one");
    let (mine, ours) = (bench.ensure(&source).unwrap(), bench.ensure(BUILT).unwrap());
    let remove = |name: &str| bench.store().remove(name, &plenty(), &|_| {});
    remove(&mine.name).unwrap();
    assert!(mine.path.exists());
    let error = remove("debian-12").unwrap_err().to_string();
    assert_eq!(error, format!("there is no image `debian-12`; there is {}", ours.name));
    remove(&ours.name).unwrap();
    assert_eq!(bench.left(), ["lock"]);
    let error = remove(&ours.name).unwrap_err().to_string();
    assert!(error.ends_with("there are none"), "{error}");
}
