# shellcheck shell=sh disable=SC2217
# Run in the guest by boma-it: waits until the boot is over, tells facts line by line, ends with the state.
export LC_ALL=C
root='@root@'
read -r id <"$root/proc/sys/kernel/random/boot_id"
echo "boot $id"
case $id in @enough@) exit 0 ;; esac
while sleep 1 </dev/null >/dev/null 2>&1; do
    systemctl list-jobs --plain --no-legend --no-pager 2>/dev/null | (
        units=
        while read -r _ unit _ state; do
            [ "$state" != running ] || units="$units $unit"
        done
        echo "jobs$units"
    )
    sleep 2 </dev/null >/dev/null 2>&1
done &
reporter=$!
state=$(systemctl is-system-running --wait 2>/dev/null)
kill "$reporter" 2>/dev/null
case $state in
    running | degraded) ;;
    *) echo "state $state"; exit 0 ;;
esac
while [ -e "$root/run/nologin" ]; do
    echo nologin
    sleep 0.2
done
if [ -e "$root/run/cloud-init/disabled" ]; then
    echo 'cloud-init disabled'
elif [ ! -e "$root/usr/bin/cloud-init" ]; then
    echo 'cloud-init absent'
else
    tries=0
    until [ -e "$root/run/cloud-init/result.json" ] || [ "$tries" = 50 ]; do
        tries=$((tries + 1))
        sleep 0.2
    done
    # By builtins, as the boot being over is news that should not wait for a fork.
    for part in status result; do
        [ -e "$root/run/cloud-init/$part.json" ] || continue
        printf 'cloud-init-%s ' "$part"
        while read -r line || [ -n "$line" ]; do
            printf '%s' "$line"
        done <"$root/run/cloud-init/$part.json"
        echo
    done
    [ -e "$root/run/cloud-init/result.json" ] ||
        systemctl list-unit-files 'cloud-*' --plain --no-legend --no-pager 2>/dev/null |
        while read -r unit enabled _; do echo "cloud-init-unit $unit $enabled"; done
fi
[ "$state" = running ] ||
    systemctl list-units --failed --plain --no-legend --no-pager | while read -r unit _; do echo "failed $unit"; done
echo "state $state"
