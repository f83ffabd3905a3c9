#!/bin/sh
# Usage: detach.sh PROGRAM. The detached task outlives main's body, the guarded one does not.
set -eu
out=$("$1" | sort)
test "$out" = "detached: done
guarded: cancelled
main: leaves" || { echo "printed: $out"; exit 1; }
