"""A load through MQTT into the running stack, then the proof: every reading sent is one row, accounts balance."""

import argparse
import re
import secrets
import subprocess
import time
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from bench.stack import HL, RunningStack, console

COUNT_ROWS = """
-- count_rows: rows and distinct moments of the load's devices, by device
select device_id, count(*), count(distinct timestamp) from {table}
where device_id = any(%(devices)s) and timestamp >= %(start)s group by device_id
"""
ROW_DELAYS = """
-- row_delays: p50, p99 and maximum of device to database, in ms, of the load's devices
select percentile_disc(array[0.5, 0.99, 1.0])
       within group (order by extract(epoch from ingested_at - timestamp)::float8 * 1000)
from {table} where device_id = any(%(devices)s) and timestamp >= %(start)s
"""
ACCOUNTS = """
-- accounts: what each service counted of each stream
select service, stage, stream, received, forwarded, dead_lettered, duplicates, corrected, dropped, in_flight
from hl.accounts order by stage, service, stream
"""
DELETE_ROWS = """
-- delete_rows: takes the load's rows away again
delete from {table} where device_id = any(%(devices)s)
"""
Accounts = dict[tuple[str, str, str], dict[str, int]]
COUNTS = ("received", "forwarded", "dead_lettered", "duplicates", "corrected", "dropped", "in_flight")


def plan_expected(prefix: str, n_devices: int, n_readings: int) -> dict[str, int]:
    """How many readings each device sends: the simulator goes around its devices."""
    width = len(str(n_devices))
    each, rest = divmod(n_readings, n_devices)
    return {f"{prefix}{index + 1:0{width}}": each + (index < rest) for index in range(n_devices)}


def send(stack: RunningStack, arguments: argparse.Namespace, prefix: str) -> tuple[int, float]:
    """Runs `hl simulate`; how many readings the broker acknowledged, and in how many seconds."""
    command = [
        *(str(HL), "simulate", "--rate", str(arguments.rate), "--devices", str(arguments.devices)),
        *("--count", str(round(arguments.rate * arguments.seconds)), "--prefix", prefix),
        *("--streams", ",".join(arguments.streams)),
    ]
    done = subprocess.run(command, env=stack.environment, stdout=subprocess.PIPE, text=True, check=False)
    found = re.search(r"acknowledged (\d+), rejected (\d+), in ([\d.]+) s", done.stdout)
    if done.returncode or found is None:
        message = f"`hl simulate` ended with {done.returncode}: {done.stdout}"
        raise SystemExit(message)
    return int(found[1]), float(found[3])


def read_counts(
    conn: psycopg.Connection, stack: RunningStack, streams: list[str], devices: list[str], start: datetime
) -> dict[str, tuple[int, int]]:
    """(rows, distinct moments) by device."""
    found = {}
    for stream in streams:
        query = sql.SQL(COUNT_ROWS).format(table=sql.Identifier(stack.streams[stream].table))
        for device, n_rows, n_moments in conn.execute(query, {"devices": devices, "start": start}):
            found[device] = (n_rows, n_moments)
    return found


def read_accounts(conn: psycopg.Connection) -> Accounts:
    """Counts by (stage, service, stream)."""
    return {
        (row[1], row[0], row[2]): dict(zip(COUNTS, row[3:], strict=True)) for row in conn.execute(ACCOUNTS)
    }


def unbalanced(accounts: Accounts) -> list[str]:
    """One sentence for each account whose sum is not what was received."""
    wrong = []
    for (stage, service, stream), counts in accounts.items():
        out = sum(counts[name] for name in COUNTS[1:])
        if counts["received"] != out:
            wrong.append(f"{stage} {service} {stream}: received {counts['received']}, accounted for {out}")
    return wrong


def settled(before: Accounts, after: Accounts, n_sent: int) -> bool:
    """Whether the heartbeats have told of everything: each stage received it all, and nothing is in flight."""
    for stage in ("bridge", "sink"):
        received = sum(c["received"] for key, c in after.items() if key[0] == stage)
        earlier = sum(c["received"] for key, c in before.items() if key[0] == stage)
        if received - earlier < n_sent:
            return False
    return True


def differences(before: Accounts, after: Accounts, streams: list[str]) -> list[str]:
    """One sentence for each count of the load's streams that should not have moved."""
    wrong = []
    for (stage, service, stream), counts in after.items():
        earlier = before.get((stage, service, stream), dict.fromkeys(COUNTS, 0))
        for name in ("dead_lettered", "corrected", "dropped"):
            moved = counts[name] - earlier[name]
            if stream in streams and stage != "live" and moved:
                wrong.append(f"{stage} {service} {stream}: {name} rose by {moved}")
    return wrong


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench load` takes."""
    parser.add_argument("--rate", type=int, default=2_000, help="readings per second")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to send")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--streams", type=lambda text: text.split(","), default=["energy"])
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for the last row")
    parser.add_argument("--keep", action="store_true", help="leave the load's rows in the database")


def main(arguments: argparse.Namespace) -> int:
    """Sends, waits, compares; 1 when anything is off."""
    stack, out, start = RunningStack(), console(), datetime.now(UTC)
    prefix = f"bench-{secrets.token_hex(3)}-"
    n_sent = round(arguments.rate * arguments.seconds)
    expected = plan_expected(prefix, arguments.devices, n_sent)
    with stack.connect() as conn:
        before = read_accounts(conn)
        out.print(
            f"Sending {n_sent:,} readings of {arguments.devices} devices, {arguments.rate:,} per second …"
        )
        n_acknowledged, seconds = send(stack, arguments, prefix)
        sent_at = time.monotonic()
        until = sent_at + arguments.patience
        wanted = {device: (n, n) for device, n in expected.items()}
        found: dict[str, tuple[int, int]] = {}
        while found != wanted and time.monotonic() < until:
            time.sleep(0.2)
            found = read_counts(conn, stack, arguments.streams, list(expected), start)
        waited_s = time.monotonic() - sent_at
        after = read_accounts(conn)
        while not settled(before, after, n_sent) and time.monotonic() < until:
            time.sleep(0.1)
            after = read_accounts(conn)
        delays = [
            conn.execute(
                sql.SQL(ROW_DELAYS).format(table=sql.Identifier(stack.streams[stream].table)),
                {"devices": list(expected), "start": start},
            ).fetchone()
            for stream in arguments.streams
        ]
    wrong = [f"{n_sent} sent, {n_acknowledged} acknowledged"] if n_sent != n_acknowledged else []
    wrong += [
        f"{device}: {n} sent, {found.get(device, (0, 0))[0]} rows"
        for device, n in expected.items()
        if found.get(device) != (n, n)
    ]
    wrong += unbalanced(after) + differences(before, after, arguments.streams)
    if not settled(before, after, n_sent):
        wrong.append("a stage has not received everything")
    _print(out, arguments, (n_sent, seconds, waited_s, sum(n for n, _ in found.values())), delays, after)
    if not arguments.keep:
        _clean_up(stack, arguments.streams, list(expected))
    out.print("\n".join(wrong) or "Every reading sent is one row, and the accounts balance.")
    return 1 if wrong else 0


def _print(
    out: Console,
    arguments: argparse.Namespace,
    figures: tuple[int, float, float, int],
    delays: list[tuple[list[float] | None] | None],
    accounts: Accounts,
) -> None:
    n_sent, seconds, waited_s, n_rows = figures
    table = Table(title=f"load: {arguments.rate:,} readings/s for {arguments.seconds:g} s")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("readings sent", f"{n_sent:,}")
    table.add_row("acknowledged at", f"{n_sent / seconds:,.0f}/s")
    table.add_row("rows", f"{n_rows:,}")
    table.add_row("last row seen after the last acknowledgement", f"{waited_s:.2f} s")
    for stream, row in zip(arguments.streams, delays, strict=True):
        if row is not None and row[0] is not None:
            p50, p99, worst = row[0]
            table.add_row(
                f"{stream}: device to database p50 / p99 / max", f"{p50:.0f} / {p99:.0f} / {worst:.0f} ms"
            )
    out.print(table)
    table = Table(title="accounts since the first start")
    for head in ("stage", "service", "stream", *COUNTS):
        table.add_column(head, justify="right" if head in COUNTS else "left")
    for key, counts in accounts.items():
        table.add_row(*key, *(f"{counts[name]:,}" for name in COUNTS))
    out.print(table)


def _clean_up(stack: RunningStack, streams: list[str], devices: list[str]) -> None:
    with stack.connect(read_only=False) as conn:
        for stream in streams:
            query = sql.SQL(DELETE_ROWS).format(table=sql.Identifier(stack.streams[stream].table))
            conn.execute(query, {"devices": devices})
