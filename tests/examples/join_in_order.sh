#!/bin/sh
# Usage: join_in_order.sh PROGRAM. Twenty results in the order of spawning.
set -eu
expected=$(i=0; while [ $i -lt 20 ]; do echo "$i squared is $((i * i))"; i=$((i + 1)); done)
out=$("$1")
test "$out" = "$expected" || { echo "printed: $out"; exit 1; }
