#!/usr/bin/env python3
"""A client for echo servers on Python's asyncio: an outside party that checks every byte.

Opens the connections at the same time; each sends rounds of random bytes in random pieces while it
reads, compares what comes back, half-closes and expects EOF. A share of them is reset instead, at a
random moment. Loopback only. Ends with a line like that of echo_client; the exit status is 0 when
nothing failed, 1 when something did, 2 for bad usage, 3 when --timeout passed.
"""

import argparse
import asyncio
import ipaddress
import random
import socket
import statistics
import struct
import sys
import time


class Corrupt(Exception):
    pass


class Client:
    def __init__(self, options, index):
        self.options = options
        self.random = random.Random(options.seed * 1_000_003 + index)
        self.received = 0
        self.requests = 0
        self.latencies_us = []
        self.outcome = "failed"
        self.error = None

    async def send_pieces(self, writer, data):
        offset = 0
        while offset < len(data):
            piece = self.random.choice((1, 7, 100, 1500, 20_000))
            writer.write(data[offset:offset + piece])
            offset += piece
            await writer.drain()
            if self.random.random() < 0.1:
                await asyncio.sleep(0)

    async def receive(self, reader, data):
        offset = 0
        while offset < len(data):
            got = await reader.read(self.random.choice((1, 50, 4096, 65_536)))
            if not got:
                raise ConnectionError(f"closed too early, {offset} of {len(data)} bytes came back")
            if got != data[offset:offset + len(got)]:
                raise Corrupt(f"bytes differ at {self.received + offset} or soon after")
            offset += len(got)

    async def one_round(self, reader, writer):
        size = self.random.randint(1, max(1, int(self.options.bytes_max ** self.random.random())))
        data = self.random.randbytes(size)
        began = time.monotonic()
        await asyncio.gather(self.send_pieces(writer, data), self.receive(reader, data))
        self.latencies_us.append((time.monotonic() - began) * 1e6)
        self.received += size
        self.requests += 1

    def reset(self, writer):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def talk(self, reader, writer, everybody):
        resets = self.random.random() * 100 < self.options.reset_percent
        reset_after = self.random.randrange(self.options.rounds + 1)
        for number in range(self.options.rounds):
            if resets and number == reset_after:
                break
            await self.one_round(reader, writer)
            if number == 0:
                await everybody.arrive()
        if resets:
            await everybody.arrive()
            self.reset(writer)
            self.outcome = "reset"
            return
        writer.write_eof()
        if await reader.read(1):
            raise Corrupt("more came back than was sent")
        self.outcome = "ok"

    async def run(self, everybody):
        writer = None
        try:
            reader, writer = await asyncio.open_connection(self.options.host, self.options.port)
            await self.talk(reader, writer, everybody)
        except Corrupt as error:
            self.outcome, self.error = "corrupt", error
        except OSError as error:
            self.error = error
        finally:
            await everybody.arrive(wait=False)
            if writer is not None:
                writer.close()


class Everybody:
    """Nobody goes on before each has had its first answer, or has failed: all are open at once."""

    def __init__(self, count):
        self.missing = count
        self.all_here = asyncio.Event()
        self.arrived = set()

    async def arrive(self, wait=True):
        task = asyncio.current_task()
        if task not in self.arrived:
            self.arrived.add(task)
            self.missing -= 1
            if self.missing == 0:
                self.all_here.set()
        if wait:
            await self.all_here.wait()


async def run_all(options):
    clients = [Client(options, index) for index in range(options.connections)]
    everybody = Everybody(len(clients))
    tasks = [asyncio.ensure_future(client.run(everybody)) for client in clients]
    _, pending = await asyncio.wait(tasks, timeout=options.timeout)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()
    return clients, len(pending)


def loopback(text):
    address = ipaddress.ip_address(text)
    if not address.is_loopback:
        raise argparse.ArgumentTypeError(f"{text} is not a loopback address")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", type=loopback, default="127.0.0.1")
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--bytes-max", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reset-percent", type=float, default=0)
    parser.add_argument("--timeout", type=float, default=60)
    options = parser.parse_args()

    began = time.monotonic()
    clients, pending_count = asyncio.run(run_all(options))
    seconds = time.monotonic() - began

    count = {name: sum(c.outcome == name for c in clients)
             for name in ("ok", "reset", "failed", "corrupt")}
    for index, client in enumerate(clients):
        if client.error is not None:
            print(f"asyncio_client: connection {index}: {client.error}", file=sys.stderr)
    requests = sorted(c.requests for c in clients if c.outcome == "ok") or [0]
    latencies = sorted(us for c in clients for us in c.latencies_us) or [0]
    print(f"connections={len(clients)} ok={count['ok']} reset={count['reset']}"
          f" failed={count['failed'] + count['corrupt']}"
          f" bytes={sum(c.received for c in clients)} seconds={seconds:.3f}"
          f" min_requests={requests[0]} median_requests={int(statistics.median(requests))}"
          f" max_requests={requests[-1]} p50_us={int(latencies[len(latencies) // 2])}"
          f" p99_us={int(latencies[len(latencies) * 99 // 100])} corrupt={count['corrupt']}")
    if pending_count > 0:
        print(f"asyncio_client: {pending_count} connections not done after {options.timeout} s",
              file=sys.stderr)
        return 3
    return 1 if count["failed"] + count["corrupt"] > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
