#!/bin/sh
# Usage: leaf_future.sh PROGRAM. A task, a timeout and a polled task wait for the same kind of event.
set -eu
out=$("$1")
test "$out" = "await: 0
await under a timeout: -ETIMEDOUT
polled task: 0" || { echo "printed: $out"; exit 1; }
