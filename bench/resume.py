"""Clients of the feed that are dropped at once: seconds until each has all that it missed, and what that costs.

Needs no stack: a live service, a Kafka and a PostgreSQL of its own. The clients are in this process and read as fast as
they can; each waits up to 0.4 s before it comes back, as the page and the Python client do. They are cut off from their
side, while the service lives; with --kill it is the service that is killed and
started again, and the time begins when it listens.
"""

import argparse
import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import psutil
import uvloop
from confluent_kafka import Producer
from rich.table import Table

from bench.asgi import HOST, START_TIMEOUT_S, Counter
from bench.feed_clients import ask, connect
from bench.stack import console, own_kafka, own_postgres, percentiles
from hl_live.client import FIRST_WAIT_S
from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.settings import load_settings
from hl_platform.stack.net import free_port, who_listens
from hl_platform.streams import load_streams

STREAM = "energy"
POSITION = re.compile(rb'"position":\{"partition":(\d+),"offset":(\d+)\}')
# Of a message that has come in two parts.
TAIL_BYTES = 512
LIMIT_S = 5.0


class Client(Counter):
    """A client that knows how far it is, and when it was there."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.wanted = wanted
        self.n_messages = 0
        self.done = asyncio.Event()
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        """Counts readings."""
        super().data_received(data)
        data = self._tail + data
        end = 0
        for found in POSITION.finditer(data):
            self.n_messages += 1
            end = found.end()
        self._tail = data[max(end, len(data) - TAIL_BYTES) :]
        if self.n_messages >= self.wanted:
            self.done.set()


class Service:
    """A live service in its own process.

    Args:
        settings: HL_ variables.
    """

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.port = int(settings["HL_LIVE__PORT"])
        self.streams = load_streams(None)
        self._producer = Producer(
            {"bootstrap.servers": settings["HL_KAFKA__BOOTSTRAP_SERVERS"], "linger.ms": 1}
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and returns when it listens."""
        command = [sys.executable, "-m", "hl_live"]
        env = {**os.environ, **self.settings}
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + START_TIMEOUT_S
        while not who_listens(self.port):
            assert time.monotonic() < until, "the service did not start"
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def cpu_s(self) -> float:
        """What it has used of a core."""
        assert self.process is not None
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    def publish(self, n_readings: int) -> None:
        """Puts readings on Kafka, as the bridge would, of one device."""
        for number in range(n_readings):
            now = datetime.now(UTC)
            body = {"timestamp": now, "total_energy_kwh": number, "power_kw": 1.5}
            body |= {"device_id": "meter1", "received_at": now}
            self._producer.produce(self.streams[STREAM].kafka_topic, msgspec.json.encode(body), "meter1")
        assert self._producer.flush(START_TIMEOUT_S) == 0


@contextmanager
def running_service(n_clients: int) -> Iterator[Service]:
    """A live service with servers of its own, gone afterwards."""
    with own_postgres() as url, own_kafka() as kafka:
        settings = {
            "HL_DATABASE__URL": url,
            "HL_KAFKA__BOOTSTRAP_SERVERS": kafka,
            "HL_LIVE__PORT": str(free_port()),
            "HL_LIVE__MAX_CLIENTS": str(2 * n_clients),
            "HL_LIVE__MAX_REQUESTS_PER_MINUTE": str(100 * n_clients),
        }
        streams = load_streams(None).values()
        migrate(url, None, streams)
        ensure_topics(load_settings(settings).kafka, streams)
        service = Service(settings)
        service.start()
        try:
            yield service
        finally:
            service.kill()


async def join(port: int, wanted: int, positions: dict[int, int] | None) -> Client:
    """A client that has asked for what it wants."""
    client = await connect(lambda: Client(wanted), (HOST, port), {})
    wish: dict[str, Any] = {"type": "subscribe", "streams": [STREAM], "snapshot": False}
    if positions is not None:
        wish["positions"] = {STREAM: positions}
    ask(client, wish)
    return client


async def come_back(port: int, n_missed: int, positions: dict[int, int], dropped_at: float) -> float:
    """Seconds from the drop until one client has everything."""
    rng = random.Random()  # noqa: S311 - jitter, not secrecy
    while True:
        await asyncio.sleep(rng.uniform(FIRST_WAIT_S / 10, FIRST_WAIT_S))
        try:
            client = await join(port, n_missed, positions)
        except OSError:
            continue
        await client.done.wait()
        took_s = time.monotonic() - dropped_at
        client.transport.abort()
        return took_s


async def measure(
    service: Service, n_clients: int, n_missed: int, *, kill: bool
) -> tuple[list[float], float]:
    """Seconds of each client, and of the service's processor."""
    clients = [await join(service.port, 1, None) for _ in range(n_clients)]
    # Partitions that are empty begin at 0; the reading tells where the one of its device is.
    await asyncio.to_thread(service.publish, 1)
    await asyncio.gather(*(client.done.wait() for client in clients))
    for client in clients:
        client.transport.abort()
    if kill:
        service.kill()
    dropped_at = time.monotonic()
    await asyncio.to_thread(service.publish, n_missed)
    if kill:
        await asyncio.to_thread(service.start)
        dropped_at = time.monotonic()
    cpu_s = service.cpu_s()
    partitions = range(service.streams[STREAM].kafka_partitions)
    # The very first reading is asked for again: it costs nothing to know where the others are.
    wanted, positions = n_missed + 1, dict.fromkeys(partitions, 0)
    waits = [come_back(service.port, wanted, positions, dropped_at) for _ in range(n_clients)]
    took = await asyncio.gather(*waits)
    return took, service.cpu_s() - cpu_s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench resume` takes."""
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--missed", type=int, default=100, help="readings published while they are away")
    parser.add_argument("--kill", action="store_true", help="kill the service and start it again")


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints; 1 when the last client took longer than 5 s."""
    with running_service(arguments.clients) as service:
        took, cpu_s = uvloop.run(measure(service, arguments.clients, arguments.missed, kill=arguments.kill))
    p50, p99, worst = percentiles(took)
    begin = "the service's return" if arguments.kill else "the drop"
    table = Table(title=f"from {begin} until a client has everything")
    for head in ("clients", "readings missed", "p50 s", "p99 s", "last s", "CPU s of the service"):
        table.add_column(head, justify="right")
    figures = (f"{p50:.2f}", f"{p99:.2f}", f"{worst:.2f}", f"{cpu_s:.2f}")
    table.add_row(f"{arguments.clients:,}", str(arguments.missed), *figures)
    console().print(table)
    return int(worst > LIMIT_S)
