#!/usr/bin/env bash
# Makes sure this machine can run a make target: a Go that is new enough, the Debian
# packages the target uses, and for the tests the npm packages of test/azure. As root on
# Debian it installs what is missing and nothing else; otherwise it says which Debian
# packages to install and ends with status 1.
#
#   scripts/setup.sh build|demo|breach|test
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: scripts/setup.sh build|demo|breach|test}

want=$(awk '$1 == "go" { print $2; exit }' go.mod)
if ! command -v go >/dev/null; then
	echo "setup: Go $want or newer is needed and go is not in PATH: https://go.dev/dl/" >&2
	exit 1
fi
# go itself refuses a go.mod that is too new for it, or fetches a newer toolchain.
have=$(go env GOVERSION) || exit 1
have=${have#go}
if [ "$(printf '%s\n%s\n' "$want" "${have%%[- ]*}" | sort -V | head -n 1)" != "$want" ]; then
	echo "setup: Go $want or newer is needed, this is $have" >&2
	exit 1
fi

missing=()
need() { # PACKAGE COMMAND...: the package is missing if the command fails
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}
has_postgres() { ls /usr/lib/postgresql/*/bin/postgres || command -v initdb postgres; }
has_c_headers() { echo '#include <stdlib.h>' | cc -E -; }
has_strongswan_plugin() { ls /usr/lib/ipsec/plugins/libstrongswan-"$1".so; }
# Where it is installed sbin need not be in PATH.
has_mosquitto() { ls /usr/sbin/mosquitto || command -v mosquitto; }
has_node() { node --eval 'process.exit(Number(process.versions.node.split(".")[0]) >= 18 ? 0 : 1)'; }

# The copy of the lockfile says what was installed; none of the packages needs its scripts.
npm_packages() {
	cmp --silent test/azure/package-lock.json test/azure/node_modules/.installed && return
	echo "setup: installing the npm packages of test/azure"
	(cd test/azure && npm ci --ignore-scripts --loglevel error && cp package-lock.json node_modules/.installed)
}

case $target in
build) ;;
breach | test)
	need mosquitto has_mosquitto
	;;&
bench | test)
	need swtpm command -v swtpm # devices' TPMs
	need postgresql has_postgres
	;;&
bench | demo | test)
	need openssl command -v openssl
	need curl command -v curl
	need ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
	;;&
test)
	need gcc command -v cc # the race detector links with it
	need libc6-dev has_c_headers
	need util-linux command -v setpriv
	need strongswan-pki command -v pki # an EST client that is nobody's of ours
	need nodejs has_node
	need npm command -v npm
	# What reads our certificates, lists and answers beside openssl, and what we read of theirs.
	need softhsm2 command -v softhsm2-util
	need tpm2-tools command -v tpm2_activatecredential
	need gnutls-bin command -v ocsptool
	need strongswan-pki command -v pki
	need libstrongswan-standard-plugins has_strongswan_plugin openssl
	need libstrongswan-extra-plugins has_strongswan_plugin curl
	;;
bench | demo | breach) ;;
*)
	echo "setup: unknown target $target" >&2
	exit 1
	;;
esac

debian_packages() {
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		echo "setup: missing on this machine: ${missing[*]}" >&2
		echo "setup: on Debian, run: sudo apt-get install ${missing[*]}" >&2
		exit 1
	fi

	echo "setup: installing ${missing[*]}"
	# The tests run their own server; the package is kept from making and starting one.
	quiet=/etc/postgresql-common/createcluster.d/muster-setup.conf policy=/usr/sbin/policy-rc.d
	if [[ " ${missing[*]} " == *" postgresql "* ]]; then
		trap 'rm -f "$quiet"' EXIT
		mkdir -p "${quiet%/*}"
		echo 'create_main_cluster = false' >"$quiet"
	fi
	# And of the broker's package no service is started (it would take port 1883).
	if [[ " ${missing[*]} " == *" mosquitto "* ]] && [ ! -e "$policy" ]; then
		trap 'rm -f "$quiet" "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	if ! apt_install; then # the package lists are absent or out of date
		apt-get update --quiet
		apt_install
	fi
}
apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \
		-o DPkg::Lock::Timeout=300 "${missing[@]}" </dev/null
}

debian_packages
if [ "$target" = test ]; then
	npm_packages
	scripts/step-ca.sh >/dev/null
	scripts/nats-server.sh >/dev/null
	scripts/promtool.sh >/dev/null
fi
