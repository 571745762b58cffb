//! The partitions of the golden disk, and the files that must agree with them. Pure: figures and text.

use std::fmt::Write as _;

/// Bytes in a sector of the partition table.
const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

/// GPT type of an EFI system partition: <https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>.
const ESP_TYPE: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// GPT type of a root partition for x86-64: same source.
const ROOT_TYPE: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";

/// Virtual size of the golden disk, in bytes: no overlay can be smaller.
pub(super) const DISK: u64 = 4096 * MIB;
/// Where the EFI system partition starts, in bytes.
pub(super) const ESP_OFFSET: u64 = MIB;
/// Size of the EFI system partition, in bytes: it holds several kernels.
const ESP: u64 = 256 * MIB;
/// Size of the EFI system partition in sectors.
pub(super) const ESP_SECTORS: u64 = ESP / SECTOR;
/// Where the root partition starts, in bytes. It comes last, so that it can grow into the overlay.
pub(super) const ROOT_OFFSET: u64 = ESP_OFFSET + ESP;
/// Size of the root partition in KiB; the last MiB of the disk holds the table's second copy.
pub(super) const ROOT_KIB: u64 = (DISK - ROOT_OFFSET - MIB) / 1024;

/// The input of `sfdisk`: man page sfdisk(8), "input formats".
pub(super) fn sfdisk_script() -> String {
    let partitions = [("ESP", ESP_TYPE, ESP_OFFSET, ESP), ("root", ROOT_TYPE, ROOT_OFFSET, ROOT_KIB * 1024)];
    let mut script = "label: gpt\n".to_owned();
    for (name, kind, start, size) in partitions {
        let (start, size) = (start / SECTOR, size / SECTOR);
        let _ = writeln!(script, "start={start}, size={size}, type={kind}, name=\"{name}\"");
    }
    script
}

/// `/etc/fstab`. Without it the root file system stays read-only; without the ESP in it, new kernels and command lines
/// never reach the loader.
///
/// The ESP has a long timeout: by default systemd waits 90 s for a device and then enters emergency mode, and udev has
/// needed longer than that under emulation on a busy machine.
pub(super) fn fstab() -> String {
    let mounts = [
        ("LABEL=root", "/", "ext4", "rw,relatime,errors=remount-ro", 1),
        ("LABEL=ESP", "/boot/efi", "vfat", "umask=0077,x-systemd.device-timeout=10min", 2),
    ];
    let mut text = "# device mount-point type options dump pass\n".to_owned();
    for (device, point, kind, options, pass) in mounts {
        let _ = writeln!(text, "{device} {point} {kind} {options} 0 {pass}");
    }
    text
}

/// `/etc/kernel/cmdline`, which kernel-install copies into every loader entry. The serial console is last, as the last one
/// becomes `/dev/console`, where systemd prints its status and emergency mode.
pub(super) const COMMAND_LINE: &str = "root=LABEL=root rw console=tty0 console=ttyS0,115200n8\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_table_as_sfdisk_reads_it() {
        insta::assert_snapshot!(sfdisk_script(), @r#"
        label: gpt
        start=2048, size=524288, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, name="ESP"
        start=526336, size=7860224, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name="root"
        "#);
    }

    #[test]
    fn the_root_partition_ends_before_the_second_table_and_follows_the_esp() {
        assert_eq!(ROOT_OFFSET, ESP_OFFSET + ESP_SECTORS * SECTOR);
        assert_eq!(ROOT_OFFSET + ROOT_KIB * 1024, DISK - MIB);
    }

    #[test]
    fn fstab_and_command_line_name_the_partitions_by_label() {
        insta::assert_snapshot!(fstab() + COMMAND_LINE, @r"
        # device mount-point type options dump pass
        LABEL=root / ext4 rw,relatime,errors=remount-ro 0 1
        LABEL=ESP /boot/efi vfat umask=0077,x-systemd.device-timeout=10min 0 2
        root=LABEL=root rw console=tty0 console=ttyS0,115200n8
        ");
    }
}
