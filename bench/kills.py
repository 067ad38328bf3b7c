"""kill -9, or SIGSTOP, of processes of the running stack, one after the other under load, with a verdict by row."""

import argparse
import os
import secrets
import signal
import threading
import time
import urllib.request
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from bench import load
from bench.proof import ALL_IS_WELL, read_accounts, read_counts, unbalanced
from bench.stack import RunningStack
from hl_platform.core.errors import HlError
from hl_platform.stack.status import read_report

# In the order of the path of a reading, then what runs it.
PROCESSES = ("bridge", "sink", "kafka", "postgres", "live", "dagster-code", "dagster-daemon", "dagster-web")
# Only for these does anyone watch whether they still work; a stopped server is its supervisor's own affair.
WATCHED = ("bridge", "sink")
ON_THE_PATH = ("bridge", "sink", "kafka", "postgres", "mosquitto", "dagster-code", "dagster-daemon")
NEWEST = """
-- newest: when the bridge received the newest reading that is a row
select max(received_at) from {table} where device_id = any(%(devices)s) and timestamp >= %(start)s
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench kills` takes."""
    parser.add_argument("--rate", type=int, default=1_000, help="readings per second")
    parser.add_argument("--pause", type=float, default=8.0, help="seconds from one recovery to the next kill")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument(
        "--processes",
        type=lambda text: text.split(","),
        help="which, in this order and also repeatedly, such as bridge,sink,bridge",
    )
    parser.add_argument("--hang", action="store_true", help="SIGSTOP in place of kill -9, of bridge and sink")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for each recovery")


def main(arguments: argparse.Namespace) -> int:
    """Kills or stops, waits, compares; 1 when anything is off."""
    stack, console, start = RunningStack(), Console(), datetime.now(UTC)
    prefix = f"kills-{secrets.token_hex(3)}-"
    devices = list(load.plan_expected(prefix, arguments.devices, 0))
    how = signal.SIGSTOP if arguments.hang else signal.SIGKILL
    killer = Killer(stack, devices, start, arguments.patience, how)
    outcomes: list[tuple[str, float | None]] = []
    stop = threading.Event()
    sender = Sender(stack, arguments, prefix, stop)
    sender.start()
    try:
        for name in arguments.processes or (WATCHED if arguments.hang else PROCESSES):
            time.sleep(arguments.pause)
            outcomes.append((name, killer.kill(name)))
            console.print(f"{name}: {_shown(outcomes[-1][1])}")
        time.sleep(arguments.pause)
    finally:
        stop.set()
        sender.join()
    table = Table(title=f"{'SIGSTOP' if arguments.hang else 'kill -9'} to data flowing again")
    table.add_column("process")
    table.add_column("seconds", justify="right")
    for name, seconds in outcomes:
        table.add_row(name, _shown(seconds))
    console.print(table)
    wrong = [f"{name} did not come back" for name, seconds in outcomes if seconds is None]
    wrong += verdict(stack, devices, start, sender.n_sent, arguments.patience)
    console.print(f"{sender.n_sent:,} readings sent and acknowledged")
    console.print("\n".join(wrong) or ALL_IS_WELL)
    return 1 if wrong else 0


class Sender(threading.Thread):
    """Publishes through `hl simulate` in short pieces until told to stop.

    Args:
        stack: where to.
        arguments: rate and devices.
        prefix: of the devices.
        stop: ends it after the piece at hand.
    """

    def __init__(
        self, stack: RunningStack, arguments: argparse.Namespace, prefix: str, stop: threading.Event
    ) -> None:
        super().__init__()
        self.n_sent = 0
        self._stack, self._prefix, self._stop_asked = stack, prefix, stop
        self._piece = argparse.Namespace(
            rate=arguments.rate, seconds=5.0, devices=arguments.devices, streams=["energy"]
        )

    def run(self) -> None:
        """Sends piece after piece."""
        while not self._stop_asked.is_set():
            n_acknowledged, _ = load.send(self._stack, self._piece, self._prefix)
            self.n_sent += n_acknowledged


class Killer:
    """Kills processes and watches them come back.

    Args:
        stack: which.
        devices: of the load.
        start: of the load.
        patience_s: longest wait for a recovery.
        how: SIGKILL, or SIGSTOP for a process that hangs.
    """

    def __init__(
        self,
        stack: RunningStack,
        devices: list[str],
        start: datetime,
        patience_s: float,
        how: signal.Signals,
    ) -> None:
        self._stack, self._devices, self._start, self._patience_s = stack, devices, start, patience_s
        self._how = how

    def kill(self, name: str) -> float | None:
        """Seconds from the signal until the process runs anew and does its work; None if it never did."""
        before = self._pid(name)
        if before is None:
            return None
        killed_at, began = datetime.now(UTC), time.monotonic()
        os.kill(before, self._how)
        while time.monotonic() - began < self._patience_s:
            if self._pid(name) not in (None, before) and self._works(name, killed_at):
                return time.monotonic() - began
            time.sleep(0.1)
        return None

    def _pid(self, name: str) -> int | None:
        services: Any = read_report(self._stack.settings).document["services"]
        return next(
            (row["pid"] for row in services if row["name"] == name and row["state"] == "running"), None
        )

    def _works(self, name: str, killed_at: datetime) -> bool:
        if name == "live":
            try:
                url = f"http://{self._stack.live_address}/health"
                request = urllib.request.Request(url, headers=self._stack.live_headers)
                with urllib.request.urlopen(request, timeout=1):  # noqa: S310 - our own service
                    return True
            except OSError:
                return False
        if name not in ON_THE_PATH:
            return True
        query = sql.SQL(NEWEST).format(table=sql.Identifier(self._stack.streams["energy"].table))
        try:
            with self._stack.connect() as conn:
                row = conn.execute(query, {"devices": self._devices, "start": self._start}).fetchone()
        except (HlError, psycopg.Error):
            return False
        return bool(row and row[0] and row[0] > killed_at)


def verdict(
    stack: RunningStack, devices: list[str], start: datetime, n_sent: int, patience_s: float
) -> list[str]:
    """One sentence for everything that is not as it should be."""
    deadline = time.monotonic() + patience_s
    while True:
        with stack.connect() as conn:
            counts = read_counts(conn, stack, ["energy"], devices, start)
            accounts = read_accounts(conn)
        n_rows, n_moments = (sum(pair[index] for pair in counts.values()) for index in (0, 1))
        wrong = unbalanced(accounts)
        if (n_rows == n_sent and not wrong) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    lost = [] if n_rows == n_moments == n_sent else [f"{n_sent} sent, {n_rows} rows"]
    return lost + wrong


def _shown(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"
