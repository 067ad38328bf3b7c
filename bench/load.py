"""A load through MQTT into the running stack, then the proof: every reading sent is one row, accounts balance."""

import argparse
import re
import secrets
import subprocess

from psycopg import sql
from rich.console import Console
from rich.table import Table

from bench.proof import ALL_IS_WELL, COUNTS, Accounts, Proof
from bench.stack import HL, RunningStack, console

ROW_DELAYS = """
-- row_delays: p50, p99 and maximum of device to database, in ms, of the load's devices
select percentile_disc(array[0.5, 0.99, 1.0])
       within group (order by extract(epoch from ingested_at - timestamp)::float8 * 1000)
from {table} where device_id = any(%(devices)s) and timestamp >= %(start)s
"""


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
    stack, out = RunningStack(), console()
    proof = Proof(stack, arguments.streams, arguments.patience)
    n_sent = round(arguments.rate * arguments.seconds)
    prefix = f"bench-{secrets.token_hex(3)}-"
    expected = plan_expected(prefix, arguments.devices, n_sent)
    out.print(f"Sending {n_sent:,} readings of {arguments.devices} devices, {arguments.rate:,} per second …")
    n_acknowledged, seconds = send(stack, arguments, prefix)
    outcome = proof.settle(expected)
    with stack.connect() as conn:
        delays = [
            conn.execute(
                sql.SQL(ROW_DELAYS).format(table=sql.Identifier(stack.streams[stream].table)),
                {"devices": list(expected), "start": proof.start},
            ).fetchone()
            for stream in arguments.streams
        ]
    wrong = [f"{n_sent} sent, {n_acknowledged} acknowledged"] if n_sent != n_acknowledged else []
    wrong += outcome.wrong
    _print(out, arguments, (n_sent, seconds, outcome.waited_s, outcome.n_rows), delays, outcome.accounts)
    if not arguments.keep:
        proof.clean_up(list(expected))
    out.print("\n".join(wrong) or ALL_IS_WELL)
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
