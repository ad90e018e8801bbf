#!/usr/bin/env bash
# Measures start-up: milliseconds from exec to the ready line, on an empty and on an existing data directory.
# Usage: cargo build --release && tests/startup.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-10}
unset DATABASE_URL DATABASE_DIRECT_URL NEON_DATABASE_URL
top=$(mktemp -d)
chmod 755 "$top" # as root, PostgreSQL runs as another user
trap 'rm -rf "$top"' EXIT

start() { # on a data directory, and stop again
    local began=$EPOCHREALTIME out ended
    exec {out}< <(exec target/release/chatledger serve --listen 127.0.0.1:0 --data-dir "$1" 2>"$top/log")
    local pid=$!
    read -r _ <&"$out" || { cat "$top/log" >&2; exit 1; }
    ended=$EPOCHREALTIME
    kill "$pid" && wait "$pid"
    exec {out}<&-
    echo $(((${ended/./} - ${began/./}) / 1000))
}

report() { # what, then times on stdin
    sort -n | awk -v what="$1" '{ t[NR] = $1 } END { printf "%s: best %d ms, median %d ms, %d runs\n", what, t[1], t[int((NR + 1) / 2)], NR }'
}

for ((i = 0; i < runs; i++)); do start "$top/empty-$i"; done | report "empty data directory"
for ((i = 0; i < runs; i++)); do start "$top/empty-0"; done | report "existing data directory"
