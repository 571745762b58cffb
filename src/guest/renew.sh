# shellcheck shell=sh disable=SC2154
# Run in the guest by boma-it, as root, after the values that it needs: gives a guest that was restored from a layer the clock
# and the keys of this run.
set -eu
export LC_ALL=C
fail() { echo "$1" >&2; exit 1; }

# The clock stands where the layer was made.
date -u -s "@$now" >/dev/null

# The kernel has renewed its random numbers, because the VM has another generation id. This is for a kernel that does not
# know it, and for the next boot.
printf '%s' "$random" | base64 -d >/dev/urandom
(umask 077 && printf '%s' "$random" | base64 -d >/var/lib/systemd/random-seed)

authorized=$(getent passwd "$user" | cut -d: -f6)/.ssh/authorized_keys
if [ -n "$host_key" ]; then
    # A first boot. Whatever else opens the guest, or identifies it, would still be the layer's.
    for key in /etc/ssh/ssh_host_*_key; do
        [ "$key" = /etc/ssh/ssh_host_ed25519_key ] || fail "unexpected host key $key"
    done
    [ "$(cat "$authorized")" = "$old_key" ] || fail "unexpected keys in $authorized"
    # Written in place, so that owner and mode stay.
    printf '%s\n' "$host_key" >/etc/ssh/ssh_host_ed25519_key
    printf '%s\n' "$host_key_public" >/etc/ssh/ssh_host_ed25519_key.pub
    printf '%s\n' "$new_key" >"$authorized"
    # Not a reload, after which the old sshd may still take a connection.
    systemctl restart ssh.service
else
    # After a playbook, which may have added keys.
    [ "$(grep -cxF -e "$old_key" "$authorized")" = 1 ] || fail "expected the layer's key once in $authorized"
    others=$(grep -vxF -e "$old_key" "$authorized" || true)
    printf '%s\n' ${others:+"$others"} "$new_key" >"$authorized"
fi

# Timers have fired as the clock went forward.
tries=0
while [ -n "$(systemctl list-jobs --plain --no-legend --no-pager)" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || fail "jobs still run: $(systemctl list-jobs --plain --no-legend --no-pager)"
    sleep 0.2
done
