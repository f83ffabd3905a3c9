#!/bin/bash
# Usage: bytes_read.sh PROGRAM. What connections write is summed up tick by tick, and the rest is printed at the end.
set -eu
program=$1
dir=$(mktemp -d)
pid=
# shellcheck disable=SC2064 # the directory of now
trap "rm -rf '$dir'; [ -z \"\${pid}\" ] || kill -9 \"\${pid}\" 2>/dev/null || true" EXIT
fail() {
    echo "$*"
    cat "$dir/out" "$dir/err"
    exit 1
}
sum() { sed -n 's/^bytes read = \([0-9]*\).*/\1/p' "$dir/out" | awk '{ n += $1 } END { print n + 0 }'; }
wait_until() { # wait_until COMMAND...
    for _ in $(seq 200); do
        if "$@"; then return; fi
        sleep 0.05
    done
    fail "never came true: $*"
}
listens() { grep -q '^listening on 127.0.0.1:[1-9]' "$dir/out"; }
has_read() { [ "$(sum)" = "$1" ]; }

"$program" 127.0.0.1:0 >"$dir/out" 2>"$dir/err" &
pid=$!
wait_until listens
port=$(sed -n 's/^listening on 127.0.0.1://p' "$dir/out")
for i in 1 2 3 4 5; do
    head -c $((i * 1000)) /dev/zero >"/dev/tcp/127.0.0.1/$port" &
    writers[i]=$!
done
wait "${writers[@]}"
wait_until has_read 15000
grep -q '^bytes read = 0$' "$dir/out" || wait_until grep -q '^bytes read = 0$' "$dir/out" # the sum is reset

exec 3<>"/dev/tcp/127.0.0.1/$port" # open when the end comes
printf 'twelve bytes' >&3
wait_until has_read 15012
kill -s INT "$pid"
status=0
wait "$pid" || status=$?
pid=
[ "$status" = 0 ] || fail "exit status $status"
grep -q ', all senders are gone$' <(tail -n 1 "$dir/out") || fail 'the end was not seen'
has_read 15012 || fail "$(sum) bytes in all"
[ ! -s "$dir/err" ] || fail 'something on stderr'

# A signal that was there before the program ends it too, whichever of its tasks has run by then.
for try in $(seq 20); do
    workers=$((try % 4 + 1))
    WEFT_WORKERS=$workers timeout -s KILL 20 env --block-signal=INT sh -c 'kill -s INT $$; exec "$@"' sh "$program" 127.0.0.1:0 \
        >"$dir/out" 2>"$dir/err" || fail "with $workers workers and a signal that waits: exit status $?"
done
