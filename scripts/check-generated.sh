#!/usr/bin/env bash
# Regenerates what is generated and fails if a file that is checked in came out different.
# The new text is left in place: read it, then commit it.
#
#   scripts/check-generated.sh FILE...
set -euo pipefail
cd "$(dirname "$0")/.."
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
for file in "$@"; do
	if [ -e "$file" ]; then
		cp --parents "$file" "$before"
	fi
done
make --no-print-directory generate
status=0
for file in "$@"; do
	if [ -e "$file" ] && ! diff -uN "$before/$file" "$file"; then
		echo "generated: $file was not up to date"
		status=1
	fi
done
exit $status
