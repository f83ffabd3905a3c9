#!/bin/bash
# Usage: bounded_spawn.sh PROGRAM. All jobs run, and the bound is reached and kept.
set -eu
out=$(timeout 60 "$1")
[[ $out =~ ^10000\ jobs\ done,\ at\ most\ ([0-9]+)\ at\ once$ ]] || { echo "printed: $out"; exit 1; }
most=${BASH_REMATCH[1]}
[ "$most" -le 100 ] && [ "$most" -ge 50 ] || { echo "at most $most at once"; exit 1; }
