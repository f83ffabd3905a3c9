#!/bin/sh
# Usage: priorities.sh PROGRAM. Each class has its share: 12, 3 and 1 of 16 turns, roughly.
# It goes by the clock, so a machine that is held up may make it another: the best of three runs.
set -eu
within() { # CLASS LEAST MOST
    share=$(echo "$out" | sed -n "s/^$1 *\([0-9]*\) of 100 turns\$/\1/p")
    test -n "$share" && test "$share" -ge "$2" && test "$share" -le "$3"
}
for try in 1 2 3; do
    out=$("$1")
    within urgent 70 80 && within normal 14 24 && within background 4 9 &&
        echo "$out" | grep -qx 'the rest is done in the background' && exit 0
    echo "printed: $out"
done
exit 1
