#!/bin/bash
# Usage: ping_coordinator.sh PROGRAM. Each of five tasks gets three answers.
set -eu
out=$(timeout 30 "$1")
for task in 1 2 3 4 5; do
    for ping in 1 2 3; do
        grep -qE "^task $task, ping $ping: [0-9]+ us$" <<<"$out" || { echo "printed: $out"; exit 1; }
    done
done
[ "$(tail -n 1 <<<"$out")" = "all answered" ] || { echo "printed: $out"; exit 1; }
