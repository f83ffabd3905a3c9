#!/bin/bash
# Usage: echo_minimal.sh PROGRAM. It echoes to several clients at once, byte for byte.
set -eu
program=$1
dir=$(mktemp -d)
# A port that nobody listens on: asked of the kernel by a server that is gone when it is used.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$program" "127.0.0.1:$port" &
pid=$!
# shellcheck disable=SC2064 # the values of now
trap "kill -9 $pid 2>/dev/null || true; rm -rf '$dir'" EXIT
for _ in $(seq 200); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
    sleep 0.05
done
head -c 300000 /dev/urandom >"$dir/sent"
# The socket is full-duplex: one process writes while another reads.
clients=()
for i in 1 2 3; do
    (
        exec 3<>"/dev/tcp/127.0.0.1/$port"
        head -c 300000 <&3 >"$dir/got$i" &
        cat "$dir/sent" >&3
        wait $!
        cmp "$dir/sent" "$dir/got$i"
    ) &
    clients+=($!)
done
for client in "${clients[@]}"; do
    wait "$client" || { echo 'what came back differs'; exit 1; }
done
kill -0 "$pid" || { echo 'the server has ended'; exit 1; }
