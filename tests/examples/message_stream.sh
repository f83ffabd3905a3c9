#!/bin/sh
# Usage: message_stream.sh PROGRAM. Ten in order, then the end.
set -eu
out=$("$1")
want=$(for i in 1 2 3 4 5 6 7 8 9 10; do echo "received $i: message $i"; done; echo "end of the channel")
test "$out" = "$want" || { echo "printed: $out"; exit 1; }
