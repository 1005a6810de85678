#!/usr/bin/env bash
# Fuzzes every Fuzz target of the module, SECONDS spread evenly over all of them.
# A failing input is kept by the Go tool under testdata/fuzz of its package: commit it.
#
#   scripts/fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
budget=${1:?usage: scripts/fuzz.sh SECONDS}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$(go env GOCACHE)/fuzz/$(go list -m) # where go test -fuzz keeps what it has learnt

# One instrumented binary a package, built only where there is something to fuzz.
targets=() # FOLDER BINARY NAME
while IFS= read -r folder; do
	binary=$work/$(tr / _ <<<"${folder#./}").test
	go test -c -fuzz=. -o "$binary" "$folder"
	while IFS= read -r name; do
		targets+=("$folder $binary $name")
	done < <(cd "$folder" && "$binary" -test.list '^Fuzz' | grep '^Fuzz')
done < <(grep -rl --include='*_test.go' --exclude-dir=node_modules --exclude-dir='.?*' '^func Fuzz[^(]*(f \*testing\.F' . | xargs -r -n 1 dirname | sort -u)

if [ ${#targets[@]} -eq 0 ]; then
	echo "fuzz: no targets yet"
	exit 0
fi
each=$((budget / ${#targets[@]}))
[ "$each" -ge 1 ] || each=1
echo "fuzz: ${#targets[@]} targets, $each s each"

failed=()
for target in "${targets[@]}"; do
	read -r folder binary name <<<"$target"
	learnt=$cache/${folder#./}
	mkdir -p "$learnt"
	status=0
	(cd "$folder" && "$binary" -test.run='^$' -test.fuzz="^$name\$" -test.fuzztime="${each}s" \
		-test.fuzzminimizetime=5s -test.timeout="$((each + 120))s" -test.fuzzcachedir="$learnt") \
		>"$work/log" 2>&1 </dev/null || status=$?
	# At the end of its time Go before 1.27 may report its own deadline as a failure, with no
	# input to show for it (go.dev/issue/75804). Whatever else is in the log is real.
	if [ $status -ne 0 ] && [ "$(sed -E '/^(fuzz: |--- FAIL: |FAIL|exit status |$)/d; s/^ +//' "$work/log")" = "context deadline exceeded" ]; then
		status=0
	fi
	if [ $status -eq 0 ]; then
		echo "fuzz: ok   $folder $name ($(grep -o 'execs: [0-9]*' "$work/log" | tail -n 1))"
	else
		echo "fuzz: FAIL $folder $name"
		cat "$work/log"
		failed+=("$folder $name")
	fi
done
[ ${#failed[@]} -eq 0 ]
