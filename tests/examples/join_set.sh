#!/bin/sh
# Usage: join_set.sh PROGRAM. Three answers in the order of completion, and nobody left behind.
set -eu
expected='what is it: answer 1 from server 1
what is it: answer 2 from server 3
what is it: answer 3 from server 0
3 still think
3 were aborted'
out=$("$1")
test "$out" = "$expected" || { echo "printed: $out"; exit 1; }
