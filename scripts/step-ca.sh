#!/usr/bin/env bash
# Installs step-ca, which the tests run as the CA in front of which Muster stands, as a Go
# tool into .cache/step-ca/VERSION of the checkout, unless it is there. Prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v0.30.2 # the library's, in go.mod
folder=$PWD/.cache/step-ca/$version
if [ ! -x "$folder/step-ca" ]; then
	echo "step-ca.sh: installing step-ca $version" >&2
	# Without cgo it needs no smart card library. It is another module: our flags are not its.
	GOFLAGS= CGO_ENABLED=0 GOBIN=$folder go install -ldflags '-s -w' "github.com/smallstep/certificates/cmd/step-ca@$version"
fi
echo "$folder/step-ca"
