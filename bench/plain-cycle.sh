#!/bin/bash
# The steps of a cycle without boma-it: virsh, ssh, ansible-playbook. `make bench` compares boma-it with this script, so it
# does the same work and no more, and leaves nothing behind.
#
#   IMAGE=golden.qcow2 HOST=askari bench/plain-cycle.sh
#
# Prints `<step> <seconds>` on stdout for each step and for the total; everything else goes to stderr.
# IMAGE    golden image, readable by QEMU's user       HOST     host of the inventory        (askari)
# ROLES    tags, by commas (those of the profile)      PREFIX   start of all names           (plain)
# SUBNET   first three numbers of the network          ACCEL    qemu (TCG) or kvm            (qemu)
# ANSIBLE  folder of ansible-playbook (from PATH)      EXTRA    more variables, as JSON      ({})
# VAULT_PASSWORD  password of harness/vault.yml, which holds no real secret  (not-a-secret)
# BEFORE=1 verify before the reboot too                TWICE=1  apply again; it must change nothing
# PEEK     a command to run in the guest before the reboot and at the end, on stderr
# BOOT=1   end after the first boot, with the VM's CPU seconds, and the boot's by the guest's own clock; three things to change about the VM:
#          CPU and FEATURES as libvirt XML, CMDLINE as more words for the kernel (by SMBIOS, which systemd-boot reads)
# shellcheck disable=SC2317,SC2329 # `step` and traps call the functions
set -euo pipefail
cd "$(dirname "$0")/.."

: "${IMAGE:?IMAGE is not set: path of the golden image}"
HOST=${HOST:-askari}
PREFIX=${PREFIX:-plain}
SUBNET=${SUBNET:-10.213.87}
ACCEL=${ACCEL:-qemu}
EXTRA=${EXTRA:-"{}"}
ROLES=${ROLES:-$(sed -n 's/^roles: \[\(.*\)\].*/\1/p' "profiles/$HOST.yml" | tr -d ' ')}
IMAGE=$(realpath "$IMAGE")
[ -z "${ANSIBLE:-}" ] || PATH=$ANSIBLE:$PATH
export LIBVIRT_DEFAULT_URI=${LIBVIRT_DEFAULT_URI:-qemu:///system}
# 52:54:00 is QEMU's prefix; on a private network any address will do.
vm=$PREFIX-$HOST network=$PREFIX-net address=$SUBNET.10 mac=52:54:00:b0:3a:17
work=$(mktemp -d "${TMPDIR:-/var/tmp}/$PREFIX.XXXXXX")

cleanup() {
	trap - EXIT INT TERM
	for socket in "$work"/cp*/*; do
		[ ! -S "$socket" ] || ssh -o ControlPath="$socket" -O exit guest || true
	done
	virsh destroy "$vm" || true
	virsh undefine "$vm" --nvram || true
	virsh net-destroy "$network" || true
	virsh net-undefine "$network" || true
	rm -rf "$work"
} >/dev/null 2>&1
trap cleanup EXIT
trap 'cleanup; exit 130' INT TERM

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { print b - a }'; }
begun=$(now)
# step NAME COMMAND…: runs it and prints its time.
step() {
	local name=$1 before status=0
	shift
	before=$(now)
	"$@" >&2 || status=$?
	printf '%s %.1f\n' "$name" "$(since "$before")"
	return "$status"
}

in_guest() { ssh -F "$work/ssh_config" guest "$@"; }

make_files() {
	chmod 755 "$work"
	ssh-keygen -q -t ed25519 -N '' -C "$vm" -f "$work/key"
	ssh-keygen -q -t ed25519 -N '' -C "$vm" -f "$work/host_key"
	echo "$address $(cat "$work/host_key.pub")" >"$work/known_hosts"
	cat >"$work/ssh_config" <<-END
		Host guest $address
		  HostName $address
		  User ansible
		  IdentityFile $work/key
		  IdentitiesOnly yes
		  UserKnownHostsFile $work/known_hosts
		  GlobalKnownHostsFile /dev/null
		  StrictHostKeyChecking yes
		  ConnectTimeout 5
		  LogLevel ERROR
	END
	cat >"$work/user-data" <<-END
		#cloud-config
		hostname: $HOST
		ssh_deletekeys: false
		ssh_keys:
		  ed25519_private: |
		$(sed 's/^/    /' "$work/host_key")
		  ed25519_public: $(cat "$work/host_key.pub")
		users:
		  - name: ansible
		    shell: /bin/bash
		    sudo: ALL=(ALL) NOPASSWD:ALL
		    ssh_authorized_keys: ["$(cat "$work/key.pub")"]
		bootcmd:
		  - systemctl mask --now apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service
	END
	: >"$work/ansible.cfg" # instead of the operator's own
	printf '%s\n' "${VAULT_PASSWORD:-not-a-secret}" >"$work/vault-password"
	printf 'instance-id: %s\n' "$vm-$$" >"$work/meta-data"
	printf 'version: 2\nethernets:\n  all:\n    match: {macaddress: "%s"}\n    dhcp4: true\n' "$mac" >"$work/network-config"
	truncate -s 1M "$work/seed.img"
	mkfs.vfat -n CIDATA "$work/seed.img"
	mcopy -i "$work/seed.img" "$work/user-data" "$work/meta-data" "$work/network-config" ::
	qemu-img create -q -f qcow2 -b "$IMAGE" -F qcow2 "$work/disk.qcow2" 20G
}

start() {
	cat >"$work/network.xml" <<-END
		<network><name>$network</name><forward mode='nat'/>
		  <ip address='$SUBNET.1' netmask='255.255.255.0'><dhcp>
		    <range start='$SUBNET.10' end='$SUBNET.10'/><host mac='$mac' ip='$address'/>
		  </dhcp></ip></network>
	END
	local cpu=${CPU:-"<cpu mode='$([ "$ACCEL" = kvm ] && echo host-passthrough || echo maximum)'/>"} smbios='' sysinfo=''
	if [ -n "${CMDLINE:-}" ]; then
		smbios="<smbios mode='sysinfo'/>"
		sysinfo="<sysinfo type='smbios'><oemStrings><entry>io.systemd.boot.kernel-cmdline-extra=$CMDLINE</entry></oemStrings></sysinfo>"
	fi
	cat >"$work/domain.xml" <<-END
		<domain type='$ACCEL'><name>$vm</name><memory unit='GiB'>3</memory><vcpu>2</vcpu>$sysinfo
		  <os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type>$smbios
		    <firmware><feature enabled='no' name='secure-boot'/></firmware></os>
		  <features><acpi/>${FEATURES:-}</features>
		  $cpu
		  <clock offset='utc'><timer name='hpet' present='no'/></clock>
		  <on_reboot>restart</on_reboot>
		  <devices>
		    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe' discard='unmap'/>
		      <source file='$work/disk.qcow2'/><target dev='vda' bus='virtio'/></disk>
		    <disk type='file' device='disk'><driver name='qemu' type='raw'/>
		      <source file='$work/seed.img'/><target dev='vdb' bus='virtio'/><readonly/></disk>
		    <interface type='network'><mac address='$mac'/><source network='$network'/><model type='virtio'/></interface>
		    <serial type='pty'/><console type='pty'/>
		    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
		  </devices></domain>
	END
	virsh -q net-define "$work/network.xml"
	virsh -q net-start "$network"
	virsh -q define "$work/domain.xml"
	virsh -q start "$vm"
}

# reachable OLD: waits until SSH answers from a boot other than OLD.
reachable() {
	local deadline=$((SECONDS + 600)) seen
	until seen=$(in_guest cat /proc/sys/kernel/random/boot_id 2>/dev/null) && [ "$seen" != "${1:-}" ]; do
		((SECONDS < deadline)) || { echo "$vm did not answer within 600 s" >&2; return 1; }
		sleep 0.5
	done
	boot=$seen
}

ready() {
	reachable "${1:-}"
	in_guest 'cloud-init status --wait >/dev/null; systemctl is-system-running --wait' || true
}

restart() {
	local old=$boot
	virsh -q reboot "$vm" --mode acpi
	ready "$old"
	boots=$((boots + 1))
}

play() {
	local playbook=$1
	shift
	# One control path per boot: a socket to the old boot would hang the first task.
	ANSIBLE_CONFIG=$work/ansible.cfg ANSIBLE_PIPELINING=1 ANSIBLE_SSH_CONTROL_PATH_DIR=$work/cp$boots \
		ANSIBLE_SSH_ARGS="-F $work/ssh_config -o ControlMaster=auto -o ControlPersist=60s" \
		ansible-playbook -i site/inventory/production --limit "$HOST" "$playbook" \
		-e "ansible_host=$address ansible_user=ansible ansible_python_interpreter=/usr/bin/python3" \
		-e "boma_it_host=$HOST boma_it_scenario= boma_it_address=$address boma_it_certs=internal" \
		-e '{"boma_it": true, "boma_it_egress": true}' -e "@overrides/$HOST.yml" -e "$EXTRA" \
		-e @harness/vault.yml --vault-password-file "$work/vault-password" "$@"
}

apply() { play site/site.yml --tags "$ROLES" -e boma_it_phase=apply; }
verify() {
	play harness/verify.yml -e "boma_it_phase=$1" | tee "$work/verify.log"
	! grep -q '^fatal:' "$work/verify.log"
}
unchanged() { apply | tee "$work/again.log"; grep -q "^$HOST .* changed=0 " "$work/again.log"; }
peek() { [ -z "${PEEK:-}" ] || in_guest "$PEEK" >&2 || true; }

boots=0 status=0
step prepare make_files
step start start
step ready ready
if [ -n "${BOOT:-}" ]; then
	virsh domstats --cpu-total "$vm" | sed -n 's/^ *cpu.time=\([0-9]*\)[0-9]\{8\}$/\1/p' | sed 's/.$/.&/; s/^/cpu /'
	[ -z "${CMDLINE:-}" ] || in_guest grep -qF "'$CMDLINE'" /proc/cmdline || { echo "the kernel did not get CMDLINE" >&2; exit 1; }
	in_guest systemctl show -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic --value |
		awk '{t[NR] = $1 / 1e6} END {printf "kernel %.1f\nuserspace %.1f\n", t[1], t[2] - t[1]}'
	exit
fi
step apply apply
[ -z "${TWICE:-}" ] || step again unchanged || status=1
[ -z "${BEFORE:-}" ] || step verify_before verify before || status=1
peek
step reboot restart
step verify verify assert || status=1
peek
step down cleanup
printf 'total %.1f\n' "$(since "$begun")"
exit "$status"
