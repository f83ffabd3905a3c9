#!/bin/bash
# 0 + 1 + ... + 7999999, in eight parts.
set -eu
out=$(timeout 30 "$1")
echo "$out"
[ "$(echo "$out" | wc -l)" = 9 ]
[ "$(echo "$out" | tail -n 1)" = "sum of 0 to 7999999: 31999996000000" ]
