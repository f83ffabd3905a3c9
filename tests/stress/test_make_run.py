# ctest: label=install timeout=240
"""What a user does first: a clean clone, `make run`, clients, Ctrl-C."""

import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SOURCE = pathlib.Path(os.environ["WEFT_TEST_SOURCE"])
CONNECTIONS = 200


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def clone(to):
    """Every file that a clone would have, as it is now."""
    listed = subprocess.run(["git", "-C", str(SOURCE), "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], capture_output=True, check=False)
    if listed.returncode != 0:
        ignore = shutil.ignore_patterns("build", ".git")
        shutil.copytree(SOURCE, to, dirs_exist_ok=True, ignore=ignore)
        return
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (SOURCE / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, to / name)


class MakeRun:
    def __init__(self, directory):
        # Ctrl-C goes to all of the foreground's process group.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        self.process = subprocess.Popen(["make", "run", "PORT=0"], cwd=directory, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        start_new_session=True, env=environment)
        self.lines = queue.Queue()
        self.seen = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put((time.monotonic(), line.rstrip("\n")))
        self.lines.put((time.monotonic(), None))

    def wait_for(self, pattern, timeout):
        """The next line that matches, and when it came."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                when, line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            check(line is not None, f"never printed: {pattern}; but: {self.seen[-20:]}")
            self.seen.append(line)
            match = re.search(pattern, line)
            if match:
                return when, match

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)


def are_a_second_apart(times):
    return all(0.7 < after - before < 1.3 for before, after in zip(times, times[1:]))


def use(run):
    _, match = run.wait_for(r"^listening on 127\.0\.0\.1:(\d+)$", 200)
    port = int(match.group(1))
    open_ones = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for number, sock in enumerate(open_ones):
        data = b"%d" % number * 100
        sock.sendall(data)
        got = b""
        while len(got) < len(data):
            got += sock.recv(len(data))
        check(got == data, "other bytes came back")

    line = rf"^connections {CONNECTIONS} \({CONNECTIONS} in all\)"
    # A line that is read late is followed early by the next: on a busy machine we look for longer.
    times = [run.wait_for(line, 20)[0] for _ in range(3)]
    while not are_a_second_apart(times[-3:]):
        check(len(times) < 20, f"not once a second: {times}")
        times.append(run.wait_for(line, 20)[0])

    began = time.monotonic()
    os.killpg(run.process.pid, signal.SIGINT)
    run.wait_for(rf"^stopped: {CONNECTIONS} connections, \d+ bytes, 0 still open$", 20)
    run.process.wait(timeout=20)
    check(time.monotonic() - began < 15, "Ctrl-C took long")
    for sock in open_ones:
        sock.settimeout(20)
        check(sock.recv(1) == b"", "a connection was not ended")
    left = [run.lines.get(timeout=20)[1] for _ in range(run.lines.qsize())]
    print("after Ctrl-C:", run.seen[-1], [line for line in left if line], run.process.returncode)


def main():
    with tempfile.TemporaryDirectory() as directory:
        tree = pathlib.Path(directory) / "weft"
        tree.mkdir()
        clone(tree)
        run = MakeRun(tree)
        try:
            use(run)
        finally:
            run.kill()
    return 0


sys.exit(main())
