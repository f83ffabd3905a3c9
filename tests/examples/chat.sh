#!/bin/bash
# Usage: chat.sh PROGRAM. Three clients, as with nc: each hears the others and not itself; joins and leaves are told.
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
for_a_while() { # for_a_while COMMAND...: until it is true
    for _ in $(seq 200); do
        if "$@"; then return; fi
        sleep 0.05
    done
    fail "never came true: $*"
}
expect() { # expect FD LINE
    local line
    read -r -t 10 line <&"$1" || fail "client $1 heard nothing, wanted: $2"
    [ "$line" = "$2" ] || fail "client $1 heard '$line', wanted: $2"
}

"$program" 127.0.0.1:0 >"$dir/out" 2>"$dir/err" &
pid=$!
for_a_while grep -q '^listening on 127.0.0.1:[1-9]' "$dir/out"
port=$(sed -n 's/^listening on 127.0.0.1://p' "$dir/out")
exec 3<>"/dev/tcp/127.0.0.1/$port"
expect 3 '* 1 joins'
exec 4<>"/dev/tcp/127.0.0.1/$port"
expect 3 '* 2 joins'
expect 4 '* 2 joins'
exec 5<>"/dev/tcp/127.0.0.1/$port"
for fd in 3 4 5; do expect $fd '* 3 joins'; done
echo 'hello from one' >&3
expect 4 '1: hello from one'
expect 5 '1: hello from one'
echo 'two here' >&4
expect 3 '2: two here'
expect 5 '2: two here'
exec 4>&- 4<&-
expect 3 '* 2 leaves'
expect 5 '* 2 leaves'
# A fourth one, by nc itself.
if command -v nc >/dev/null; then
    : >"$dir/nc"
    # Its input stays open until it has heard something: who hangs up is told no more.
    # shellcheck disable=SC2094 # it is read to see it grow
    { printf 'by nc\n'; for_a_while grep -q '^\* 4 joins$' "$dir/nc"; } |
        timeout 20 nc -q 1 127.0.0.1 "$port" >"$dir/nc" || true
    expect 3 '* 4 joins'
    expect 3 '4: by nc'
    grep -q '^\* 4 joins$' "$dir/nc" || fail "nc heard: $(cat "$dir/nc")"
fi
kill -s INT "$pid"
status=0
wait "$pid" || status=$?
pid=
[ "$status" = 0 ] || fail "exit status $status"
[ ! -s "$dir/err" ] || fail 'something on stderr'

# A signal that was there before the program ends it too, whichever of its tasks has run by then.
for try in $(seq 3); do
    workers=$((try % 4 + 1))
    WEFT_WORKERS=$workers timeout -s KILL 20 env --block-signal=INT sh -c 'kill -s INT $$; exec "$@"' sh "$program" 127.0.0.1:0 \
        >"$dir/out" 2>"$dir/err" || fail "with $workers workers and a signal that waits: exit status $?"
done
