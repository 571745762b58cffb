#!/bin/sh
# mmdebstrap runs this once every package is configured. Its last argument is the tree of the new system.
set -eu
umask 022
tree=$1
esp=$tree/boot/efi

# These are settings of the build: in the guest, apt and dpkg have Debian's defaults.
rm -f "$tree/etc/apt/apt.conf.d/99mmdebstrap" "$tree/etc/dpkg/dpkg.cfg.d/99mmdebstrap"

# Each machine gets its own. systemd fills an empty machine-id at the first boot; without the file it would apply every
# preset again, and so generate host keys beside those of the seed.
rm -f "$tree"/etc/ssh/ssh_host_* "$tree/var/lib/dbus/machine-id"
: > "$tree/etc/machine-id"
echo localhost > "$tree/etc/hostname"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"

# The boot loader: where the firmware looks if its variables have no boot entry, and where bootctl updates it. bootctl
# itself needs a mounted ESP.
mkdir -p "$esp/EFI/BOOT" "$esp/EFI/systemd" "$esp/loader/entries"
for loader in "$tree"/usr/lib/systemd/boot/efi/systemd-bootx64.efi*; do
    cp "$loader" "$esp/EFI/BOOT/BOOTX64.EFI"
    cp "$loader" "$esp/EFI/systemd/systemd-bootx64.efi"
done
echo type1 > "$esp/loader/entries.srel"
printf 'timeout 0\neditor no\n' > "$esp/loader/loader.conf"

# The guest's package hooks later call the same tool for kernel, initrd and loader entry.
for modules in "$tree"/lib/modules/*; do
    version=${modules##*/}
    chroot "$tree" env BOOT_ROOT=/boot/efi BOOT_MNT=/boot/efi kernel-install --make-entry-directory=yes \
        add "$version" "/boot/vmlinuz-$version" "/boot/initrd.img-$version"
done
