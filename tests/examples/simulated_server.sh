#!/bin/bash
# Usage: simulated_server.sh PROGRAM. The server holds in a thousand worlds; the forgetful one fails in some world, and in the
# same one each time.
set -eu
program=$1
fail() {
    echo "$*"
    exit 1
}
out=$("$program" 2>/dev/null) || fail "the server does not hold: $out"
[[ "$out" =~ ^1000\ worlds,\ [1-9][0-9]*\ faults,.*every\ deposit\ counted\ once$ ]] || fail "printed: $out"
if first=$("$program" forgetful 2>/dev/null); then fail "nothing was found: $first"; fi
if again=$("$program" forgetful 2>/dev/null); then fail "nothing was found again: $again"; fi
[[ "$first" =~ ^seed\ [1-9][0-9]*:.*bank.balance ]] || fail "printed: $first"
[ "$first" = "$again" ] || fail "not the same: $first, $again"
