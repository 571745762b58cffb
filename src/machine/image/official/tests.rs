//! Downloads from a local server, through the image store and with a fake `qemu-img`.

use std::cell::RefCell;
use std::fs;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha512};

use self::server::{Behavior, Server};
use super::*;
use crate::catalog::plan::ImageSource;
use crate::machine::image::ImageStore;
use crate::machine::image::tools::Toolbox;
use crate::support::deadline::{Deadline, Waited};
use crate::support::interrupt::Interrupt;

mod faults;
mod server;

const BUILD: &str = "20251117-2299";
const NEXT: &str = "20251201-2310";
const MANIFEST: &str = "/trixie/latest/debian-13-genericcloud-amd64.json";

/// A server, an image folder, and the reported progress.
struct Fixture {
    server: Server,
    dir: tempfile::TempDir,
    progress: RefCell<Vec<String>>,
    patience: Patience,
}

fn deadline() -> Deadline {
    Deadline::uninterrupted(Duration::from_secs(60), "the test")
}

fn contents(seed: u8) -> Vec<u8> {
    (0..100_003u32).map(|at| (at % 251) as u8 ^ seed).collect()
}

fn sum(bytes: &[u8]) -> String {
    super::super::recipe::hex(&Sha512::digest(bytes))
}

fn image_path(build: &str) -> String {
    format!("/trixie/{build}/debian-13-genericcloud-amd64-{build}.qcow2")
}

impl Fixture {
    /// [`BUILD`] is on the server and the latest.
    fn new() -> Self {
        let patience = Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(5) };
        let fixture = Self {
            server: Server::start(),
            dir: tempfile::tempdir().unwrap(),
            progress: RefCell::default(),
            patience,
        };
        fs::create_dir(fixture.dir.path().join("bin")).unwrap();
        fixture.qemu_img("qcow2");
        fixture.publish(BUILD, &contents(0));
        fixture
    }

    fn qemu_img(&self, format: &str) {
        let info = format!(r#"{{"format": "{format}", "virtual-size": 3221225472}}"#);
        self.tool("qemu-img", &format!("echo '{info}'"));
    }

    fn tool(&self, program: &str, script: &str) {
        Toolbox::script(&self.dir.path().join("bin"), program, script);
    }

    fn publish(&self, build: &str, bytes: &[u8]) {
        let labels = format!(r#""labels": {{"cloud.debian.org/version": "{build}"}}"#);
        let manifest = format!(r#"{{"items": [{{"kind": "Build", "metadata": {{{labels}}}}}]}}"#);
        self.server.set(MANIFEST, Behavior::Serve(manifest.into()));
        let file = format!("debian-13-genericcloud-amd64-{build}.qcow2");
        let sums = format!("{}  other.qcow2\n{}  {file}\n", "0".repeat(128), sum(bytes));
        self.server.set(&format!("/trixie/{build}/SHA512SUMS"), Behavior::Serve(sums.into()));
        self.image(build, Behavior::Serve(bytes.to_vec()));
    }

    fn image(&self, build: &str, behavior: Behavior) {
        self.server.set(&image_path(build), behavior);
    }

    fn wanted(&self, release: Release) -> Official {
        Official { release, url: self.server.url() }
    }

    fn latest(&self) -> ImageSource {
        ImageSource::Official(self.wanted(Release::Latest))
    }

    fn pinned(&self) -> ImageSource {
        ImageSource::Official(self.wanted(Release::Build(BUILD.parse().unwrap())))
    }

    fn store(&self) -> ImageStore {
        let tools = Toolbox::first_of(&self.dir.path().join("bin"));
        ImageStore::for_tests(self.dir.path(), tools, self.patience)
    }

    fn ensure(&self, source: &ImageSource) -> Result<Image, ImageError> {
        self.store().ensure(source, &deadline(), &|line| self.progress.borrow_mut().push(line.to_owned()))
    }

    /// The error of getting an image, its whole chain without this run's address.
    fn error(&self, source: &ImageSource) -> String {
        self.chain(self.ensure(source).unwrap_err())
    }

    fn chain(&self, error: ImageError) -> String {
        format!("{:#}", anyhow::Error::from(error)).replace(&self.server.url(), "SERVER")
    }

    /// Why the download failed.
    fn failure(&self, source: &ImageSource) -> OfficialError {
        match self.ensure(source).unwrap_err() {
            ImageError::Official { source, .. } => source,
            other => panic!("{other}"),
        }
    }

    /// Every file in the image folder but the lock and the latest build.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("images")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "lock" && name != "latest-build.json");
        names.sort();
        names
    }

    /// The unfinished download of [`BUILD`].
    fn partial(&self) -> PathBuf {
        let name = listing::name(&BUILD.parse().unwrap(), &sum(&contents(0)));
        self.dir.path().join("images").join(format!("{name}.download"))
    }

    fn write_partial(&self, bytes: &[u8]) {
        fs::create_dir_all(self.dir.path().join("images")).unwrap();
        fs::write(self.partial(), bytes).unwrap();
    }

    /// Makes the server's last answer about its latest build this old; negative hours are in the future.
    fn age_latest(&self, hours: i64) {
        let file = latest_file(&self.dir.path().join("images"));
        let mut latest: LatestBuild = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        latest.checked = Timestamp::now() - SignedDuration::from_hours(hours);
        record::write_json(&file, &latest).unwrap();
    }
}

fn assert_contents(image: &Image, seed: u8) {
    assert!(fs::read(&image.path).unwrap() == contents(seed), "{image:?}");
}

#[test]
fn a_pinned_build_is_downloaded_once_and_found_again() {
    let fixture = Fixture::new();
    let image = fixture.ensure(&fixture.pinned()).unwrap();
    assert_contents(&image, 0);
    let name = format!("debian-13-genericcloud-{BUILD}-{}", &sum(&contents(0))[..12]);
    assert_eq!((&image.name, image.virtual_size, image.file_size), (&name, 3 << 30, 100_003));
    let Origin::Official { build, url, sha512, downloaded } = &image.origin else { panic!("{image:?}") };
    assert_eq!((build.as_str(), sha512), (BUILD, &sum(&contents(0))));
    assert_eq!(url, &format!("{}{}", fixture.server.url(), image_path(BUILD)));
    assert_eq!(
        image.origin.to_string(),
        format!("Debian's image, build {BUILD}, downloaded {downloaded} from {url}")
    );
    assert_eq!(fixture.server.requests(), [format!("/trixie/{BUILD}/SHA512SUMS"), image_path(BUILD)]);
    assert_eq!(fixture.ensure(&fixture.pinned()).unwrap(), image);
    assert_eq!(fixture.store().list().unwrap(), [image]);
    assert!(fixture.server.requests().is_empty());
    assert_eq!(fixture.files(), [format!("{name}.json"), format!("{name}.qcow2")]);
    let last = "downloading Debian's image 20251117-2299: 0 of 1 MiB, 100 %".to_owned();
    assert!(fixture.progress.borrow().contains(&last));
    fixture.store().remove(&name, &deadline(), &|_| {}).unwrap();
    assert!(fixture.files().is_empty());
}

#[test]
fn the_server_is_asked_for_its_latest_build_once_a_day() {
    let fixture = Fixture::new();
    let first = fixture.ensure(&fixture.latest()).unwrap();
    assert_eq!(fixture.server.requests()[0], MANIFEST);
    fixture.publish(NEXT, &contents(1));
    fixture.age_latest(23);
    assert_eq!(fixture.ensure(&fixture.latest()).unwrap(), first);
    assert!(fixture.server.requests().is_empty());
    fixture.age_latest(25);
    let second = fixture.ensure(&fixture.latest()).unwrap();
    assert_contents(&second, 1);
    fixture.server.requests();
    // Also if its last answer comes from a clock that was wrong, cannot be read, or was forgotten.
    let latest_file = latest_file(&fixture.dir.path().join("images"));
    let outdate: [&dyn Fn(); 4] = [
        &|| fixture.age_latest(25),
        &|| fixture.age_latest(-1),
        &|| fs::write(&latest_file, "{half").unwrap(),
        &|| fixture.store().forget_latest().unwrap(),
    ];
    for outdate in outdate {
        outdate();
        assert_eq!(fixture.ensure(&fixture.latest()).unwrap(), second);
        assert_eq!(fixture.server.requests(), [MANIFEST]);
    }
}

#[test]
fn without_an_answer_about_the_latest_build_a_trial_has_no_image() {
    let fixture = Fixture::new();
    fixture.server.set(MANIFEST, Behavior::Status("503 Service Unavailable"));
    insta::assert_snapshot!(fixture.error(&fixture.latest()), @"
    cannot download Debian's image; run again later, or set `image.source: build`: the server answers 503 Service Unavailable to SERVER/trixie/latest/debian-13-genericcloud-amd64.json
    ");
    fixture.publish(BUILD, &contents(0));
    fixture.ensure(&fixture.latest()).unwrap();
    fixture.age_latest(25);
    fixture.server.set(MANIFEST, Behavior::HangUp);
    insta::assert_snapshot!(fixture.error(&fixture.latest()), @"
    cannot download Debian's image; check the network and HTTPS_PROXY, set `image.release: 20251117-2299`, which is downloaded already, or set `image.source: build`: cannot reach SERVER/trixie/latest/debian-13-genericcloud-amd64.json: io: Peer disconnected
    ");
    // The server is asked each time: a failure is not remembered.
    fixture.publish(NEXT, &contents(1));
    assert_contents(&fixture.ensure(&fixture.latest()).unwrap(), 1);
}

#[test]
fn of_two_processes_one_downloads_and_the_other_waits() {
    let fixture = Fixture::new();
    // The first keeps the lock until the second waits for it.
    let waiting = fixture.dir.path().join("waiting");
    let held = format!("until [ -e {} ]; do sleep 0.05; done", waiting.display());
    let info = r#"echo '{"format": "qcow2", "virtual-size": 3221225472}'"#;
    fixture.tool("qemu-img", &format!("{held}; {info}"));
    let (store, source, waits) = (fixture.store(), fixture.latest(), std::sync::Mutex::new(Vec::new()));
    let get = || {
        let on_progress = |line: &str| {
            if line.starts_with("waiting for pid ") {
                fs::write(&waiting, "").unwrap();
                waits.lock().unwrap().push(line.to_owned());
            }
        };
        store.ensure(&source, &deadline(), &on_progress).unwrap()
    };
    let (one, two) = std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(get), scope.spawn(get));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(one, two);
    let requests = fixture.server.requests();
    assert_eq!(requests.iter().filter(|request| **request == image_path(BUILD)).count(), 1);
    let holder = format!("waiting for pid {}, getting Debian's image, release latest", std::process::id());
    assert_eq!(waits.into_inner().unwrap(), [holder]);
}
