# ctest: label=api timeout=240
"""Load while something goes wrong: descriptors and memory run out, peers reset, tasks are aborted.

The clients may fail, but no byte may be wrong, and afterwards all is as if nothing had been.
"""

import os
import resource
import socket
import time

from load import PATIENCE, UNDER, Client, Server, check, main, run_client, scaled

EXHAUSTED = "trying again until it succeeds"


def check_as_before(server, base, before):
    after = server.settle(base["alive"])
    held = server.held()
    print(f"  before {before}\n  after  {held}")
    check(after["sources"] == base["sources"], f"registrations are left: {base} {after}")
    check(held.fds == before.fds, f"descriptors are left: {before.fds} {held.fds}")
    return after


def check_serves(server, connections):
    """All of them, without a failure."""
    result = run_client(server.port, "--connections", connections, "--rounds", 2, "--pieces")
    check(result["ok"] == connections, f"not all were served: {result}")


def echo(sock, data, patience=5):
    """True when data comes back; False when nothing does in time, or the peer has gone."""
    sock.settimeout(patience * PATIENCE)
    try:
        sock.sendall(data)
        got = b""
        while len(got) < len(data):
            piece = sock.recv(65536)
            if not piece:
                return False
            got += piece
    except (socket.timeout, ConnectionError):
        return False
    check(got == data, "bytes differ")
    return True


def connect(port):
    return socket.create_connection(("127.0.0.1", port))


def test_peers_that_reset():
    with Server("flavor=mt workers=2 body=mix") as server:
        base, before = server.base(), server.held()
        connections = scaled(5000)
        for seed in (1, 2):
            result = run_client(server.port, "--connections", connections, "--rounds", 3,
                                "--pieces", "--bytes-max", 30000, "--reset-percent", 40,
                                "--seed", seed)
            check(result["reset"] > connections // 4, f"too few resets: {result}")
            check(result["failed"] == 0, f"others suffered: {result}")
        check_as_before(server, base, before)
        check_serves(server, 100)


def aborted_at_random(options):
    with Server(f"{options} body=mix abort=10 abort_ms=3000") as server:
        base, before = server.base(), server.held()
        connections = scaled(10_000)
        result = run_client(server.port, "--connections", connections, "--rounds", 200, "--pieces",
                            "--duration", 4000, "--bytes-max", 2000, "--tolerate-failures",
                            "--seed", 3)
        after = check_as_before(server, base, before)
        print(f"  {result['ok']} ok, {result['failed']} failed; {after['aborts_asked']} aborts,"
              f" {after['ended_by_abort']} ended by them, {after['unrun']} before they ran")
        check(after["accepted"] >= connections, "not all were accepted")
        check(after["aborts_asked"] > connections // 40, "too few aborts")
        # Half of them come before the task runs; of the eight under valgrind all may.
        effects = after["ended_by_abort"] + (after["unrun"] if after["aborts_asked"] < 50 else 0)
        check(effects > after["aborts_asked"] // 8, "aborts that do nothing")
        # An abort ends one connection, and no other.
        check(result["failed"] <= after["aborts_asked"], "others suffered")
        check(result["corrupt"] == 0, "bytes differ")


def test_aborted_at_random_on_two_workers():
    aborted_at_random("flavor=mt workers=2")


def test_aborted_at_random_on_the_current_thread():
    aborted_at_random("flavor=ct")


def test_descriptors_run_out():
    if UNDER == "memcheck":
        print("  (valgrind keeps descriptors for itself, and closes what accept() makes above them)")
        return
    limit = 500
    with Server("flavor=mt workers=2 body=mix", descriptors=limit) as server:
        base, before = server.base(), server.held()
        for episode in (1, 2, 3):
            # More than it may hold: the first are accepted, the others wait in the backlog.
            first = [connect(server.port) for _ in range(limit // 2)]
            check(all(echo(s, b"first") for s in first), "not served before the limit")
            more = [connect(server.port) for _ in range(limit)]
            deadline = time.monotonic() + 10 * PATIENCE
            while server.log().count(EXHAUSTED) < episode and time.monotonic() < deadline:
                time.sleep(0.01)
            # Those that it has are served all the same,
            check(all(echo(s, os.urandom(100)) for s in first), "not served beside the limit")
            # and when some go, others come in: all of them in the end, without a new event for
            # the listener.
            for s in first:
                s.close()
            served = 0
            for s in more:
                check(echo(s, b"later", patience=20), f"number {served} of the waiting: not served")
                s.close()
                served += 1
            server.settle(base["alive"])
            lines = server.log().count(EXHAUSTED)
            print(f"  episode {episode}: {lines} lines")
            # An accept that succeeds and fails again at once begins an episode of its own.
            check(episode <= lines <= 4 * episode, f"{lines} lines after {episode} episodes")
        check_as_before(server, base, before)


def test_descriptors_run_out_in_a_storm():
    with Server("flavor=mt workers=2 body=mix abort=10 abort_ms=500", descriptors=500) as server:
        base, before = server.base(), server.held()
        clients = [Client(server.port, "--connections", scaled(2000), "--rounds", 3, "--pieces",
                          "--window", 100_000, "--reset-percent", 10, "--tolerate-failures",
                          "--seed", seed) for seed in (1, 2)]
        for client in clients:
            result = client.result()
            check(result["corrupt"] == 0, "bytes differ")
            check(result["ok"] > scaled(1000), f"hardly any was served: {result}")
            print(f"  ok {result['ok']} reset {result['reset']} failed {result['failed']}"
                  f" in {result['seconds']} s")
        check_as_before(server, base, before)
        lines = server.log().count(EXHAUSTED)
        check(UNDER or lines >= 1, "descriptors did not run out")
        print(f"  {lines} lines in the log, {server.stats()['accepted']} accepted")
        check(lines <= 1 + server.stats()["accepted"] // 10, "a line for each connection")


def test_memory_runs_out():
    """No address space is left for stacks and tables: connections are dropped, none breaks."""
    if UNDER:
        print("  (sanitizers map memory themselves and end the process when they cannot)")
        return
    with Server("flavor=mt workers=2 body=mix") as server:
        base, before = server.base(), server.held()
        vsize = int(open(f"/proc/{server.pid}/statm", encoding="ascii").read().split()[0])
        limit = vsize * os.sysconf("SC_PAGE_SIZE") + (1 << 20)
        old = resource.prlimit(server.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        result = run_client(server.port, "--connections", scaled(3000), "--rounds", 2, "--pieces",
                            "--window", 100_000, "--tolerate-failures")
        print(f"  ok {result['ok']} failed {result['failed']};"
              f" {server.stats()['spawn_failures']} spawns failed;"
              f" {len(server.log().splitlines())} lines in the log, the last: {server.log()[-70:]}")
        check(result["corrupt"] == 0, "bytes differ")
        check(result["failed"] > 0, "memory did not run out")
        resource.prlimit(server.pid, resource.RLIMIT_AS, old)
        check_as_before(server, base, before)
        check_serves(server, scaled(3000))
        check_as_before(server, base, before)


main()
