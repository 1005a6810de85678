#!/usr/bin/env bash
# Prints the path of promtool, which checks and tests the alert rules of deploy/prometheus.
# Without one in PATH, the first call takes it out of Debian's package prometheus into the
# user's cache: the package itself is not installed, so that no service comes with it.
#
#   "$(scripts/promtool.sh)" check rules deploy/prometheus/muster.rules.yml
#
# Exit status 69: it is not there and cannot be fetched.
set -euo pipefail

if command -v promtool; then
	exit 0
fi
dir=${XDG_CACHE_HOME:-$HOME/.cache}/muster/promtool
if [ ! -x "$dir/promtool" ]; then
	mkdir -p "$dir"
	exec 9>"$dir/lock" # two callers fetch it once
	flock 9
fi
if [ ! -x "$dir/promtool" ]; then
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 69
	echo "promtool.sh: fetching Debian's package prometheus" >&2
	made=$(mktemp -d "$dir/new.XXXXXX")
	trap 'rm -rf "$made"' EXIT
	cd "$made"
	download() { apt-get download --quiet prometheus >&2; }
	# The package lists may be absent or out of date; only root can do something about it.
	download || { [ "$(id -u)" -eq 0 ] && apt-get update --quiet >&2 && download; } || exit 69
	dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x -f - ./usr/bin/promtool
	mv usr/bin/promtool "$dir/promtool"
fi
echo "$dir/promtool"
