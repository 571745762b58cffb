//! A VM's state is kept while it runs, and later VMs go on from it.

use std::io::Write;

use boma_it::catalog::quantity::Bytes;
use boma_it::machine::layer::LayerName;
use boma_it::machine::teardown::teardown;
use boma_it::machine::{DomainSpec, DomainState, Egress, HypervisorError, RestartMethod, VmVolumes};

use crate::{names, on_both, set_up, spec, upload};

/// The disk is empty, so what goes on is the firmware, whose variables are part of the state.
#[test]
fn a_vm_is_saved_while_it_runs_and_restored_twice_with_another_owner_and_disk() {
    on_both(|hypervisor, name| {
        set_up(hypervisor);
        let layer: LayerName = "ready-3f2a91c0".parse().unwrap();
        let (memory, disk, overlay) = (layer.memory(), layer.disk(), VmVolumes(name).overlay());
        let seed = || {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(4096).unwrap();
            upload(hypervisor, &VmVolumes(name).seed(), file.path()).unwrap();
        };
        let makes = DomainSpec { overlay: disk.clone(), ..spec(name) };
        hypervisor.define(&makes).unwrap();
        hypervisor.create_overlay(&disk, "golden-empty.qcow2", Bytes::mib(64)).unwrap();
        seed();
        assert!(hypervisor.save(name, &memory, &overlay).is_err(), "it does not run");
        hypervisor.start(name).unwrap();
        hypervisor.save(name, &memory, &overlay).unwrap();
        assert_eq!(hypervisor.state(name).unwrap(), DomainState::Running);
        let backing = |volume: &str| {
            let volumes = hypervisor.volumes().unwrap();
            volumes.into_iter().find(|it| it.name == *volume).unwrap().backing.unwrap()
        };
        assert!(backing(&overlay).ends_with(&format!("/{disk}")));
        // What it goes on with survives a power cut.
        hypervisor.restart(name, RestartMethod::PowerCut).unwrap();
        teardown(hypervisor, name).unwrap();
        assert_eq!(names(hypervisor), ["golden-empty.qcow2".to_owned(), memory.clone(), disk.clone()]);

        for run in ["20260617T130000-askari", "20260617T140000-askari"] {
            let mut restored = spec(name);
            (restored.ownership.run, restored.egress) = (run.to_owned(), Egress::None);
            hypervisor.define_saved(&memory, &restored).unwrap();
            assert!(matches!(
                hypervisor.define_saved(&memory, &restored),
                Err(HypervisorError::Exists { .. })
            ));
            hypervisor.create_overlay(&overlay, &disk, Bytes::mib(64)).unwrap();
            seed();
            hypervisor.restore(name, &memory).unwrap();
            assert_eq!(hypervisor.state(name).unwrap(), DomainState::Running);
            assert_eq!(hypervisor.machines().unwrap()[0].ownership, Some(restored.ownership));
            assert!(hypervisor.restore(name, &memory).is_err(), "it runs");
            hypervisor.restart(name, RestartMethod::PowerCut).unwrap();
            teardown(hypervisor, name).unwrap();
        }
        let mut damaged = tempfile::NamedTempFile::new().unwrap();
        damaged.write_all(&[1; 4096]).unwrap();
        hypervisor.delete_volume(&memory).unwrap();
        upload(hypervisor, &memory, damaged.path()).unwrap();
        let restored = hypervisor
            .define_saved(&memory, &spec(name))
            .and_then(|()| hypervisor.create_overlay(&overlay, &disk, Bytes::mib(64)))
            .and_then(|()| hypervisor.restore(name, &memory));
        assert!(restored.is_err(), "its state is damaged");
        teardown(hypervisor, name).unwrap();
        let other = spec("boma-it-ubongo");
        assert!(hypervisor.define_saved(&memory, &other).is_err(), "it is another VM's state");
    });
}
