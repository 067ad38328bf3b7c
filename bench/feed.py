"""The feed's fan-out beside `websockets.broadcast()` of the same bytes: frames per second, delay, memory of a client.

Needs no stack. Both servers decode the same readings and send the same texts, in turns on the same machine; the clients
are in a process of their own and read as fast as they can. Where a server cannot keep up with the rate, hl conflates:
then it delivers less, and says so to each client; broadcast() keeps all that waits in memory.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import uvloop
from rich.table import Table

from bench.asgi import HOST, START_TIMEOUT_S, memory_mb
from bench.feed_clients import join
from bench.report import compare, machine, write_json
from bench.stack import console, percentiles
from hl_platform.stack.net import free_port, who_listens

SERVERS = ("hl", "broadcast")
SUBSCRIBE = {"type": "subscribe", "streams": ["energy"], "snapshot": False}
# Of so many clients every message is looked at; of the others bytes are counted.
N_WATCHED = 5
DRAIN_S = 0.5


class Cell(NamedTuple):
    """What one server did with one number of clients and one rate."""

    delivered_per_s: float
    share: float
    p50_ms: float
    p99_ms: float
    cpu_share: float
    kb_per_client: float


class Load(NamedTuple):
    """What one server is to do."""

    n_clients: int
    rate: float
    seconds: float


async def measure(process: "subprocess.Popen[str]", port: int, server: str, load: Load) -> Cell:
    """One cell of the table."""
    before_mb = memory_mb(psutil.Process(process.pid))
    readers = await join(load.n_clients, (HOST, port), {}, SUBSCRIBE if server == "hl" else None)
    kb = (memory_mb(psutil.Process(process.pid)) - before_mb) * 1000 / load.n_clients
    # Who came first gets each reading first.
    watched = readers[:: -(-load.n_clients // N_WATCHED)]
    for reader in watched:
        reader.delays = []
    n_published, cpu_s = await asyncio.to_thread(_publish, process, load)
    await asyncio.sleep(DRAIN_S)
    for reader in readers:
        reader.transport.close()
    await asyncio.sleep(0.2)
    delays = [delay for reader in watched for delay in reader.delays or ()]
    # All messages have the same size, but for few gaps.
    size = sum(reader.n_bytes for reader in watched) / len(delays)
    n_delivered = sum(reader.n_bytes for reader in readers) / size
    p50, p99, _ = percentiles(delays)
    share = n_delivered / (n_published * load.n_clients)
    return Cell(n_delivered / load.seconds, share, p50 * 1000, p99 * 1000, cpu_s / load.seconds, kb)


def _publish(process: "subprocess.Popen[str]", load: Load) -> tuple[int, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{load.rate} {load.seconds}\n")
    process.stdin.flush()
    n_published, cpu_s = process.stdout.readline().split()
    return int(n_published), float(cpu_s)


@contextmanager
def serving(server: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A server in its own process, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "bench.feed_app", server, str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + START_TIMEOUT_S
        while not who_listens(port):
            assert process.poll() is None, f"{server} ended"
            assert time.monotonic() < until, f"{server} did not start"
            time.sleep(0.05)
        yield process, port
    finally:
        process.terminate()
        process.wait(10)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench feed` takes."""
    parser.add_argument("--clients", default="1,100,1000", help="numbers of clients, with commas between")
    parser.add_argument("--rates", default="20,100", help="readings per second, with commas between")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints; always 0: there is no wrong result."""
    table = Table(title=f"readings of {arguments.seconds:g} s to clients that read at once")
    heads = (
        "clients",
        "readings/s",
        "server",
        "frames/s",
        "delivered",
        "p50 ms",
        "p99 ms",
        "CPU",
        "KB/client",
    )
    for head in heads:
        table.add_column(head, justify="left" if head == "server" else "right")
    where, comparisons = machine(), []
    for n_clients in (int(text) for text in arguments.clients.split(",")):
        for rate in (float(text) for text in arguments.rates.split(",")):
            load, delivered = Load(n_clients, rate, arguments.seconds), {}
            for server in SERVERS:
                with serving(server) as (process, port):
                    cell = uvloop.run(measure(process, port, server, load))
                table.add_row(str(n_clients), f"{rate:g}", server, *_figures(cell))
                delivered["hl" if server == "hl" else "websockets.broadcast()"] = [cell.delivered_per_s]
            comparisons += compare(f"feed, {n_clients} clients, {rate:g}/s", "frames/s", delivered)
    console().print(table)
    if arguments.json:
        write_json(arguments.json, {"machine": where, "comparisons": comparisons})
    return 0


def _figures(cell: Cell) -> list[str]:
    return [
        f"{cell.delivered_per_s:,.0f}",
        f"{cell.share:.1%}",
        f"{cell.p50_ms:.1f}",
        f"{cell.p99_ms:.1f}",
        f"{cell.cpu_share:.0%}",
        f"{cell.kb_per_client:.0f}",
    ]
