#!/bin/sh
# Usage: select_timeout.sh PROGRAM. Five measurements in order, ticks in between, and then silence.
# It goes by the clock, so a machine that is held up may make it another: the best of three runs.
set -eu
expected=$(for i in 1 2 3 4 5; do echo "measured $i"; done)
for try in 1 2 3; do
    out=$("$1")
    measured=$(printf '%s\n' "$out" | grep '^measured' || true)
    test "$measured" = "$expected" && printf '%s\n' "$out" | grep -q '^still reading$' &&
        test "$(printf '%s\n' "$out" | tail -n 1)" = 'nothing for a second' && exit 0
    echo "printed: $out"
done
exit 1
