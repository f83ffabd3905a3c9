#!/usr/bin/env python3
"""kv_server.py PROGRAM: the key-value server under load, with silent clients, more clients than it takes, a crash, and
stopped in the middle of each."""
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

PROGRAM = sys.argv[1]
PATIENCE_S = 30


class Server:
    """One that is stopped, and has said nothing but what was expected, when the block ends."""

    def __init__(self, connections=100, idle_ms=60000, request_ms=60000, stop_ms=20000):
        self.args = [PROGRAM, "127.0.0.1:0", *map(str, (connections, idle_ms, request_ms, stop_ms))]

    def __enter__(self):
        self.process = subprocess.Popen(self.args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.said = b""
        line = self.process.stdout.readline().decode()
        self.port = int(re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)[1])
        return self

    def __exit__(self, kind, error, trace):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def stop(self, sig=signal.SIGTERM):
        """What it said on stderr."""
        self.process.send_signal(sig)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        check(self.process.returncode == 0, f"exit status {self.process.returncode}: {err}")
        check(re.fullmatch(rb"stopping\nstopped: \d+ connections\n", out), f"printed {out}")
        return self.said + err

    def wait_for(self, pattern):
        """Until stderr has it."""
        end = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.said):
            ready, _, _ = select.select([self.process.stderr], [], [], max(0, end - time.monotonic()))
            check(ready, f"never said {pattern}: {self.said}")
            self.said += os.read(self.process.stderr.fileno(), 1 << 16)


class Client:
    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
        self.file = self.socket.makefile("rb")

    def send(self, text):
        self.socket.sendall(text.encode() + b"\n")

    def line(self):
        """None: the server has hung up."""
        try:
            line = self.file.readline().decode()
        except ConnectionResetError:
            return None
        check(line == "" or line.endswith("\n"), f"half an answer: {line}")
        return line[:-1] if line else None

    def ask(self, text):
        self.send(text)
        return self.line()

    def is_silent_for(self, seconds):
        return not select.select([self.socket], [], [], seconds)[0]

    def close(self):
        self.file.close()
        self.socket.close()


def check(holds, what):
    if not holds:
        sys.exit(what)


def check_eq(got, want):
    check(got == want, f"{got!r}, not {want!r}")


def conversation():
    with Server() as server:
        a, b = Client(server), Client(server)
        check_eq(a.ask("GET colour"), "NONE")
        check_eq(a.ask("SET colour dark blue"), "OK")
        check_eq(b.ask("GET colour"), "VALUE dark blue")
        b.send("WAIT taste")
        check(b.is_silent_for(0.1), "an answer before there is a value")
        check_eq(a.ask("SET taste sour"), "OK")
        check_eq(b.line(), "VALUE sour")
        check_eq(a.ask("LET colour red"), "ERROR what?")
        check_eq(a.ask("x" * 2000), None)  # no such lines: hung up
        check_eq(b.ask("GET taste"), "VALUE sour")
        err = server.stop(signal.SIGINT)
        check(re.fullmatch(rb"connection 1: Message too long\nconnection 2: [^\n]*\n", err), f"said {err}")


def talk(server, number, failed, is_stopped):
    """Asks until hung up on, which only a stop explains."""
    try:
        client = Client(server)
        for i in range(1000000 if is_stopped else 200):
            for question, answer in ((f"SET {number} {i}", "OK"), (f"GET {number}", f"VALUE {i}")):
                got = client.ask(question)
                if got is None and is_stopped and is_stopped.is_set():
                    return
                check_eq(got, answer)
        client.close()
    except OSError as e:  # reset, refused, broken pipe
        if not (is_stopped and is_stopped.is_set()):
            failed.append(f"client {number}: {e}")
    except SystemExit as e:
        failed.append(f"client {number}: {e}")


def under_load(stop_after_s):
    """More clients than there is room for: those beyond the limit come later, or when it stops not at all."""
    failed = []
    is_stopped = threading.Event() if stop_after_s else None
    with Server(connections=8) as server:
        threads = [threading.Thread(target=talk, args=(server, i, failed, is_stopped)) for i in range(24)]
        for t in threads:
            t.start()
        if stop_after_s:
            time.sleep(stop_after_s)
            is_stopped.set()
            server.stop()
        for t in threads:
            t.join()
        check(not failed, f"{failed}")
        if not stop_after_s:
            check_eq(server.stop(), b"")


def silent_client():
    with Server(idle_ms=300) as server:
        silent, other = Client(server), Client(server)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            check_eq(other.ask("SET a b"), "OK")
            time.sleep(0.02)
        check_eq(silent.line(), None)
        server.wait_for(rb"connection 1: Connection timed out\n")


def beyond_the_limit():
    with Server(connections=3) as server:
        clients = [Client(server) for _ in range(3)]
        for c in clients:
            check_eq(c.ask("SET a b"), "OK")
        late = Client(server)
        late.send("GET a")
        check(late.is_silent_for(0.3), "a fourth one is served")
        clients[1].close()
        check_eq(late.line(), "VALUE b")
        check_eq(clients[0].ask("GET a"), "VALUE b")


def request_that_takes_long():
    with Server(request_ms=200) as server:
        client = Client(server)
        check_eq(client.ask("WAIT nothing"), "ERROR timed out")
        check_eq(client.ask("SET a b"), "OK")


def crash():
    with Server(connections=2) as server:
        a, b = Client(server), Client(server)
        check_eq(b.ask("SET a b"), "OK")
        for _ in range(3):  # and its place is free again
            check_eq(a.ask("CRASH"), None)
            a = Client(server)
            check_eq(a.ask("GET a"), "VALUE b")
        check_eq(b.ask("GET a"), "VALUE b")
        err = server.stop()
        check(len(re.findall(rb"panic in a child.*connection \d asked for it", err)) == 3, f"said {err}")


def refuses_soon(server):
    """Those who were idle may hear of the stop before the task that accepts."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            Client(server).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # it was in the queue
        time.sleep(0.01)
    return False


def stopping():
    # A request under way gets its answer, who asks nothing is told at once, nobody comes in.
    with Server(request_ms=1000) as server:
        asks, idle = Client(server), Client(server)
        check_eq(idle.ask("SET a b"), "OK")
        check_eq(asks.ask("SET a b"), "OK")
        asks.send("WAIT nothing")
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        check_eq(idle.line(), None)
        check(asks.is_silent_for(0), "ended in the middle of a request")
        check(refuses_soon(server), "it still accepts")
        check_eq(asks.line(), "ERROR timed out")
        check_eq(asks.line(), None)
        out, err = server.process.communicate(timeout=PATIENCE_S)
        check_eq(server.process.returncode, 0)
        check(re.fullmatch(rb"stopping\nstopped: \d connections\n", out), f"said {out}")
        check(b"do not end" not in err, f"said {err}")

    # One that takes longer than that is shown, and aborted.
    with Server(stop_ms=300) as server:
        client = Client(server)
        check_eq(client.ask("SET a b"), "OK")
        client.send("WAIT nothing")
        time.sleep(0.1)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for(rb'task \d+ "connection" .*waits')
        begin = time.monotonic()
        err = server.stop()
        check(time.monotonic() - begin >= 0.3, "not waited for")
        check(re.search(rb'1 connections do not end:\n(.|\n)*"connection" .*waits', err), f"said {err}")
        check_eq(client.line(), None)


def misuse():
    p = subprocess.run([PROGRAM, "nonsense"], capture_output=True, timeout=PATIENCE_S)
    check(p.returncode == 1 and b"\nkv_server: nonsense: " in p.stderr, f"{p}")


for scenario in (conversation, lambda: under_load(None), lambda: under_load(0.5), silent_client, beyond_the_limit,
                 request_that_takes_long, crash, stopping, misuse):
    scenario()
