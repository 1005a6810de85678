#!/usr/bin/env bash
# A breach, played through: the intermediate of a factory is stolen on which 10,000 simulated
# devices rest, at the built-in hub and at a real Mosquitto; it is disallowed, and every door
# and hub is asked whether it took. It prints the time to contain. Everything is real and on
# loopback; every step is checked, and the first that is not as it should be ends it with
# status 1 and its name (bench/breach has the steps).
#
#   scripts/demo-breach.sh     settings: MUSTER_BIN (default bin/muster), BREACH_BIN (default: it is
#                              built), BREACH_DEVICES (default 10000)
#
# Nothing is left running and nothing is written outside ./demo-breach, which is made anew by
# each run and kept at the end for a look.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() {
	echo "demo-breach: $*" >&2
	exit 1
}
muster=$(realpath -m "${MUSTER_BIN:-bin/muster}")
[ -x "$muster" ] || fail "there is no muster at $muster: run make, or set MUSTER_BIN"
mark="made by scripts/demo-breach.sh, which removes it when it runs again"
if [ -e demo-breach ] && ! grep -qs "$mark" demo-breach/.gitignore; then
	fail "./demo-breach is not from an earlier run: move it away"
fi
umask 077
rm -rf demo-breach
mkdir demo-breach
printf '# %s\n*\n' "$mark" >demo-breach/.gitignore
breach=${BREACH_BIN:-}
if [ -z "$breach" ]; then
	breach=$PWD/demo-breach/breach
	go build -o "$breach" ./bench/breach
fi
# Each device at the broker is a connection, at both its ends.
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
echo "A breach in one tour: a stolen intermediate, ${BREACH_DEVICES:-10000} devices, two hubs. All of it is in ./demo-breach."
exec "$breach" -muster "$muster" -dir "$PWD/demo-breach" -devices "${BREACH_DEVICES:-10000}"
