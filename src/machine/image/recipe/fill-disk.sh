#!/bin/sh
# mmdebstrap runs this last, with the new system's tree as last argument: here, as root of whatever namespace it made,
# files have the owners they shall have on disk, and nothing needs a loop device or a mount on the host.
# $1 disk image, $2 ESP offset in bytes, $3 ESP size in sectors, $4 root offset in bytes, $5 root size in KiB
set -eu
umask 022
disk=$1 esp_offset=$2 esp_sectors=$3 root_offset=$4 root_kib=$5 tree=$6

export MTOOLSRC=/dev/null
mformat -i "$disk@@$esp_offset" -T "$esp_sectors" -h 64 -s 32 -F -v ESP ::
mcopy -s -m -i "$disk@@$esp_offset" "$tree"/boot/efi/* ::/
rm -rf "$tree"/boot/efi/*

rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*.bin "$tree"/var/cache/apt/archives/*.deb
# An index that is not there must not look fresh: `apt` of Ansible with `cache_valid_time` goes by the folder's age.
touch -d @0 "$tree/var/lib/apt/lists"
rm -rf "$tree"/var/log/apt/* "$tree"/var/log/dpkg.log "$tree"/var/log/bootstrap.log

# Bound onto itself, and not recursively, the tree shows none of what is mounted in it (/proc, /sys). An empty /dev and
# /tmp hide what mmdebstrap keeps there, which differs between root and an ordinary user.
# shellcheck disable=SC2016
exec unshare --mount --propagation private sh -c '
    set -e
    mount --bind "$1" "$1"
    mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
    mount -t tmpfs -o mode=0755 tmpfs "$1/dev"
    exec mkfs.ext4 -q -F -L root -m 1 -E "offset=$3" -d "$1" "$2" "${4}k"
' sh "$tree" "$disk" "$root_offset" "$root_kib"
