#!/bin/bash
# Usage: echo.sh PROGRAM. It echoes, counts, reports once a second, and ends cleanly on SIGINT and on SIGTERM, also with a
# connection open.
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
wait_for() { # wait_for PATTERN: a line of the output
    for _ in $(seq 200); do
        if grep -q "$1" "$dir/out"; then return; fi
        sleep 0.05
    done
    fail "never printed: $1"
}

for signal in INT TERM; do
    : >"$dir/out"
    # Background jobs of a shell ignore SIGINT; the program takes it back by reading it from a signalfd.
    "$program" 127.0.0.1:0 >"$dir/out" 2>"$dir/err" &
    pid=$!
    wait_for '^listening on 127.0.0.1:[1-9]'
    port=$(sed -n 's/^listening on 127.0.0.1://p' "$dir/out")

    exec 3<>"/dev/tcp/127.0.0.1/$port"
    echo 'hello, weft' >&3
    read -r -t 10 line <&3 || fail 'no answer'
    [ "$line" = 'hello, weft' ] || fail "echoed: $line"
    wait_for '^connections 1 (1 in all)  bytes 12  tasks [0-9]*$'

    kill -s "$signal" "$pid"
    status=0
    wait "$pid" || status=$?
    pid=
    [ "$status" = 0 ] || fail "exit status $status after SIG$signal"
    [ "$(tail -n 1 "$dir/out")" = 'stopped: 1 connections, 12 bytes, 0 still open' ] ||
        fail 'the last line is another one'
    [ ! -s "$dir/err" ] || fail 'something on stderr'
    # The peer is told: an end, not silence.
    if read -r -t 10 line <&3; then fail 'more came than was sent'; fi
    exec 3>&-
done

# A port in use is reported, not waited for.
: >"$dir/out" # what the last one printed is not what this one will
"$program" 127.0.0.1:0 >"$dir/out" 2>"$dir/err" &
pid=$!
wait_for '^listening on'
address=$(sed -n 's/^listening on //p' "$dir/out")
if "$program" "$address" >"$dir/second" 2>&1; then fail 'two servers on one port'; fi
grep -q 'Address already in use' "$dir/second" || fail "$(cat "$dir/second")"
if "$program" nonsense >"$dir/second" 2>&1; then fail 'nonsense is no address'; fi
kill -s TERM "$pid"
wait "$pid" || fail 'exit status'
pid=
