#!/usr/bin/env bash
# Prints the path of step-ca, the authority that tests and figures stand beside. The first
# call builds it, pinned, into the user's cache, which takes minutes; later ones find it.
#
#   "$(scripts/step-ca.sh)" ca.json
#
# Built as its own releases are: static, without cgo. Exit status 69: it is not in the
# cache and cannot be fetched.
set -euo pipefail
version=v0.30.2
dir=${XDG_CACHE_HOME:-$HOME/.cache}/muster/step-ca-$version

if [ ! -x "$dir/step-ca" ]; then
	mkdir -p "$dir"
	exec 9>"$dir/lock" # two callers build it once
	flock 9
fi
if [ ! -x "$dir/step-ca" ]; then
	echo "step-ca.sh: building step-ca $version" >&2
	made=$(mktemp -d "$dir/new.XXXXXX")
	trap 'rm -rf "$made"' EXIT
	# Flags that are the caller's own, such as -race or -mod, have no place here.
	GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOBIN="$made" \
		go install -trimpath -ldflags '-s -w' "github.com/smallstep/certificates/cmd/step-ca@$version" >&2 || exit 69
	mv "$made/step-ca" "$dir/step-ca"
fi
echo "$dir/step-ca"
