#!/bin/sh
# Usage: oneshot_result.sh PROGRAM. The value arrives; a sender that is given up is noticed.
set -eu
out=$("$1")
test "$out" = "1 + ... + 1000 = 500500
no result for -1: Broken pipe" || { echo "printed: $out"; exit 1; }
