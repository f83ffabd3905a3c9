"""What the load tests share: the server directed through its standard input, the clients, and counts
of what a process holds, as the kernel sees it.

A test is a script of functions named test_*; main() runs those whose name contains the first argument,
or all. WEFT_LOAD_SCALE multiplies the number of connections; without it they are fewer under a
sanitizer.
"""

import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

UNDER = os.environ.get("WEFT_TEST_UNDER", "")
TOOLS = pathlib.Path(os.environ["WEFT_TEST_TOOLS"])
SERVER = os.environ["WEFT_LOAD_SERVER"]
SCALE = float(os.environ.get("WEFT_LOAD_SCALE",
                             {"": 1, "address": 0.25, "thread": 0.1, "memcheck": 0.01}[UNDER]))
LAUNCHER = os.environ.get("WEFT_LOAD_LAUNCHER", "").split()
PATIENCE = 1 if UNDER == "" else 4  # multiplies what is waited for and what may take how long


def scaled(n, at_least=1):
    return max(at_least, int(n * SCALE))


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def parse(line):
    values = {}
    for word in line.split():
        key, _, value = word.partition("=")
        values[key] = float(value) if "." in value else int(value)
    return values


class Held:
    """What a process holds at a moment."""

    def __init__(self, pid):
        self.fds = len(os.listdir(f"/proc/{pid}/fd"))
        self.maps = len(pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines())
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        self.rss_kb = int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
        self.threads = int(re.search(r"Threads:\s+(\d+)", status).group(1))

    def __str__(self):
        return (f"fds={self.fds} maps={self.maps} threads={self.threads}"
                f" rss_mib={self.rss_kb / 1024:.1f}")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """The load server, up with the options given; in its own process, its log in a file."""

    def __init__(self, options="", descriptors=None):
        def limit():
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.log_file = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(LAUNCHER + [SERVER], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log_file, text=True,
                                        preexec_fn=limit)
        self.pid = self.process.pid
        self.port = None
        self.is_up = False
        if options is not None:
            self.up(options)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                if self.is_up:
                    self.down()
                self.quit()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if kind is not None or self.process.returncode != 0:
                print(f"log of the server (exit {self.process.returncode}):\n{self.log()[-8000:]}")

    def ask(self, command, timeout=60):
        """Sends a command and returns its answer; a server that does not answer is killed."""
        watchdog = threading.Timer(timeout * PATIENCE, self.process.send_signal, [signal.SIGABRT])
        watchdog.start()
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        check(line.endswith("\n"), f"the server died or hung in '{command}'")
        return parse(line)

    def up(self, options):
        answer = self.ask("up " + options)
        check(answer["error"] == 0, f"up {options}: {answer}")
        self.port = answer["port"]
        self.is_up = True

    def down(self, options=""):
        self.is_up = False
        return self.ask("down " + options)

    def stats(self):
        return self.ask("stats")

    def held(self):
        return Held(self.pid)

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read()

    def quit(self):
        """A sanitizer that has something to say exits with its own status."""
        self.process.stdin.write("quit\n")
        self.process.stdin.flush()
        check(self.process.wait(timeout=30 * PATIENCE) == 0,
              f"the server ended with {self.process.returncode}")

    def base(self):
        """What there is when one connection has come and gone."""
        socket.create_connection(("127.0.0.1", self.port)).close()
        deadline = time.monotonic() + 10 * PATIENCE
        while True:
            stats = self.stats()
            if stats["accepted"] > 0 and stats["connections"] == 0 and stats["sources"] == 1:
                time.sleep(0.05)  # the task that was counted out ends
                return self.stats()
            check(time.monotonic() < deadline, f"the first connection is not over: {stats}")
            time.sleep(0.02)

    def settle(self, tasks, timeout=10):
        """Waits until no connection is left and so many tasks live."""
        deadline = time.monotonic() + timeout * PATIENCE
        while True:
            stats = self.stats()
            # Fewer: when they were counted the first connection's was still at its last step.
            if stats["connections"] == 0 and stats["alive"] <= tasks:
                return stats
            check(time.monotonic() < deadline, f"tasks or connections are left: {stats}")
            time.sleep(0.02)


class EpollServer:
    """A server of the same kind by hand, without weft: what to compare with."""

    def __init__(self):
        self.process = subprocess.Popen([str(TOOLS / "echo_epoll_server")], stdout=subprocess.PIPE,
                                        text=True)
        self.pid = self.process.pid
        self.port = parse(self.process.stdout.readline())["port"]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.kill()
        self.process.communicate()


class Client:
    """echo_client, started; result() waits for it."""

    def __init__(self, port, *options, tool="echo_client"):
        program = [str(TOOLS / tool)]
        if tool.endswith(".py"):
            source = pathlib.Path(__file__).parent.parent / "support" / "tools" / tool
            program = [sys.executable, str(source)]
        self.process = subprocess.Popen(
            program + ["--port", str(port)] + [str(o) for o in options], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)

    def result(self, status=0):
        out, err = self.process.communicate()
        if status is not None and self.process.returncode != status:
            raise AssertionError(
                f"client exit {self.process.returncode}: {' '.join(self.process.args)}\n{out}{err}")
        values = {}
        for line in out.splitlines():
            values.update(parse(line.removeprefix("latency: ")))
        return values

    def stop(self):
        self.process.kill()
        self.process.communicate()


def run_client(port, *options, **more):
    return Client(port, *options, **more).result()


def main():
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    functions = [f for name, f in vars(sys.modules["__main__"]).items()
                 if name.startswith("test_") and pattern in name]
    failed = []
    for function in functions:
        began = time.monotonic()
        print(f"[ RUN  ] {function.__name__}", flush=True)
        try:
            function()
            word = "  OK  "
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc(file=sys.stdout)
            failed.append(function.__name__)
            word = "FAILED"
        print(f"[{word}] {function.__name__} {time.monotonic() - began:.1f} s", flush=True)
    sys.exit(1 if failed or not functions else 0)
