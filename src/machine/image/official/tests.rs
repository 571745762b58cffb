//! Downloads from a server that misbehaves, through the image store and with a fake `qemu-img`.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha512};

use super::server::{Act, Server};
use super::*;
use crate::catalog::plan::{ImageSource, Packages};
use crate::machine::image::{ImageStore, SelectedImage};
use crate::support::deadline::Waited;
use crate::support::interrupt::Interrupt;

mod auto;
mod faults;

const BUILD: &str = "20251117-2299";
const NEXT: &str = "20251201-2310";

/// A server, a cache folder, and what was told as progress.
struct Bench {
    server: Server,
    dir: tempfile::TempDir,
    told: RefCell<Vec<String>>,
    patience: Patience,
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

impl Bench {
    /// With a build on the server, which is the latest.
    fn new() -> Self {
        let patience = Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(5) };
        let bench = Self {
            server: Server::start(),
            dir: tempfile::tempdir().unwrap(),
            told: RefCell::default(),
            patience,
        };
        fs::create_dir(bench.dir.path().join("bin")).unwrap();
        bench.qemu_img("qcow2");
        bench.publish(BUILD, &contents(0));
        bench
    }

    fn qemu_img(&self, format: &str) {
        let info = format!(r#"{{"format": "{format}", "virtual-size": 3221225472}}"#);
        self.tool("qemu-img", &format!("echo '{info}'"));
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

    fn publish(&self, build: &str, bytes: &[u8]) {
        let labels = format!(r#""labels": {{"cloud.debian.org/version": "{build}"}}"#);
        let manifest = format!(r#"{{"items": [{{"kind": "Build", "metadata": {{{labels}}}}}]}}"#);
        self.server.put("/trixie/latest/debian-13-genericcloud-amd64.json", Act::Serve(manifest.into()));
        let file = format!("debian-13-genericcloud-amd64-{build}.qcow2");
        let sums = format!("{}  other.qcow2\n{}  {file}\n", "0".repeat(128), sum(bytes));
        self.server.put(&format!("/trixie/{build}/SHA512SUMS"), Act::Serve(sums.into()));
        self.image(build, Act::Serve(bytes.to_vec()));
    }

    fn image(&self, build: &str, act: Act) {
        self.server.put(&image_path(build), act);
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

    fn auto(&self) -> ImageSource {
        ImageSource::Auto { official: self.wanted(Release::Latest), packages: Packages::None }
    }

    fn store(&self) -> ImageStore {
        let tools = Toolbox::first_of(&self.dir.path().join("bin"));
        ImageStore::for_tests(self.dir.path(), tools, self.patience)
    }

    fn ensure(&self, source: &ImageSource) -> Result<SelectedImage, ImageError> {
        let deadline = Deadline::uninterrupted(Duration::from_secs(60), "the test");
        self.store().ensure(source, &deadline, &|line| self.told.borrow_mut().push(line.to_owned()))
    }

    /// The whole chain of the error, this run's addresses and sizes of temporary things replaced.
    fn fails(&self, source: &ImageSource) -> String {
        let error = format!("{:#}", anyhow::Error::from(self.ensure(source).unwrap_err()));
        error.replace(&self.server.url(), "SERVER")
    }

    /// Every file in the image folder but the lock and what is remembered of servers.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("images")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "lock" && name != "servers");
        names.sort();
        names
    }

    /// The file that is coming in, whole or not.
    fn partial(&self) -> std::path::PathBuf {
        let name = listing::name(&BUILD.parse().unwrap(), &sum(&contents(0)));
        self.dir.path().join("images").join(format!("{name}.download"))
    }

    fn begun(&self, bytes: &[u8]) {
        fs::create_dir_all(self.dir.path().join("images")).unwrap();
        fs::write(self.partial(), bytes).unwrap();
    }

    /// Everything that is remembered happened so long ago.
    fn age_memory(&self, hours: i64) {
        let path = self.dir.path().join("images/servers");
        let mut servers: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let then = (Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string();
        for server in servers.as_object_mut().unwrap().values_mut() {
            for (what, when) in [("latest", "checked"), ("trouble", "at")] {
                if let Some(time) = server.get_mut(what).and_then(|it| it.get_mut(when)) {
                    *time = then.clone().into();
                }
            }
        }
        fs::write(path, servers.to_string()).unwrap();
    }
}

fn whole(chosen: &SelectedImage, seed: u8) {
    assert!(fs::read(&chosen.image.path).unwrap() == contents(seed), "{:?}", chosen.image);
}

#[test]
fn a_pinned_build_is_downloaded_once_checked_recorded_and_found_again() {
    let bench = Bench::new();
    let chosen = bench.ensure(&bench.pinned()).unwrap();
    whole(&chosen, 0);
    let name = format!("debian-13-genericcloud-{BUILD}-{}", &sum(&contents(0))[..12]);
    assert_eq!((chosen.image.name.as_str(), chosen.why.as_deref()), (name.as_str(), None));
    assert_eq!((chosen.image.virtual_size, chosen.image.file_size), (3 << 30, 100_003));
    let words = chosen.image.origin.to_string().replace(&bench.server.url(), "SERVER");
    assert!(words.starts_with("Debian's own, build 20251117-2299, downloaded 20"), "{words}");
    assert!(words.ends_with(&format!(" from SERVER{}", image_path(BUILD))), "{words}");
    assert_eq!(bench.server.asked(), [format!("/trixie/{BUILD}/SHA512SUMS"), image_path(BUILD)]);
    assert_eq!(bench.ensure(&bench.pinned()).unwrap(), chosen);
    assert_eq!(bench.store().list().unwrap(), [chosen.image]);
    assert!(bench.server.asked().is_empty());
    assert_eq!(bench.left(), [format!("{name}.json"), format!("{name}.qcow2")]);
    let told = bench.told.borrow().join("\n");
    assert!(told.contains("downloading Debian's image 20251117-2299: 0 of 1 MiB, 100 %"), "{told}");
    bench
        .store()
        .remove(&name, &Deadline::uninterrupted(Duration::from_secs(9), "the test"), &|_| {})
        .unwrap();
    assert!(bench.left().is_empty());
}

#[test]
fn the_latest_build_is_asked_for_once_a_day() {
    let bench = Bench::new();
    let manifest = "/trixie/latest/debian-13-genericcloud-amd64.json";
    let first = bench.ensure(&bench.latest()).unwrap();
    assert_eq!(bench.server.asked().first().map(String::as_str), Some(manifest));
    // A day has not passed: the next build is not heard of.
    bench.publish(NEXT, &contents(1));
    bench.age_memory(23);
    assert_eq!(bench.ensure(&bench.latest()).unwrap(), first);
    assert!(bench.server.asked().is_empty());
    bench.age_memory(25);
    let second = bench.ensure(&bench.latest()).unwrap();
    whole(&second, 1);
    bench.age_memory(25);
    bench.server.asked();
    assert_eq!(bench.ensure(&bench.latest()).unwrap(), second);
    assert_eq!(bench.server.asked(), [manifest]);
}

#[test]
fn without_an_answer_the_newest_one_here_serves_for_the_latest_and_it_is_said() {
    let bench = Bench::new();
    bench.ensure(&bench.latest()).unwrap();
    bench.publish(NEXT, &contents(1));
    bench.age_memory(25);
    bench.ensure(&bench.latest()).unwrap();
    bench.server.put("/trixie/latest/debian-13-genericcloud-amd64.json", Act::HangUp);
    bench.age_memory(25);
    bench.server.asked();
    for _ in 0..2 {
        let chosen = bench.ensure(&bench.latest()).unwrap();
        whole(&chosen, 1);
        let why = chosen.why.unwrap();
        assert!(why.starts_with("the newest official image here is used, as the latest one"), "{why}");
        assert!(why.contains("cannot reach http://127.0.0.1"), "{why}");
    }
    // It paid for the silence once only.
    assert_eq!(bench.server.asked().len(), 1);
}

#[test]
fn two_at_once_download_one_image_and_the_second_says_what_it_waits_for() {
    let bench = Bench::new();
    // The first is at it until the second waits for it.
    let waiting = bench.dir.path().join("waiting");
    let held = format!("until [ -e {} ]; do sleep 0.05; done", waiting.display());
    let info = r#"echo '{"format": "qcow2", "virtual-size": 3221225472}'"#;
    bench.tool("qemu-img", &format!("{held}; {info}"));
    let (store, source, told) = (bench.store(), bench.latest(), std::sync::Mutex::new(Vec::new()));
    let get = || {
        let deadline = Deadline::uninterrupted(Duration::from_secs(60), "the test");
        let tell = |line: &str| {
            if line.starts_with("waiting for pid ") {
                fs::write(&waiting, "").unwrap();
            }
            told.lock().unwrap().push(line.to_owned());
        };
        store.ensure(&source, &deadline, &tell).unwrap()
    };
    let (one, two) = std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(get), scope.spawn(get));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(one, two);
    let downloads = bench.server.asked().iter().filter(|asked| **asked == image_path(BUILD)).count();
    assert_eq!(downloads, 1);
    let waits = |line: &&String| {
        line.starts_with("waiting for pid ") && line.ends_with("Debian's image, release latest")
    };
    assert_eq!(told.into_inner().unwrap().iter().filter(waits).count(), 1);
}
