#!/bin/sh
# mmdebstrap runs this with the new system's tree as last argument, once every package is configured.
set -eu
umask 022
tree=$1
esp=$tree/boot/efi

# Settings of the build, not of the system: a role that installs packages gets Debian's defaults.
rm -f "$tree/etc/apt/apt.conf.d/99mmdebstrap" "$tree/etc/dpkg/dpkg.cfg.d/99mmdebstrap"

# What must be each machine's own. An empty machine-id is filled at the first boot; a missing one would make systemd
# re-apply every preset, and generate host keys beside the ones of the seed.
rm -f "$tree"/etc/ssh/ssh_host_* "$tree/var/lib/dbus/machine-id"
: > "$tree/etc/machine-id"
echo localhost > "$tree/etc/hostname"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"

# The loader, where the firmware looks without any boot entry in its variables, and where bootctl updates it.
# bootctl itself insists on a mounted ESP.
mkdir -p "$esp/EFI/BOOT" "$esp/EFI/systemd" "$esp/loader/entries"
for loader in "$tree"/usr/lib/systemd/boot/efi/systemd-bootx64.efi*; do
    cp "$loader" "$esp/EFI/BOOT/BOOTX64.EFI"
    cp "$loader" "$esp/EFI/systemd/systemd-bootx64.efi"
done
echo type1 > "$esp/loader/entries.srel"
printf 'timeout 0\neditor no\n' > "$esp/loader/loader.conf"

# Kernel, initrd and loader entry by the same tool that the guest's package hooks call later.
for modules in "$tree"/lib/modules/*; do
    version=${modules##*/}
    chroot "$tree" env BOOT_ROOT=/boot/efi BOOT_MNT=/boot/efi kernel-install --make-entry-directory=yes \
        add "$version" "/boot/vmlinuz-$version" "/boot/initrd.img-$version"
done
