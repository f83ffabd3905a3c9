#!/bin/sh
# Usage: local_tasks.sh PROGRAM. Four clerks make 25 entries each: 4 * 2 * (1 + ... + 25).
set -eu
out=$("$1")
test "$out" = "100 entries, the sum is 2600, 0 made elsewhere" || { echo "printed: $out"; exit 1; }
