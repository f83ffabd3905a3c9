#!/bin/sh
# Usage: hello_tasks.sh PROGRAM. All four print, in whatever order, and none twice.
set -eu
out=$("$1" | sort)
test "$out" = "four tasks spawned
hello from task 1
hello from task 2
hello from task 3
hello from task 4" || { echo "printed: $out"; exit 1; }
