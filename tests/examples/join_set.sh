#!/bin/sh
# Usage: join_set.sh PROGRAM. Three answers in the order of completion, and nobody left behind.
# It goes by the clock, so a machine that is held up may make it another: the best of three runs.
set -eu
expected='what is it: answer 1 from server 1
what is it: answer 2 from server 3
what is it: answer 3 from server 0
3 still think
3 were aborted'
for try in 1 2 3; do
    out=$("$1")
    test "$out" = "$expected" && exit 0
    echo "printed: $out"
done
exit 1
