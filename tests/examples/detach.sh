#!/bin/sh
# Usage: detach.sh PROGRAM. The detached task outlives main's body, the guarded one does not.
# It goes by the clock, so a machine that is held up may make it another: the best of three runs.
set -eu
for try in 1 2 3; do
    out=$("$1" | sort)
    test "$out" = "detached: done
guarded: cancelled
main: leaves" && exit 0
    echo "printed: $out"
done
exit 1
