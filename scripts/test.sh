#!/usr/bin/env bash
# Everything that must hold before a change goes in, in the order of what fails fastest.
# Later steps run even if an earlier one failed; the last line says how it went.
#
#   scripts/test.sh            settings: FUZZ_SECONDS, TEST_TIMEOUT, GENERATED, MUSTER_SOAK
set -uo pipefail
cd "$(dirname "$0")/.."

golangci=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

failed=()
step() { # NAME COMMAND...
	local name=$1 began=$SECONDS
	shift
	echo "==> $name"
	if "$@" </dev/null; then
		echo "==> $name: ok ($((SECONDS - began)) s)"
	else
		echo "==> $name: FAILED ($((SECONDS - began)) s)"
		failed+=("$name")
	fi
}

format() {
	local unformatted
	unformatted=$(find . \( -name node_modules -o -name '.?*' \) -prune -o -name '*.go' -type f -print0 | xargs -0r gofmt -l) || return 1
	[ -z "$unformatted" ] || { echo "not as gofmt writes it (make fmt):"; echo "$unformatted"; return 1; }
}
# Its caches stay in the checkout; Go's stays where it is.
lint() {
	GOCACHE=$(go env GOCACHE) XDG_CACHE_HOME=$PWD/.cache go run "$golangci" run
}
# Races are looked for in what is written here and in what it shares with libraries, not in
# what only computes: passphrases, curves, the grammar of a command line, and SQLite, whose C code
# was translated to Go and locks its own memory. Under the detector they would be most of the time.
uninstrumented=$(printf -- '-gcflags=%s=-race=false ' golang.org/x/crypto/scrypt \
	crypto/internal/fips140/{sha256,hmac,pbkdf2,bigmod,nistec} modernc.org/{sqlite/lib,libc,memory} \
	github.com/alecthomas/kong regexp{,/syntax})
# What is below test/ drives the program from outside: Go does not see that the program's
# sources have changed, and would tell of the last run. So it is always run (-count 1).
tests() {
	MUSTER_REQUIRE_EXTERNAL=1 scripts/with-postgres.sh bash -c '
		mapfile -t within < <(go list ./... | grep -v /test/)
		go test -race $1 -timeout "$0" "${within[@]}"
		inside=$?
		go test -race $1 -timeout "$0" -count 1 ./test/... && [ "$inside" -eq 0 ]
	' "${TEST_TIMEOUT:-10m}" "$uninstrumented"
}

step format format
step "module files" go mod tidy -diff
step vet go vet ./...
step "vet what tags add" go vet -tags "stepca vault google" ./cmd/muster
step lint lint
step "generated files" scripts/check-generated.sh ${GENERATED:-}
step tests tests
step "keys in a TPM" go test -tags tpmkms ./ca/keys -run InATPM
step fuzz scripts/fuzz.sh "${FUZZ_SECONDS:-60}"

if [ ${#failed[@]} -gt 0 ]; then
	printf -v list '%s, ' "${failed[@]}"
	echo "FAILED after $SECONDS s: ${list%, }"
	exit 1
fi
echo "PASSED: all checks in $SECONDS s"
