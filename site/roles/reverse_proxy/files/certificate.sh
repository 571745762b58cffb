#!/bin/sh
# Part of role reverse_proxy, which runs `setup`.
#
#   reverse-proxy-certificate setup    installs this script, its settings (from the environment) and a daily timer; then
#                                      does the same as `due`
#   reverse-proxy-certificate due      gets a certificate if there is none, or if the old one expires within 30 days
#   reverse-proxy-certificate now      gets a new certificate in any case
#
# The certificate is for DOMAIN and *.DOMAIN, over ACME's DNS-01 (RFC 8555, 8.4). lego talks to the authority and calls
# this script, as `present` and `cleanup`, to set and clear the TXT record that proves control of the domain. Prints
# what changed.
set -eu

# Stored beside the script. None is a secret: DNS_TOKEN_FILE names the file that holds the DNS provider's token.
SETTINGS="DOMAIN EMAIL DIRECTORY CA DNS DNS_API DNS_ZONE DNS_RESOLVER DNS_TOKEN_FILE SERVED GROUP"
# A prefix for every path, for tests.
ROOT=${ROOT-}
self=$ROOT/usr/local/sbin/reverse-proxy-certificate
settings=$ROOT/etc/reverse-proxy-certificate.env
units=$ROOT/etc/systemd/system

# Writes standard input to the file $2 with mode $1, and prints a line if that changed the file.
keep() {
	cat >"$2.new"
	if cmp -s "$2.new" "$2"; then
		rm "$2.new"
	else
		chmod "$1" "$2.new"
		mv "$2.new" "$2"
		echo "installed $2"
	fi
}

keep_settings() {
	for name in $SETTINGS; do
		value=
		eval "value=\${$name-}"
		printf "%s='%s'\n" "$name" "$(printf '%s' "$value" | sed "s/'/'\\\\''/g")"
	done | keep 0644 "$settings"
}

case ${1-} in
setup)
	keep_settings
	keep 0755 "$self" <"$0" ;;
due | now | present | cleanup)
	# shellcheck source=/dev/null
	. "$settings" ;;
*)
	echo "usage: $0 setup|due|now" >&2
	exit 64 ;;
esac

# One folder per authority: a switch from a staging directory to the real one must not reuse the staging certificate.
state=$ROOT/var/lib/reverse-proxy-certificate/$(echo "$DIRECTORY" | cut -d / -f 3 | tr : _)
mine=$state/certificates/$DOMAIN

# The hook. It sets the one record at that name, as lego asks for one at a time.
case $1:$DNS in
present:challtestsrv)
	exec curl -sS --fail --max-time 30 --data "{\"host\": \"$2\", \"value\": \"$3\"}" "$DNS_API/set-txt" ;;
cleanup:challtestsrv)
	exec curl -sS --fail --max-time 30 --data "{\"host\": \"$2\"}" "$DNS_API/clear-txt" ;;
present:gandi | cleanup:gandi)
	name=${2%".$DNS_ZONE."}
	set -- "$1" "$DNS_API/domains/$DNS_ZONE/records/$name/TXT" "${3:-}"
	if [ "$1" = present ]; then
		set -- --request PUT --json "{\"rrset_ttl\": 300, \"rrset_values\": [\"$3\"]}" "$2"
	else
		set -- --request DELETE "$2"
	fi
	# The token goes over standard input: every user of this host can read arguments.
	printf 'header = "Authorization: Bearer %s"\n' "$(cat "$DNS_TOKEN_FILE")" |
		curl -sS --fail --max-time 30 --output /dev/null --config - "$@"
	exit ;;
esac

# The instance name of the service is this script's argument.
keep_units() {
	keep 0644 "$units/reverse-proxy-certificate@.service" <<-UNIT
		# Written by $self.
		[Unit]
		Description=Certificate of the reverse proxy (%i)
		Wants=network-online.target
		After=network-online.target

		[Service]
		Type=oneshot
		ExecStart=$self %i
	UNIT
	keep 0644 "$units/reverse-proxy-certificate.timer" <<-UNIT
		# Written by $self.
		[Unit]
		Description=Daily check of the certificate of the reverse proxy

		[Timer]
		OnCalendar=daily
		RandomizedDelaySec=6h
		Persistent=true
		Unit=reverse-proxy-certificate@due.service

		[Install]
		WantedBy=timers.target
	UNIT
}

have_timer() {
	new=$(keep_units)
	[ -n "$new" ] || return 0
	# `enable` also makes systemd reload its units.
	systemctl --quiet enable --now reverse-proxy-certificate.timer
	echo "$new"
}

order() {
	# Seconds: how long to wait for the zone's servers to have the record, and how often to ask them.
	timeout=1200 interval=20
	set -- lego --path "$state" --server "$DIRECTORY" --accept-tos --email "$EMAIL" \
		--domains "$DOMAIN" --domains "*.$DOMAIN" --dns exec
	# For a test authority: only its own DNS server knows the record, and it knows it at once.
	if [ "$DNS" = challtestsrv ]; then
		timeout=10 interval=0
		set -- "$@" --dns.disable-cp --dns.resolvers "$DNS_RESOLVER"
	fi
	if [ -n "$CA" ]; then
		printf '%s\n' "$CA" >"$state/ca.pem"
		export LEGO_CA_CERTIFICATES="$state/ca.pem"
	fi
	EXEC_PATH=$self EXEC_PROPAGATION_TIMEOUT=$timeout EXEC_POLLING_INTERVAL=$interval EXEC_SEQUENCE_INTERVAL=$interval \
		"$@" run >"$state/log" 2>&1
}

# A test authority can forget an account: then make a new one.
order_anew() {
	order && return
	grep -q accountDoesNotExist "$state/log" || return
	rm -rf "$state/accounts"
	order
}

umask 077
mkdir -p "$state"
if [ "$1" = now ] || ! openssl x509 -noout -checkend $((30 * 24 * 3600)) -in "$mine.crt" >/dev/null 2>&1; then
	order_anew || {
		cat "$state/log" >&2
		exit 1
	}
fi
if [ "$1" = setup ]; then have_timer; fi

# Install the current certificate where Caddy reads it.
cmp -s "$mine.crt" "$SERVED/site.crt" && exit 0
if [ -e "$SERVED/site.crt" ]; then replaces=true; else replaces=false; fi
install -d -m 0750 -g "$GROUP" "$SERVED"
install -m 0640 -g "$GROUP" "$mine.crt" "$SERVED/site.crt"
install -m 0640 -g "$GROUP" "$mine.key" "$SERVED/site.key"
echo "certificate of $DOMAIN: $(openssl x509 -noout -serial -enddate -in "$mine.crt" | tr '\n' ' ')"
# The first certificate is installed before Caddy's configuration names it: nothing to reload yet.
if $replaces; then systemctl reload caddy.service; fi
