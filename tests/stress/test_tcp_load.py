# ctest: label=api timeout=120
"""Ten thousand connections at once, twice: every byte comes back, and nothing is left."""

import os
import random
import socket
import subprocess
import threading

from load import UNDER, Client, Server, check, main, scaled

# So that what malloc keeps does not depend on which threads there were.
os.environ["MALLOC_ARENA_MAX"] = "1"


def netcat_round(port, size, seed):
    """nc sends its input, half-closes (-N) and prints what comes back."""
    data = random.Random(seed).randbytes(size)
    done = subprocess.run(["nc", "-N", "127.0.0.1", str(port)], input=data, capture_output=True,
                          timeout=60, check=True)
    check(done.stdout == data, f"nc: {len(done.stdout)} of {size} bytes came back, or others")


def socat_round(port, size, seed):
    data = random.Random(seed).randbytes(size)
    done = subprocess.run(["socat", "-t", "30", "-", f"TCP4:127.0.0.1:{port}"], input=data,
                          capture_output=True, timeout=60, check=True)
    check(done.stdout == data, f"socat: {len(done.stdout)} of {size} bytes came back, or others")


def in_threads(calls):
    failures = []

    def run(call):
        try:
            call()
        except Exception as error:  # pylint: disable=broad-except
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, f"{len(failures)} failed, one with: {failures[:1]}")


def outsiders(port):
    calls = []
    for i, size in enumerate((1, 1000, 65_536, 3_000_000)):
        calls.append(lambda i=i, size=size: netcat_round(port, size, 2 * i))
        calls.append(lambda i=i, size=size: socat_round(port, size, 2 * i + 1))
    asyncio_client = Client(port, "--connections", scaled(100), "--rounds", 2,
                            tool="asyncio_client.py")
    in_threads(calls)
    asyncio_client.result()


def one_round(server, connections, base):
    """10,000 connections at the same time, and beside them programs that others wrote."""
    client = Client(server.port, "--connections", connections, "--rounds", 2, "--bytes-max", 20000,
                    "--pieces", "--seed", 7)
    outsiders(server.port)
    result = client.result()
    check(result["peak"] == connections, f"not all were open at once: {result}")
    server.settle(base["alive"])
    return result


def load(options):
    connections = scaled(10_000)
    with Server(None) as server:
        server.stats() # it has started
        empty = server.held()
        server.up(options)
        base = server.base()
        before = server.held()
        held = []
        for _ in range(2):
            result = one_round(server, connections, base)
            held.append(server.held())
        after = server.stats()
        server.down()
        down = server.held()
        print(f"{options}: {connections} connections, {result['bytes']} bytes in"
              f" {result['seconds']} s, p99 {result['p99_us']} us")
        print(f"  before {before}\n  after  {held[0]}\n  again  {held[1]} heap={after['heap']}"
              f"\n  down   {down}")
        first, second = held
        check(first.fds == second.fds == before.fds, "descriptors are left")
        check(down.fds == empty.fds, "descriptors are left after the runtime")
        check(after["sources"] == base["sources"], "registrations are left")
        # A thread that the monitor added (this machine was busy) brings a few mappings along.
        slack = 8 * max(0, second.threads - first.threads) + 4
        check(UNDER or second.maps <= first.maps + slack, "mappings are left")
        check(UNDER or second.rss_kb <= first.rss_kb * 1.1 + 8192, "memory is left")
        # What stays after the first round is warm: stacks, tasks, sources.
        check(UNDER or first.rss_kb - before.rss_kb <= 16 * connections + 8192,
              "each connection left more than 16 KiB")


def test_ten_thousand_on_two_workers():
    load("flavor=mt workers=2 body=mix")


def test_ten_thousand_on_the_current_thread():
    load("flavor=ct body=mix")


main()
