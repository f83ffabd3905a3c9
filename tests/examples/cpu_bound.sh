#!/bin/sh
# Usage: cpu_bound.sh PROGRAM. The result is right, and the other task ticked meanwhile.
set -eu
out=$("$1")
echo "$out" | grep -qx '33860 primes below 400000' || { echo "printed: $out"; exit 1; }
ticks=$(echo "$out" | sed -n 's/^\([0-9]*\) ticks meanwhile$/\1/p')
test "$ticks" -ge 3 || { echo "printed: $out"; exit 1; }
