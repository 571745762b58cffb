#!/usr/bin/env bash
# Makes settings of every kind that is easily forgotten for the next boot. Everything is in force when this ends.
#
#   settings.sh now-and-at-boot   every setting is made as it should be
#   settings.sh now               each is wrong for the next boot, except those named `control`
set -euo pipefail
mode=$1
units=/usr/local/lib/systemd/system
mkdir -p $units /etc/systemd/network /etc/systemd/resolved.conf.d /srv/lab /run/lab

# Whether a setting is made for the next boot too.
lasts() { [ "$mode" = now-and-at-boot ] || [ "${1-}" = control ]; }

# unit NAME [LINE ...]: writes a unit that is enabled for multi-user.target, with these lines.
unit() {
  local name=$1
  shift
  printf '%s\n' "$@" '[Install]' 'WantedBy=multi-user.target' >"$units/lab-$name"
}
# A service that runs until it is stopped, with these lines in its section [Unit].
service() {
  local name=$1
  shift
  unit "$name.service" '[Unit]' "$@" '[Service]' 'ExecStart=/usr/bin/sleep infinity'
}

# Units: files first, so that systemd reads them once.
for each in started control masked limit control-limit unwanted control-unwanted cycle-first; do service "$each"; done
service cycle-second After=lab-cycle-first.service
service condition ConditionPathExists=/run/lab/wanted
cp /usr/bin/sleep /usr/local/sbin/lab-sleep
# Debian 13 has /tmp in memory, and lets no program start from /run.
cp /usr/bin/sleep /tmp/lab-sleep
program=/tmp/lab-sleep
! lasts || program=/usr/local/sbin/lab-sleep
unit program.service '[Service]' "ExecStart=$program infinity"
unit control-program.service '[Service]' 'ExecStart=/usr/local/sbin/lab-sleep infinity'
for each in tick control-tick; do
  unit $each.timer '[Timer]' 'OnCalendar=yearly' "Unit=lab-started.service"
done
unit door.socket '[Socket]' 'ListenStream=127.0.0.1:7001' 'Accept=yes'
unit control-door.socket '[Socket]' 'ListenStream=127.0.0.1:7002' 'Accept=yes'
for each in door control-door; do
  printf '[Service]\nExecStart=/usr/bin/cat\nStandardInput=socket\n' >"$units/lab-$each@.service"
done
for each in limit control-limit; do
  folder=/run/systemd/system
  ! lasts "${each%-limit}" || folder=/etc/systemd/system
  mkdir -p "$folder/lab-$each.service.d"
  printf '[Service]\nTasksMax=77\n' >"$folder/lab-$each.service.d/limit.conf"
done
unit undo.service '[Service]' 'Type=oneshot' 'ExecStart=/usr/sbin/sysctl -w vm.swappiness=60' # the kernel's default
touch /run/lab/wanted
systemctl daemon-reload
systemctl start lab-{started,control,masked,limit,control-limit,cycle-first,condition,program,control-program}.service \
  lab-{tick,control-tick}.timer lab-{door,control-door}.socket
systemctl start lab-cycle-second.service
systemctl --quiet enable lab-{control,masked,limit,control-limit,unwanted,cycle-first,cycle-second,condition}.service \
  lab-{program,control-program}.service lab-control-tick.timer lab-control-door.socket
if lasts; then
  systemctl --quiet enable lab-started.service lab-tick.timer lab-door.socket
  systemctl --quiet disable lab-unwanted.service
  service by-command
  systemctl daemon-reload
  systemctl --quiet enable --now lab-by-command.service
  echo 'f /run/lab/wanted' >>/etc/tmpfiles.d/lab.conf
else
  systemctl --quiet mask lab-masked.service
  systemd-run --quiet --unit=lab-by-command sleep infinity
  systemctl --quiet enable lab-undo.service
  # Each waits for the other, so systemd leaves one of them out.
  service cycle-first After=lab-cycle-second.service
fi

# Kernel.
set_now() { sysctl --quiet -w "$1"; }
set_now vm.dirty_ratio=15
set_now vm.dirty_background_ratio=7
set_now vm.vfs_cache_pressure=150
set_now vm.swappiness=10
printf '%s\n' vm.dirty_background_ratio=7 vm.vfs_cache_pressure=150 vm.swappiness=10 >/etc/sysctl.d/90-lab.conf
if lasts; then echo vm.dirty_ratio=15 >>/etc/sysctl.d/90-lab.conf; else
  echo vm.vfs_cache_pressure=100 >/etc/sysctl.d/95-vendor.conf
fi
modprobe -a dummy tun veth
echo veth >/etc/modules-load.d/control.conf
# A module that should be gone.
modprobe -r tun
if lasts; then echo dummy >/etc/modules-load.d/lab.conf; else echo tun >/etc/modules-load.d/tun.conf; fi
echo never >/sys/kernel/mm/transparent_hugepage/enabled
echo never >/sys/kernel/mm/transparent_hugepage/shmem_enabled
echo 'w /sys/kernel/mm/transparent_hugepage/shmem_enabled - - - - never' >>/etc/tmpfiles.d/lab.conf
! lasts || echo 'w /sys/kernel/mm/transparent_hugepage/enabled - - - - never' >>/etc/tmpfiles.d/lab.conf

# Network, all on the loopback interface, which nothing else configures.
ip address add 192.0.2.7/32 dev lo
ip address add 192.0.2.8/32 dev lo
ip address add 2001:db8::7/128 dev lo
ip address add 2001:db8::8/128 dev lo
ip route add blackhole 198.51.100.0/25
ip route add blackhole 198.51.100.128/25
ip rule add from 192.0.2.7 lookup 100 priority 100
ip link set lo mtu 60000
{
  printf '%s\n' '[Match]' Name=lo '[Network]' Address=192.0.2.8/32 Address=2001:db8::8/128
  printf '%s\n' '[Route]' Destination=198.51.100.128/25 Type=blackhole
  ! lasts || printf '%s\n' '[Network]' Address=192.0.2.7/32 Address=2001:db8::7/128 '[Link]' MTUBytes=60000 \
    '[Route]' Destination=198.51.100.0/25 Type=blackhole '[RoutingPolicyRule]' From=192.0.2.7 Table=100 Priority=100
} >/etc/systemd/network/lab.network
link=$(ip -o route show default | sed 's/.* dev \([^ ]*\).*/\1/;q')
if lasts; then
  printf '[Resolve]\nDomains=lab.example\n' >/etc/systemd/resolved.conf.d/lab.conf
  systemctl restart systemd-resolved.service
else
  resolvectl domain "$link" lab.example
fi
nft add table inet lab
nft add table inet control
! lasts || echo 'table inet lab {}' >>/etc/nftables.conf
echo 'table inet control {}' >>/etc/nftables.conf
systemctl --quiet enable nftables.service

# Files and mounts.
mkdir -p /srv/lab/{hand,noauto,control} /run/lab-{folder,control}
for each in hand noauto control; do mount -t tmpfs "lab-$each" /srv/lab/$each; done
options=noauto
! lasts || options=defaults
printf '%s\n' 'lab-control /srv/lab/control tmpfs defaults 0 0' "lab-noauto /srv/lab/noauto tmpfs $options 0 0" \
  >>/etc/fstab
mount -o remount,noexec /dev/shm
fallocate -l 16M /srv/lab/swap
chmod 0600 /srv/lab/swap
mkswap --quiet /srv/lab/swap
swapon /srv/lab/swap
! lasts || cat >>/etc/fstab <<END
lab-hand /srv/lab/hand tmpfs defaults 0 0
tmpfs /dev/shm tmpfs nosuid,nodev,noexec 0 0
/srv/lab/swap none swap sw 0 0
END
echo 'd /run/lab-control' >>/etc/tmpfiles.d/lab.conf
! lasts || echo 'd /run/lab-folder' >>/etc/tmpfiles.d/lab.conf
chmod 0640 /dev/kmsg /dev/full
echo 'KERNEL=="full", MODE="0640"' >/etc/udev/rules.d/90-lab.rules
! lasts || echo 'KERNEL=="kmsg", MODE="0640"' >>/etc/udev/rules.d/90-lab.rules

# Containers.
tar -C / --dereference --create bin/busybox | docker import - lab >/dev/null
policy=no
! lasts || policy=always
docker run --detach --network none --name lab --restart $policy lab /bin/busybox sleep infinity >/dev/null
docker run --detach --network none --name control --restart always lab /bin/busybox sleep infinity >/dev/null

# Written last: what is there is whole.
mkdir /var/lib/lab
