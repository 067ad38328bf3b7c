"""Device to frame and device to row on the running stack, measured from outside.

Both begin with the timestamp in the reading, which is when its device says it measured. A frame is there when a
WebSocket client has it; a row is there when a query of another connection finds it. The stack's own figures are
in `hl status`.
"""

import argparse
import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime

import uvloop
from psycopg import sql
from rich.table import Table
from websockets.asyncio.client import connect as connect_websocket

from bench.stack import RunningStack, console, percentiles
from hl_platform.core.streams import Stream

# Short, for it is the resolution; long enough not to be a load of its own.
POLL_S = 0.003

NEW_ROWS = """
-- new_rows: timestamps of known devices after the last one seen of each, by the primary key
select known.device_id, new.timestamp
from unnest(%(devices)s::text[], %(since)s::timestamptz[]) as known (device_id, since),
lateral (
    select timestamp from {table}
    where device_id = known.device_id and timestamp > known.since and timestamp > %(start)s
    order by timestamp limit 1000
) as new
"""


class Delays:
    """Seconds by stream, of readings that were measured after the start."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.by_stream: dict[str, list[float]] = {}

    def add(self, stream: str, timestamp: datetime, now: float) -> None:
        """Counts a reading that is there at `now`, in Unix seconds."""
        if timestamp > self.start:
            self.by_stream.setdefault(stream, []).append(now - timestamp.timestamp())


def devices_of(stack: RunningStack, stream: str) -> list[str]:
    """The devices that a stream knows."""
    url = f"http://{stack.live_address}/api/v1/{stream}/latest"
    request = urllib.request.Request(url, headers=stack.live_headers)
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own service
        return [reading["device_id"] for reading in json.load(answer)["readings"]]


async def watch_frames(stack: RunningStack, stream: str, delays: Delays, seconds: float) -> None:
    """Counts the frames of one stream."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    url = f"ws://{stack.live_address}/ws/{stream}"
    async with connect_websocket(url, compression=None, additional_headers=stack.live_headers) as socket:
        while (left := until - loop.time()) > 0:
            try:
                text = await asyncio.wait_for(socket.recv(), left)
            except TimeoutError:
                return
            now = time.time()
            frame = json.loads(text)
            if frame["type"] == "data":
                delays.add(stream, datetime.fromisoformat(frame["timestamp"]), now)


def watch_rows(
    stack: RunningStack, devices: Mapping[str, list[str]], delays: Delays, seconds: float, polls: list[float]
) -> None:
    """Counts rows as they become visible; notes how long each look took."""
    seen = {(stream, device): delays.start for stream in devices for device in devices[stream]}
    until = time.monotonic() + seconds
    with stack.connect() as conn:
        while time.monotonic() < until:
            began = time.perf_counter()
            for stream, known in devices.items():
                values = {
                    "devices": known,
                    "since": [seen[stream, device] for device in known],
                    "start": delays.start,
                }
                rows = conn.execute(_query(stack.streams[stream]), values).fetchall()
                now = time.time()
                for device, timestamp in rows:
                    delays.add(stream, timestamp, now)
                    seen[stream, device] = max(seen[stream, device], timestamp)
            polls.append(time.perf_counter() - began)
            time.sleep(POLL_S)


def _query(stream: Stream) -> sql.Composed:
    return sql.SQL(NEW_ROWS).format(table=sql.Identifier(stream.table))


async def _measure(stack: RunningStack, frames: Delays, rows: Delays, seconds: float) -> list[float]:
    devices = {stream: devices_of(stack, stream) for stream in stack.streams}
    polls: list[float] = []
    poller = threading.Thread(target=watch_rows, args=(stack, devices, rows, seconds, polls))
    poller.start()
    await asyncio.gather(*(watch_frames(stack, stream, frames, seconds) for stream in stack.streams))
    await asyncio.to_thread(poller.join)
    return polls


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench delay` takes."""
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to measure")
    parser.add_argument("--frame-p99-ms", type=float, default=100.0, help="goal; exit code 1 above it")
    parser.add_argument("--row-p99-ms", type=float, default=500.0, help="goal; exit code 1 above it")


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints; 1 when a goal was missed or nothing was there to measure."""
    stack, start = RunningStack(), datetime.now(UTC)
    frames, rows = Delays(start), Delays(start)
    polls = uvloop.run(_measure(stack, frames, rows, arguments.seconds))
    table = Table(title=f"delay in ms over {arguments.seconds:g} s, from the device's timestamp")
    for head in ("", "stream", "readings", "p50", "p99", "max", "goal p99"):
        table.add_column(head, justify="left" if head in ("", "stream") else "right")
    met = True
    goals = (("to frame", frames, arguments.frame_p99_ms), ("to row", rows, arguments.row_p99_ms))
    for label, delays, goal in goals:
        by_stream = {stream: delays.by_stream.get(stream, []) for stream in stack.streams}
        everything = [delay for each in by_stream.values() for delay in each]
        met = met and bool(everything) and percentiles(everything)[1] * 1000 <= goal
        for stream, values in {**by_stream, "all": everything}.items():
            figures = [f"{value * 1000:.1f}" for value in percentiles(values)] if values else ["-"] * 3
            table.add_row(f"device {label}", stream, str(len(values)), *figures, f"{goal:g}")
    out = console()
    out.print(table)
    resolution_ms = (percentiles(polls)[0] + POLL_S) * 1000 if polls else 0
    out.print(f"Rows were looked for every {resolution_ms:.1f} ms, which their delays include.")
    return 0 if met else 1
