#!/bin/sh
# Usage: panic_boundary.sh PROGRAM. Caught, inspected, raised again, caught; and no panic goes unjoined.
set -eu
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
out=$("$1" 2>"$errors")
test "$out" = "cleanup: runs although the task panics
caught: assertion failed: b != 0, in divide()
middleman: not my problem
caught: a letter of complaint
the process lives on" || { echo "printed: $out"; exit 1; }
test ! -s "$errors" || { echo "on stderr:"; cat "$errors"; exit 1; }
