#!/bin/sh
# mmdebstrap runs this last, as root of its namespace: files have the owners that they get on the disk, and nothing
# needs a loop device or a mount on the host. The last argument is the tree of the new system.
# $1 disk image, $2 ESP offset in bytes, $3 ESP size in sectors, $4 root offset in bytes, $5 root size in KiB
set -eu
umask 022
disk=$1 esp_offset=$2 esp_sectors=$3 root_offset=$4 root_kib=$5 tree=$6

export MTOOLSRC=/dev/null
mformat -i "$disk@@$esp_offset" -T "$esp_sectors" -h 64 -s 32 -F -v ESP ::
mcopy -s -m -i "$disk@@$esp_offset" "$tree"/boot/efi/* ::/
rm -rf "$tree"/boot/efi/*

rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*.bin "$tree"/var/cache/apt/archives/*.deb
# The package index is gone, so its folder must look old: Ansible's `apt` with `cache_valid_time` reads the folder's age.
touch -d @0 "$tree/var/lib/apt/lists"
rm -rf "$tree"/var/log/apt/* "$tree"/var/log/dpkg.log "$tree"/var/log/bootstrap.log

# A bind mount of the tree onto itself, not recursive, hides what is mounted in it (/proc, /sys). Empty /dev and /tmp hide
# mmdebstrap's files there, which differ between root and an ordinary user.
# shellcheck disable=SC2016
exec unshare --mount --propagation private sh -c '
    set -e
    mount --bind "$1" "$1"
    mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
    mount -t tmpfs -o mode=0755 tmpfs "$1/dev"
    exec mkfs.ext4 -q -F -L root -m 1 -E "offset=$3" -d "$1" "$2" "${4}k"
' sh "$tree" "$disk" "$root_offset" "$root_kib"
