"""The server of `bench feed`: hl's feed, or `websockets.broadcast()`, of the same readings, without Kafka and database.

`python -m bench.feed_app hl|broadcast PORT` reads lines "RATE SECONDS" from its input, publishes so many readings, and
answers each line with "N_PUBLISHED CPU_SECONDS".
"""

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import uvicorn
import uvloop
from litestar import Litestar
from litestar.types import Receive, Scope, Send
from websockets.asyncio.server import ServerConnection, broadcast, serve

from hl_live.feed.fanout import Fanout
from hl_live.feed.frames import Span, decode
from hl_live.feed.past import Chunk, Past
from hl_live.feed.session import Limits, Session
from hl_live.routes.feed import feed_routes
from hl_live.service import LiveService
from hl_live.write_guard import guarded_protocols
from hl_platform.adapters.kafka.feed_reader import FeedRecord
from hl_platform.core.access import EVERYTHING
from hl_platform.core.readings import ReadingDecoder
from hl_platform.core.sections import ReadingSettings
from hl_platform.streams import load_streams

HOST = "127.0.0.1"
TICK_S = 0.01
N_DEVICES = 50
# All offsets have as many digits, so that all messages have the same size.
FIRST_OFFSET = 1_000_000_000
STREAMS = load_streams()
ENERGY = STREAMS["energy"]

Publish = Callable[[list[Span]], None]


class Source:
    """Readings of now, as Kafka would bring them."""

    def __init__(self) -> None:
        self._decoders = {ENERGY.kafka_topic: (ENERGY, ReadingDecoder(ENERGY, ReadingSettings()))}
        self._offset = FIRST_OFFSET

    def spans(self, n_readings: int) -> list[Span]:
        """The next readings, decoded."""
        now = datetime.now(UTC)
        # A fraction of zero would be left out of the text.
        now = now.replace(microsecond=max(1, now.microsecond))
        records = []
        for _ in range(n_readings):
            device = f"meter{self._offset % N_DEVICES:03}"
            body = {
                "device_id": device,
                "timestamp": now,
                "received_at": now,
                "total_energy_kwh": 12.45,
                "power_kw": 3.2,
                "voltage": 230.0,
                "current": 13.9,
            }
            records.append(
                FeedRecord(ENERGY.kafka_topic, 0, self._offset, device, msgspec.json.encode(body), now)
            )
            self._offset += 1
        return decode(self._decoders, records).spans


async def obey(publish: Publish) -> None:
    """Does what the lines of the input say."""
    source, loop = Source(), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        rate, seconds = (float(part) for part in line.split())
        began, cpu, n_published = loop.time(), time.process_time(), 0
        while (passed := loop.time() - began) < seconds:
            n_due = int(rate * passed) - n_published
            if n_due:
                publish(source.spans(n_due))
                n_published += n_due
            await asyncio.sleep(TICK_S)
        sys.stdout.write(f"{n_published} {time.process_time() - cpu:.3f}\n")
        sys.stdout.flush()


async def no_past(place: tuple[str, int], first: int, end: int) -> Chunk:
    """There is no Kafka here."""
    raise NotImplementedError(place, first, end)


async def serve_hl(port: int) -> None:
    """The product's own fan-out, session, route and server."""
    fanout = Fanout(STREAMS, lambda _: None)
    past = Past(no_past, lambda place: cast("Any", no_past(place, 0, 0)))
    live = SimpleNamespace(
        settings=SimpleNamespace(live=SimpleNamespace(max_clients=10_000)),
        open_session=lambda grant: Session(STREAMS, fanout, past, Limits(), time.monotonic, grant=grant),
        close_session=Session.close,
    )
    routes = Litestar(feed_routes(cast("LiveService", live)), openapi_config=None, logging_config=None)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # Nobody is asked for a token here; the door would have noted that.
        scope["auth"] = EVERYTHING
        await routes(scope, receive, send)

    config = uvicorn.Config(
        app,
        HOST,
        port,
        **guarded_protocols(30.0),
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
    )
    server = asyncio.create_task(uvicorn.Server(config).serve())
    await obey(fanout.publish)
    server.cancel()


async def serve_broadcast(port: int) -> None:
    """What there is to compare with: one text to all connections, whoever reads them or not."""
    connections: set[ServerConnection] = set()

    async def handle(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.remove(connection)

    def publish(spans: list[Span]) -> None:
        for span in spans:
            for frame in span.frames:
                broadcast(connections, frame.text())

    async with serve(handle, HOST, port, compression=None):
        await obey(publish)


if __name__ == "__main__":
    uvloop.run({"hl": serve_hl, "broadcast": serve_broadcast}[sys.argv[1]](int(sys.argv[2])))
