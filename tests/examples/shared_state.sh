#!/bin/bash
# Usage: shared_state.sh PROGRAM. No increment is lost.
set -eu
out=$("$1")
[ "$(grep -c '^task [0-9]: 1000$' <<<"$out")" = 10 ] || { echo "printed: $out"; exit 1; }
[ "$(tail -n 1 <<<"$out")" = "total 10000" ] || { echo "printed: $out"; exit 1; }
