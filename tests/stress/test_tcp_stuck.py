# ctest: label=api timeout=120 not-under=memcheck (they let one thread run at a time)
"""Tasks that block their threads for a second, on a server with one worker and with two.

Whoever else talks to the server is answered within 50 ms; the log names the task that sticks.
"""

import socket
import threading
import time

from load import PATIENCE, UNDER, Server, check, main

STUCK_MS = 1000
# A sanitizer, and other programs on the machine, take their time as well.
PROMISED_MS = 50
ROUNDS = 5


class Pinger(threading.Thread):
    """Sends one byte after another, each when its echo has come, and keeps the longest wait."""

    def __init__(self, port, pause_s=0.0005):
        super().__init__()
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pause_s = pause_s
        self.waits_ms = []
        self.is_over = False
        self.error = None

    def run(self):
        try:
            while not self.is_over:
                began = time.monotonic()
                self.sock.sendall(b"x")
                check(self.sock.recv(1) == b"x", "no echo")
                self.waits_ms.append((time.monotonic() - began) * 1000)
                time.sleep(self.pause_s)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error
        self.sock.close()

    def finish(self):
        self.is_over = True
        self.join()
        if self.error:
            raise self.error


def machine_pause_ms(seconds):
    """How long this process itself is kept from running, at worst: not the server's fault."""
    worst = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        time.sleep(0.001)
        worst = max(worst, (time.monotonic() - began) * 1000 - 1)
    return worst


def is_prompt_beside(options, tasks):
    """Whoever else comes is served, or this fails; whether all were served in time is returned."""
    with Server(options) as server:
        base = server.base()
        pingers = [Pinger(server.port) for _ in range(8)]
        for pinger in pingers:
            pinger.start()
        time.sleep(0.3)
        began = time.monotonic()
        server.ask(f"block ms={STUCK_MS * PATIENCE} tasks={tasks}")
        pause_ms = machine_pause_ms(0.3)
        # New ones are accepted, too.
        late = socket.create_connection(("127.0.0.1", server.port))
        late_began = time.monotonic()
        late.sendall(b"late")
        check(late.recv(4) == b"late", "a new connection is not served")
        late_ms = (time.monotonic() - late_began) * 1000
        late.close()
        pause_ms = max(pause_ms, machine_pause_ms(0.5))
        took_s = time.monotonic() - began
        for pinger in pingers:
            pinger.finish()
        waits = sorted(w for p in pingers for w in p.waits_ms)
        print(f"  {options}, {tasks} stuck: {len(waits)} echoes,"
              f" median {waits[len(waits) // 2]:.2f} ms, worst {waits[-1]:.1f} ms, a new one {late_ms:.1f} ms; the machine itself"
              f" paused for {pause_ms:.1f} ms; extra workers {server.stats()['workers_extra']}")
        server.settle(base["alive"])
        log = server.log().splitlines()
        stuck = [below for line, below in zip(log, log[1:] + [""]) if "is stuck for" in line]
        if not UNDER and len(stuck) != tasks:  # the machine may have been held up for as long
            print(f"  {tasks} stuck, but the log says:\n{server.log()}")
            return False
        check(all('"sticking"' in line for line in stuck if UNDER == ""), f"not named: {stuck}")
        # When it took longer the tasks did not stick until the end, and others had it easy.
        return (max(waits[-1], late_ms) < PROMISED_MS * PATIENCE + pause_ms
                and took_s < STUCK_MS * PATIENCE / 1000)


def goes_on_beside(options, tasks):
    """The best of some rounds: what else the machine does can only add to a wait."""
    check(any(is_prompt_beside(options, tasks) for _ in range(ROUNDS)), "others had to wait")


def test_one_worker_is_stuck():
    goes_on_beside("flavor=mt workers=1", 1)


def test_one_of_two_is_stuck():
    goes_on_beside("flavor=mt workers=2", 1)


def test_all_of_two_are_stuck():
    goes_on_beside("flavor=mt workers=2", 2)


def test_more_than_there_are_workers():
    goes_on_beside("flavor=mt workers=2", 6)


main()
