"""uvicorn against granian, serving the same application: requests, fan-out, delay of a frame, memory.

The client only counts bytes, in a process of its own, so that it is the servers that are measured. Rounds are
interleaved, so that whatever else the machine does hits both alike; the ratio is what to look at.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import psutil
import uvloop
from rich.table import Table

from bench.asgi_app import FRAME
from bench.stack import console

HOST = "127.0.0.1"
HTTP_CONNECTIONS = 16
WS_CLIENTS = 50
START_TIMEOUT_S = 20.0

SERVE_UVICORN = """
import sys, uvicorn
from bench.asgi_app import app
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", ws="websockets-sansio",
            ws_per_message_deflate=False, access_log=False, log_config=None, server_header=False)
"""
SERVE_GRANIAN = """
import sys
from granian import Granian
from granian.constants import Interfaces, Loops
Granian("bench.asgi_app:app", address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.ASGI,
        loop=Loops.uvloop, workers=1, log_enabled=False, log_access=False).serve()
"""
SERVERS = {"uvicorn": SERVE_UVICORN, "granian": SERVE_GRANIAN}

# One frame's bytes on the wire: two bytes of header and two of length, unmasked (RFC 6455, 5.2).
FRAME_BYTES = 4 + len(FRAME)


class Counter(asyncio.Protocol):
    """One connection that counts the bytes it receives."""

    def __init__(self) -> None:
        self.n_bytes = 0
        self._wanted = 0
        self._reached: asyncio.Event | None = None
        self.head = b""
        self.on_data: Callable[[], None] = lambda: None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        # uvloop's own classes do not inherit from asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Counts; the head of the first answer is kept."""
        if not self.n_bytes:
            self.head = data
        self.n_bytes += len(data)
        self.on_data()
        if self._reached is not None and self.n_bytes >= self._wanted:
            self._reached.set()

    async def receive(self, n_bytes: int) -> None:
        """Waits until so many bytes came since the connection was made or `n_bytes` was reset."""
        self._wanted, self._reached = n_bytes, asyncio.Event()
        if self.n_bytes < n_bytes:
            await self._reached.wait()


async def connect(port: int) -> Counter:
    """An open connection."""
    _, counter = await asyncio.get_running_loop().create_connection(Counter, HOST, port)
    return counter


async def measure_http(port: int, seconds: float) -> float:
    """Requests per second over a few connections that are kept alive, one request at a time on each."""
    request = f"GET /latest HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    probe = await connect(port)
    probe.transport.write(request)
    await probe.receive(1)
    await asyncio.sleep(0.2)
    size = probe.n_bytes
    probe.transport.close()
    counters = [await connect(port) for _ in range(HTTP_CONNECTIONS)]
    n_answers = 0

    def again(counter: Counter) -> None:
        nonlocal n_answers
        # Both servers send an answer in one piece or two; it is over when its bytes are there.
        if counter.n_bytes >= size:
            n_answers += 1
            counter.n_bytes -= size
            counter.transport.write(request)

    for counter in counters:
        counter.on_data = lambda counter=counter: again(counter)  # type: ignore[misc] # bound now
        counter.transport.write(request)
    await asyncio.sleep(seconds / 5)
    before, began = n_answers, time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (n_answers - before) / (time.perf_counter() - began)
    for counter in counters:
        counter.transport.close()
    return rate


async def open_websockets(port: int) -> list[Counter]:
    """Clients of the feed, past the handshake, with nothing counted yet."""
    counters = [await connect(port) for _ in range(WS_CLIENTS)]
    request = (
        f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    for counter in counters:
        counter.transport.write(request.encode())
        await counter.receive(1)
        assert counter.head.startswith(b"HTTP/1.1 101"), counter.head
    await asyncio.sleep(0.3)
    for counter in counters:
        counter.n_bytes = 0
    return counters


def ask_for(counter: Counter, n_frames: int) -> None:
    """Has the server send so many frames to every client."""
    text = str(n_frames).encode()
    # A client's frames are masked; a mask of zeros leaves the text as it is.
    counter.transport.write(bytes((0x81, 0x80 | len(text))) + b"\0\0\0\0" + text)


async def measure_fan_out(port: int, n_frames: int) -> tuple[float, float]:
    """Frames per second to all clients together, and the median ms in which one frame reaches all of them."""
    counters = await open_websockets(port)
    began = time.perf_counter()
    ask_for(counters[0], n_frames)
    await asyncio.gather(*(counter.receive(n_frames * FRAME_BYTES) for counter in counters))
    rate = n_frames * len(counters) / (time.perf_counter() - began)
    delays = []
    for number in range(1, 101):
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        ask_for(counters[0], 1)
        await asyncio.gather(*(counter.receive((n_frames + number) * FRAME_BYTES) for counter in counters))
        delays.append((time.perf_counter() - began) * 1000)
    for counter in counters:
        counter.transport.close()
    return rate, statistics.median(delays)


@contextmanager
def serving(name: str) -> Iterator[tuple[int, psutil.Process]]:
    """A server on a free port: its port and process."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVERS[name], str(port)], env={**os.environ})
    try:
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection((HOST, port), 0.2).close()
                break
            except OSError:
                assert process.poll() is None, f"{name} ended"
                assert time.monotonic() < until, f"{name} did not start"
                time.sleep(0.05)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def memory_mb(process: psutil.Process) -> float:
    """Proportional memory of a process and its children, in MB."""
    family = [process, *process.children(recursive=True)]
    return sum(one.memory_full_info().pss for one in family) / 1e6


def run(rounds: int, seconds: float, n_frames: int) -> None:
    """Measures both and prints the medians and their ratio."""
    rows: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in SERVERS}
    for _ in range(rounds):
        for name in SERVERS:
            with serving(name) as (port, process):
                http = uvloop.run(measure_http(port, seconds))
                frames, delay_ms = uvloop.run(measure_fan_out(port, n_frames))
                rows[name].append((http, frames, delay_ms, memory_mb(process)))
    medians = {name: [statistics.median(column) for column in zip(*rows[name], strict=True)] for name in rows}
    table = Table(title=f"median of {rounds} rounds")
    for head in ("", *SERVERS, "granian / uvicorn"):
        table.add_column(head, justify="right" if head else "left")
    labels = ("HTTP requests/s", f"frames/s to {WS_CLIENTS} clients", "ms for one frame to all", "memory, MB")
    for index, label in enumerate(labels):
        one, two = medians["uvicorn"][index], medians["granian"][index]
        table.add_row(label, f"{one:,.1f}", f"{two:,.1f}", f"{two / one:.2f}")
    console().print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench asgi` takes."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of HTTP requests in each round")
    parser.add_argument("--frames", type=int, default=1_000, help="to each client in each round")


def main(arguments: argparse.Namespace) -> int:
    """Runs it; always 0: there is no wrong result."""
    run(arguments.rounds, arguments.seconds, arguments.frames)
    return 0
