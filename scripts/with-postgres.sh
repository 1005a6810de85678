#!/usr/bin/env bash
# Runs a command with a private PostgreSQL server and stops the server afterwards.
#
#   scripts/with-postgres.sh COMMAND [ARG...]   COMMAND sees MUSTER_TEST_PG_DSN
#   scripts/with-postgres.sh                    prints the DSN, serves until its standard input ends
#
# The server listens on a Unix socket in a folder only its owner may enter, so two runs
# never meet and no other user can reach it. It dies with this script, however the script
# dies. A DSN that is already in the environment is used as it is. Exit status 69: there
# is no PostgreSQL on this machine.
set -euo pipefail

if [ -n "${MUSTER_TEST_PG_DSN:-}" ]; then
	if [ $# -eq 0 ]; then
		echo "$MUSTER_TEST_PG_DSN"
		exec cat >/dev/null
	fi
	exec "$@"
fi

# Settings of the caller's own databases have no place here.
for name in "${!PG@}"; do unset "$name"; done

bin=
for candidate in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
	if [ -x "$candidate/postgres" ] && [ -x "$candidate/initdb" ]; then
		bin=$candidate
		break
	fi
done
if [ -z "$bin" ] && command -v initdb postgres >/dev/null; then
	bin=$(dirname "$(readlink -f "$(command -v postgres)")")
fi
if [ -z "$bin" ]; then
	echo "PostgreSQL is not installed (no initdb and postgres in /usr/lib/postgresql/*/bin or PATH)"
	exit 69
fi

# PostgreSQL refuses to run as root. Linux keeps the death signal of a child whose
# parent was killed outright, so no server is ever left behind.
as=(setpriv --pdeathsig INT)
owner=$(id -un)
if [ "$(id -u)" -eq 0 ]; then
	owner=postgres
	id postgres >/dev/null 2>&1 || owner=nobody
	as+=(--reuid "$owner" --regid "$(id -g "$owner")" --clear-groups)
fi

# /tmp and not TMPDIR: a socket path holds at most 107 bytes.
dir=$(mktemp -d /tmp/muster-pg.XXXXXX)
server=
stop() {
	trap - EXIT INT TERM HUP
	if [ -n "$server" ]; then
		kill -INT "$server" 2>/dev/null || true # fast shutdown
		wait "$server" 2>/dev/null || true
	fi
	rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
chown "$owner" "$dir"
cd "$dir"

fail() {
	echo "PostgreSQL did not start: $1"
	cat "$dir/log"
	exit 1
}

: >log
"${as[@]}" "$bin/initdb" --pgdata="$dir/data" --username=muster --auth=trust --encoding=UTF8 --no-locale \
	--no-sync --no-instructions >>log 2>&1 </dev/null || fail "initdb"

# Only what a power cut would lose is switched off. synchronous_commit stays on: Muster
# refuses to start without it.
"${as[@]}" "$bin/postgres" -D "$dir/data" \
	-c listen_addresses= -c unix_socket_directories="$dir" -c unix_socket_permissions=0700 \
	-c max_connections=200 -c synchronous_commit=on -c fsync=off -c full_page_writes=off \
	-c timezone=UTC -c log_timezone=UTC >>log 2>&1 </dev/null &
server=$!

for _ in $(seq 300); do
	"$bin/pg_isready" --quiet --host="$dir" --timeout=1 && break
	kill -0 "$server" 2>/dev/null || fail "the server ended"
	sleep 0.1
done
"$bin/pg_isready" --quiet --host="$dir" || fail "no answer in 30 s"

export MUSTER_TEST_PG_DSN="postgres://muster@/postgres?host=$dir"
cd "$OLDPWD"
if [ $# -eq 0 ]; then
	echo "$MUSTER_TEST_PG_DSN"
	cat >/dev/null
else
	"$@"
fi
