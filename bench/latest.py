"""Delay of /latest at a steady rate of requests, against a live service of its own or one that runs.

Open loop: each request has a time at which it is due, whether those before it were answered or not, and its delay is
counted from then. So a service that pauses has the delay of everybody who came meanwhile, not of one. The client is
this process, the service another; connections are kept alive.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import psycopg
import structlog
import uvloop
from rich.table import Table

from bench.asgi import HOST, START_TIMEOUT_S
from bench.stack import console, own_kafka, own_postgres, percentiles
from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.settings import load_settings
from hl_platform.stack.net import free_port
from hl_platform.streams import load_streams

BUDGET_MS = 10.0
N_CONNECTIONS = 50
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
WARM_UP_S = 1.0
DRAIN_S = 5.0
DRAIN_STEP_S = 0.01
FILL = """
insert into energy_readings (device_id, timestamp, total_energy_kwh, power_kw, voltage, current, received_at)
select 'meter' || n, now(), 1234.5 + n, 0.1 * n, 230, 13.9, now() from generate_series(1, %s) as n
"""


class Delays(NamedTuple):
    """What came of the requests of one round.

    Args:
        all_ms: of those that were answered.
        n_failed: answered with another status than 200, or not at all.
    """

    all_ms: list[float]
    n_failed: int


class Connection(asyncio.Protocol):
    """One connection that is kept alive, with one request at a time.

    Args:
        clients: to which it belongs.
    """

    def __init__(self, clients: "Clients") -> None:
        self._clients = clients
        self._data = b""
        self._due = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is ready."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, due: float) -> None:
        """Sends a request that was due at a time."""
        self._due, self._data = due, b""
        self._transport.write(self._clients.request)

    def data_received(self, data: bytes) -> None:
        """Waits until the answer is there."""
        self._data += data
        head, mark, body = self._data.partition(b"\r\n\r\n")
        if not mark:
            return
        length = LENGTH.search(head + b"\r\n")
        assert length is not None, head
        if len(body) >= int(length[1]):
            self._clients.answered(self, self._due, ok=head.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Will not be used again: what it waited for has failed."""

    def close(self) -> None:
        """Ends it."""
        self._transport.close()


class Clients:
    """The connections, and those requests that wait for one.

    Args:
        request: what is sent.
    """

    def __init__(self, request: bytes) -> None:
        self.request = request
        self._idle: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self.delays_ms: list[float] = []
        self.n_failed = 0

    async def connect(self, port: int) -> list[Connection]:
        """Opens all connections."""
        loop = asyncio.get_running_loop()
        for _ in range(N_CONNECTIONS):
            _, connection = await loop.create_connection(lambda: Connection(self), HOST, port)
            self._idle.append(connection)
        return list(self._idle)

    def ask(self, due: float) -> None:
        """Sends a request on whatever connection is idle, as soon as one is."""
        if self._idle:
            self._idle.popleft().ask(due)
        else:
            self._waiting.append(due)

    def answered(self, connection: Connection, due: float, *, ok: bool) -> None:
        """Takes the delay, and the next request that waits."""
        self.delays_ms.append((time.perf_counter() - due) * 1000)
        self.n_failed += not ok
        if self._waiting:
            connection.ask(self._waiting.popleft())
        else:
            self._idle.append(connection)


async def measure(port: int, rate: float, seconds: float, token: str | None) -> Delays:
    """One round, after a second to warm up."""
    credentials = f"Authorization: Bearer {token}\r\n" if token else ""
    text = f"GET /api/v1/energy/latest HTTP/1.1\r\nHost: {HOST}\r\n{credentials}\r\n"
    clients = Clients(text.encode())
    connections = await clients.connect(port)
    await _send(clients, rate, WARM_UP_S)
    clients.delays_ms.clear()
    clients.n_failed = 0
    n_requests = await _send(clients, rate, seconds)
    for connection in connections:
        connection.close()
    return Delays(clients.delays_ms, clients.n_failed + n_requests - len(clients.delays_ms))


async def _send(clients: Clients, rate: float, seconds: float) -> int:
    """Sends at the rate; returns how many were sent, when all are answered or have had time enough."""
    before, n_requests = len(clients.delays_ms), int(rate * seconds)
    began = time.perf_counter()
    for number in range(n_requests):
        due = began + number / rate
        wait_s = due - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        clients.ask(due)
    for _ in range(int(DRAIN_S / DRAIN_STEP_S)):
        if len(clients.delays_ms) - before >= n_requests:
            break
        await asyncio.sleep(DRAIN_STEP_S)
    return n_requests


@contextmanager
def serving(n_devices: int) -> Iterator[tuple[int, int]]:
    """Port and process of a live service with its own PostgreSQL and Kafka, which answers from memory."""
    with own_postgres() as url, own_kafka() as kafka:
        port = free_port()
        env = {
            "HL_DATABASE__URL": url,
            "HL_KAFKA__BOOTSTRAP_SERVERS": kafka,
            "HL_LIVE__PORT": str(port),
            "HL_LOG__LEVEL": "info",
            "HL_LOG__FORMAT": "json",
        }
        streams = load_streams()
        migrate(url, None, streams.values())
        ensure_topics(load_settings(env).kafka, streams.values())
        with psycopg.connect(url) as conn:
            conn.execute(FILL, (n_devices,))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HL_")}
        command = [sys.executable, "-m", "hl_live"]
        with subprocess.Popen(
            command, env={**inherited, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                _wait_filled(process)
                yield port, process.pid
            finally:
                process.terminate()


def _wait_filled(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    until, lines = time.monotonic() + START_TIMEOUT_S, []
    for line in process.stdout:
        lines.append(line)
        if '"latest_filled"' in line:
            return
        assert time.monotonic() < until, "".join(lines)
    raise AssertionError("".join(lines))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench latest` takes."""
    parser.add_argument(
        "--port", type=int, help="of a live service that runs here; without it, one of its own"
    )
    parser.add_argument("--token", help="that this one asks for")
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="service and client of one's own go before all other programs, as if there were none (root)",
    )
    parser.add_argument("--devices", type=int, default=10, help="in each answer, of a service of its own")


def main(arguments: argparse.Namespace) -> int:
    """Runs it; 1 where the median round misses its budget, or a request has failed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if arguments.port is not None:
        return _report(arguments, arguments.port)
    with serving(arguments.devices) as (port, process_id):
        if not arguments.realtime:
            return _report(arguments, port)
        _schedule(process_id, os.SCHED_RR, 1)
        _schedule(os.getpid(), os.SCHED_RR, 1)
        try:
            return _report(arguments, port)
        finally:
            _schedule(os.getpid(), os.SCHED_OTHER, 0)


def _schedule(process_id: int, policy: int, priority: int) -> None:
    """Sets how all threads of a process are scheduled (Linux)."""
    for thread in Path(f"/proc/{process_id}/task").iterdir():
        os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))


def _report(arguments: argparse.Namespace, port: int) -> int:
    table = Table(title=f"/latest, {arguments.rate:,.0f} requests/s for {arguments.seconds:,.0f} s")
    for head in ("round", "load before", "answered", "failed", "p50, ms", "p99, ms", "max, ms"):
        table.add_column(head, justify="right")
    p99s, n_failed = [], 0
    for number in range(arguments.rounds):
        load = os.getloadavg()[0]
        delays = uvloop.run(measure(port, arguments.rate, arguments.seconds, arguments.token))
        middle, high, most = percentiles(delays.all_ms or [float("inf")])
        cells = (f"{middle:.2f}", f"{high:.2f}", f"{most:.2f}")
        table.add_row(str(number + 1), f"{load:.1f}", f"{len(delays.all_ms):,}", str(delays.n_failed), *cells)
        p99s.append(high)
        n_failed += delays.n_failed
    console().print(table)
    p99 = sorted(p99s)[len(p99s) // 2]
    console().print(f"Median round: p99 {p99:.2f} ms, budget {BUDGET_MS:.0f} ms.")
    return int(p99 >= BUDGET_MS or n_failed > 0)
