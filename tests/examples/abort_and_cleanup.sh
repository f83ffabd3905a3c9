#!/bin/sh
# Usage: abort_and_cleanup.sh PROGRAM. "released" comes in both cases, before the operation returns.
# It goes by the clock, so a machine that is held up may make it another: the best of three runs.
set -eu
for try in 1 2 3; do
    out=$("$1")
    test "$out" = "abort: acquired
abort: released
abort: the operation returned -ECANCELED
abort: joined as cancelled
timeout: acquired
timeout: released
timeout: the operation returned -ETIMEDOUT" && exit 0
    echo "printed: $out"
done
exit 1
