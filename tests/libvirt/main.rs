//! The contract of [`Hypervisor`]: each test runs against the fake and against this machine's libvirt, with a name prefix of
//! its own (`boma-test…`), so we know that the fake behaves like the real one. The VMs are empty: firmware that finds
//! nothing to boot prints on the serial console, and that is enough.
//!
//! Where no libvirt daemon answers, the real half is skipped with a message locally, and fails in CI.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests, outside of test functions")]

#[cfg(test)]
mod restore;

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use boma_it::catalog::plan::Subnet;
use boma_it::catalog::quantity::Bytes;
use boma_it::machine::domain::DiskCache;
use boma_it::machine::fake::Fake;
use boma_it::machine::libvirt::Libvirt;
use boma_it::machine::ownership::{ProcFs, Processes};
use boma_it::machine::teardown::{PruneScope, Pruned, prune, teardown};
use boma_it::machine::{
    Accelerator, DomainSpec, DomainState, Egress, Hypervisor, HypervisorError, Lifetime, NamePrefix,
    NetworkSpec, Ownership, RestartMethod, Slot, VmVolumes,
};
use boma_it::support::deadline::{Deadline, Progress};
use boma_it::support::lock::{Busy, FileLock};

/// The prefix of all names on the real hypervisor.
const PREFIX: &str = "boma-test";
const SUBNET: Subnet = Subnet { network: Ipv4Addr::new(10, 213, 49, 0), prefix: 28 };

/// The real hypervisor without any object of ours, locked until it is dropped, and cleaned up then.
struct Real {
    libvirt: Libvirt,
    _lock: FileLock,
}

impl Real {
    fn get() -> Option<Self> {
        let deadline = Deadline::uninterrupted(Duration::from_secs(300), "the test");
        let lock = std::env::temp_dir().join("boma-it-test-libvirt.lock");
        let lock = FileLock::acquire(&lock, "a test", &deadline, |_| Busy::Wait).unwrap();
        let libvirt = Libvirt::new("qemu:///system", NamePrefix::named(PREFIX));
        match libvirt.remove_everything() {
            Ok(()) => Some(Self { libvirt, _lock: lock }),
            Err(error @ (HypervisorError::NoDaemon { .. } | HypervisorError::Permission { .. })) => {
                assert!(!boma_it::support::env::is_ci(), "{error}");
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Err(error) = self.libvirt.remove_everything() {
            eprintln!("cannot clean up: {error:?}");
        }
    }
}

/// The daemon answers, but does not know the URI.
#[rstest::rstest]
#[case::driver("qmeu:///system")]
#[case::path("qemu:///sytem")]
fn an_unknown_uri_is_a_bad_uri_and_not_a_missing_daemon(#[case] uri: &str) {
    let Some(_real) = Real::get() else { return };
    let error = Libvirt::new(uri, NamePrefix::named(PREFIX)).machines().unwrap_err();
    assert!(matches!(error, HypervisorError::BadUri { .. }), "{error:?}");
}

fn subnet() -> NetworkSpec {
    NetworkSpec { subnet: SUBNET }
}

fn spec(name: &str) -> DomainSpec {
    let owner = ProcFs::new().unwrap().this_process().clone();
    let slot = Slot::new(0).unwrap();
    DomainSpec {
        name: name.to_owned(),
        vcpus: 1,
        memory: Bytes::mib(192),
        accelerator: Accelerator::Tcg,
        mac: slot.mac(),
        egress: Egress::Internet,
        seed: true,
        disk: DiskCache::Unsafe,
        overlay: VmVolumes(name).overlay(),
        ownership: Ownership {
            run: "20260617T120000-askari".to_owned(),
            host: "askari".parse().unwrap(),
            scenario: Some("incident-2026-06-17".parse().unwrap()),
            owner,
            lifetime: Lifetime::Trial { session: "s1".to_owned() },
            run_folder: "/tmp/runs & more/<1>".into(),
            slot,
            address: slot.address(SUBNET),
            accelerator: Accelerator::Tcg,
            image: "empty".to_owned(),
            layer: None,
            makes: Vec::new(),
        },
    }
}

/// A qcow2 file of 16 MiB with nothing in it.
fn empty_image(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("empty.qcow2");
    let create = boma_it::support::process::Process::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&path)
        .arg("16M");
    create.run_ok(&Deadline::uninterrupted(Duration::from_secs(20), "qemu-img")).unwrap();
    path
}

fn upload(hypervisor: &dyn Hypervisor, volume: &str, file: &Path) -> Result<u64, HypervisorError> {
    let mut last = 0;
    let deadline = Deadline::uninterrupted(Duration::from_secs(60), "upload");
    hypervisor.upload(volume, file, &deadline, &mut |bytes| last = bytes).map(|()| last)
}

fn bytes_of(hypervisor: &dyn Hypervisor, volume: &str, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = hypervisor.download(volume, offset, &mut bytes).unwrap();
    assert_eq!(count, bytes.len() as u64);
    bytes
}

/// Creates pool, network and golden image `golden-empty.qcow2`.
fn set_up(hypervisor: &dyn Hypervisor) {
    hypervisor.ensure_pool().unwrap();
    hypervisor.ensure_network(&subnet()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    upload(hypervisor, "golden-empty.qcow2", &empty_image(dir.path())).unwrap();
}

/// Creates a VM with all its volumes, without starting it.
fn build(hypervisor: &dyn Hypervisor, name: &str) {
    hypervisor.define(&spec(name)).unwrap();
    let volumes = VmVolumes(name);
    hypervisor.create_overlay(&volumes.overlay(), "golden-empty.qcow2", Bytes::mib(64)).unwrap();
    let mut seed = tempfile::NamedTempFile::new().unwrap();
    seed.write_all(&[7; 4096]).unwrap();
    upload(hypervisor, &volumes.seed(), seed.path()).unwrap();
}

fn names(hypervisor: &dyn Hypervisor) -> Vec<String> {
    hypervisor.volumes().unwrap().into_iter().map(|volume| volume.name).collect()
}

/// Runs a test against the fake, then against the real hypervisor.
fn on_both(contract: fn(&dyn Hypervisor, &str)) {
    contract(&Fake::new(), "boma-it-askari");
    if let Some(real) = Real::get() {
        contract(&real.libvirt, "boma-test-askari");
    }
}

#[test]
fn volumes_are_uploaded_listed_downloaded_and_deleted() {
    on_both(|hypervisor, name| {
        assert!(matches!(hypervisor.volumes(), Err(HypervisorError::NotFound { .. })));
        hypervisor.ensure_pool().unwrap();
        hypervisor.ensure_pool().unwrap();
        assert_eq!(names(hypervisor), [""; 0]);

        let mut file = tempfile::NamedTempFile::new().unwrap();
        let body: Vec<u8> = (0..700_001u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        file.write_all(&body).unwrap();
        assert_eq!(upload(hypervisor, "some.img", file.path()).unwrap(), 700_001);
        let listed = hypervisor.volumes().unwrap();
        assert_eq!(
            listed.iter().map(|v| (v.name.as_str(), v.length.0)).collect::<Vec<_>>(),
            [("some.img", 700_001)]
        );
        assert!(bytes_of(hypervisor, "some.img", 0) == body);
        assert!(bytes_of(hypervisor, "some.img", 700_000) == body[700_000..]);
        assert_eq!(bytes_of(hypervisor, "some.img", 700_001), [0u8; 0]);
        assert_eq!(bytes_of(hypervisor, "some.img", 900_000), [0u8; 0]);

        let again = upload(hypervisor, "some.img", file.path()).unwrap_err();
        assert!(matches!(again, HypervisorError::Exists { .. }), "{again:?}");
        let unreadable = upload(hypervisor, "other.img", Path::new("/nowhere/x.img")).unwrap_err();
        assert!(matches!(unreadable, HypervisorError::File { .. }), "{unreadable:?}");
        let missing = hypervisor.download("none.img", 0, &mut Vec::new()).unwrap_err();
        assert!(matches!(missing, HypervisorError::NotFound { .. }), "{missing:?}");
        let missing = hypervisor.create_overlay(&VmVolumes(name).overlay(), "none.img", Bytes::gib(1));
        assert!(matches!(missing, Err(HypervisorError::NotFound { .. })), "{missing:?}");

        hypervisor.delete_volume("some.img").unwrap();
        hypervisor.delete_volume("some.img").unwrap();
        assert_eq!(names(hypervisor), [""; 0]);
    });
}

#[test]
fn an_upload_that_times_out_leaves_nothing() {
    on_both(|hypervisor, _| {
        hypervisor.ensure_pool().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![1; 3 << 20]).unwrap();
        let deadline = Deadline::uninterrupted(Duration::ZERO, "upload");
        let error = hypervisor.upload("some.img", file.path(), &deadline, &mut |_| {}).unwrap_err();
        assert!(matches!(error, HypervisorError::GaveUp { .. }), "{error:?}");
        assert_eq!(names(hypervisor), [""; 0]);
    });
}

#[test]
fn an_overlay_is_thin_and_never_smaller_than_its_backing_volume() {
    on_both(|hypervisor, name| {
        set_up(hypervisor);
        let overlay = VmVolumes(name).overlay();
        hypervisor.create_overlay(&overlay, "golden-empty.qcow2", Bytes::gib(20)).unwrap();
        let twice = hypervisor.create_overlay(&overlay, "golden-empty.qcow2", Bytes::gib(20)).unwrap_err();
        assert!(matches!(twice, HypervisorError::Exists { .. }), "{twice:?}");
        let listed = hypervisor.volumes().unwrap();
        let overlay = listed.iter().find(|volume| volume.name == overlay).unwrap();
        assert_eq!(overlay.capacity, Bytes::gib(20));
        assert!(overlay.allocation < Bytes::mib(2), "{overlay:?}");
        assert!(overlay.backing.as_deref().unwrap().ends_with("/golden-empty.qcow2"));
    });
}

#[test]
fn a_vm_is_defined_started_restarted_relabelled_and_torn_down() {
    on_both(|hypervisor, name| {
        set_up(hypervisor);
        assert_eq!(hypervisor.state(name).unwrap(), DomainState::Absent);
        assert!(matches!(hypervisor.start(name), Err(HypervisorError::NotFound { .. })));
        build(hypervisor, name);
        assert!(matches!(hypervisor.define(&spec(name)), Err(HypervisorError::Exists { .. })));
        assert!(matches!(hypervisor.state(name).unwrap(), DomainState::ShutOff(_)));
        assert!(hypervisor.restart(name, RestartMethod::Reset).is_err());

        hypervisor.start(name).unwrap();
        assert!(hypervisor.start(name).is_err());
        assert!(hypervisor.undefine(name).is_err(), "it is running");
        let machines = hypervisor.machines().unwrap();
        let [machine] = machines.as_slice() else { panic!("{machines:?}") };
        assert_eq!((machine.name.as_str(), &machine.state), (name, &DomainState::Running));
        assert_eq!(machine.memory, Bytes::mib(192));
        assert_eq!(machine.ownership, Some(spec(name).ownership));
        let kept = Ownership { lifetime: Lifetime::Kept { session: "s1".into() }, ..spec(name).ownership };
        hypervisor.set_ownership(name, &kept).unwrap();
        assert_eq!(hypervisor.machines().unwrap()[0].ownership, Some(kept.clone()));

        hypervisor.restart(name, RestartMethod::Reset).unwrap();
        hypervisor.restart(name, RestartMethod::Acpi).unwrap();
        hypervisor.restart(name, RestartMethod::PowerCut).unwrap();
        assert_eq!(hypervisor.state(name).unwrap(), DomainState::Running);
        assert_eq!(hypervisor.machines().unwrap()[0].ownership, Some(kept), "kept over a power cut");

        let volumes = names(hypervisor);
        for volume in VmVolumes(name).all() {
            assert!(volumes.contains(&volume), "{volume} in {volumes:?}");
        }
        let started = Instant::now();
        teardown(hypervisor, name).unwrap();
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        assert_eq!(hypervisor.state(name).unwrap(), DomainState::Absent);
        assert_eq!(names(hypervisor), ["golden-empty.qcow2"]);
        teardown(hypervisor, name).unwrap();
    });
}

#[test]
fn a_vm_is_torn_down_from_every_half_built_state() {
    on_both(|hypervisor, name| {
        set_up(hypervisor);
        let volumes = VmVolumes(name);
        let steps: [&dyn Fn(); 4] = [
            &|| hypervisor.define(&spec(name)).unwrap(),
            &|| hypervisor.create_overlay(&volumes.overlay(), "golden-empty.qcow2", Bytes::mib(64)).unwrap(),
            &|| {
                let seed = tempfile::NamedTempFile::new().unwrap();
                seed.as_file().set_len(4096).unwrap();
                upload(hypervisor, &volumes.seed(), seed.path()).unwrap();
            },
            &|| hypervisor.start(name).unwrap(),
        ];
        for built in 0..=steps.len() {
            steps[..built].iter().for_each(|step| step());
            teardown(hypervisor, name).unwrap();
            assert_eq!(hypervisor.state(name).unwrap(), DomainState::Absent, "after {built} steps");
            assert_eq!(names(hypervisor), ["golden-empty.qcow2"], "after {built} steps");
        }
    });
}

#[test]
fn a_network_is_replaced_only_while_no_vm_uses_it() {
    on_both(|hypervisor, name| {
        set_up(hypervisor);
        hypervisor.ensure_network(&subnet()).unwrap();
        let other = NetworkSpec { subnet: Subnet { network: Ipv4Addr::new(10, 213, 50, 0), prefix: 28 } };
        hypervisor.ensure_network(&other).unwrap();
        hypervisor.ensure_network(&subnet()).unwrap();
        build(hypervisor, name);
        hypervisor.start(name).unwrap();
        let error = hypervisor.ensure_network(&other).unwrap_err();
        assert!(matches!(error, HypervisorError::NetworkConflict { .. }), "{error:?}");
        hypervisor.ensure_network(&subnet()).unwrap();
    });
}

#[test]
fn prune_removes_orphans_and_orphaned_volumes_and_spares_live_vms_and_images() {
    let contract = |hypervisor: &dyn Hypervisor, prefix: &NamePrefix| {
        let processes = ProcFs::new().unwrap();
        set_up(hypervisor);
        let [alive, orphan, gone] = ["alive", "orphan", "gone"].map(|n| format!("{}-{n}", prefix.as_str()));
        build(hypervisor, &alive);
        let mut dead = spec(&orphan);
        dead.ownership.owner.started += 1;
        hypervisor.define(&dead).unwrap();
        let overlay = |name: &str| VmVolumes(name).overlay();
        for name in [&orphan, &gone] {
            hypervisor.create_overlay(&overlay(name), "golden-empty.qcow2", Bytes::mib(64)).unwrap();
        }
        let pruned = prune(hypervisor, prefix, &processes, PruneScope::Orphans).unwrap();
        let run_folders = vec![dead.ownership.run_folder];
        assert_eq!(pruned, Pruned { machines: vec![orphan], run_folders, volumes: vec![overlay(&gone)] });
        let again = prune(hypervisor, prefix, &processes, PruneScope::Orphans).unwrap();
        assert_eq!(again, Pruned::default());
        let pruned = prune(hypervisor, prefix, &processes, PruneScope::Everything).unwrap();
        assert_eq!(pruned.machines, [alive]);
        assert_eq!(names(hypervisor), ["golden-empty.qcow2"]);
    };
    contract(&Fake::new(), &NamePrefix::default());
    if let Some(real) = Real::get() {
        contract(&real.libvirt, &NamePrefix::named(PREFIX));
    }
}

#[test]
fn the_console_log_continues_after_a_reset_and_a_power_cut() {
    let Some(real) = Real::get() else { return };
    let (hypervisor, name) = (&real.libvirt, "boma-test-askari");
    set_up(hypervisor);
    build(hypervisor, name);
    let console = VmVolumes(name).console();
    // The firmware prints this when it finds nothing to boot.
    let boots = || {
        String::from_utf8_lossy(&bytes_of(hypervisor, &console, 0)).matches("BdsDxe: failed to load").count()
    };
    let wait_for_more_than = |seen: usize| {
        let deadline = Deadline::uninterrupted(Duration::from_secs(60), "the test");
        deadline
            .wait_for("the firmware", Duration::from_millis(100), || match boots() {
                now if now > seen => Ok(Progress::Ready(now)),
                now => Ok(Progress::Pending(format!("{now} lines"))),
            })
            .unwrap()
    };
    hypervisor.start(name).unwrap();
    let first = wait_for_more_than(0);
    hypervisor.restart(name, RestartMethod::Reset).unwrap();
    let second = wait_for_more_than(first);
    hypervisor.restart(name, RestartMethod::PowerCut).unwrap();
    wait_for_more_than(second);
}

#[test]
fn the_real_host_reports_its_version_and_memory() {
    let Some(real) = Real::get() else { return };
    let host = real.libvirt.host_info().unwrap();
    assert!(host.version.starts_with("QEMU "), "{host:?}");
    assert!(host.local && host.available_memory > Bytes::mib(64), "{host:?}");
}

#[test]
fn a_daemon_that_does_not_answer_is_an_error_of_its_own() {
    let nowhere = Libvirt::new("qemu+unix:///system?socket=/nowhere/sock", NamePrefix::named(PREFIX));
    let error = nowhere.machines().unwrap_err();
    assert!(matches!(error, HypervisorError::NoDaemon { .. }), "{error:?}");
}
