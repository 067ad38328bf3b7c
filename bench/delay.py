"""Device to frame and device to row on the running stack at several rates, measured from outside.

A process of its own publishes; both delays begin when it stamps a reading and sends it. A frame is there when a
WebSocket client has it; a row is there when a query of another connection finds it. After each rate every reading must
be one frame and one row, and the accounts balance; the rows are deleted again. The stack's own figures are in
`hl status`.
"""

import argparse
import asyncio
import secrets
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from psycopg import sql
from rich.table import Table

from bench.feed_clients import join, wait_until
from bench.paced import Late, Order, send_paced
from bench.proof import Proof
from bench.report import machine, write_json
from bench.stack import RunningStack, console, percentiles

STREAM = "energy"
# Short, for it is the resolution; long enough not to be a load of its own.
POLL_S = 0.005
# What a subscription of the feed may name.
MAX_DEVICES = 200

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


class Goal(NamedTuple):
    """What p99 should not exceed at rates up to this one, in ms."""

    rate: float
    frame_ms: float
    row_ms: float


GOALS = (Goal(3, 25, 150), Goal(5_000, 250, 250))


class Found(NamedTuple):
    """What one rate gave.

    Args:
        frames, rows: delays in seconds.
        polls: seconds that each look for rows took.
        wrong: one sentence for everything that does not hold.
    """

    frames: list[float]
    rows: list[float]
    polls: list[float]
    late: Late
    wrong: list[str]


class RowWatch(threading.Thread):
    """Notes when rows become visible.

    Args:
        stack: whose.
        devices: whose rows.
        start: rows before it are not looked at.
    """

    def __init__(self, stack: RunningStack, devices: list[str], start: datetime) -> None:
        super().__init__()
        self.delays: list[float] = []
        self.polls: list[float] = []
        self.ended = threading.Event()
        self._stack, self._start_at = stack, start
        self._seen = dict.fromkeys(devices, start)

    def run(self) -> None:
        """Looks until `ended` is set."""
        query = sql.SQL(NEW_ROWS).format(table=sql.Identifier(self._stack.streams[STREAM].table))
        with self._stack.connect() as conn:
            while not self.ended.wait(POLL_S):
                began = time.perf_counter()
                values = {
                    "devices": list(self._seen),
                    "since": list(self._seen.values()),
                    "start": self._start_at,
                }
                rows = conn.execute(query, values).fetchall()
                now = time.time()
                for device, timestamp in rows:
                    self.delays.append(now - timestamp.timestamp())
                    # Rows of a device come in the order of their time.
                    self._seen[device] = timestamp
                self.polls.append(time.perf_counter() - began)


async def measure(stack: RunningStack, order: Order, patience_s: float) -> Found:
    """One rate."""
    expected = order.expected
    devices = list(expected)
    proof = Proof(stack, [STREAM], patience_s)
    watch = RowWatch(stack, devices, proof.start)
    wish = {"type": "subscribe", "streams": [STREAM], "device_id": devices, "snapshot": False}
    live = stack.settings.live
    (reader,) = await join(1, (live.host, live.port), stack.live_headers, wish)
    frames: list[float] = []
    reader.delays = frames
    watch.start()
    try:
        late = await asyncio.to_thread(send_paced, stack, order)
        # Counting rows is work for the database: not before the last one is there.
        await asyncio.to_thread(
            wait_until, lambda: min(reader.n_told, len(watch.delays)) >= order.n_readings, patience_s
        )
    finally:
        watch.ended.set()
        watch.join()
        reader.transport.close()
    outcome = await asyncio.to_thread(proof.settle, expected)
    proof.clean_up(devices)
    wrong = outcome.wrong
    if reader.n_told != order.n_readings:
        wrong = [f"{order.n_readings} sent, {reader.n_told} frames and missed ones", *wrong]
    if reader.n_missed:
        wrong = [
            f"the feed left out {reader.n_missed} frames: more waited than a client's queue holds",
            *wrong,
        ]
    return Found(frames, watch.delays, watch.polls, late, wrong)


def goal_of(rate: float) -> Goal | None:
    """The goal of the next rate that has one."""
    return next((goal for goal in GOALS if rate <= goal.rate), None)


def missed(found: Found, goal: Goal | None) -> list[str]:
    """One sentence for each reason why a rate is not as it should be."""
    if found.late.is_behind:
        return [f"the publisher fell behind by {found.late.p99_s * 1000:,.0f} ms: no figure", *found.wrong]
    wrong = list(found.wrong)
    for name, delays, limit_ms in (
        ("frame", found.frames, goal.frame_ms if goal else None),
        ("row", found.rows, goal.row_ms if goal else None),
    ):
        if not delays:
            wrong.append(f"no {name} came")
        elif limit_ms is not None and (p99_ms := percentiles(delays)[1] * 1000) > limit_ms:
            wrong.append(f"p99 of device to {name} is {p99_ms:.1f} ms, its goal {limit_ms:g} ms")
    return wrong


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench delay` takes."""
    parser.add_argument(
        "--rates",
        type=lambda text: [float(rate) for rate in text.split(",")],
        default=[3.0, 100.0, 1_000.0, 5_000.0],
        help="readings per second, with commas between",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to send at each rate")
    parser.add_argument("--devices", type=int, default=20, choices=range(1, MAX_DEVICES + 1), metavar="N")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for the last row")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints; 1 when a goal was missed or a reading is not there once."""
    stack, out, where = RunningStack(), console(), machine()
    table = Table(title=f"delay in ms, {arguments.seconds:g} s at each rate, p50 / p99 / max")
    for head in (
        "readings/s",
        "to frame",
        "goal p99",
        "to row",
        "goal p99",
        "rows looked for every",
        "sent late",
    ):
        table.add_column(head, justify="right")
    wrong, figures = [], []
    for rate in arguments.rates:
        prefix = f"bench-{secrets.token_hex(3)}-"
        order = Order(prefix, arguments.devices, max(1, round(rate * arguments.seconds)), rate)
        found = uvloop.run(measure(stack, order, arguments.patience))
        goal, why = goal_of(rate), missed(found, goal_of(rate))
        wrong += [f"{rate:,g}/s: {reason}" for reason in why]
        table.add_row(f"{rate:,g}", *_cells(found, goal))
        figures.append(to_json(rate, order.n_readings, found, goal, why))
    out.print(table)
    out.print("To row includes half the time between two looks, and what a look takes. Sent late: p99 / max.")
    out.print(
        "\n".join(wrong) or "Every reading sent is one frame and one row; goals are met, accounts balance."
    )
    if arguments.json:
        write_json(arguments.json, {"machine": where, "seconds": arguments.seconds, "rates": figures})
    return 1 if wrong else 0


def _cells(found: Found, goal: Goal | None) -> list[str]:
    late = f"{found.late.p99_s * 1000:.1f} / {found.late.max_s * 1000:.1f}"
    every = f"{(percentiles(found.polls)[0] + POLL_S) * 1000:.1f}" if found.polls else "-"
    if found.late.is_behind:
        return ["fell behind", "", "fell behind", "", every, late]
    frame_goal, row_goal = (f"{goal.frame_ms:g}", f"{goal.row_ms:g}") if goal else ("", "")
    return [_shown(found.frames), frame_goal, _shown(found.rows), row_goal, every, late]


def _shown(delays: list[float]) -> str:
    return " / ".join(f"{value * 1000:.1f}" for value in percentiles(delays)) if delays else "-"


def to_json(rate: float, n_sent: int, found: Found, goal: Goal | None, wrong: list[str]) -> dict[str, Any]:
    """The figures of one rate; none where the publisher fell behind."""
    return {
        "rate": rate,
        "n_sent": n_sent,
        "to_frame_ms": None if found.late.is_behind else _percentiles_ms(found.frames),
        "to_row_ms": None if found.late.is_behind else _percentiles_ms(found.rows),
        "goal_p99_ms": {"frame": goal.frame_ms, "row": goal.row_ms} if goal else None,
        "late_ms": {"p99": found.late.p99_s * 1000, "max": found.late.max_s * 1000},
        "wrong": wrong,
    }


def _percentiles_ms(delays: list[float]) -> dict[str, float] | None:
    if not delays:
        return None
    return {name: v * 1000 for name, v in zip(("p50", "p99", "max"), percentiles(delays), strict=True)}
