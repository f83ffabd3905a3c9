#!/bin/sh
# Usage: select_timeout.sh PROGRAM. Five measurements in order, ticks in between, and then silence.
set -eu
out=$("$1")
measured=$(printf '%s\n' "$out" | grep '^measured')
expected=$(for i in 1 2 3 4 5; do echo "measured $i"; done)
test "$measured" = "$expected" || { echo "printed: $out"; exit 1; }
printf '%s\n' "$out" | grep -q '^still reading$' || { echo "no tick: $out"; exit 1; }
test "$(printf '%s\n' "$out" | tail -n 1)" = 'nothing for a second' || { echo "printed: $out"; exit 1; }
