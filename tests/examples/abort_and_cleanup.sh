#!/bin/sh
# Usage: abort_and_cleanup.sh PROGRAM. "released" comes in both cases, before the operation returns.
set -eu
out=$("$1")
test "$out" = "abort: acquired
abort: released
abort: the operation returned -ECANCELED
abort: joined as cancelled
timeout: acquired
timeout: released
timeout: the operation returned -ETIMEDOUT" || { echo "printed: $out"; exit 1; }
