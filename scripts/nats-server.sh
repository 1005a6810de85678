#!/usr/bin/env bash
# Prints the path of nats-server, a broker that asks Muster in the tests. The first call
# builds it, pinned, into the user's cache; later ones find it.
#
#   "$(scripts/nats-server.sh)" -c nats.conf
#
# Built as its own releases are: static, without cgo. Exit status 69: it is not in the
# cache and cannot be fetched.
set -euo pipefail
version=v2.15.2
dir=${XDG_CACHE_HOME:-$HOME/.cache}/muster/nats-server-$version

if [ ! -x "$dir/nats-server" ]; then
	mkdir -p "$dir"
	exec 9>"$dir/lock" # two callers build it once
	flock 9
fi
if [ ! -x "$dir/nats-server" ]; then
	echo "nats-server.sh: building nats-server $version" >&2
	made=$(mktemp -d "$dir/new.XXXXXX")
	trap 'rm -rf "$made"' EXIT
	# Flags that are the caller's own, such as -race or -mod, have no place here.
	GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOBIN="$made" \
		go install -trimpath -ldflags '-s -w' "github.com/nats-io/nats-server/v2@$version" >&2 || exit 69
	mv "$made/nats-server" "$dir/nats-server"
fi
echo "$dir/nats-server"
