"""The feed of the running stack to many clients, while the stack takes in more than they see: frames/s and their delay.

Every client names the same few devices, which together send what it is to get; other devices send the rest. The clients
are in this process and read at once. Every client must get each reading, each must be one row, and the accounts
balance; the rows are deleted again.
"""

import argparse
import asyncio
import secrets
from pathlib import Path
from typing import NamedTuple

import uvloop
from rich.table import Table

from bench.feed_clients import join, wait_until
from bench.paced import Late, Order, send_paced
from bench.proof import Proof
from bench.report import machine, write_json
from bench.stack import RunningStack, console, percentiles

STREAM = "energy"
N_SHOWN_DEVICES, N_OTHER_DEVICES = 10, 40
# The others send so much longer, before and after, for a process may start late.
MARGIN_S = 2.0


class Found(NamedTuple):
    """What came of it.

    Args:
        delays: of all frames of all clients, in seconds.
        took_s: from the first frame to the last.
        n_missed: frames that the feed left out, as it told.
        late: how late the publishers were.
        wrong: one sentence for everything that does not hold.
    """

    delays: list[float]
    took_s: float
    n_missed: int
    late: list[Late]
    wrong: list[str]


async def measure(
    stack: RunningStack, shown: Order, other: Order, n_clients: int, patience_s: float
) -> Found:
    """Sends, and lets the clients read."""
    expected = shown.expected | other.expected
    proof = Proof(stack, [STREAM], patience_s)
    wish = {"type": "subscribe", "streams": [STREAM], "device_id": list(shown.expected), "snapshot": False}
    live = stack.settings.live
    readers = await join(n_clients, (live.host, live.port), stack.live_headers, wish)
    for reader in readers:
        reader.delays = []
    beside = asyncio.create_task(asyncio.to_thread(send_paced, stack, other))
    await asyncio.sleep(MARGIN_S)
    late = [await asyncio.to_thread(send_paced, stack, shown), await beside]
    await asyncio.to_thread(
        wait_until, lambda: all(reader.n_told >= shown.n_readings for reader in readers), patience_s
    )
    for reader in readers:
        reader.transport.close()
    outcome = await asyncio.to_thread(proof.settle, expected)
    proof.clean_up(list(expected))
    n_short = sum(reader.n_told != shown.n_readings for reader in readers)
    wrong = [f"{n_short} clients were not told of each reading"] if n_short else []
    delays = [delay for reader in readers for delay in reader.delays or ()]
    took_s = max(reader.last_at for reader in readers) - min(reader.first_at for reader in readers)
    return Found(delays, took_s, sum(reader.n_missed for reader in readers), late, wrong + outcome.wrong)


def missed(found: Found, goal_ms: float) -> list[str]:
    """One sentence for each reason why it is not as it should be."""
    behind = [one.p99_s for one in found.late if one.is_behind]
    if behind:
        return [f"a publisher fell behind by {max(behind) * 1000:,.0f} ms: no figure", *found.wrong]
    wrong = list(found.wrong)
    if found.n_missed:
        wrong.append(f"the feed left out {found.n_missed:,} frames: more waited than a client's queue holds")
    if found.delays and (p99_ms := percentiles(found.delays)[1] * 1000) > goal_ms:
        wrong.append(f"p99 of device to frame is {p99_ms:.1f} ms, its goal {goal_ms:g} ms")
    return wrong


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench feed-stack` takes."""
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument(
        "--frames", type=float, default=20.0, help="readings per second that each client gets"
    )
    parser.add_argument("--rate", type=float, default=1_000.0, help="readings per second in all")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to send")
    parser.add_argument("--p99-ms", type=float, default=100.0, help="goal of a frame; exit code 1 above it")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for the last row")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints; 1 when the goal was missed, or a reading is not there once."""
    stack, out, where = RunningStack(), console(), machine()
    prefix, rest = f"bench-{secrets.token_hex(3)}-", arguments.rate - arguments.frames
    shown = Order(
        f"{prefix}a", N_SHOWN_DEVICES, round(arguments.frames * arguments.seconds), arguments.frames
    )
    other = Order(f"{prefix}b", N_OTHER_DEVICES, round(rest * (arguments.seconds + 2 * MARGIN_S)), rest)
    found = uvloop.run(measure(stack, shown, other, arguments.clients, arguments.patience))
    wrong = missed(found, arguments.p99_ms)
    figures = {
        "clients": arguments.clients,
        "readings_per_s": arguments.rate,
        "frames_per_s": len(found.delays) / found.took_s if found.took_s else 0.0,
        "share": len(found.delays) / (arguments.clients * shown.n_readings),
        "delay_ms": [value * 1000 for value in percentiles(found.delays)] if found.delays else None,
        "late_ms": [[one.p99_s * 1000, one.max_s * 1000] for one in found.late],
        "wrong": wrong,
    }
    table = Table(title=f"the feed beside {arguments.rate:,g} readings/s, {arguments.seconds:g} s")
    for head in (
        "clients",
        "readings/s to each",
        "frames/s",
        "delivered",
        "p50 ms",
        "p99 ms",
        "max ms",
        "goal p99",
    ):
        table.add_column(head, justify="right")
    is_behind = any(one.is_behind for one in found.late)
    delays = ["-"] * 3 if is_behind or not found.delays else _shown(found.delays)
    cells = (f"{figures['frames_per_s']:,.0f}", f"{figures['share']:.1%}", *delays, f"{arguments.p99_ms:g}")
    table.add_row(f"{arguments.clients:,}", f"{arguments.frames:g}", *cells)
    out.print(table)
    out.print("\n".join(wrong) or "Every client has each reading; each is one row, and the accounts balance.")
    if arguments.json:
        write_json(arguments.json, {"machine": where, **figures})
    return 1 if wrong else 0


def _shown(delays: list[float]) -> list[str]:
    return [f"{value * 1000:.1f}" for value in percentiles(delays)]
