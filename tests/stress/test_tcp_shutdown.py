# ctest: label=api timeout=240
"""Runtimes shut down at random moments while a thousand connections are active.

Each way, many times in one process, while clients connect, talk, or are all there: it ends in time,
and what the process holds is what it held after the first few.
"""

import os
import random
import socket
import time

from load import PATIENCE, UNDER, Client, Server, check, main, scaled

NEVER = 2**64 - 1
SEED = int(os.environ.get("WEFT_TEST_SEED", random.randrange(2**32)))
# Else each new thread gets an arena of malloc's, up to eight a core.
os.environ["MALLOC_ARENA_MAX"] = "1"
WARM = 4  # rounds after which nothing grows any more


def start_clients(port, rng):
    """Busy ones, and some that reset; all are to fail, none is to see a wrong byte."""
    common = ["--tolerate-failures", "--pieces", "--timeout", 25 * PATIENCE, "--window", 2000]
    return [
        Client(port, "--connections", scaled(700), "--busy", "--duration", 20_000 * PATIENCE,
               "--seed", rng.randrange(2**32), *common),
        Client(port, "--connections", scaled(300), "--rounds", 10**6, "--bytes-max", 50_000,
               "--reset-percent", 10, "--seed", rng.randrange(2**32), *common),
    ]


def wait_for_fds(server, fds):
    """What a shutdown in the background left goes by itself."""
    deadline = time.monotonic() + 20 * PATIENCE
    while server.held().fds > fds and time.monotonic() < deadline:
        time.sleep(0.01)
    check(server.held().fds == fds, f"descriptors are left: {server.held()}, not {fds}")


def shut_down_many_times(options, down, rounds, may_be_late=False):
    rng = random.Random(SEED)
    print(f"  seed {SEED}")
    with Server(None) as server:
        server.stats()  # it has started
        empty = server.held()
        held = heap = None
        late = slowest_us = 0
        for number in range(rounds):
            server.up(options)
            idle = socket.create_connection(("127.0.0.1", server.port))
            clients = start_clients(server.port, rng)
            # From "the first are being accepted" to "all are busy".
            time.sleep(rng.random() ** 2 * 0.4)
            answer = server.down(down(rng))
            late += answer["rc"] != 0
            slowest_us = max(slowest_us, answer["took_us"])
            check(answer["rc"] == 0 or (may_be_late and answer["rc"] == -110), f"down: {answer}")
            # Much less, on a machine that is not held up; and not as long as the clients go on.
            check(answer["took_us"] < 10e6 * PATIENCE, f"shutdown took {answer['took_us']} us")
            for client in clients:
                check(client.result()["corrupt"] == 0, "bytes differ")
            idle.close()
            wait_for_fds(server, empty.fds)
            stats = server.stats()
            check(stats["connections"] == 0, f"connections are left: {stats}")
            if number == WARM:
                held, heap = server.held(), stats["heap"]
        last = server.held()
        print(f"  {options}: {rounds} rounds, {late} ended in the background;"
              f" slowest {slowest_us} us;"
              f" {server.stats()['accepted']} connections\n  warm {held} heap={heap}"
              f"\n  last {last} heap={server.stats()['heap']}")
        if not UNDER:
            check(last.maps <= held.maps + 4, "mappings are left")
            check(last.rss_kb <= held.rss_kb + 2048, "memory is left")
            # weft_copy() keeps up to 32 buffers of 16 KiB for the process.
            check(server.stats()["heap"] <= heap + (600 << 10), "allocations are left")
        check(last.threads <= held.threads, "threads are left")


def rounds(n):
    return max(WARM + 2, n if not UNDER else n // 2)


def test_destroyed_on_two_workers():
    shut_down_many_times("flavor=mt workers=2 body=mix", lambda rng: "", rounds(12))


def test_destroyed_on_one_worker_with_aborts():
    shut_down_many_times("flavor=mt workers=1 body=mix abort=10 abort_ms=500", lambda rng: "",
                         rounds(12))


def test_destroyed_on_the_current_thread():
    shut_down_many_times("flavor=ct body=mix abort=10 abort_ms=500", lambda rng: "", rounds(12))


def any_timeout(rng):
    timeout_ns = rng.choice((0, 1, 1000, 100_000, 1_000_000, 10_000_000, 100_000_000, NEVER))
    return f"timeout_ns={timeout_ns}"


def test_timeouts_of_all_sizes():
    shut_down_many_times("flavor=mt workers=2 body=mix", any_timeout, rounds(16), may_be_late=True)


def test_timeouts_of_all_sizes_on_the_current_thread():
    shut_down_many_times("flavor=ct body=mix", any_timeout, rounds(16), may_be_late=True)


def test_no_grace():
    """Tasks are unwound at once instead of getting -ECANCELED: what they registered runs."""
    shut_down_many_times("flavor=mt workers=2 body=defer grace_ns=0", lambda rng: "", rounds(12))


def test_no_grace_on_the_current_thread():
    shut_down_many_times("flavor=ct body=defer grace_ns=0", lambda rng: "", rounds(12))


def test_weft_stop():
    shut_down_many_times("flavor=mt workers=2 body=mix run=1", lambda rng: "", rounds(12))


def test_weft_stop_on_the_current_thread():
    shut_down_many_times("flavor=ct body=mix run=1", lambda rng: "", rounds(12))


main()
