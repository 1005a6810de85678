#!/usr/bin/env bash
# The shortest way to a provisioned device: a development server, and one device of its
# group "demo" that registers, gets a certificate and renews it in time. Ctrl-C stops both;
# the server's data stays in ./muster-dev and the device's in ./ID.
#
#   scripts/quickstart.sh [ID]     settings: MUSTER_BIN (default bin/muster)
set -euo pipefail
bin=$(realpath -m "${MUSTER_BIN:-$(dirname "$0")/../bin/muster}")
id=${1:-press-0042}

log=$(mktemp)
"$bin" serve --dev > >(tee "$log") &
server=$!
stop() {
	kill "$server" 2>/dev/null || true
	wait "$server" || true
	rm -f "$log"
}
trap stop EXIT
trap 'exit 0' INT TERM HUP
until grep -q '^ready in' "$log"; do
	kill -0 "$server" 2>/dev/null || exit 1 # it has said why
	sleep 0.1
done

# What follows is what a second terminal would run.
. muster-dev/dev.env
"$bin" device run "$id" --group-key-file muster-dev/demo-group.key
