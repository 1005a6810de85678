#!/usr/bin/env bash
# The figures: Muster beside the floor, and a server with a million certificates beside an
# empty one; and devices that are let in beside a herd that is not. The tables name their goals.
#
#   scripts/bench.sh      settings: BENCH_ROUNDS, BENCH_COUNT, BENCH_ROWS (0: no scale),
#                         BENCH_HERD (seconds; 0: none)
#
# The floor and the generator that it is measured with are not part of this repository:
# they are built from ../shared/bench where that is there. Elsewhere Muster's own figures
# are printed, without ratios.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${BENCH_ROUNDS:-5}
count=${BENCH_COUNT:-1000}
rows=${BENCH_ROWS:-1000000}
herd=${BENCH_HERD:-60}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/muster" ./cmd/muster
go build -o "$work/" ./bench/load ./bench/compare ./bench/scale ./bench/herd

others=()
if [ -d ../shared/bench ]; then
	# Modules of their own: what they need is not in go.mod here.
	(cd ../shared/bench/limits && go build -o "$work/limits" .)
	(cd ../shared/bench/load && go build -o "$work/peer-load" .)
	others=(-floor "$work/limits" -load "$work/peer-load")
fi

"$work/compare" -muster "$work/muster" -own-load "$work/load" "${others[@]}" -rounds "$rounds" -n "$count"
if [ "$rows" -gt 0 ]; then
	echo
	"$work/scale" -muster "$work/muster" -load "$work/load" -rows "$rows" -rounds "$rounds" -n "$count"
fi
if [ "$herd" -gt 0 ]; then
	echo
	"$work/herd" -muster "$work/muster" -load "$work/load" -seconds "$herd"
fi
