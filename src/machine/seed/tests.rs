//! Reads the seed back as a guest would.

use std::io::{Cursor, Read};
use std::time::Duration;

use fatfs::{FileSystem, FsOptions};
use proptest::prelude::*;
use serde_yaml::Value;

use super::*;
use crate::support::deadline::Deadline;
use crate::support::process::Process;

fn spec() -> SeedSpec {
    SeedSpec {
        hostname: "askari".into(),
        instance_id: "20260617T120000-askari".into(),
        user: USER.into(),
        authorized_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5CLIENT boma-it\n".into(),
        host_key_private: "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r\nZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
            .into(),
        host_key_public: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5HOST boma-it\n".into(),
        mac: "52:54:00:62:69:01".into(),
        first_boot_masks: FIRST_BOOT_MASKS.map(str::to_owned).into(),
    }
}

#[test]
fn the_files_of_a_seed() {
    let SeedFiles { user_data, meta_data, network_config } = spec().files();
    insta::assert_snapshot!(format!(
        "{user_data}\n--- meta-data\n{meta_data}\n--- network-config\n{network_config}"
    ));
}

#[test]
fn without_masks_there_is_no_boot_command() {
    let files = SeedSpec { first_boot_masks: Vec::new(), ..spec() }.files();
    assert!(!files.user_data.contains("bootcmd"), "{}", files.user_data);
}

/// The volume's label and files, read by the same library.
fn read_back(volume: Vec<u8>) -> (String, Vec<(String, String)>) {
    let volume = FileSystem::new(Cursor::new(volume), FsOptions::new()).unwrap();
    let label = volume.read_volume_label_from_root_dir().unwrap().unwrap();
    let read = |entry: fatfs::DirEntry<'_, _>| {
        let mut text = String::new();
        entry.to_file().read_to_string(&mut text).unwrap();
        (entry.file_name(), text)
    };
    let files = volume.root_dir().iter().map(|entry| read(entry.unwrap())).collect();
    (label, files)
}

#[test]
fn the_volume_has_the_label_and_the_three_files() {
    let files = spec().files();
    let (label, found) = read_back(spec().render().unwrap());
    assert_eq!(label.trim_end(), LABEL);
    let expected = [
        ("user-data", files.user_data),
        ("meta-data", files.meta_data),
        ("network-config", files.network_config),
    ];
    assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text)));
}

#[test]
fn blkid_mtools_and_fsck_accept_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed.img");
    std::fs::write(&path, spec().render().unwrap()).unwrap();
    let deadline = Deadline::uninterrupted(Duration::from_secs(30), "the test");
    let run =
        |process: Process| process.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").run_ok(&deadline).unwrap();
    // udev in the guest asks the same, to make /dev/disk/by-label.
    let probe = run(Process::new("blkid").args(["-p", "-o", "export"]).arg(&path));
    assert!(probe.lines().any(|line| line == "LABEL=CIDATA"), "{probe}");
    assert!(probe.lines().any(|line| line == "TYPE=vfat"), "{probe}");
    let user_data = run(Process::new("mtype").arg("-i").arg(&path).arg("::user-data"));
    assert_eq!(user_data, spec().files().user_data);
    run(Process::new("fsck.fat").arg("-n").arg(&path));
}

#[test]
fn the_same_spec_gives_the_same_bytes() {
    assert_eq!(spec().render().unwrap(), spec().render().unwrap());
}

#[test]
fn files_that_do_not_fit_are_an_error_and_give_no_volume() {
    let huge = SeedSpec { authorized_key: "k".repeat(1 << 20), ..spec() };
    let error = huge.render().unwrap_err();
    assert!(error.bytes > 1 << 20, "{error}");
}

/// Text that a YAML 1.1 reader would misread or reject if it were plain.
#[rstest::rstest]
#[case::truth("on")]
#[case::base_60("52:54:00:12:34:56")]
#[case::date("2026-06-17")]
#[case::merge_key("<<")]
#[case::line_break("a\u{85}b\u{2028}c")]
#[case::not_printable("\u{7f}\u{feff}")]
fn every_string_is_read_as_a_string(#[case] odd: &str) {
    let spec = SeedSpec { hostname: odd.into(), mac: odd.into(), ..spec() };
    let SeedFiles { meta_data, network_config, .. } = spec.files();
    for (text, path) in [(meta_data, "/local-hostname"), (network_config, "/ethernets/lan/match/macaddress")]
    {
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON quotes every string");
        assert_eq!(value.pointer(path).unwrap(), odd);
        let printable = |c: char| matches!(c, '\n' | ' '..='~');
        assert!(text.chars().all(printable), "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_characters_reach_the_guest_unchanged(
        hostname in "\\PC{1,40}",
        key in "[ -~]{0,60}[!-~]",
        host_key in "([ -~]{0,70}\n){1,4}",
        mask in "\\PC{1,30}",
    ) {
        let odd = SeedSpec {
            hostname: hostname.clone(),
            instance_id: hostname.clone(),
            authorized_key: key.clone(),
            host_key_private: host_key.clone(),
            first_boot_masks: vec![mask.clone()],
            ..spec()
        };
        let files = odd.files();
        prop_assert!(files.user_data.starts_with("#cloud-config\n"));
        let user: Value = serde_yaml::from_str(&files.user_data).unwrap();
        prop_assert_eq!(user["hostname"].as_str(), Some(hostname.as_str()));
        prop_assert_eq!(user["users"][0]["ssh_authorized_keys"][0].as_str(), Some(key.as_str()));
        prop_assert_eq!(user["ssh_keys"]["ed25519_private"].as_str(), Some(host_key.as_str()));
        prop_assert_eq!(user["bootcmd"][0][7].as_str(), Some(mask.as_str()));
        let record = user["write_files"][0]["content"].as_str().unwrap();
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        prop_assert_eq!(record["masked_until_reboot"][0].as_str(), Some(mask.as_str()));
        let meta: Value = serde_yaml::from_str(&files.meta_data).unwrap();
        prop_assert_eq!(meta["local-hostname"].as_str(), Some(hostname.as_str()));
    }
}
