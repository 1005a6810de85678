#!/usr/bin/env bash
# The figures: Muster beside the floor and step-ca; a server with a million certificates beside an empty
# one; pages of a query among a million enrollments; a device among a thousand groups with
# keys; the log of a million issuings; the planner among a million and ten million pairs; a CA that is disallowed
# with a million devices below it; devices with TPMs beside others; MQTT connections that idle; and devices that are let in beside a herd that is not.
# The tables name their goals. They hold on a machine that does nothing else.
#
#   scripts/bench.sh      settings: BENCH_ROUNDS, BENCH_COUNT; and, 0 for none: BENCH_ROWS
#                         (certificates, enrollments and leaves), BENCH_GROUPS (seconds),
#                         BENCH_IDLE (connections), BENCH_HERD (seconds), BENCH_TPMS (devices),
#                         BENCH_REVOKED (certificates on CRLs)
#
# The floor and the generator that it is measured with, which knows step-ca too, are not
# part of this repository: they are built from ../shared/bench where that is there.
# Elsewhere Muster's own figures are printed, without ratios. step-ca is built once, by
# scripts/step-ca.sh; where it cannot be fetched it is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${BENCH_ROUNDS:-5}
count=${BENCH_COUNT:-1000}
rows=${BENCH_ROWS:-1000000}
groups=${BENCH_GROUPS:-3}
idle=${BENCH_IDLE:-5000}
herd=${BENCH_HERD:-60}
tpms=${BENCH_TPMS:-100}
revoked=${BENCH_REVOKED:-1000000}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/muster" ./cmd/muster
go build -o "$work/" ./bench/load ./bench/compare ./bench/scale ./bench/log ./bench/idle ./bench/herd ./bench/status ./bench/roll ./bench/contain ./bench/tpm

others=() step=()
if [ -d ../shared/bench ]; then
	# Modules of their own: what they need is not in go.mod here.
	(cd ../shared/bench/limits && go build -o "$work/limits" .)
	(cd ../shared/bench/load && go build -o "$work/peer-load" .)
	others=(-floor "$work/limits" -load "$work/peer-load")
	if step_ca=$(scripts/step-ca.sh); then
		step=(-step-ca "$step_ca")
	fi
fi

"$work/compare" -muster "$work/muster" -own-load "$work/load" "${others[@]}" "${step[@]}" -rounds "$rounds" -n "$count"
echo
"$work/status" -muster "$work/muster" -own-load "$work/load" "${others[@]}" -rounds "$rounds" -n "$count" -revoked "$revoked"
if [ "$rows" -gt 0 ]; then
	echo
	"$work/scale" -muster "$work/muster" -load "$work/load" -rows "$rows" -enrollments "$rows" -rounds "$rounds" -n "$count"
fi
if [ "$rows" -gt 0 ]; then
	echo
	echo "The same page at the server, from the request to the body, of a million enrollments with certificates; p95, ms"
	echo
	said=$(go test -run '^$' -bench '^BenchmarkQueryPage$' -benchtime 400x ./api/service) || { echo "$said"; exit 1; }
	awk '/^BenchmarkQueryPage\// {
		sub(/^[^\/]*\//, "", $1); sub(/-[0-9]+$/, "", $1)
		printf "  %-8s %6.2f  ≤ 5  %s\n", $1, $5, ($5 <= 5 ? "met" : "MISSED"); n++
	}
	END { exit n != 3 }' <<<"$said"
fi
if [ "$rows" -gt 0 ]; then
	echo
	"$work/log" -muster "$work/muster" -rows "$rows"
fi
if [ "$rows" -ge 1000 ]; then
	echo
	"$work/roll" -rows "$rows" -large "$((rows * 10))" -due "$((rows / 50))"
fi
if [ "$rows" -ge 1000 ]; then
	echo
	"$work/contain" -muster "$work/muster" -load "$work/load" -devices "$((rows / 10))" -large "$rows"
	echo
	scripts/with-postgres.sh bash -c '"$0" -dsn "$MUSTER_TEST_PG_DSN" "$@"' "$work/contain" -muster "$work/muster" -load "$work/load" -devices "$((rows / 10))" -large 0
fi
if [ "$groups" -gt 0 ]; then
	echo
	echo "A device's group found among 1000 with symmetric keys; ms from the request to its commit"
	echo
	said=$(go test -run '^$' -bench '^BenchmarkRegisterAmongKeyGroups$' -benchtime "${groups}s" ./provisioning) || { echo "$said"; exit 1; }
	awk '
		function figure(what, goal) { printf "  %-18s %6.2f  ≤ %g  %s\n", what, $3 / 1e6, goal, ($3 / 1e6 <= goal ? "met" : "MISSED"); n++ }
		/\/new(-[0-9]+)?[ \t]/   { figure("a new device", 5) }
		/\/known(-[0-9]+)?[ \t]/ { figure("a known device", 1) }
		END { exit n != 2 }' <<<"$said"
fi
if [ "$tpms" -gt 0 ]; then
	echo
	"$work/tpm" -muster "$work/muster" -devices "$tpms"
fi
if [ "$idle" -gt 0 ]; then
	echo
	"$work/idle" -muster "$work/muster" -load "$work/load" -connections "$idle"
fi
if [ "$herd" -gt 0 ]; then
	echo
	"$work/herd" -muster "$work/muster" -load "$work/load" -seconds "$herd"
	echo
	"$work/herd" -muster "$work/muster" -load "$work/load" -seconds "$herd" -rate 50 -disabled 100000 -every 100s
fi
